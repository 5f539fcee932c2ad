"""The joints of ``filter_effects``: rows to train on, evaluation, and the table."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from distill.evaluate import Evaluation, evaluate, shown
from factory.cli.common import say
from factory.metrics import Interval, mean_interval, paired_difference
from factory.records import Sampling
from factory.sets.mixtures import draws
from factory.stages.export import export
from factory.store import Store
from factory.store.durable import replacing
from pipelines.common import Engines, Pair

ALL = "all filters"
COLUMNS = ("pass_rate", "language_consistency", "completion_tokens", "format")


@dataclass(frozen=True)
class Result:
    """One evaluated student."""

    variant: str
    mode: str
    seed: int
    n_rows: int
    found: Evaluation


def write_rows(store: Store, release: Any, out: Path, *, n: int, seed: int) -> None:
    """Write ``n`` rows of a release for TRL, drawn by the hash of their keys and the seed.

    A smaller draw is a part of a larger one, and releases that share traces draw the same ones
    first.
    """
    if out.exists():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    whole = out.with_name(f"{release.version}.jsonl")
    if not whole.exists():
        export(store, release, form="trl", out=str(whole))
    lines = whole.read_text(encoding="utf-8").splitlines(keepends=True)
    if n < len(lines):
        keys = pl.Series([json.loads(line)["trace_id"] for line in lines])
        drawn = sorted(range(len(lines)), key=draws(keys, seed).__getitem__)[:n]
        lines = [lines[i] for i in sorted(drawn)]
    with replacing(out) as part:
        part.write_text("".join(lines), encoding="utf-8")


def evaluated(
    recipe: Any, store: Store, engines: Engines, pairs: Sequence[Pair], model: str
) -> Evaluation:
    """Evaluate one model; samples that exist are not made again."""
    values = recipe.evaluation
    sampling = Sampling(
        temperature=values.temperature, top_p=values.top_p, max_tokens=values.max_tokens,
        prefill=values.prefill,
    )  # fmt: skip
    found = evaluate(
        store, pairs, engines.get(model), benchmark=recipe.name, k=values.k, sampling=sampling,
        dialect=values.dialect,
    )  # fmt: skip
    say(f"  {Path(model).name}: {shown(found.metrics['pass@1'])}")
    return found


@dataclass(frozen=True)
class Line:
    """One row of the table: a variant over its seeds, beside "all filters" of the same mode."""

    variant: str
    mode: str
    n_rows: tuple[int, ...]
    pass_at_1: Interval
    by_seed: tuple[float | None, ...]
    gain: Interval | None
    gain_by_seed: tuple[float | None, ...]
    consistency: Interval
    tokens: Interval
    form: Interval
    same_rows: bool

    def values(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            name: vars(value) if isinstance(value, Interval) else value
            for name, value in ((f, getattr(self, f)) for f in self.__dataclass_fields__)
        }


def _per_prompt(results: Sequence[Result]) -> pl.DataFrame:
    """Return means over seeds per prompt; null where a seed has it undefined."""
    frames = [r.found.per_prompt.select("prompt_id", *COLUMNS) for r in results]
    whole = pl.concat(frames)
    defined = [
        pl.when(pl.col(c).null_count() == 0).then(pl.col(c).mean()).alias(c) for c in COLUMNS
    ]
    return whole.group_by("prompt_id").agg(defined).sort("prompt_id")


def _mean(interval: Interval) -> float | None:
    return interval.mean


def lines_of(results: Sequence[Result]) -> list[Line]:
    """Return the table's rows, in the order of the results."""
    keys = dict.fromkeys((r.variant, r.mode) for r in results)
    groups = {k: [r for r in results if (r.variant, r.mode) == k] for k in keys}
    out = []
    for (variant, mode), group in groups.items():
        own = _per_prompt(group)
        reference = groups.get((ALL, mode))
        gain, by_seed = None, []
        same_rows = False
        if reference and variant != ALL:
            base = _per_prompt(reference)
            gain = paired_difference(base["pass_rate"].to_list(), own["pass_rate"].to_list())
            for a, b in zip(reference, group, strict=True):
                before, after = _per_prompt([a])["pass_rate"], _per_prompt([b])["pass_rate"]
                by_seed.append(_mean(paired_difference(before.to_list(), after.to_list())))
            same_rows = all(
                a.found.revision == b.found.revision for a, b in zip(reference, group, strict=True)
            )
        out.append(
            Line(
                variant=variant, mode=mode, n_rows=tuple(r.n_rows for r in group),
                pass_at_1=mean_interval(own["pass_rate"].to_list()),
                by_seed=tuple(r.found.pass_at_1 for r in group),
                gain=gain, gain_by_seed=tuple(by_seed),
                consistency=mean_interval(own["language_consistency"].to_list()),
                tokens=mean_interval(own["completion_tokens"].to_list(), bounded=False),
                form=mean_interval(own["format"].to_list()),
                same_rows=same_rows,
            )
        )  # fmt: skip
    return out


HEADS = ("trained on", "rows", "pass@1 [95 %]", "difference to all filters [95 %]",
         "of each seed", "one language", "well-formed", "tokens")  # fmt: skip


def cells(line: Line) -> tuple[str, ...]:
    """Return a row's cells."""
    rows = sorted(set(line.n_rows))
    count = f"{rows[0]:,}" if len(rows) == 1 else f"{rows[0]:,} to {rows[-1]:,}"
    if line.same_rows:
        gain, each = "the same rows", ""
    elif line.gain is None:
        gain, each = "", ""
    else:
        gain = _signed(line.gain)
        each = ", ".join("-" if v is None else f"{100 * v:+.1f}" for v in line.gain_by_seed)
    return (
        line.variant, count, shown(line.pass_at_1), gain, each, _short(line.consistency),
        _short(line.form), _short(line.tokens, 1),
    )  # fmt: skip


def _signed(gain: Interval) -> str:
    if gain.mean is None:
        return "undefined"
    ends = "" if gain.low is None else f" [{100 * gain.low:+.1f}, {100 * (gain.high or 0):+.1f}]"
    return f"{100 * gain.mean:+.1f}{ends}"


def _short(interval: Interval, digits: int = 3) -> str:
    return "-" if interval.mean is None else f"{interval.mean:.{digits}f}"


_WHAT = {
    "equal": "Equal rows: every student saw as many rows as the smallest release has",
    "all": "All rows: every student saw all rows of its release, so that sizes differ, too",
}


def write_table(
    recipe: Any, results: Sequence[Result], funnel: Sequence[Mapping[str, Any]], folder: Path
) -> list[Path]:
    """Write ``effects.md``, ``effects.html`` and ``effects.json``, and say the table."""
    lines = lines_of(results)
    first = results[0].found
    seeds = ", ".join(map(str, recipe.seeds))
    title = f"What each filter of {recipe.name} is worth"
    intro = (
        f"{first.per_prompt.height} problems that no student has seen, {first.k} sample(s) each at "
        f"T={recipe.evaluation.temperature:g}; seeds {seeds}. Differences are in points of pass@1 "
        "on the same problems; intervals resample problems, not seeds: see the column of each seed."
    )
    blocks: list[tuple[str, Sequence[str], list[tuple[str, ...]]]] = []
    for mode in recipe.rows:
        rows = [cells(line) for line in lines if line.mode == mode]
        blocks.append((_WHAT[mode], HEADS, rows))
    heads = ("filter", "predicate", "in", "dropped", "only by this", "undefined")
    counts = [
        (f["name"], f["sql"], *(f"{f[c]:,}" for c in ("n_in", "n_dropped", "n_dropped_only",
                                                       "n_undefined")))
        for f in funnel
    ]  # fmt: skip
    blocks.append(("Funnel of all filters", heads, counts))
    notes = list(recipe.contrivances)
    texts = {
        "effects.md": _markdown(title, intro, blocks, notes),
        "effects.html": _html(title, intro, blocks, notes),
        "effects.json": json.dumps([line.values() for line in lines], indent=1, default=str),
    }
    say("\n" + texts["effects.md"])
    paths = []
    for name, text in texts.items():
        with replacing(folder / name) as part:
            part.write_text(text, encoding="utf-8")
        paths.append(folder / name)
    return paths


_Blocks = Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]


def _markdown(title: str, intro: str, blocks: _Blocks, notes: Sequence[str]) -> str:
    out = [f"# {title}", "", intro, ""]
    for heading, heads, rows in blocks:
        out += [f"## {heading}", "", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
        out += [f"| {' | '.join(c.replace('|', '&#124;') for c in row)} |" for row in rows] + [""]
    return "\n".join([*out, *(f"- {' '.join(note.split())}" for note in notes), ""])


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;width:100%;font-size:14px}"
    "td,th{border-bottom:1px solid #ccd;padding:5px 10px 5px 0;text-align:left}"
)


def _html(title: str, intro: str, blocks: _Blocks, notes: Sequence[str]) -> str:
    out = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">",
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{html.escape(title)}</h1><p>{html.escape(intro)}</p>",
    ]
    for heading, heads, rows in blocks:
        out.append(f"<h2>{html.escape(heading)}</h2><table><tr>")
        out += [f"<th>{html.escape(h)}</th>" for h in heads] + ["</tr>"]
        for row in rows:
            out.append("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>")
        out.append("</table>")
    out += ["<ul>", *(f"<li>{html.escape(' '.join(n.split()))}</li>" for n in notes), "</ul>"]
    return "\n".join([*out, "</html>", ""])
