"""Loops: a list of long real traces labelled by reading them, and loops built into such traces.

``golden/loop_labels.jsonl`` names the longest traces of ../shared/data by id. Each was read at its
head, its middle and its end (those that repeat themselves at more places) and labelled ``normal``,
``loop`` (the text goes round and never leaves) or ``rumination`` (it comes back to the same words
without a period, and leaves).
"""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from factory.scores import repetition

DATA = Path(__file__).parents[2] / "shared" / "data"
LABELS = [
    json.loads(line)
    for line in (Path(__file__).parent / "golden" / "loop_labels.jsonl").read_text().splitlines()
]


@functools.cache
def texts() -> dict[str, str]:
    found = {}
    for path in sorted(DATA.glob("traces_*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as handle:
            for line in handle:
                row = json.loads(line)
                thought = row.get("reasoning")
                halves = f"<think>\n{thought}\n</think>\n\n" if thought else ""
                found[row["id"]] = row.get("raw") or halves + (row.get("answer") or "")
    if not found:
        pytest.skip("the real traces (../shared/data/traces_*) are not here")
    return found


@functools.cache
def measured() -> dict[str, dict[str, Any]]:
    ids = [label["id"] for label in LABELS]
    frame = repetition.score(pl.DataFrame({"completion": [texts()[i] for i in ids]}))
    return dict(zip(ids, frame.to_dicts(), strict=True))


def test_the_list_is_long_and_of_long_traces() -> None:
    normal = [label for label in LABELS if label["label"] == "normal"]
    assert len(normal) >= 60
    assert min(label["chars"] for label in normal) > 16_000
    assert all(len(texts()[label["id"]]) == label["chars"] for label in LABELS)


@pytest.mark.parametrize("label", ["normal", "rumination"])
def test_no_normal_long_trace_is_called_a_loop(label: str) -> None:
    ids = [row["id"] for row in LABELS if row["label"] == label]
    assert [i for i in ids if measured()[i]["has_loop"]] == []


def test_every_labelled_loop_is_found_and_reaches_the_end() -> None:
    loops = [row["id"] for row in LABELS if row["label"] == "loop"]
    assert len(loops) >= 3
    for i in loops:
        row = measured()[i]
        assert row["has_loop"], i
        assert row["loop_start"] + row["loop_chars"] >= 0.98 * len(texts()[i]), i


def test_rumination_shows_in_what_is_repeated() -> None:
    ids = [row["id"] for row in LABELS if row["label"] == "rumination"]
    usual = [measured()[r["id"]]["dup_10gram_fraction"] for r in LABELS if r["label"] == "normal"]
    assert all(measured()[i]["dup_10gram_fraction"] > max(usual) for i in ids)


def test_the_loop_of_75_000_characters_is_found_where_it_starts() -> None:
    row = measured()["tt-61c4aca38013"]
    text = texts()["tt-61c4aca38013"]
    assert len(text) > 75_000
    loop = text[row["loop_start"] :]
    period = row["loop_period_chars"]
    n_copies = len(loop) // period
    assert n_copies >= 20
    # What was found goes round: shifted by its period it is nearly itself.
    same = sum(a == b for a, b in zip(loop, loop[period:], strict=False))
    assert same / (len(loop) - period) > 0.9


UNITS = {
    "a sentence": ("Wait, let me check that once more, since the total may be off by one. ", 400),
    "a paragraph": (
        "So the answer must be 12.\n\nAlternatively, I could count from the other end, which gives "
        "the same number again.\n\nHmm, but the question asks for the total of both sides.\n\n",
        60,
    ),
    "one token": ("\\frac{1}{", 3000),
    "one character": ("0", 8000),
    "Chinese": ("等等，我再检查一遍，看看这个结果对不对。", 300),
}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("host", [0, 20, 60])
def test_a_loop_built_into_a_long_normal_trace_is_found_with_its_start(
    unit: str, host: int
) -> None:
    normal = [label["id"] for label in LABELS if label["label"] == "normal"]
    prefix = texts()[normal[host]][:30_000]
    piece, copies = UNITS[unit]
    row = repetition.score(pl.DataFrame({"completion": [prefix + piece * copies]})).row(
        0, named=True
    )
    assert row["has_loop"]
    assert abs(row["loop_start"] - len(prefix)) <= max(2 * len(piece), 80)


@pytest.mark.parametrize("host", [0, 20, 60])
def test_the_beginning_of_a_normal_trace_is_no_loop_either(host: int) -> None:
    normal = [label["id"] for label in LABELS if label["label"] == "normal"]
    text = texts()[normal[host]]
    cut = [text[:n] for n in (2_000, 5_000, 10_000, 15_000)]
    assert not any(repetition.score(pl.DataFrame({"completion": cut}))["has_loop"])
