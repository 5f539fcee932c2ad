"""A release as a folder for the Hugging Face hub: Parquet by split, and a dataset card.

The card says what somebody who did not make the data needs: what was kept and dropped, where
prompts come from and under which licence, which models answered, which splits there are, what is
unverified, and which code wrote it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from factory.errors import UsageError
from factory.rows.answers import md_text
from factory.sets import personal
from factory.stages.chosen import Chosen
from factory.stages.contents import contents_lines


@dataclass
class HubFolder:
    """What was written.

    Attributes:
        rows: rows in all files.
        splits: name of a split on the hub → rows.
        redacted: kind of personal data → how often it was replaced.
    """

    rows: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)


def write_hub_folder(
    chosen: Chosen,
    folder: Path,
    *,
    redact: bool = False,
    licences: Mapping[str, str] | None = None,
    code: str | None = None,
) -> HubFolder:
    """Write ``data/SPLIT-*.parquet`` and ``README.md`` into a new folder.

    Args:
        chosen: rows of a release.
        folder: made; must be empty.
        redact: put ``[KIND]`` in the place of personal data (``factory.sets.personal``).
        licences: source → its licence; key ``""`` holds that of the data set as a whole.
        code: version and commit of the code, where they are known better than in the manifest.

    Raises:
        UsageError: the folder is not empty, or there is nothing to write.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{str(folder)!r} is not empty", "give a new folder")
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    done = HubFolder()
    files: Counter[str] = Counter()
    for frame in chosen.parts():
        shown = _shown(frame, done if redact else None)
        names = shown["split"].fill_null("train").map_elements(_split_name, return_dtype=pl.String)
        shown = shown.with_columns(_split=names)
        for (key,), rows in shown.partition_by("_split", as_dict=True, include_key=False).items():
            name = str(key)
            rows.write_parquet(data / f"{name}-{files[name]:05d}.parquet")
            files[name] += 1
            done.splits[name] += rows.height
            done.rows += rows.height
    if not done.rows:
        raise UsageError(
            "nothing to write: every row is evaluation", "name the split to publish it"
        )
    text = card(chosen, done, licences=licences or {}, code=code)
    (folder / "README.md").write_text(text, encoding="utf-8")
    return done


def _split_name(split: str) -> str:
    """Return a split's name as the hub takes it.

    >>> _split_name("test-hard")
    'test_hard'
    """
    return re.sub(r"\W+", "_", split).strip("_") or "train"


def _shown(frame: pl.DataFrame, done: HubFolder | None) -> pl.DataFrame:
    prompts, answers = [], []
    columns = {
        name: frame[name].to_list() for name in ("completion", "reasoning", "answer", "gold")
    }
    if done is not None:
        columns = {name: [_redacted(v, done) for v in values] for name, values in columns.items()}
    for messages, completion in zip(frame["messages"], columns["completion"], strict=True):
        said = orjson.loads(messages)
        if done is not None:
            said = _redacted(said, done)
        prompts.append(said)
        answers.append([{"role": "assistant", "content": completion}])
    return frame.with_columns(
        pl.Series("prompt", prompts),
        pl.Series("completion", answers),
        *(
            pl.Series(name, columns[name], dtype=pl.String)
            for name in columns
            if name != "completion"
        ),
    ).drop("messages")


def _redacted(value: Any, done: HubFolder) -> Any:
    if isinstance(value, str):
        found = personal.count(value)
        done.redacted.update(found)
        return personal.redact(value) if found else value
    if isinstance(value, list):
        return [_redacted(v, done) for v in value]
    if isinstance(value, dict):
        return {k: _redacted(v, done) for k, v in value.items()}
    return value


# ---- the card


def card(chosen: Chosen, done: HubFolder, *, licences: Mapping[str, str], code: str | None) -> str:
    """Return the dataset card of what was written, as Markdown with its YAML head."""
    m = chosen.release.manifest
    frame = pl.concat([p.select("source", "model", "revision") for p in chosen.parts()])
    sources = frame.group_by("source").len().sort("source").rows()
    models = frame.group_by("model", "revision").len().sort("model", "revision").rows()
    lines = [*_head(done, licences, frame.height), f"# {m['name']} ({m['version']})", ""]
    lines += [f"{done.rows} rows; the release has {m['rows']} traces of {m['prompts']} prompts, "
              f"kept out of {m['n_universe']}.", ""]  # fmt: skip
    lines += ["## Splits", ""]
    lines += _table(("split", "rows"), sorted(done.splits.items()))
    lines += ["## To know before training on it", ""]
    lines += [f"- {line}" for line in contents_lines(m)] or ["- nothing was counted"]
    if done.redacted:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(done.redacted.items()))
        lines.append(f"- personal data was replaced by its kind in brackets: {kinds}")
    lines += ["", "## Sources and licences", ""]
    lines += _table(
        ("source", "traces", "licence"),
        [(md_text(s or "none"), n, licences.get(s or "none", "not stated")) for s, n in sources],
    )
    lines += ["The licence of each source holds for its prompts, and the terms of each model for "
              "what it wrote.", "", "## Models", ""]  # fmt: skip
    lines += _table(
        ("model", "revision", "traces"), [(md_text(n), f"`{r}`", k) for n, r, k in models]
    )
    lines += ["## Filters", ""]
    lines += _table(
        ("step", "in", "dropped", "dropped only by it", "undefined"),
        [
            (f"{f['name']}: `{f['sql']}`" + ("" if f["is_on"] else " (off)"), f["n_in"],
             f["n_dropped"], f["n_dropped_only"], f["n_undefined"])
            for f in m["filters"]
        ],
    )  # fmt: skip
    lines += ["## Lineage", ""]
    lines += [f"- code: {code or m.get('code_version')}", f"- made: {m['created_at']}"]
    lines += [f"- parent: {parent}" for parent in m.get("parents", [])]
    lines += [f"- universe: `{orjson.dumps(m.get('universe') or {}).decode()}`"]
    lines += [f"- {label}" for label in sorted(m["plugins"].values())]
    return "\n".join([*lines, ""])


def _head(done: HubFolder, licences: Mapping[str, str], n: int) -> list[str]:
    lines = ["---"]
    if licences.get(""):
        lines.append(f"license: {licences['']}")
    lines += ["configs:", "- config_name: default", "  data_files:"]
    for name in sorted(done.splits):
        lines += [f"  - split: {name}", f"    path: data/{name}-*.parquet"]
    return [*lines, "---", ""]


def _table(heads: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    cells = [[str(value).replace("|", "\\|") for value in row] for row in rows]
    return [
        f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}",
        *[f"| {' | '.join(row)} |" for row in cells], "",
    ]  # fmt: skip
