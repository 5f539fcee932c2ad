"""Contamination: what runs alike is found, what does not is not, for each benchmark."""

from __future__ import annotations

import random

import polars as pl
import pytest

from factory.errors import UsageError
from factory.sets.decontaminate import Decontaminator

PROBLEM = "A robe takes 2 bolts of blue fiber and half that much white fiber. How many in total?"
CHINESE = "小明有十二个苹果，他把其中的三分之一给了小红，然后又买了五个，请问现在小明有几个苹果？"

CASES = [
    ("He said: a ROBE takes 2 bolts of blue fiber, and half", True, "folding is undone"),
    ("a robe takes 2 bolts of blue fiber and then half", False, "nine words alike are not ten"),
    ("A robe takes 2 bolts\n\nof blue\tfiber and half", True, "white space is one"),
    ("", False, "empty"),
    (None, None, "null"),
    ("robe takes 2 bolts of blue fiber and half that", True, "a run from the middle"),
    ("那么" + CHINESE[:20], True, "Chinese, by characters"),
    ("那么" + CHINESE[5:18], False, "thirteen characters alike are not sixteen"),
    ("Solve x + 1 = 2.", True, "a short item equals the whole text"),
    ("Now solve x + 1 = 2 for me.", False, "a short item inside another text"),
    ("x " * 50_000, False, "a loop"),
]


@pytest.mark.parametrize(("text", "expected", "why"), CASES, ids=[c[2] for c in CASES])
def test_case(text: str | None, expected: bool | None, why: str) -> None:
    checker = Decontaminator({"toy": [PROBLEM, CHINESE, "Solve x+1=2"]})
    frame = pl.DataFrame({"text": [text]}, schema={"text": pl.String})
    out = checker.check(frame)
    assert out["is_contaminated"].to_list() == [expected]
    assert out["contaminated_by"].to_list() == [["toy"] if expected else None]


def script(texts: list[str], benchmark: list[str], n: int) -> list[bool]:
    """The method of the common script, plainly: lower case, white space, sets of n-grams."""

    def grams(text: str) -> set[str]:
        words = " ".join(text.lower().strip().split()).split()
        return {" ".join(words[i : i + n]) for i in range(len(words) - n + 1)}

    known = set().union(*(grams(text) for text in benchmark))
    return [bool(grams(text) & known) for text in texts]


@pytest.mark.parametrize("n", [8, 10, 13])
def test_hits_are_those_of_the_script(n: int) -> None:
    rng = random.Random(n)
    alphabet = ["the", "of", "X,", "Äpfel", "中", "İ", "a\xa0b", "ΟΔΟΣ", "½", "end."]

    def text() -> str:
        return rng.choice([" ", "\n", " \t"]).join(rng.choices(alphabet, k=rng.randrange(60)))

    benchmarks = {name: [text() for _ in range(30)] for name in "abcde"}
    texts = [text() for _ in range(200)]
    for _ in range(100):
        part = rng.choice(benchmarks[rng.choice("abcde")])
        texts.append(text() + " " + part[: rng.randrange(len(part) + 1)] + " " + text())
    checker = Decontaminator(benchmarks, ngram=n, folding="whitespace")
    out = checker.check(pl.DataFrame({"text": texts}))
    for name, items in benchmarks.items():
        found = [by is not None and name in by for by in out["contaminated_by"].to_list()]
        assert found == script(texts, items, n), name
    assert any(out["is_contaminated"])
    assert not all(out["is_contaminated"])


def test_the_finding_can_be_checked_by_a_reader() -> None:
    checker = Decontaminator({"first": ["nothing in common here"], "second": ["x", PROBLEM]})
    out = checker.check(pl.DataFrame({"prompt": ["abc"], "completion": ["Task: " + PROBLEM]}),
                        columns=["prompt", "completion"])  # fmt: skip
    assert out.row(0)[2:] == (
        True, ["second"], "second:1", "a robe takes 2 bolts of blue fiber and half",
    )  # fmt: skip


def test_a_run_never_spans_two_columns_or_two_rows() -> None:
    half, rest = PROBLEM[:30], PROBLEM[30:60]
    checker = Decontaminator({"toy": [PROBLEM]})
    frame = pl.DataFrame({"a": [half, rest], "b": [rest, half]})
    assert checker.check(frame, columns=["a", "b"])["is_contaminated"].to_list() == [False, False]


def test_all_benchmarks_that_hold_the_run_are_named() -> None:
    checker = Decontaminator({"b": [PROBLEM], "a": [PROBLEM + " Explain."], "c": ["no " * 20]})
    out = checker.check(pl.DataFrame({"text": [PROBLEM, None, "fine"]}))
    assert out["contaminated_by"].to_list() == [["b", "a"], None, None]


def test_rows_do_not_depend_on_their_batch() -> None:
    texts = [PROBLEM, "clean text " * 9, CHINESE, None, "x " + PROBLEM] * 40
    checker = Decontaminator({"toy": [PROBLEM, CHINESE]})
    frame = pl.DataFrame({"text": texts})
    parts = pl.concat(checker.check(part) for part in frame.iter_slices(3))
    assert parts.equals(checker.check(frame))


def test_a_template_twin_is_reported_apart() -> None:
    train = "Mary buys 12 red pens and 7 blue pens for her school and pays 3 dollars for each one."
    twin = "Tom buys 90 red pens and 15 blue pens for his school and pays 2 dollars for each one."
    checker = Decontaminator({"toy": [train]}, twins=True)
    out = checker.check(pl.DataFrame({"text": [twin, train, "Nothing alike, he said to Mary."]}))
    assert out["is_contaminated"].to_list() == [False, True, False]
    assert out["is_template_twin"].to_list() == [True, False, False]
    assert out["twin_of"].to_list() == [["toy"], ["toy"], None]


def test_masks_alone_make_no_twin() -> None:
    numbers = ", ".join(str(n) for n in range(40))
    checker = Decontaminator({"toy": [numbers]}, twins=True)
    out = checker.check(pl.DataFrame({"text": [", ".join(str(n) for n in range(100, 140))]}))
    assert out["is_template_twin"].to_list() == [False]


@pytest.mark.parametrize(
    ("benchmarks", "kwargs", "message"),
    [
        ({}, {}, "no benchmark"),
        ({"a": []}, {}, "'a' has no text"),
        ({"a": [None, " "]}, {}, "'a' has no text"),
        ({"a": ["x"]}, {"ngram": 1}, "ngram"),
        ({"a": ["x"]}, {"folding": "none"}, "folding"),
    ],
)
def test_a_wrong_call_says_so(
    benchmarks: dict[str, list[str | None]], kwargs: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Decontaminator(benchmarks, **kwargs)  # type: ignore[arg-type]
