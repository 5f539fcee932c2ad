"""Re-grading what others sampled and graded: both scores side by side, each difference by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.evaluate.harness import Logged, is_log, read_log
from factory import plugins
from factory.errors import UsageError
from factory.records import Item, Verdict
from factory.stages.checker import Checker

COMPLETIONS = ("completion", "output", "response", "generation", "text", "answer")
SCORES = ("label", "score", "correct", "is_correct", "passed", "exact_match", "acc")


@dataclass(frozen=True)
class Regraded:
    """A text with its source's score and our verdict."""

    logged: Logged
    verdict: Verdict

    @property
    def is_same(self) -> bool | None:
        """Whether both agree; None where one of them says nothing."""
        if self.logged.score is None or self.verdict.reward is None:
            return None
        return (self.logged.score >= 0.5) == (self.verdict.status == "pass")

    @property
    def kind(self) -> str:
        """What the difference is: who holds it right, and our reason."""
        if self.verdict.status == "pass":
            return f"theirs wrong, ours right ({self.verdict.decided_by})"
        return f"theirs right, ours {self.verdict.status} ({self.verdict.reason})"


def read_graded(
    path: str,
    *,
    benchmark: str | None = None,
    by: Sequence[str] = (),
    score: str | None = None,
    completion: str | None = None,
) -> list[Logged]:
    """Read texts with the scores of their source.

    Args:
        path: a log of lm-evaluation-harness, or rows with a completion, a gold and a score.
        benchmark: of a log's documents.
        by: columns of plain rows that scores are compared by; default: source, model and task.
        score: column of the source's score; default: the first of the usual names. Of a log: the
            metric; default: its first.
        completion: column of the text; default: the first of the usual names.

    Raises:
        UsageError: nothing there, or a row of neither form.
    """
    from factory.rows import files

    files.check_input(path)
    first = next(iter(files.read_rows(path)), None)
    if not isinstance(first, dict):
        raise UsageError(f"{path} has no rows", "check the path")
    if is_log(first):
        return list(read_log(Path(path), benchmark=benchmark, metric=score))
    by = [c for c in by or ("source", "model", "task") if c in first]
    text = completion or _known(first, COMPLETIONS, path, "--completion")
    mark = score or _known(first, SCORES, path, "--score")
    out = []
    for number, row in enumerate(files.read_rows(path)):
        if not isinstance(row, dict) or text not in row:
            raise UsageError(f"{path} row {number} has no {text!r}", "name it with --completion")
        value = row.get(mark)
        out.append(
            Logged(
                key=str(row.get("id", number)),
                group=tuple(str(row.get(c)) for c in by),
                text=str(row[text] or ""),
                gold=None if row.get("gold") is None else str(row["gold"]),
                score=None if value is None else float(value),
                prompt=str(row.get("prompt") or row.get("question") or ""),
                extracted=None if row.get("pred") is None else str(row["pred"]),
                verifier=row.get("verifier"),
            )
        )
    return out


def _known(row: Mapping[str, Any], names: Sequence[str], path: str, option: str) -> str:
    found = next((n for n in names if n in row), None)
    if found is None:
        raise UsageError(f"{path} has none of the columns {', '.join(names)}", f"name it: {option}")
    return found


def regrade(
    logged: Sequence[Logged],
    *,
    verifier: str | None = None,
    options: Mapping[str, Any] | None = None,
    n_workers: int | None = None,
) -> list[Regraded]:
    """Give each text our verdict.

    Args:
        logged: the texts.
        verifier: of all; default: the row's, else what fits its gold.
        options: of the verifier, over those that it wants for rows of files.
        n_workers: processes.
    """
    verdicts: list[Verdict] = [Verdict.unscored("no_gold")] * len(logged)
    groups: dict[str, list[int]] = {}
    for at, one in enumerate(logged):
        if one.gold:
            name = verifier or one.verifier or plugins.verifier_of_gold(one.gold)
            groups.setdefault(name, []).append(at)
    for name, places in groups.items():
        checker = Checker(name, n_workers=n_workers)
        common = plugins.file_options("verifiers", name)
        own = [{**common, **logged[at].options, **(options or {})} for at in places]
        items = [_item(logged[at]) for at in places]
        for at, verdict in zip(places, checker.check(items, own), strict=True):
            verdicts[at] = verdict
    return [Regraded(one, verdict) for one, verdict in zip(logged, verdicts, strict=True)]


def _item(one: Logged) -> Item:
    messages = ({"role": "user", "content": one.prompt},) if one.prompt else ()
    return Item(text=one.text, gold=one.gold, messages=messages)


def table(rows: Sequence[Regraded]) -> Iterator[str]:
    """Yield both scores by group, in points, then the differences by kind."""
    yield (
        f"{'texts':>7} {'compared':>8} {'theirs':>7} {'ours':>7} {'apart':>6} {'differ':>6} "
        f"{'unscored':>8}  by"
    )
    for one in groups(rows):
        theirs, ours = one["theirs"], one["ours"]
        yield (
            f"{one['texts']:7,} {one['compared']:8,} {_points(theirs):>7} {_points(ours):>7} "
            f"{_points(None if ours is None or theirs is None else ours - theirs, '+'):>6} "
            f"{one['differ']:6,} {one['unscored']:8,}  {' '.join(one['by'])}"
        )
    found = kinds(rows)
    if found:
        yield "differences:"
    for kind, n in found.items():
        yield f"{n:7,} {kind}"


def groups(rows: Sequence[Regraded]) -> list[dict[str, Any]]:
    """Return both scores of each group, as shares, and of all: the last one."""
    found: dict[tuple[str, ...], list[Regraded]] = {}
    for row in rows:
        found.setdefault(row.logged.group, []).append(row)
    out = []
    for group, mine in [*sorted(found.items()), (("all",), list(rows))]:
        both = [r for r in mine if r.is_same is not None]
        out.append(
            {
                "by": group,
                "texts": len(mine),
                "compared": len(both),
                "theirs": _mean([float(r.logged.score or 0) for r in both]),
                "ours": _mean([float(r.verdict.status == "pass") for r in both]),
                "differ": sum(r.is_same is False for r in both),
                "unscored": sum(r.verdict.status == "unscored" for r in mine),
            }
        )
    return out


def kinds(rows: Sequence[Regraded]) -> dict[str, int]:
    """Return what the differences are, the most frequent first."""
    return dict(Counter(r.kind for r in rows if r.is_same is False).most_common())


def differences(rows: Sequence[Regraded], limit: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield what differs, row by row: both scores, gold, what each took out, the text's end."""
    found = [r for r in rows if r.is_same is False]
    for row in found[:limit]:
        yield {
            "key": row.logged.key,
            "by": " ".join(row.logged.group),
            "what": row.kind,
            "gold": row.logged.gold,
            "ours": row.verdict.extracted,
            "theirs": row.logged.extracted,
            "end": row.logged.text[-200:],
        }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _points(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{100 * value:{sign}.2f}"
