"""Source ``benchmark``: the questions of a public benchmark, asked in its own words.

Every benchmark is a file of ``factory/sources/benchmarks/``. Rows come from the hub (the commit is
recorded in the source's name) or from a local file or folder of the same shape; nothing is bundled.
The prompt is the question in the benchmark's template, which also brings the options of the
verifier that fit what is asked for. ``texts`` gives what decontamination looks for.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from factory.errors import UsageError
from factory.records import Prompt, PromptSource
from factory.rows import files
from factory.sources import hub, template
from factory.sources.benchmarks import Benchmark, LeftOut, Question, Row, load

Pair = tuple[Prompt, PromptSource]

WITH_TEMPLATE = {"asked": False}
"""Where another template is named, the questions come bare."""
PREFIX = "benchmark:"
"""Before a name where files of benchmarks are named, as in ``benchmark:math500``."""


def prompts(
    name: str,
    *,
    path: str | Path | None = None,
    revision: str | None = None,
    release: str | None = None,
    since: str | None = None,
    until: str | None = None,
    seed: int = 0,
    limit: int | None = None,
    asked: bool = True,
    left_out: Counter[str] | None = None,
) -> Iterator[Pair]:
    """Yield a benchmark's prompts.

    Args:
        name: a file of ``factory/sources/benchmarks``.
        path: a local JSON Lines or Parquet file, or a folder, of the same shape as the data set.
        revision: commit, tag or branch on the hub.
        release: of a benchmark that has several.
        since: first day of the problems, ``YYYY-MM-DD``.
        until: their last day.
        seed: of the order of multiple-choice options; part of the source's name.
        limit: first so many prompts only.
        asked: put the benchmark's own template around the question.
        left_out: counts the rows that are no question of the benchmark, by reason.

    Raises:
        UsageError: an unknown name, a data set that cannot be read, a row of another shape, or a
            window of dates where problems have none.
    """
    benchmark = load(name)
    own = template.load(benchmark.template) if asked else None
    mark = f"@seed{seed}" if benchmark.has_options else ""
    found = _questions(
        name, path=path, revision=revision, release=release, since=since, until=until, seed=seed,
        left_out=Counter() if left_out is None else left_out,
    )  # fmt: skip
    for label, number, question in itertools.islice(found, limit):
        pair = _pair(question, source=f"{name}:{label}{mark}", number=number)
        yield own.apply(*pair) if own else pair


def texts(name: str, *, path: str | Path | None = None) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield what decontamination looks for: each bare question, and its reference solutions.

    Args:
        name: of the benchmark, with or without ``benchmark:``; ``NAME=PATH`` names a local copy.
        path: a local copy.

    Raises:
        UsageError: see ``prompts``.
    """
    name, _, given = name.removeprefix(PREFIX).partition("=")
    for _, _, question in _questions(name, path=path or given or None, left_out=Counter()):
        yield question.text, question.also


def _questions(
    name: str,
    *,
    path: str | Path | None,
    left_out: Counter[str],
    revision: str | None = None,
    release: str | None = None,
    since: str | None = None,
    until: str | None = None,
    seed: int = 0,
) -> Iterator[tuple[str, int, Question]]:
    benchmark = load(name)
    if (since or until) and benchmark.day is None:
        raise UsageError(f"the problems of {name!r} have no dates", "leave since and until away")
    n = n_outside = 0
    for label, number, row in _rows(benchmark, name, path, revision, release):
        if (since or until) and not _is_within(benchmark, row, since, until, f"{label} {number}"):
            n_outside += 1
            continue
        try:
            question = benchmark.read(row, seed)
        except LeftOut as why:
            left_out[str(why)] += 1
            continue
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(
                f"{label} row {number} is no row of {name} ({type(error).__name__}: {error})",
                f"the shape is that of {benchmark.dataset}",
            ) from None
        n += 1
        yield label, number, question
    if n == 0:
        outside = f", {n_outside} outside of the dates" if n_outside else ""
        out = f", {sum(left_out.values())} left out" if left_out else ""
        raise UsageError(
            f"benchmark {name!r} has no rows{outside}{out}", "check file, revision and split"
        )


def _is_within(
    benchmark: Benchmark, row: Row, since: str | None, until: str | None, where: str
) -> bool:
    day = benchmark.day(row) if benchmark.day else None
    if day is None:
        raise UsageError(f"row {where} has no date", "leave since and until away")
    return (since or day) <= day <= (until or day)


def _pair(question: Question, *, source: str, number: int) -> Pair:
    prompt = Prompt.of(question.text)
    return prompt, PromptSource(
        prompt_id=prompt.prompt_id,
        source=source,
        item=question.item or str(number),
        split="test",
        gold=question.gold,
        verifier=question.verifier,
        options=dict(question.options),
        domain=question.domain,
        level=question.level,
        language=question.language,
    )


def _rows(
    benchmark: Benchmark,
    name: str,
    path: str | Path | None,
    revision: str | None,
    release: str | None,
) -> Iterator[tuple[str, int, Row]]:
    if release is not None and release not in benchmark.files:
        known = ", ".join(benchmark.files) or "none"
        raise UsageError(f"benchmark {name!r} has no release {release!r}", f"it has: {known}")
    where = None if path is None else Path(path)
    if where is not None and not where.is_dir():
        files.check_input(str(where))
        yield from _of_file(where, where.name)
        return
    wanted = benchmark.files.get(release or benchmark.release or "", ())
    if wanted:
        yield from _of_files(benchmark, wanted, where, revision)
        return
    for config in benchmark.config:
        rows = hub.rows(
            benchmark.dataset if where is None else str(where),
            revision=revision or benchmark.revision, config=config, split=benchmark.split,
        )  # fmt: skip
        several = f"/{config}" if len(benchmark.config) > 1 else ""
        for label, number, row in rows:
            yield f"{label}{several}", number, row


def _of_files(
    benchmark: Benchmark, wanted: tuple[str, ...], folder: Path | None, revision: str | None
) -> Iterator[tuple[str, int, Row]]:
    label = benchmark.dataset
    if folder is None:
        label, paths = hub.fetched(benchmark.dataset, wanted, revision=revision)
    else:
        label, paths = folder.name, [folder / name for name in wanted]
    for file_name, path in zip(wanted, paths, strict=True):
        files.check_input(str(path))
        yield from _of_file(path, f"{label}/{file_name}")


def _of_file(path: Path, label: str) -> Iterator[tuple[str, int, Row]]:
    for number, row in enumerate(files.read_rows(str(path))):
        if not isinstance(row, dict):
            raise UsageError(f"{path} line {number + 1} is malformed", "correct the file")
        yield label, number, row
