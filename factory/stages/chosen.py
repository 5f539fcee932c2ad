"""Which rows of a release leave it, in an export or to the hub: those of evaluation stay behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from factory.errors import UsageError
from factory.stages.release import Release
from factory.stages.select.evaluation import not_evaluation
from factory.store import Store


class Chosen:
    """The rows of a release that leave it.

    Args:
        store: which prompts and runs are evaluation.
        release: what to write.
        splits: as in ``export``.

    Raises:
        UsageError: a split that the release does not hold.
    """

    def __init__(self, store: Store, release: Release, splits: Sequence[str] | None) -> None:
        self.release = release
        self._store = store
        self._splits = splits
        self._universe = release.manifest.get("universe") or {}
        if splits:
            have = set(release.read(["split"])["split"].fill_null("none"))
            if stray := sorted(set(splits) - have):
                raise UsageError(
                    f"the release has no split {stray[0]!r}", f"it has {', '.join(sorted(have))}"
                )

    def parts(self) -> Iterator[pl.DataFrame]:
        """Yield the chosen rows, one part of the release at a time."""
        for frame in self.release.parts():
            yield self.of(frame)

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return those of some rows of the release that are chosen."""
        if self._splits:
            return rows.filter(pl.col("split").fill_null("none").is_in(self._splits))
        named, runs = (self._universe.get(name) or () for name in ("splits", "runs"))
        return rows.filter(not_evaluation(self._store, rows, splits=named, runs=runs))
