"""Scoring: run score plug-ins over a frame of traces and join their columns.

A score sees ``completion`` (prefill included), ``reasoning``, ``answer``, ``prompt``,
``target_language`` and ``extracted``; it measures and never decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from factory import plugins
from factory.dialects import split_reasoning
from factory.errors import PluginError, UsageError

INPUTS = ("completion", "reasoning", "answer", "prompt", "target_language", "extracted")
_POLARS = {"text": pl.String, "int": pl.Int64, "float": pl.Float64, "bool": pl.Boolean}
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
        clean = {name: [_encodable(text) for text in texts] for name, texts in columns.items()}
        return pl.DataFrame(clean, schema=schema)


def _encodable(text: str | None) -> str | None:
    if text is None or text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Scorer:
    """A set of scores with their parameters.

    Args:
        names: score names or paths to ``.py`` files.
        params: score name → its own parameters.

    Raises:
        PluginError: no such score, or one that reads a column that does not exist.
        UsageError: a parameter that a score does not take, or two scores writing one column.
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
            alien = sorted(set(module.READS) - set(INPUTS))
            if alien:
                raise PluginError(
                    f"score {name!r} reads {', '.join(alien)}", f"known: {', '.join(INPUTS)}"
                )
            unknown = sorted(set(self.params[name]) - set(getattr(module, "PARAMS", ())))
            if unknown:
                takes = ", ".join(getattr(module, "PARAMS", ())) or "none"
                raise UsageError(
                    f"score {name!r} has no parameter {', '.join(unknown)}", f"it takes: {takes}"
                )
            for column in module.WRITES:
                if column in owners:
                    raise UsageError(
                        f"scores {owners[column]!r} and {name!r} both write {column!r}",
                        "choose one",
                    )
                owners[column] = name

    @property
    def columns(self) -> dict[str, str]:
        """All columns written, with their kinds."""
        return {c: kind for m in self.modules.values() for c, kind in m.WRITES.items()}

    def score(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the columns of every score, same height and order as ``frame``."""
        parts = [self.score_one(name, frame) for name in self.modules]
        return pl.concat(parts, how="horizontal") if parts else pl.DataFrame()

    def score_one(self, name: str, frame: pl.DataFrame) -> pl.DataFrame:
        """Return one score's columns; only a row on which its code raises gets nulls.

        A row with a text over ``MAX_TEXT_BYTES`` counts as null.
        """
        over = too_long(frame)
        if over.any():
            frame = frame.with_columns(
                pl.when(~over).then(pl.col(c)).alias(c) for c in frame.columns
            )
        return self._score_one(name, frame)

    def _score_one(self, name: str, frame: pl.DataFrame) -> pl.DataFrame:
        module = self.modules[name]
        try:
            out: pl.DataFrame = module.score(frame, **self.params[name])
        except Exception as error:  # noqa: BLE001 - a plug-in's bug must not end a run
            if frame.height > 1:
                half = frame.height // 2
                return pl.concat(
                    [self._score_one(name, frame[:half]), self._score_one(name, frame[half:])]
                )
            self.failures[name] = f"{type(error).__name__}: {error}"[:200]
            out = pl.DataFrame({c: [None] * frame.height for c in module.WRITES})
        schema = pl.Schema({c: _POLARS[kind] for c, kind in module.WRITES.items()})
        if out.height != frame.height or set(out.columns) != set(module.WRITES):
            raise PluginError(
                f"score {name!r} gave {out.height} rows of {', '.join(out.columns)}",
                f"for {frame.height} rows of {', '.join(module.WRITES)}: correct the plug-in",
            )
        return out.select(list(module.WRITES)).cast(schema)
