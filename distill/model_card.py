"""The folder of a trained model as others get it: weights, tokenizer, model card, Modelfile.

The card says what the model is made of: the run that trained it, the release that its rows are of,
its base and that one's own run where it was trained here, what evaluations found, and how to sample
from it. Lineage is read from ``run.json`` and from the store; what is not known is said so.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from distill.modelfile import ADVICE, modelfile
from distill.runs import file_digest, read_run
from distill.training import require_weights
from distill.training_rows import is_prepared
from factory import model_files
from factory.errors import UsageError
from factory.rows import files
from factory.stages.release import manifests
from factory.store import Store

_KEPT = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json",
    "tokenizer*", "special_tokens_map.json", "chat_template.jinja", "vocab.json", "merges.txt",
    "added_tokens.json", "*.model",
)  # fmt: skip


def write_model_folder(
    model: Path, out: Path, *, store: Store | None, license: str | None = None
) -> list[str]:
    """Write a model's folder for the hub; return what the reader should know of it.

    Args:
        model: folder of a finished run.
        out: made; must be empty.
        store: where releases and evaluations are looked for; None: nowhere.
        license: of the weights, as the hub writes it.

    Raises:
        UsageError: no model folder, or ``out`` is not empty.
        FactoryError: weights are missing.
    """
    from transformers import AutoTokenizer

    if not model.is_dir():
        raise UsageError(f"{str(model)!r} is no model folder", "give the folder of a finished run")
    model_files.check_safe(str(model))
    require_weights(model)
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty", "choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted({p for pattern in _KEPT for p in model.glob(pattern)}):
        shutil.copy2(path, out / path.name)
    notes = []
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    context = int(model_files.configuration(str(model)).get("max_position_embeddings") or 4096)
    try:
        (out / "Modelfile").write_text(modelfile(tokenizer, context=context), encoding="utf-8")
    except UsageError as error:
        notes.append(f"no Modelfile: {error}")
    card = "\n".join(card_lines(model, store=store, license=license)) + "\n"
    (out / "README.md").write_text(card, encoding="utf-8")
    return notes


def card_lines(model: Path, *, store: Store | None, license: str | None) -> Iterator[str]:
    """Yield the lines of a model card."""
    run = read_run(model)
    base = str(run["config"].get("base") or run["config"]["student_file"]["base"]) if run else None
    head: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if license:
        head["license"] = license
    if base and not Path(base).is_dir():
        head["base_model"] = base.partition("@")[0]
    yield from ["---", *yaml.safe_dump(head, sort_keys=True).splitlines(), "---", ""]
    yield f"# {model.resolve().name}"
    yield ""
    yield "## How it was made"
    yield ""
    yield from _lineage(model, store)
    yield from _evaluations(model, run, store)
    yield from ["## How to sample", ""]
    yield f"Temperature {ADVICE['temperature']}, top-p {ADVICE['top_p']}, no system prompt, the"
    yield "answer asked for in a box where it is to be checked; results by several samples."
    yield from ["", "```python", _EXAMPLE.format(name=model.resolve().name), "```"]


_EXAMPLE = """from vllm import LLM, SamplingParams
found = LLM("{name}").chat([{{"role": "user", "content": "1 + 1 = ?"}}],
                        SamplingParams(temperature=0.6, top_p=0.95, max_tokens=32768))
print(found[0].outputs[0].text)"""


def _lineage(model: Path, store: Store | None) -> Iterator[str]:
    """Yield a section per run, from the model back to the base that was not trained here."""
    folder: Path | None = model
    while folder is not None:
        run = read_run(folder)
        if run is None:
            yield f"- weights `{folder.name}`: {_revision(folder)}, of no run that is known"
            break
        config = run["config"]
        base = str(config.get("base") or config["student_file"]["base"])
        how = f"{run['kind']}, inputs `{run['inputs']}`"
        yield f"- **{folder.resolve().name}** ({how}) from `{_named(base)}`"
        yield from (f"  - {line}" for line in _facts(run, store))
        folder = Path(base) if Path(base).is_dir() else None
    yield ""


def _facts(run: Mapping[str, Any], store: Store | None) -> Iterator[str]:
    config, metrics = run["config"], run["metrics"]
    if run["kind"] == "sft":
        yield f"data: {_release_of(config, store)}; {metrics['n_rows_kept']} rows"
        recipe = {k: v for k, v in config["student_file"].items() if k not in ("base", "trl")}
        recipe |= config["student_file"]["trl"]
        yield f"recipe `{Path(config['student']).stem}`: {_short(recipe)}"
    elif run["kind"] == "grpo":
        yield f"rollouts: run `{metrics['rl_run']}` of the store, {metrics['steps']} updates"
        recipe = {k: config[k] for k in ("template", "prefill", "rewards", "lora", "pass_rate")}
        values = {k: config["values"][k] for k in _SHOWN if k in config["values"]}
        yield f"recipe, preset `{config['preset']}`: {_short({**recipe, **values})}"
    versions = ", ".join(f"{k} {v}" for k, v in run.get("versions", {}).items())
    yield f"seed {config.get('seed')}; {versions}"


_SHOWN = ("learning_rate", "beta", "epsilon", "epsilon_high", "num_generations", "loss_type",
          "temperature", "max_completion_length", "max_steps")  # fmt: skip


def _short(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {json.dumps(v)}" for k, v in values.items() if v is not None)


def _release_of(config: Mapping[str, Any], store: Store | None) -> str:
    """Return the release that rows were exported from: the one that holds their traces."""
    data = Path(config["data"])
    said = f"`{data.name}`, digests {', '.join(d[:12] for d in config.get('data_digests', []))}"
    if store is None or not data.exists() or is_prepared(data):
        return f"{said} (release not looked up)"
    paths = [data] if data.is_file() else sorted(data.glob("*.*"))
    if [file_digest(p) for p in paths if p.is_file()] != config.get("data_digests"):
        return f"{said} (changed since: release not looked up)"
    wanted: set[str] = set()
    for path in paths:
        for row in files.read_rows(str(path)):
            if not isinstance(row, files.Malformed) and row.get("trace_id"):
                wanted.add(str(row["trace_id"]))
    for folder in sorted((store.root / "releases").glob("*")) if wanted else ():
        for found, manifest in reversed(manifests(store, folder.name)):
            if wanted <= _kept(found.parent):
                name = f"{manifest['name']}/{manifest['version']}"
                return f"release `{name}` ({manifest['rows']} rows), as {said}"
    return f"{said} (of no release of this store)"


def _kept(folder: Path) -> set[str]:
    import polars as pl

    parts = sorted(folder.glob("part-*.parquet"))
    return {key for p in parts for key in pl.read_parquet(p, columns=["trace_id"])["trace_id"]}


def _evaluations(model: Path, run: Mapping[str, Any] | None, store: Store | None) -> Iterator[str]:
    yield from ["## Evaluation", ""]
    rows = []
    name, revision = model_files.name_of(str(model)), _revision(model)
    if store is not None and store.has("evaluations"):
        for row in store.table("evaluations").read().iter_rows(named=True):
            if (row["model"], row["revision"]) == (name, revision):
                rows.append((row["benchmark"], row["n_prompts"], row["k"], row["pass_at_1"],
                             row["pass_at_1_low"], row["pass_at_1_high"]))  # fmt: skip
    for row in (run or {}).get("metrics", {}).get("evaluations", [])[-1:]:
        rows.append((f"development, update {row['step']}", row["n_prompts"], row["k"],
                     row["pass_rate"], row["low"], row["high"]))  # fmt: skip
    if not rows:
        yield from ["None is known of these weights.", ""]
        return
    yield "| benchmark | prompts | samples each | pass@1 | 95 % interval |"
    yield "|---|---|---|---|---|"
    for what, n, k, mean, low, high in rows:
        ends = "" if low is None else f"{low:.3f} to {high:.3f}"
        yield f"| {what} | {n} | {k} | {'undefined' if mean is None else f'{mean:.3f}'} | {ends} |"
    yield ""


def _revision(folder: Path) -> str:
    return model_files.revision_of(str(folder))


def _named(base: str) -> str:
    return Path(base).name if Path(base).is_dir() else base
