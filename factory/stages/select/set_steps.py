"""What depends on the set: each step looks at what those before it left, texts by the batch.

Memory: a sketch of 512 bytes per trace for near-duplicates, one vector per trace for diversity;
no step holds the texts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import orjson
import polars as pl

from factory.errors import UsageError
from factory.sets.bands import in_band, pass_rates
from factory.sets.caps import cap
from factory.sets.mixtures import mixture
from factory.stages.reading import OnCount
from factory.stages.select.funnel import Step
from factory.stages.select.recipe import (
    SET_STEPS,
    Decontaminate,
    Diversity,
    Mixture,
    NearDuplicates,
    Paraphrases,
    PassRates,
    Selection,
)
from factory.store import Store

LOG = logging.getLogger("factory.stages.select")


def set_steps(
    store: Store,
    recipe: Selection,
    frame: pl.DataFrame,
    alive: pl.Series,
    on_count: OnCount | None = None,
) -> Iterator[Step]:
    """Yield the set steps of a recipe in order, each with its flags over ``frame``.

    Args:
        store: where texts are.
        recipe: what is asked.
        frame: the universe: trace_id, prompt_id, text_hash, ``_rank``, ``_counts`` (whether a
            trace speaks of its prompt: answers to a benchmark do not) and the columns that steps
            name.
        alive: which rows the filters keep. A row that is not alive is not looked at and counts as
            passed; so it is with what an earlier step dropped.
        on_count: called before every step, and after every batch of texts.
    """
    for name in SET_STEPS:
        value = getattr(recipe, name)
        if value is None:
            continue
        texts = _Texts(store, name, on_count)
        texts.say(0, int(alive.sum()))
        sql, passed = _STEPS[name](texts, recipe, frame, alive)
        is_on = name not in recipe.disabled
        yield Step(name, sql, is_on, passed)
        if is_on:
            alive = alive & passed.fill_null(False)


def columns_needed(recipe: Selection) -> list[str]:
    """Return the columns of wide that the set steps read."""
    needed = []
    if recipe.pass_rates is not None:
        needed.append(recipe.pass_rates.status)
    if recipe.diversity is not None and recipe.diversity.column is not None:
        needed.append(recipe.diversity.column)
    if recipe.mixture is not None:
        needed.append(recipe.mixture.by)
    return needed


_Made = tuple[str, pl.Series]


class _Texts(NamedTuple):
    """Where a step reads the texts of traces, and who is told how many it has read."""

    store: Store
    step: str
    on_count: OnCount | None

    def of(self, keys: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Yield the texts of traces, as ``texts_of`` does."""
        done = 0
        for batch in texts_of(self.store, keys):
            yield batch
            done += batch.height
            self.say(done, keys.height)

    def say(self, done: int, wanted: int) -> None:
        """Tell how far the step is."""
        if self.on_count is not None:
            self.on_count(self.step, done, wanted)


def _others_pass(keep: pl.Series, alive: pl.Series) -> pl.Series:
    return keep | ~alive


def _pass_rates(_: _Texts, recipe: Selection, frame: pl.DataFrame, alive: pl.Series) -> _Made:
    band = recipe.pass_rates
    assert isinstance(band, PassRates)
    rates = in_band(
        pass_rates(frame.filter("_counts"), status=band.status),
        low=band.low, high=band.high, min_scored=band.min_scored,
    )  # fmt: skip
    joined = frame.select("prompt_id").join(
        rates.select("prompt_id", "is_in_band"), on="prompt_id", how="left", maintain_order="left"
    )
    sql = f"pass rate of the prompt in [{band.low:g}, {band.high:g}], {band.min_scored}+ verdicts"
    return sql, joined["is_in_band"]


def _decontaminate(
    texts: _Texts, recipe: Selection, frame: pl.DataFrame, alive: pl.Series
) -> _Made:
    from factory.stages.overlap import (
        HEAD_ROWS,
        OverlapCheck,
        benchmark_items,
        ignored_texts,
        texts_of_row,
    )

    asked = recipe.decontaminate
    assert isinstance(asked, Decontaminate)
    benchmarks = {
        path: benchmark_items(path, asked.mapping, ngram=asked.ngram) for path in asked.against
    }
    ignore = [text for path in asked.ignore_text for text in ignored_texts(path)]
    keys = frame.select("trace_id", "prompt_id").filter(alive)

    def prompts() -> Iterator[tuple[pl.Series, list[list[str]]]]:
        for batch in texts.store.table("prompts").batches(["prompt_id", "messages"]):
            mine = batch.join(keys, on="prompt_id", how="semi")
            yield mine["prompt_id"], [texts_of_row({"m": m}) for m in mine["messages"]]

    head: list[list[str]] = []
    for _, found in prompts():
        head += found
        if len(head) >= HEAD_ROWS:
            break
    checker = OverlapCheck(benchmarks, head, ngram=asked.ngram, ignore=ignore)
    bad_prompts, bad_traces = [], []
    for ids, found in prompts():
        bad_prompts.append(ids.filter(checker.check(found)["is_contaminated"].fill_null(False)))
    for rows in texts.of(keys):
        checked = checker.check([[t] for t in rows["text"]])["is_contaminated"]
        bad_traces.append(rows["trace_id"].filter(checked.fill_null(False)))
    sql = f"{asked.ngram}-grams of {', '.join(asked.against)}"
    if asked.paraphrases is not None:
        bad_prompts.append(
            _paraphrased(texts.store, keys, asked.paraphrases, benchmarks, bad_prompts)
        )
        sql += f"; {len(bad_prompts[-1])} prompts say the same, by {asked.paraphrases.model}"
    bad = frame.select(
        (_is_in("prompt_id", bad_prompts) | _is_in("trace_id", bad_traces)).alias("bad")
    )["bad"]
    return sql, _others_pass(~bad, alive)


def _paraphrased(
    store: Store,
    keys: pl.DataFrame,
    asked: Paraphrases,
    benchmarks: dict[str, list[str]],
    found: list[pl.Series],
) -> pl.Series:
    """Return the prompts, of those not found yet, that say the same as an item; each is said."""
    from factory.sets.embeddings import Embedder
    from factory.sets.paraphrases import judge_of, paraphrases

    embed = Embedder(asked.model).embed
    judge = judge_of(asked.judge) if asked.judge else None
    known = pl.concat(found) if found else pl.Series(dtype=pl.String)
    out = [pl.Series(dtype=pl.String)]
    for batch in _prompt_texts(store, keys):
        texts = batch.filter(~pl.col("prompt_id").is_in(known.implode()))
        pairs = paraphrases(
            texts["text"].to_list(), benchmarks, embed, n=asked.neighbours,
            similarity=asked.similarity, sure=asked.sure, judge=judge,
        )  # fmt: skip
        for row, benchmark, item, similarity in pairs.iter_rows():
            text = " ".join(texts["text"][row].split())
            LOG.warning("same task as an item of %s (%.2f): %.100r, %.100r", benchmark, similarity,
                        text, " ".join(item.split()))  # fmt: skip
        out.append(texts["prompt_id"][pairs["row"]])
    return pl.concat(out)


def _is_in(column: str, found: list[pl.Series]) -> pl.Expr:
    values = pl.concat(found) if found else pl.Series(dtype=pl.String)
    return pl.col(column).is_in(values.implode())


def _exact_duplicates(_: _Texts, recipe: Selection, frame: pl.DataFrame, alive: pl.Series) -> _Made:
    within = recipe.exact_duplicates
    same = ["text_hash"] if within == "set" else ["prompt_id", "text_hash"]
    rows = frame.select("trace_id", *same, "_rank").with_row_index("_row").filter(alive)
    first = rows.sort("_rank", "trace_id").unique(same, keep="first", maintain_order=True)
    keep = _at(frame.height, first["_row"])
    return f"one of each text within the {within}", _others_pass(keep, alive)


def _near_duplicates(
    texts: _Texts, recipe: Selection, frame: pl.DataFrame, alive: pl.Series
) -> _Made:
    from factory.sets.near_duplicates import Sketches, mark

    asked = recipe.near_duplicates
    assert isinstance(asked, NearDuplicates)
    # Which of a bucket's members are compared depends on their order: it must not be that of the
    # store's files. The first in the preferred order stays.
    order = frame.select("trace_id", "prompt_id", "_rank").with_row_index("_row").filter(alive)
    order = order.sort("_rank", "trace_id")
    sketches = Sketches(ngram=asked.ngram)
    seen = []
    for batch in texts.of(order.select("trace_id")):
        sketches.add(batch["text"].to_list())
        seen.append(batch["trace_id"])
    place = pl.DataFrame(
        {"trace_id": pl.concat(seen) if seen else pl.Series(dtype=pl.String)}
    ).with_row_index("_at")
    order = order.join(place, on="trace_id", how="inner", maintain_order="left")
    label = sketches.reordered(order["_at"].to_numpy()).clusters(threshold=asked.threshold)
    within = "prompt_id" if asked.within == "prompt" else None
    marked = mark(order, label, within=within)
    keep = _at(frame.height, marked.filter(~pl.col("is_duplicate"))["_row"])
    sql = f"word {asked.ngram}-grams, Jaccard >= {asked.threshold}, within the {asked.within}"
    return sql, _others_pass(keep, alive)


def _cap_per_prompt(_: _Texts, recipe: Selection, frame: pl.DataFrame, alive: pl.Series) -> _Made:
    limit = recipe.cap_per_prompt
    assert limit is not None
    keep = cap(frame, limit=limit, choose="_rank", highest=False, among=alive)
    return f"at most {limit} per prompt, by {recipe.prefer}", _others_pass(keep, alive)


def _diversity(texts: _Texts, recipe: Selection, frame: pl.DataFrame, alive: pl.Series) -> _Made:
    from factory.sets.diversity import diverse

    asked = recipe.diversity
    assert isinstance(asked, Diversity)
    if (asked.model is None) == (asked.column is None):
        raise UsageError("diversity needs an embedding", "give model or column, one of them")
    if asked.column is not None:
        vectors = frame.select(_vectors(frame[asked.column]).alias("embedding"))
        what = asked.column
    else:
        assert asked.model is not None
        vectors = _embedded(texts, frame, alive, asked)
        what = f"{asked.model} on the {asked.of}"
    keep = diverse(vectors, limit=asked.limit, among=alive)
    return f"{asked.limit} that lie far apart, by {what}", _others_pass(keep, alive)


def _vectors(texts: pl.Series) -> pl.Series:
    if texts.dtype != pl.String:
        return texts
    values = [None if t is None else orjson.loads(t) for t in texts.to_list()]
    return pl.Series(values, dtype=pl.List(pl.Float32))


def _embedded(
    texts: _Texts, frame: pl.DataFrame, alive: pl.Series, asked: Diversity
) -> pl.DataFrame:
    from factory.sets.embeddings import Embedder

    assert asked.model is not None
    embedder = Embedder(asked.model)
    key = "prompt_id" if asked.of == "prompt" else "trace_id"
    keys = frame.select("trace_id", "prompt_id").filter(alive)
    found = []
    batches = texts.of(keys) if key == "trace_id" else _prompt_texts(texts.store, keys)
    for batch in batches:
        vectors = embedder.embed(batch["text"].to_list())
        found.append(batch.select(key, pl.Series("embedding", vectors.astype(np.float32))))
    if not found:
        return frame.select(pl.lit(None, dtype=pl.List(pl.Float32)).alias("embedding"))
    known = pl.concat(found).with_columns(pl.col("embedding").arr.to_list())
    return frame.select(key).join(known, on=key, how="left", maintain_order="left")


def _prompt_texts(store: Store, keys: pl.DataFrame) -> Iterator[pl.DataFrame]:
    for batch in store.table("prompts").batches(["prompt_id", "text"]):
        mine = batch.join(keys, on="prompt_id", how="semi")
        if mine.height:
            yield mine


def _mixture(_: _Texts, recipe: Selection, frame: pl.DataFrame, alive: pl.Series) -> _Made:
    asked = recipe.mixture
    assert isinstance(asked, Mixture)
    keep = mixture(
        frame, asked.targets(), by=asked.by, total=asked.total, seed=asked.seed, among=alive
    )
    shares = ", ".join(f"{d} {s:.3g}" for d, s in asked.targets().items())
    return f"{asked.by}: {shares}", _others_pass(keep, alive)


def _max_rows(_: _Texts, recipe: Selection, frame: pl.DataFrame, alive: pl.Series) -> _Made:
    limit = recipe.max_rows
    assert limit is not None
    first = pl.Series(range(frame.height), dtype=pl.UInt32).filter(alive)[:limit]
    return f"at most {limit}", _others_pass(_at(frame.height, first), alive)


_STEPS: dict[str, Callable[[_Texts, Selection, pl.DataFrame, pl.Series], _Made]] = {
    "pass_rates": _pass_rates, "decontaminate": _decontaminate,
    "exact_duplicates": _exact_duplicates, "near_duplicates": _near_duplicates,
    "cap_per_prompt": _cap_per_prompt,
    "diversity": _diversity, "mixture": _mixture, "max_rows": _max_rows,
}  # fmt: skip


def _at(height: int, rows: pl.Series) -> pl.Series:
    flags = pl.repeat(False, height, dtype=pl.Boolean, eager=True)
    return flags.scatter(rows, True) if len(rows) else flags


def texts_of(store: Store, keys: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield trace_id and text (prefill + completion) of the wanted traces, by the batch.

    Args:
        store: where traces are.
        keys: a frame with ``trace_id``.
    """
    wanted = keys.select("trace_id")
    for batch in store.table("traces").batches(["trace_id", "prefill", "completion"]):
        mine = batch.join(wanted, on="trace_id", how="semi")
        if mine.height:
            yield mine.select(
                "trace_id",
                pl.concat_str([pl.col("prefill").fill_null(""), "completion"]).alias("text"),
            )
