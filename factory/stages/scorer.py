"""Scoring: run score plug-ins over a frame of traces and join their columns.

A score sees ``completion`` (prefill included), ``reasoning``, ``answer``, ``prompt``,
``target_language`` and ``extracted``; it measures and never decides.

A score may also name columns of other scores in its ``READS``. A column of another score's
``WRITES`` is measured first, with that score's default parameters, and along without being stored
where that score was not asked for. A column of another score's ``LENDS`` is an intermediate result
that is never stored: it is there where that score runs over the same rows, and null elsewhere; the
reader measures by itself what is null.
"""

from __future__ import annotations

import graphlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import polars as pl

from factory import plugins
from factory.dialects import split_reasoning
from factory.errors import PluginError, UsageError
from factory.records import polars_schema
from factory.records.text import clean

INPUTS = ("completion", "reasoning", "answer", "prompt", "target_language", "extracted")
MAX_TEXT_BYTES = 8 << 20
"""Longer texts (about two million tokens) are not measured: some scores take 100 bytes for each of
theirs."""


def too_long(frame: pl.DataFrame) -> pl.Series:
    """Return which rows hold a text over ``MAX_TEXT_BYTES``: Boolean, never null.

    >>> too_long(frame_of(["short", None])).to_list()
    [False, False]
    """
    columns = [c for c in INPUTS if c in frame.columns]
    over = [pl.col(c).str.len_bytes().fill_null(0) > MAX_TEXT_BYTES for c in columns]
    return frame.select(pl.any_horizontal(over).alias("too_long")).to_series()


def frame_of(
    completions: Sequence[str | None],
    *,
    prompts: Sequence[str | None] | None = None,
    target_languages: Sequence[str | None] | None = None,
    extracted: Sequence[str | None] | None = None,
) -> pl.DataFrame:
    """Return the frame that scores read, shape (N, 6); None stays null.

    Lone surrogates, which Arrow text cannot hold, become U+FFFD, and pairs one character.

    >>> frame_of(["<think>a</think>b"]).row(0)[:3]
    ('<think>a</think>b', 'a', 'b')
    """
    halves = [(None, None) if t is None else split_reasoning(t) for t in completions]
    none: Sequence[str | None] = [None] * len(completions)
    columns = {
        "completion": completions,
        "reasoning": [h[0] for h in halves],
        "answer": [h[1] for h in halves],
        "prompt": none if prompts is None else prompts,
        "target_language": none if target_languages is None else target_languages,
        "extracted": none if extracted is None else extracted,
    }
    schema = dict.fromkeys(INPUTS, pl.String)
    try:
        return pl.DataFrame(columns, schema=schema)
    except UnicodeEncodeError:
        cleaned = {name: clean(list(texts)) for name, texts in columns.items()}
        return pl.DataFrame(cleaned, schema=schema)


class Scorer:
    """A set of scores with their parameters.

    Args:
        names: score names or paths to ``.py`` files.
        params: score name → its own parameters.

    Raises:
        PluginError: no such score, one that reads a column that no score writes, or scores that
            read each other.
        UsageError: a parameter that a score does not take, or two scores writing one column.
        ConfigError: a score's ``ready`` refuses its parameters.
    """

    def __init__(
        self, names: Sequence[str], params: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self.params = {name: dict((params or {}).get(name, {})) for name in names}
        stray = sorted(set(params or {}) - set(names))
        if stray:
            raise UsageError(
                f"parameters for {', '.join(stray)}", "add it to the scores, or drop them"
            )
        self.modules = {name: plugins.load("scores", name) for name in names}
        self.labels = {name: plugins.label("scores", name) for name in names}
        self.failures: dict[str, str] = {}
        """Last error of each score whose code raised on some row (a bug to report)."""
        owners: dict[str, str] = {}
        for name, module in self.modules.items():
            unknown = sorted(set(self.params[name]) - set(getattr(module, "PARAMS", ())))
            if unknown:
                takes = ", ".join(getattr(module, "PARAMS", ())) or "none"
                raise UsageError(
                    f"score {name!r} has no parameter {', '.join(unknown)}", f"it takes: {takes}"
                )
            if ready := getattr(module, "ready", None):
                ready(**self.params[name])
            for column in module.WRITES:
                if column in owners:
                    raise UsageError(
                        f"scores {owners[column]!r} and {name!r} both write {column!r}",
                        "choose one",
                    )
                owners[column] = name
        self._along: dict[str, ModuleType] = {}
        """Scores that are not asked for, but that others read."""
        self._source: dict[str, str | None] = {}
        """Column of another score that is read → that score; None where it is only lent."""
        self._order = self._reading_order(owners)

    def _reading_order(self, owners: Mapping[str, str]) -> list[str]:
        """Return the scores, each after those whose columns it reads."""
        lenders = {c: name for name, m in self.modules.items() for c in _lent(m)}
        graph: dict[str, list[str]] = {}
        left = list(self.modules)
        while left:
            name = left.pop(0)
            if name in graph:
                continue
            graph[name] = []
            for column in self._module(name).READS:
                if column in INPUTS:
                    continue
                source = owners.get(column) or lenders.get(column) or self._found(name, column)
                self._source[column] = source
                if source is not None:
                    graph[name].append(source)
                    left.append(source)
        try:
            return list(graphlib.TopologicalSorter(graph).static_order())
        except graphlib.CycleError as error:
            circle = " -> ".join(error.args[1])
            raise PluginError(f"scores read each other: {circle}", "drop one column") from None

    def _found(self, name: str, column: str) -> str | None:
        """Find the score that writes or lends a column among those that come with the factory."""
        for other in plugins.default_scores():
            module = plugins.load("scores", other)
            if column in module.WRITES:
                self._along[other] = module
                return other
            if column in _lent(module):
                return None
        raise PluginError(
            f"score {name!r} reads {column!r}, which is no input and which no score here writes",
            f"add the score that writes it, or read one of {', '.join(INPUTS)}",
        )

    def _module(self, name: str) -> ModuleType:
        return self.modules[name] if name in self.modules else self._along[name]

    @property
    def inputs(self) -> frozenset[str]:
        """Columns of ``INPUTS`` that any score reads."""
        modules = (*self.modules.values(), *self._along.values())
        return frozenset(c for m in modules for c in m.READS if c in INPUTS)

    @property
    def columns(self) -> dict[str, str]:
        """All columns written, with their kinds."""
        return {c: kind for m in self.modules.values() for c, kind in m.WRITES.items()}

    def score(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the columns of every score, same height and order as ``frame``."""
        parts = dict(self.each(frame))
        if not parts:
            return pl.DataFrame()
        return pl.concat([parts[name] for name in self.modules], how="horizontal")

    def score_one(self, name: str, frame: pl.DataFrame) -> pl.DataFrame:
        """Return one score's columns, as ``each`` does."""
        return dict(self.each(frame, [name]))[name]

    def each(
        self, frame: pl.DataFrame, names: Collection[str] | None = None
    ) -> Iterator[tuple[str, pl.DataFrame]]:
        """Yield the name and the columns of each score, those that others read first.

        Only a row on which a score's code raises gets nulls in its columns. A row with a text over
        ``MAX_TEXT_BYTES`` counts as null.

        Args:
            frame: the columns of ``INPUTS``, N rows.
            names: only these scores; None means all.
        """
        over = too_long(frame)
        if over.any():
            frame = frame.with_columns(
                pl.when(~over).then(pl.col(c)).alias(c) for c in frame.columns
            )
        made: dict[str, pl.DataFrame] = {}
        for name in self._order:
            if name in self.modules if names is None else name in names:
                out = self._measured(name, self.params[name], frame, made)
                yield name, out.select(list(self.modules[name].WRITES))

    def _measured(
        self,
        name: str,
        params: Mapping[str, Any],
        frame: pl.DataFrame,
        made: dict[str, pl.DataFrame],
    ) -> pl.DataFrame:
        """Return what a score writes and lends; ``made`` holds what others made of these rows.

        Others read what a score makes with its default parameters alone: a value must not depend
        on what else was asked for.
        """
        if not params and name in made:
            return made[name]
        others = []
        for column in self._module(name).READS:
            if column in INPUTS:
                continue
            source = self._source[column]
            if source is not None and column in self._module(source).WRITES:
                values = self._measured(source, {}, frame, made)[column]
            elif source in made:
                values = made[source][column]
            else:
                values = pl.repeat(None, frame.height, dtype=pl.Null, eager=True)
            others.append(values.alias(column))
        out = self._score_rows(name, frame.with_columns(others), params)
        if not params:
            made[name] = out
        return out

    def _score_rows(
        self, name: str, frame: pl.DataFrame, params: Mapping[str, Any]
    ) -> pl.DataFrame:
        module = self._module(name)
        lent = _lent(module)
        try:
            out: pl.DataFrame = module.score(frame, **params)
        except UsageError:
            raise  # a parameter is wrong, such as a folder that is not there: no row is to blame
        except Exception as error:  # noqa: BLE001 - a plug-in's bug must not end a run
            if frame.height > 1:
                half = frame.height // 2
                return pl.concat(
                    [self._score_rows(name, part, params) for part in (frame[:half], frame[half:])]
                )
            self.failures[name] = f"{type(error).__name__}: {error}"[:200]
            out = pl.DataFrame({c: [None] * frame.height for c in (*module.WRITES, *lent)})
        schema = polars_schema({**module.WRITES, **lent})
        if out.height != frame.height or set(out.columns) != set(schema):
            raise PluginError(
                f"score {name!r} gave {out.height} rows of {', '.join(out.columns)}",
                f"for {frame.height} rows of {', '.join(schema)}: correct the plug-in",
            )
        return out.select(list(schema)).cast(schema)


def _lent(module: ModuleType) -> dict[str, str]:
    return getattr(module, "LENDS", {})
