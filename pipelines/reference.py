"""Write ``docs/recipes.md`` and ``docs/columns.md`` from the code that reads and writes them.

make docs                            (or: python -m pipelines.reference)
"""

from __future__ import annotations

from pathlib import Path

from factory.cli.common import run_script, say

DOCS = Path(__file__).parent.parent / "docs"
_HEAD = """# Recipes: every key

Written by `make docs` from the classes and functions that read the keys. A commented example of
each kind: `factory recipe generate|select|judge`, `distill recipe KIND` (grpo, student,
preferences, reward-model). An unknown key is refused before any work starts, with the nearest
known one; `--set KEY=VALUE` wins over the file, and dotted keys reach inside (`--set
sampling.temperature=0.8`). The files of `pipelines/recipes/` are the examples for the scripts of
`pipelines/`.
"""
_COLUMNS = """# Columns of `wide`

Written by `make docs` from what the code declares. `wide` has one row per trace; filters of a
recipe, named queries and your own SQL are written against it. The same texts are comments of the
catalog's columns (`factory show wide`; `wide_columns` in SQL). NULL is never zero.

## In every store
"""
_HEADING = ("| column | kind | meaning |", "|---|---|---|")
_VERDICTS = """
## Verifiers

Each verifier that has judged anything adds `<verifier>_status`, `<verifier>_reward`,
`<verifier>_reason`, `<verifier>_extracted` and `<verifier>_decided_by`, as above."""


def recipes() -> str:
    """Return the text of ``docs/recipes.md``."""
    from distill.launch import Launch
    from distill.recipes import kinds as of_distill
    from factory.cli.recipe import kinds as of_factory
    from factory.cli.recipe import reference
    from factory.engines import openai, ray, replay, vllm
    from factory.engines.openai.settings import Settings
    from factory.sources import files, hub, procedural
    from pipelines import (
        code_tests,
        curate_traces,
        filter_effects,
        quickstart,
        r1_recipe,
        safety_review,
    )

    parts = [_HEAD]
    for command, kinds in (("factory", of_factory()), ("distill", of_distill())):
        for name, kind in kinds.items():
            parts.append(f"## `{command}`: {name}\n\n{kind.summary}.\n")
            parts.append(reference(name, kind.reads, kind.inner))
    parts.append("## Sources: keys beside `source.kind`\n")
    for name, function in (("files", files), ("hub", hub), ("procedural", procedural)):
        parts.append(reference(f"source {name}", function.prompts))
    parts.append("## Engines: keys beside `engine.kind`\n")
    for name, engine in (
        ("vllm", vllm.Engine), ("openai", openai.Engine), ("openai: further keys", Settings),
        ("ray", ray.Engine), ("replay", replay.Engine),
    ):  # fmt: skip
        parts.append(reference(f"engine {name}", engine))
    parts.append("## Scripts of `pipelines/`\n")
    for name, cls in (
        ("r1", r1_recipe.Recipe), ("curate_traces", curate_traces.Recipe),
        ("code_tests", code_tests.CodeTests), ("safety_review", safety_review.SafetyReview),
        ("filter_effects", filter_effects.Recipe),
        ("quickstart", quickstart.Recipe),
        ("launch of trainings", Launch),
    ):  # fmt: skip
        parts.append(reference(name, cls))
    return "\n".join(parts)


def columns() -> str:
    """Return the text of ``docs/columns.md``."""
    from factory import plugins
    from factory.records.meanings import COLUMNS
    from factory.store.wide import fixed_columns

    parts = [_COLUMNS, *_HEADING]
    parts += [_row(name, kind, COLUMNS[name]) for name, kind in fixed_columns().items()]
    parts.append(_VERDICTS)
    for name in plugins.names("scores"):
        module = plugins.load("scores", name)
        said = plugins.meanings("scores", name)
        parts += [f"\n## The score `{name}`\n", *_HEADING]
        parts += [_row(c, kind, said[c]) for c, kind in module.WRITES.items()]
    return "\n".join(parts) + "\n"


def _row(name: str, kind: str, meaning: str) -> str:
    return f"| `{name}` | {kind} | {meaning.replace('|', chr(92) + '|')} |"


def main() -> int:
    """Write the documents anew."""
    for name, text in (("recipes.md", recipes()), ("columns.md", columns())):
        path = DOCS / name
        path.write_text(text, encoding="utf-8")
        say(f"{path}: {len(text.splitlines())} lines")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script("reference", main))
