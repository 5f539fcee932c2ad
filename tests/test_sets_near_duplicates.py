"""Near-duplicates: planted ones are found, others are not, whatever the input."""

from __future__ import annotations

import random

import numpy as np
import polars as pl
import pytest

from factory.errors import UsageError
from factory.sets.clusters import components
from factory.sets.decontaminate import Decontaminator
from factory.sets.near_duplicates import (
    Sketches,
    bands_for,
    cluster,
    mark,
    near_duplicates,
    similarity,
)

VOCABULARY = [f"{a}{b}" for a in "bcdfghklmnprst" for b in ("an", "el", "ori", "um", "it", "ost")]


def words(rng: random.Random, n: int) -> list[str]:
    return [rng.choice(VOCABULARY) + rng.choice(VOCABULARY) for _ in range(n)]


def jaccard(a: list[str], b: list[str], n: int) -> float:
    one, two = ({tuple(x[i : i + n]) for i in range(len(x) - n + 1)} for x in (a, b))
    return len(one & two) / len(one | two)


def edited(rng: random.Random, text: list[str], n_edits: int) -> list[str]:
    out = list(text)
    for i in rng.sample(range(len(out)), n_edits):
        out[i] = "edited"
    return out


@pytest.mark.parametrize("n_words", [12, 40, 150, 800])
def test_the_estimate_is_near_the_true_similarity(n_words: int) -> None:
    rng = random.Random(n_words)
    errors = []
    for _ in range(60):
        a = words(rng, n_words)
        b = edited(rng, a, rng.randrange(1, max(2, n_words // 12)))
        sketches = Sketches(ngram=5)
        sketches.add([" ".join(a), " ".join(b)])
        sketch = sketches.sketch
        errors.append(float(similarity(sketch[:1], sketch[1:])[0]) - jaccard(a, b, 5))
    assert abs(float(np.mean(errors))) < 0.02
    assert float(np.std(errors)) < 0.06


@pytest.mark.parametrize("n_words", [30, 400])
def test_planted_duplicates_are_found_and_fresh_texts_are_not(n_words: int) -> None:
    rng = random.Random(n_words)
    base = [words(rng, n_words) for _ in range(400)]
    planted = [edited(rng, text, max(1, n_words // 100)) for text in base[:200]]
    assert all(jaccard(a, b, 5) > 0.67 for a, b in zip(base, planted, strict=False))
    frame = pl.DataFrame({"text": [" ".join(t) for t in base + planted]})
    out = near_duplicates(frame, threshold=0.6)
    assert out["is_duplicate"].to_list() == [False] * 400 + [True] * 200
    assert out["cluster_id"].to_list() == [*range(400), *range(200)]


def test_a_crowded_bucket_is_still_one_cluster() -> None:
    rng = random.Random(1)
    base = words(rng, 300)
    texts = [" ".join(edited(rng, base, 3)) for _ in range(500)]
    out = near_duplicates(pl.DataFrame({"text": texts}))
    assert out["cluster_id"].unique().to_list() == [0]
    assert out["is_duplicate"].sum() == 499


DISASTERS = [
    ([], [], "no rows"),
    ([None, None], [None, None], "null never matches"),
    (["", "", "  ", "..."], [False, False, False, False], "no words never match"),
    (["one", "one", "two"], [False, True, False], "a single word"),
    (["a b", "a b c d e f"], [False, False], "a short text is not part of a longer one"),
    (["x" * 200_000, "x" * 200_000, "x" * 199_999], [False, True, False], "one endless word"),
    (["我们先求出答案是多少呢", "我们先求出答案是多少呢。", "今天天气很好我们去公园"],
     [False, True, False], "Chinese"),
    (["\ud800 a b c d e", "a b c d e"], [False, True], "a lone surrogate"),
]  # fmt: skip


@pytest.mark.parametrize(("texts", "expected", "why"), DISASTERS, ids=[d[2] for d in DISASTERS])
def test_any_text(texts: list[str | None], expected: list[bool | None], why: str) -> None:
    # Polars holds no lone surrogate: such a text can only come as a Python string.
    if any(t and not t.isprintable() and "\ud800" in t for t in texts):
        sketches = Sketches(ngram=5)
        sketches.add(texts)
        label = sketches.clusters(threshold=0.7)
        assert [int(v) != i for i, v in enumerate(label)] == expected
        return
    out = near_duplicates(pl.DataFrame({"text": texts}, schema={"text": pl.String}))
    assert out["is_duplicate"].to_list() == expected


def test_batches_do_not_change_the_result() -> None:
    rng = random.Random(3)
    texts = [" ".join(words(rng, rng.randrange(1, 90))) for _ in range(300)]
    texts += [t + " more" for t in texts]
    whole, parts = Sketches(ngram=3), Sketches(ngram=3)
    whole.add(texts)
    for begin in range(0, len(texts), 7):
        parts.add(texts[begin : begin + 7])
    assert (whole.sketch == parts.sketch).all()
    assert (whole.clusters(threshold=0.6) == parts.clusters(threshold=0.6)).all()


def test_the_kept_row_is_chosen_by_a_column() -> None:
    frame = pl.DataFrame({"text": ["a b c d e f"] * 3 + ["z"], "n": [5, 9, None, 1]})
    best = near_duplicates(frame, prefer="n")
    assert best["is_duplicate"].to_list() == [True, False, True, False]
    least = near_duplicates(frame, prefer="n", prefer_low=True)
    assert least["is_duplicate"].to_list() == [False, True, True, False]
    assert best["cluster_size"].to_list() == [3, 3, 3, 1]


def test_within_keeps_the_rows_of_two_prompts_apart() -> None:
    frame = pl.DataFrame({"text": ["a b c d e f"] * 4, "prompt": ["p", "q", "p", "q"]})
    out = near_duplicates(frame, within="prompt")
    assert out["is_duplicate"].to_list() == [False, False, True, True]
    assert out["cluster_id"].to_list() == [0, 1, 0, 1]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
def test_bands_miss_at_most_one_pair_in_a_hundred_at_the_threshold(threshold: float) -> None:
    bands, rows = bands_for(threshold)
    assert bands * rows <= 128
    assert (1 - threshold**rows) ** bands <= 0.01


def test_components_join_long_chains() -> None:
    n = 2000
    order = np.random.default_rng(0).permutation(n - 1)
    label = components(np.arange(n), order, order + 1)
    assert (label == 0).all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"column": "nope"}, "no column 'nope'"),
        ({"prefer": "nope"}, "no column 'nope'"),
        ({"threshold": 0.0}, "threshold"),
        ({"ngram": 0}, "ngram"),
    ],
)
def test_a_wrong_call_says_so(kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        near_duplicates(pl.DataFrame({"text": ["a"]}), **kwargs)  # type: ignore[arg-type]


def test_a_written_column_is_not_overwritten() -> None:
    with pytest.raises(UsageError, match="is_duplicate"):
        near_duplicates(pl.DataFrame({"text": ["a"], "is_duplicate": [True]}))


def test_a_stream_gives_what_the_frame_gives() -> None:
    rng = random.Random(5)
    texts: list[str | None] = [" ".join(words(rng, 60)) for _ in range(50)]
    texts += [None, *(t + " end" for t in texts if t)]
    batches = [texts[i : i + 9] for i in range(0, len(texts), 9)]
    label = cluster(batches, threshold=0.6, ngram=3)
    frame = pl.DataFrame({"text": texts})
    whole = near_duplicates(frame, threshold=0.6, ngram=3)
    assert mark(frame, label, column="text").equals(whole)
    assert cluster([]).tolist() == []


def test_the_words_of_a_contamination_check_give_the_same_sketches() -> None:
    rng = random.Random(4)
    texts: list[str | None] = [
        " ".join(str(rng.randrange(50)) for _ in range(rng.randrange(40))) for _ in range(5000)
    ]
    texts += [None, "", "其中 x² = 4", texts[7], texts[7]]
    alone, beside = Sketches(ngram=5), Sketches(ngram=5)
    alone.add(texts)
    checker = Decontaminator({"toy": ["one two three four five six seven eight nine ten eleven"]})
    checker.check(pl.DataFrame({"text": texts}), on_words=beside.add_words)
    assert len(beside.sketch) == len(texts)
    assert (beside.sketch == alone.sketch).all()
