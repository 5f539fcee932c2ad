"""Caps, choices, pass-rate bands, mixtures, diversity."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from factory.errors import UsageError
from factory.sets.bands import in_band, pass_rates
from factory.sets.caps import cap
from factory.sets.diversity import diverse
from factory.sets.mixtures import R1_TABLE_5, mixture, quotas, r1_shares

TRACES = pl.DataFrame(
    {
        "trace_id": ["t1", "t2", "t3", "t4", "t5", "t6"],
        "prompt_id": ["p", "p", "p", "q", "q", None],
        "sample_index": [0, 1, 2, 0, 1, 0],
        "completion_words": [90, 40, 40, 7, None, 1],
        "readability": [0.2, 0.9, 0.4, None, float("nan"), 0.5],
    }
)

CAPS = [
    ({"limit": 1}, "t1 t4 t6", "the first sample"),
    ({"limit": 2}, "t1 t2 t4 t5 t6", "two of each"),
    ({"limit": 1, "choose": "shortest"}, "t2 t4 t6", "ties by trace_id, null last"),
    ({"limit": 1, "choose": "longest"}, "t1 t4 t6", "null is never the longest"),
    ({"limit": 1, "choose": "most_readable"}, "t2 t4 t6", "not-a-number counts as null"),
    ({"limit": 1, "choose": "readability", "highest": False}, "t1 t4 t6", "the lowest"),
    ({"limit": 9}, "t1 t2 t3 t4 t5 t6", "more than there are"),
]


@pytest.mark.parametrize(("kwargs", "kept", "why"), CAPS, ids=[c[2] for c in CAPS])
def test_cap(kwargs: dict[str, object], kept: str, why: str) -> None:
    keep = cap(TRACES, **kwargs)  # type: ignore[arg-type]
    assert TRACES.filter(keep)["trace_id"].to_list() == kept.split()


def test_only_rows_that_compete_take_a_place() -> None:
    right = pl.Series([False, False, True, True, None, False])
    keep = cap(TRACES, limit=1, choose="shortest", among=right)
    assert TRACES.filter(keep)["trace_id"].to_list() == ["t3", "t4"]


def test_the_order_of_the_rows_does_not_change_who_is_kept() -> None:
    shuffled = TRACES.sample(fraction=1.0, shuffle=True, seed=1)
    for choose in ("first", "shortest", "most_readable"):
        one = TRACES.filter(cap(TRACES, limit=1, choose=choose))["trace_id"]
        two = shuffled.filter(cap(shuffled, limit=1, choose=choose))["trace_id"]
        assert set(one) == set(two)


def test_a_wrong_cap_says_so() -> None:
    with pytest.raises(UsageError, match="limit"):
        cap(TRACES, limit=0)
    with pytest.raises(UsageError, match="no column 'reward'"):
        cap(TRACES, limit=1, choose="reward")


BANDS = [
    (["pass", "pass"], 1.0, "solved"),
    (["fail", "fail", "unscored"], 0.0, "unsolved"),
    (["pass"] + ["fail"] * 7, 0.125, "hard"),
    (["pass", "fail"], 0.5, "medium"),
    (["pass"] * 3 + ["fail"], 0.75, "easy"),
    (["unscored", None], None, None),
]


@pytest.mark.parametrize(("statuses", "rate", "band"), BANDS)
def test_pass_rate_counts_only_what_was_scored(
    statuses: list[str | None], rate: float | None, band: str | None
) -> None:
    frame = pl.DataFrame({"prompt_id": ["p"] * len(statuses), "math_status": statuses})
    row = pass_rates(frame).row(0, named=True)
    assert (row["pass_rate"], row["band"]) == (rate, band)


def test_too_few_samples_are_in_no_band() -> None:
    rates = pl.DataFrame({"pass_rate": [0.5, 0.5, None], "n_scored": [2, 8, 0]})
    out = in_band(rates, low=0.2, high=0.8, min_scored=4)["is_in_band"].to_list()
    assert out == [None, True, None]
    with pytest.raises(UsageError, match="band"):
        in_band(rates, low=0.9, high=0.1)


def test_table_5_adds_up() -> None:
    n = sum(samples for samples, _ in R1_TABLE_5.values())
    assert n == 804_745
    tokens = sum(samples * mean for samples, mean in R1_TABLE_5.values())
    assert round(tokens / n, 1) == 5355.3
    assert abs(sum(r1_shares().values()) - 1) < 1e-12


def test_a_mixture_hits_its_shares() -> None:
    rng = np.random.default_rng(0)
    domains = rng.choice(list(R1_TABLE_5), size=60_000, p=[0.3, 0.3, 0.1, 0.1, 0.2])
    frame = pl.DataFrame({"trace_id": [f"t{i}" for i in range(60_000)], "domain": domains})
    kept = frame.filter(mixture(frame, r1_shares()))
    for domain, share in r1_shares().items():
        assert abs((kept["domain"] == domain).mean() - share) < 0.0005
    # The scarcest domain is used up: no larger set has these shares.
    assert (kept["domain"] == "math").sum() in range((frame["domain"] == "math").sum() - 1, 60_000)


def test_a_smaller_draw_is_part_of_a_larger_one_and_the_seed_matters() -> None:
    frame = pl.DataFrame({"trace_id": [str(i) for i in range(500)], "domain": ["a", "b"] * 250})
    shares = {"a": 0.5, "b": 0.5}
    small, large = (
        set(frame.filter(mixture(frame, shares, total=t))["trace_id"]) for t in (40, 90)
    )
    assert small < large
    other = set(frame.filter(mixture(frame, shares, total=40, seed=1))["trace_id"])
    assert other != small


def test_a_mixture_that_cannot_be_made_says_what_is_missing() -> None:
    frame = pl.DataFrame({"trace_id": ["1", "2", "3"], "domain": ["a", "a", "b"]})
    with pytest.raises(UsageError, match="b 1 of 2"):
        mixture(frame, {"a": 0.5, "b": 0.5}, total=4)
    with pytest.raises(UsageError, match="shares"):
        mixture(frame, {"a": 0.0})
    assert mixture(frame, {"a": 1, "c": 1}).sum() == 0


def test_quotas_round_to_the_total() -> None:
    out = quotas({"a": 99, "b": 99, "c": 99}, {"a": 1, "b": 1, "c": 1}, total=100)
    assert sorted(out.values()) == [33, 33, 34]


def test_diverse_rows_cover_the_clusters() -> None:
    rng = np.random.default_rng(0)
    centers = np.eye(8)
    rows = np.repeat(centers, 50, axis=0) + rng.normal(0, 0.02, (400, 8))
    frame = pl.DataFrame({"embedding": rows.tolist()})
    keep = diverse(frame, limit=8)
    assert sorted(np.flatnonzero(keep.to_numpy()) // 50) == list(range(8))


@pytest.mark.parametrize(
    ("vectors", "kept"),
    [
        ([None, None], []),
        ([[0.0, 0.0], [1.0, 0.0]], [1]),
        ([[1.0, float("nan")], [1.0, 0.0], [1.0, 0.0]], [1, 2]),
        ([[1.0, None], [0.0, 1.0]], [1]),
    ],
)
def test_rows_without_a_vector_are_not_chosen(vectors: list[object], kept: list[int]) -> None:
    frame = pl.DataFrame({"embedding": vectors}, schema={"embedding": pl.List(pl.Float64)})
    assert np.flatnonzero(diverse(frame, limit=5).to_numpy()).tolist() == kept


def test_vectors_of_two_models_are_refused() -> None:
    with pytest.raises(UsageError, match="lengths"):
        diverse(pl.DataFrame({"embedding": [[1.0], [1.0, 2.0]]}), limit=1)
