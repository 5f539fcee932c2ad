from __future__ import annotations

import collections
import random
import re
import time

import polars as pl
import pytest

from factory.scores import repetition
from factory.stages.scorer import Scorer, frame_of


def measure(*texts: str | None) -> pl.DataFrame:
    return repetition.score(pl.DataFrame({"completion": texts}, schema={"completion": pl.String}))


PROSE = (
    "First I restate the task: a train covers ninety miles in an hour and a half. "
    "Its speed is therefore sixty miles an hour, and three hours give one hundred and eighty. "
)


@pytest.mark.parametrize(
    ("unit", "copies"),
    [
        ("Wait, let me check that once more. ", 20),
        ("ab", 400),
        ("0", 700),
        ("等等，我再检查一遍。", 60),
        ("So the answer is 12.\n\nAlternatively, the answer is 15.\n\n", 12),
        ("погоди, проверю ещё раз. ", 30),
        ("\\frac{1}{", 100),
    ],
)
@pytest.mark.parametrize("tail", ["", "\nNow I stop repeating myself and answer plainly."])
def test_a_built_loop_is_found_where_it_starts(unit: str, copies: int, tail: str) -> None:
    row = measure(PROSE + unit * copies + tail).row(0, named=True)
    assert row["has_loop"]
    assert abs(row["loop_start"] - len(PROSE)) <= max(2 * len(unit), 80)
    assert row["loop_chars"] == pytest.approx(len(unit) * copies, abs=2 * len(unit) + 80)


STEPS = [
    f"In step {n} I look at the number {n * n} and subtract {n % 7} from it." for n in range(60)
]


def test_a_sentence_that_comes_back_again_and_again_is_a_loop() -> None:
    rng = random.Random(0)
    between = [" ".join(rng.choices(PROSE.split(), k=rng.randrange(9, 40))) for _ in range(43)]
    said = "".join(f"{one}. Therefore, the answer is B. " for one in between)
    lines = "\n".join(line for step in STEPS[:20] for line in (step, STEPS[40], STEPS[41], step))
    thrice = "\n\n".join(" ".join(STEPS) for _ in range(3))
    out = measure(said, lines, thrice, " ".join(STEPS), "\n".join(STEPS[:30] + STEPS[:12]))
    assert out["has_loop"].to_list() == [True, True, True, False, False]
    assert out["top_sentence_copies"].to_list() == [43, 20, 3, 1, 2]
    assert out["loop_start"][0] is None
    assert measure(". ".join(between))["has_loop"].to_list() == [False]


def test_no_share_is_over_one() -> None:
    out = measure("a a a a a a a", "我我我我我我", "ab" * 300, "the the the " * 90)
    for name in out.columns:
        if name.endswith("_fraction"):
            assert out[name].drop_nulls().max() <= 1, name


def test_a_counter_inside_the_loop_does_not_hide_it() -> None:
    step = "Step {}: we add one to the total and go on as before. "
    text = PROSE + "".join(step.format(n) for n in range(40))
    assert measure(text)["has_loop"].to_list() == [True]


TABLE = "| a | b |\n| --- | --- |\n" + PROSE


@pytest.mark.parametrize("text", [PROSE, PROSE * 2, TABLE, "=" * 80, "", " \n"])
def test_ordinary_text_is_no_loop(text: str) -> None:
    assert measure(text)["has_loop"].to_list() == [False]


def test_null_stays_null_and_blank_has_no_shares() -> None:
    out = measure(None, "")
    assert set(out.row(0)) == {None}
    assert out["dup_5gram_fraction"].to_list() == [None, None]
    assert out["compression_ratio"].to_list() == [None, None]


def test_a_text_scores_the_same_alone_and_among_others() -> None:
    texts = [PROSE, "a b " * 300, None, "好" * 50, PROSE * 3, "x"]
    together = measure(*texts)
    assert together.rows() == [measure(text).row(0) for text in texts]


def test_duplicate_shares_follow_the_definition() -> None:
    row = measure("a b c d e f a b c d e f").row(0, named=True)
    assert row["dup_5gram_fraction"] == pytest.approx(6 / 23)
    assert row["top_2gram_fraction"] == pytest.approx(2 * 3 / 23)
    lines = measure("one\ntwo\none\n\none").row(0, named=True)
    assert lines["dup_line_fraction"] == pytest.approx(0.5)
    assert lines["dup_line_char_fraction"] == pytest.approx(6 / 16)
    assert lines["dup_paragraph_fraction"] == 0.0


def test_a_text_longer_than_one_sort_batch() -> None:
    words = " ".join(f"w{n * 7919 % 100003}" for n in range(70_000))
    row = measure(words + " " + words[:2000]).row(0, named=True)
    assert not row["has_loop"]
    assert 0 < row["dup_10gram_fraction"] < 0.02


PIECES = ["a", "b ", "the ", "wait, ", " ", "\n", "\n\n", "\u3000", "3.14 ", "\r\n", "\t", "\x85"]
PIECES += ["好", "の", "ไทย", "မြ", "x" * 70, "é", "€", "😀", "ab" * 40, "\u2028", "|"]


def random_texts(n_texts: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    out = []
    for _ in range(n_texts):
        some = rng.sample(PIECES, rng.choice([2, 4, 8, len(PIECES)]))
        out.append("".join(rng.choice(some) for _ in range(rng.choice([1, 5, 20, 60, 200]))))
    return out


def tokens_of(text: str) -> list[tuple[int, int, bytes]]:
    """Begin, end and bytes of each token: the definition, told slowly."""
    found = []
    alone = "[\u0e00-\u0fff\u1000-\u10bf\u10c0-\u10ff\u1780-\u17ff\u3000-\u9fff]"
    for match in re.finditer(rf"{alone}|(?:(?!{alone})[^ \t-\r])+", text):
        begin = len(text[: match.start()].encode())
        raw = match[0].encode()
        step = 8 if len(raw) > 64 else len(raw)
        for k in range(0, len(raw), step):
            found.append((begin + k, min(begin + k + step, begin + len(raw)), raw[k : k + step]))
    return found


def shares_of(text: str) -> dict[str, float]:
    tokens, size = tokens_of(text), len(text.encode())
    out = {}
    for n in range(2, 11):
        grams = [tuple(t[2] for t in tokens[p : p + n]) for p in range(len(tokens) - n + 1)]
        if n <= 4:
            count = collections.Counter(grams)
            spans = [
                (count[gram], tokens[p + n - 1][1] - tokens[p][0], -p)
                for p, gram in enumerate(grams)
                if grams.index(gram) == p
            ]
            best = grams[-max(spans)[2]] if spans else ()
            here = [p for p, gram in enumerate(grams) if gram == best]
            inside = {b for p in here for b in range(tokens[p][0], tokens[p + n - 1][1])}
            out[f"top_{n}gram_fraction"] = len(inside) / size
        if n >= 5:
            again = [p for p, gram in enumerate(grams) if grams.index(gram) < p]
            inside = {q for p in again for q in range(p, p + n)}
            out[f"dup_{n}gram_fraction"] = sum(tokens[q][1] - tokens[q][0] for q in inside) / size
    for unit, split in (("line", "\n"), ("paragraph", "\n\n")):
        pieces = [p for p in (strip(piece) for piece in text.split(split)) if p]
        again_bytes = [len(p.encode()) for i, p in enumerate(pieces) if p in pieces[:i]]
        out[f"dup_{unit}_fraction"] = len(again_bytes) / len(pieces) if pieces else 0.0
        out[f"dup_{unit}_char_fraction"] = sum(again_bytes) / size
    return out


def strip(text: str) -> str:
    # str.strip also takes U+001C to U+001F, which Unicode does not count as white space.
    return text.strip(" \t\n\x0b\x0c\r\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"
                      + "".join(map(chr, range(0x2000, 0x200B))))  # fmt: skip


def test_every_share_is_what_the_definition_says() -> None:
    texts = random_texts(400, seed=3)
    table = measure(*texts)
    for text, row in zip(texts, table.rows(named=True), strict=True):
        for name, share in shares_of(text).items():
            assert (row[name] or 0.0) == pytest.approx(share, abs=1e-12), (name, text)


@pytest.mark.parametrize(
    "text",
    ["ab\ufffdcd " * 300, "\x00" * 5000, "\n" * 5000, "好" * 5000, "\u200b" * 4000],
    ids=["broken", "zeros", "line breaks", "Han", "zero width"],
)
def test_odd_text_is_measured_or_null_and_leaves_its_neighbours_alone(text: str) -> None:
    frame = frame_of([PROSE, text, None, PROSE])
    out = Scorer(["repetition"]).score(frame)
    assert out.row(0) == out.row(3) == measure(PROSE).row(0)
    assert set(out.row(2)) == {None}


@pytest.mark.parametrize("n_bytes", [4 << 20, pytest.param(100 << 20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["loop", "prose", "one word", "breaks"])
def test_a_huge_text_takes_bounded_time(kind: str, n_bytes: int) -> None:
    rng = random.Random(1)
    words = " ".join(rng.choice("abcdefgh") * rng.randrange(1, 9) for _ in range(200_000))
    unit = {"loop": "Wait, again. ", "prose": words, "one word": "x", "breaks": "a\n"}[kind]
    text = unit * (n_bytes // len(unit))
    measure("warm")
    begin = time.process_time()
    row = measure(text).row(0, named=True)
    # A few hundred nanoseconds for a byte, whatever stands in it.
    assert time.process_time() - begin < 4 + n_bytes * 4e-7
    assert row["has_loop"] or kind == "prose"
