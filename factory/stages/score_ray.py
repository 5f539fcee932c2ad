"""Scores of a big store on a Ray cluster: Ray Data reads the parts and maps the scores over them.

The nodes read the store's Parquet files, so all of them must see the store's folder under the same
path; only this process writes. What a kill leaves out is missing, and made by the next run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from factory.records.text import trace_text
from factory.stages.reading import OnCount, extracted_of, languages_of, prompt_texts
from factory.stages.score import ADD_ROWS, ScoreCounts, score_table
from factory.stages.scorer import Scorer, frame_of, too_long
from factory.store import Store
from factory.store.key_sets import KeySet

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ["trace_id", "prompt_id", "completion", "prefill", "run_id"]
BATCH_ROWS = 2048


def score_on_ray(
    store: Store,
    scores: Sequence[str],
    *,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    address: str | None = None,
    on_count: OnCount | None = None,
) -> ScoreCounts:
    """Give every stored trace the scores that it lacks: ``score``, on a cluster.

    Args:
        store: where traces are and scores go.
        scores: names or paths of scores; a path must be there on every node.
        params: score → its parameters.
        address: of the cluster; default: ``RAY_ADDRESS``, else a new local one.
        on_count: called after every write.
    """
    import ray

    scorer = Scorer(scores, params)
    counts = ScoreCounts(
        store.start_run("score", {"scores": list(scores), "params": scorer.params})
    )
    traces = store.table("traces")
    traces.seal()
    present = traces.keys()
    tables = {name: score_table(store, scorer, name) for name in scores}
    wanted = pl.Series("trace_id", [], dtype=pl.String)
    for table in tables.values():
        missing = table.missing(present)
        counts.present[_label(table.name)] += len(present) - len(missing)
        wanted = pl.concat([wanted, missing]).unique(maintain_order=True)
    if len(wanted):
        started = _connect(address)
        try:
            texts = extracted_of(store) if "extracted" in scorer.inputs else {}
            known = ray.put((wanted, store.excluded_runs(), prompt_texts(store),
                             languages_of(store), texts))  # fmt: skip
            paths = [str(p.resolve()) for p in traces.part_paths()]
            # Reading waits for disks. With a whole CPU each, as is the default, an actor on a
            # cluster of one CPU waits for ever for what no reader has the room to read.
            n_cpus = ray.cluster_resources().get("CPU", 1)
            read = ray.data.read_parquet(paths, columns=COLUMNS, partitioning=None, num_cpus=0.1)
            measured = read.map_batches(
                Measure,
                num_cpus=0.9 if n_cpus > 1 else 0.5,
                fn_constructor_args=(list(scores), scorer.params, known),
                batch_size=BATCH_ROWS,
                batch_format="pyarrow",
                concurrency=(1, max(1, int(n_cpus))),
            )
            _write(measured, tables, counts, len(wanted), on_count)
        finally:
            if started:
                ray.shutdown()
    store.end_run(counts.run_id, {"new": dict(counts.new)})
    return counts


def _connect(address: str | None) -> bool:
    """Connect to the cluster; tell whether a connection was made here."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    started = not ray.is_initialized()
    if started:
        ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    return started


def _write(
    measured: Any,
    tables: Mapping[str, Any],
    counts: ScoreCounts,
    n_wanted: int,
    on_count: OnCount | None,
) -> None:
    waiting: list[pl.DataFrame] = []

    def write() -> None:
        frame = pl.concat(waiting)
        for name, table in tables.items():
            columns = [c for c in table.form.columns if c not in ("trace_id", "run_id")]
            own = frame.select(
                "trace_id",
                *[pl.col(f"{name}/{c}").alias(c) for c in columns],
                pl.lit(counts.run_id).alias("run_id"),
            )
            counts.new[_label(table.name)] += table.add(own)
            counts.too_long[_label(table.name)] += int(frame["too_long"].sum())
        waiting.clear()

    done = 0
    for batch in measured.iter_batches(batch_size=BATCH_ROWS, batch_format="pyarrow"):
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        waiting.append(frame)
        done += frame.height
        if sum(f.height for f in waiting) >= ADD_ROWS:
            write()
        if on_count is not None:
            on_count("scores", done, n_wanted)
    if waiting:
        write()


class Measure:
    """What runs on a node: scores over one batch of rows after the other."""

    def __init__(
        self, names: list[str], params: Mapping[str, Mapping[str, Any]], known: Any
    ) -> None:
        import ray

        self._scorer = Scorer(names, params)
        wanted, self._excluded, self._prompts, self._languages, self._extracted = ray.get(known)
        self._wanted = KeySet(wanted)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return ``trace_id``, ``too_long`` and the columns of all scores, ``<score>/<column>``."""
        rows = pl.from_arrow(batch)
        assert isinstance(rows, pl.DataFrame)
        rows = rows.cast(pl.String).filter(
            self._wanted.has(rows["trace_id"]) & ~pl.col("run_id").is_in(self._excluded)
        )
        frame = frame_of(
            [trace_text(p, c) for p, c in rows.select("prefill", "completion").iter_rows()],
            prompts=[self._prompts.get(p, "") for p in rows["prompt_id"]],
            target_languages=[self._languages.get(p) for p in rows["prompt_id"]],
            extracted=[self._extracted.get(t) for t in rows["trace_id"]],
        )
        parts = [rows.select("trace_id"), too_long(frame).to_frame()]
        for name, scored in self._scorer.each(frame):
            parts.append(scored.rename({c: f"{name}/{c}" for c in scored.columns}))
        return pl.concat(parts, how="horizontal").to_arrow()


def _label(table: str) -> str:
    return table.removeprefix("scores.")
