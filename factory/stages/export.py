"""Export: a release in the form that a trainer or a hub expects.

``trl``       prompt (messages) and completion (messages), for TRL's SFTTrainer
``messages``  one list of messages
``sharegpt``  conversations with from/value
``openr1``    the wide columns of OpenR1-Math-220k
``verl``      verl's Parquet rows (data_source, prompt, ability, reward_model, extra_info)
``dpo``       prompt, chosen, rejected: passes against fails of the same prompt
``hf``        a folder for the Hugging Face hub: Parquet and a dataset card

Every row carries ``metadata``: gold, verifier and its options, model and the rest, so that an
import of the file gives what the store held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from factory.errors import UsageError
from factory.records.text import trace_text
from factory.rows import files
from factory.stages.chosen import Chosen
from factory.stages.hub_folder import write_hub_folder
from factory.stages.release import Release
from factory.stages.select import open_wide
from factory.stages.select.recipe import NOT_EVALUATION
from factory.store import Store, wide

Row = dict[str, Any]


def export(
    store: Store, release: Release, *, form: str, out: str, splits: Sequence[str] | None = None
) -> int:
    """Write a release in one of ``FORMS``; return the number of rows.

    Rows of a split of evaluation, and answers to a benchmark, are left out, unless the release was
    made of that split or run by its name (``universe.splits``, ``universe.runs``).

    Args:
        store: needed by ``dpo``, whose rejected traces are not in the release.
        release: what to write.
        form: one of ``FORMS`` or ``hf``.
        out: file (its ending chooses JSON Lines or Parquet), or a folder for ``hf``.
        splits: write the rows of these splits and no others (``none``: of no split).

    Raises:
        UsageError: an unknown form, ending or split, or nothing to write.
    """
    chosen = Chosen(store, release, splits)
    if form == "hf":
        return write_hub_folder(chosen, Path(out)).rows
    files.check_output(out)
    counted = _Count()
    if form == "dpo":
        files.write_rows(out, counted.over(_dpo(store, chosen)))
    elif form in FORMS:
        files.write_rows(out, counted.over(_plain(chosen, FORMS[form])))
    else:
        raise UsageError(f"unknown form {form!r}", f"known: {', '.join([*FORMS, 'dpo', 'hf'])}")
    if counted.n == 0:
        raise UsageError(
            f"nothing to export as {form!r}",
            "dpo needs passes and fails of one prompt; rows of evaluation are left out unless "
            "their split is named",
        )
    return counted.n


class _Count:
    def __init__(self) -> None:
        self.n = 0

    def over(self, batches: Iterator[list[Row]]) -> Iterator[list[Row]]:
        for batch in batches:
            self.n += len(batch)
            yield batch


def _plain(chosen: Chosen, make: Callable[[Row], Row]) -> Iterator[list[Row]]:
    for frame in chosen.parts():
        for slice_ in frame.iter_slices(1000):
            yield [make(row) for row in slice_.iter_rows(named=True)]


def _messages(row: Row) -> list[Mapping[str, Any]]:
    messages: list[Mapping[str, Any]] = orjson.loads(row["messages"])
    return messages


_OF_PROMPT = ("gold", "verifier", "options", "source", "item", "split", "domain", "level")
_OF_TRACE = ("model", "finish_reason", "n_completion_tokens", "status")


def _metadata(row: Row, *, of_trace: bool = True) -> Row:
    names = (*_OF_PROMPT, *(_OF_TRACE if of_trace else ()))
    out = {name: row.get(name) for name in names}
    out["language"] = row.get("prompt_language")
    # As text: its columns differ from row to row, and a Parquet column has one type.
    out["meta"] = row.get("meta") if of_trace else None
    return {"trace_id": row["trace_id"], **out}


def _trl(row: Row) -> Row:
    completion = [{"role": "assistant", "content": row["completion"]}]
    return {
        "prompt": _messages(row),
        "completion": completion,
        "trace_id": row["trace_id"],
        "metadata": _metadata(row),
    }


def _chat(row: Row) -> Row:
    turns = [*_messages(row), {"role": "assistant", "content": row["completion"]}]
    return {"messages": turns, "trace_id": row["trace_id"], "metadata": _metadata(row)}


def _sharegpt(row: Row) -> Row:
    names = {"user": "human", "assistant": "gpt"}
    turns = [
        {"from": names.get(str(m["role"]), m["role"]), "value": m["content"]}
        for m in _chat(row)["messages"]
    ]
    return {"conversations": turns, "id": row["trace_id"], "metadata": _metadata(row)}


def _openr1(row: Row) -> Row:
    return {
        "problem": _user_text(row),
        "solution": row["answer"].strip(),
        "answer": row.get("gold"),
        "problem_type": row.get("domain"),
        "source": row.get("source"),
        "uuid": row["trace_id"],
        "generations": [row["completion"]],
        "correctness_math_verify": [row.get("status") == "pass"],
        "is_reasoning_complete": [bool(row["reasoning"]) and bool(row["answer"].strip())],
        "finish_reasons": [row.get("finish_reason")],
        "messages": _chat(row)["messages"],
        "metadata": _metadata(row),
    }


def _verl(row: Row) -> Row:
    return {
        "data_source": row.get("source"),
        "prompt": _messages(row),
        "ability": row.get("domain"),
        "reward_model": {"style": "rule", "ground_truth": row.get("gold")},
        "extra_info": {
            "index": row["trace_id"],
            "split": row.get("split"),
            "completion": row["completion"],
        },
        "metadata": _metadata(row),
    }


def _user_text(row: Row) -> str:
    return next((str(m["content"]) for m in _messages(row) if m.get("role") == "user"), "")


FORMS: dict[str, Callable[[Row], Row]] = {
    "trl": _trl, "messages": _chat, "sharegpt": _sharegpt, "openr1": _openr1, "verl": _verl,
}  # fmt: skip


def _dpo(store: Store, rows: Chosen) -> Iterator[list[Row]]:
    """Pair each kept passing trace with a failing one of its prompt, each failing one used once."""
    columns = ["trace_id", "prompt_id", "run_id", "messages", "completion", "status",
               *_OF_PROMPT, "prompt_language"]  # fmt: skip
    kept = rows.of(rows.release.read(columns))
    chosen = kept.filter(pl.col("status") == "pass").sort("prompt_id", "trace_id")
    decided = rows.release.decisions()
    # A model's answers to a benchmark are not what others are preferred to, either.
    answers = pl.col("dropped_by").list.contains(NOT_EVALUATION)
    universe = decided.filter(~answers)["trace_id"]
    store.seal()
    # Judged as the release's own rows were: by the verifier that the prompt's source names, in
    # the version that the release pins. What another one says makes no answer a rejected one.
    labels = rows.release.manifest["plugins"]
    known = {plug.name for plug in wide.stored_plugs(store)}
    pins = {name: labels.get(name) for name in known}
    with open_wide(store, wide.wide_sql(store, pins)) as con:
        con.register("_universe", universe.to_frame().to_arrow())
        found = con.execute(
            "SELECT trace_id FROM wide WHERE status = 'fail' "
            "AND trace_id IN (SELECT trace_id FROM _universe)"
        ).fetchall()
    wanted = pl.Series([row[0] for row in found], dtype=pl.String)
    losers: dict[str, list[str]] = {}
    prompts = chosen["prompt_id"].unique()
    for batch in store.table("traces").batches(["trace_id", "prompt_id", "prefill", "completion"]):
        mine = batch.filter(
            pl.col("trace_id").is_in(wanted.implode())
            & pl.col("prompt_id").is_in(prompts.implode())
        )
        for row in mine.sort("trace_id").iter_rows(named=True):
            text = trace_text(row["prefill"], row["completion"])
            losers.setdefault(row["prompt_id"], []).append(text)
    pairs = []
    for row in chosen.iter_rows(named=True):
        rejected = losers.get(row["prompt_id"])
        if rejected:
            pairs.append(
                {
                    "prompt": _messages(row),
                    "chosen": [{"role": "assistant", "content": row["completion"]}],
                    "rejected": [{"role": "assistant", "content": rejected.pop()}],
                    "trace_id": row["trace_id"],
                    "metadata": _metadata(row, of_trace=False),
                }
            )
    yield pairs
