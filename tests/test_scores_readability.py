from __future__ import annotations

import collections
import gzip
import itertools
import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from factory.scores import dynamics, language, length, readability
from factory.scores.readability.prose import flesch_reading_ease, measure
from factory.scores.readability.syllables import n_syllables
from factory.stages.scorer import Scorer, frame_of

SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"
COLUMNS = ("completion", "reasoning", "answer", "extracted")


def rows_of(name: str) -> list[dict[str, Any]]:
    path = SHARED / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{name}.jsonl.gz is not in ../shared/data")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def score(*rows: tuple[str | None, ...], **params: Any) -> pl.DataFrame:
    frame = pl.DataFrame(list(rows), dict.fromkeys(COLUMNS, pl.String), orient="row")
    return readability.score(frame, **params)


def of(reasoning: str, answer: str = "So the result is 36.", extracted: str = "36") -> float:
    whole = f"<think>\n{reasoning}\n</think>\n\n{answer}"
    value = score((whole, reasoning, answer, extracted))["readability"][0]
    assert isinstance(value, float)
    return value


THINKING = [
    "Okay, I need the total price of the tickets, so let me read the task again.",
    "There are four tickets, and each of them costs nine dollars.",
    "First I multiply nine by four, which gives me thirty-six dollars in total.",
    "Wait, is there a discount for groups? No, the task says nothing about one.",
    "Let me check the product by adding: nine and nine is eighteen, twice that is thirty-six.",
    "Both ways agree, so I am confident that thirty-six dollars is the answer.",
    "I could also think of ten dollars each, forty in total, minus one dollar for each ticket.",
    "That again leaves thirty-six, and the units are dollars as the question asks.",
]


def joined(n: int) -> str:
    groups = [" ".join(THINKING[i : i + n]) for i in range(0, len(THINKING), n)]
    return "\n\n".join(groups)


CODE = "\n```python\nprice = 9 * 4\nprint(price)\n```\n"
GERMAN = "Also rechnen wir die Summe noch einmal ganz genau nach."
CHINESE = "所以我们再检查一遍答案。"
DAMAGE = {
    "longer paragraphs": [joined(n) for n in (1, 2, 4, 8)],
    "code in the thinking": [joined(1) + CODE * n for n in range(5)],
    "another script": [joined(1) + "\n\n".join(["", *[CHINESE] * n]) for n in range(4)],
    "another language": [joined(1) + "\n\n".join(["", *[GERMAN] * n]) for n in (0, 1, 2)],
    "a loop": [joined(1) + ("\n\n" + THINKING[3]) * n for n in (0, 2, 4, 8, 16, 32)],
    "broken characters": [joined(1).replace("e", "\ufffd", n) for n in (0, 3, 9, 27)],
    "headings and bold": [
        "\n\n".join("## **" + t + "**" if i < n else t for i, t in enumerate(THINKING))
        for n in (0, 2, 4, 8)
    ],
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_readability_falls_with_every_step_of_a_damage(kind: str) -> None:
    values = [of(text) for text in DAMAGE[kind]]
    assert all(later < earlier for earlier, later in itertools.pairwise(values)), values
    assert 0 < values[-1] < values[0] <= 1


def test_a_missing_summary_costs() -> None:
    assert of(joined(1), answer="", extracted="") < of(joined(1))


def test_weights_are_a_parameter() -> None:
    row = ("", joined(1) + CODE, "36", "36")
    plain = score(row)["readability"][0]
    assert score(row, weights={"code": 0.0})["readability"][0] > plain
    with pytest.raises(ValueError, match="known are"):
        score(row, weights={"colour": 1.0})


def test_columns_of_style() -> None:
    code = "```python\nx = 1\n```"
    text = f"# Plan\nI think **so**.\n- one\n- two\n{code}\nWe check our work. It is fine.\n"
    answer = "The answer is \\boxed{36}.\n- so it is"
    row = score(("", text, answer, "36")).row(0, named=True)
    assert (row["n_headings"], row["n_list_items"], row["n_code_blocks"]) == (1, 2, 1)
    assert row["code_fraction"] == pytest.approx(len(code) / len(text), abs=0.02)
    assert (row["summary_restates_answer"], row["summary_has_boxed"]) == (True, True)
    assert (row["has_summary"], row["summary_same_script"]) == (True, True)
    assert row["first_person_singular_per_1k_words"] > 0
    assert row["first_person_plural_per_1k_words"] > row["first_person_singular_per_1k_words"]
    other = score(("", text, "答案是三十六。", "37")).row(0, named=True)
    assert (other["summary_restates_answer"], other["summary_same_script"]) == (False, False)


def test_formulas_are_null_where_the_language_has_none() -> None:
    row = score(("", "我们先计算总价，然后除以三。答案是三十六。", "36", None)).row(0, named=True)
    assert row["flesch_reading_ease"] is None
    assert row["gunning_fog"] is None
    assert row["summary_restates_answer"] is None
    german = score(("", "Wir zählen die Karten und das ist nicht schwer.", "36", None))
    assert german["flesch_reading_ease"][0] is not None
    assert german["flesch_kincaid_grade"][0] is None


def test_null_stays_null_and_order_is_kept() -> None:
    rows: list[tuple[str | None, ...]] = [
        ("a b", joined(1), "36", "36"), (None, None, None, None), ("", "", "", ""),
        (" \n", " ", " ", None), ("```", "```", "`", "`"), ("\x00", "好" * 5000, "x", "x"),
        (joined(8), "", joined(8), None), ("x" * 9000, None, None, None),
    ]  # fmt: skip
    out = score(*rows)
    assert set(out.row(1)) == {None}
    assert out["readability"][2] is None
    assert out.rows() == [score(row).row(0) for row in rows]


@pytest.mark.parametrize(
    ("text", "words", "sentences"),
    [
        ("One two three. Four five six!", 6, 2),
        ("Well-known facts are facts. Yes. They really are.", 8, 2),
        ("Dr. Who came at 3.14 pm today", 7, 2),
        ("", 0, 0),
        ("— … !!!", 0, 0),
        ("I don’t know what it’s about", 6, 1),
    ],
)
def test_words_and_sentences_are_counted_as_textstat_does(
    text: str, words: int, sentences: int
) -> None:
    prose = measure(pl.Series([text]))
    assert (prose.words[0], prose.sentences[0]) == (words, sentences)


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("a", 1), ("the", 1), ("table", 2), ("boxes", 2), ("takes", 1), ("wanted", 2),
        ("asked", 1), ("creation", 3), ("statement", 2), ("quickly", 2), ("carefully", 3),
        ("approximately", 5), ("divided", 3), ("remaining", 3), ("multiplication", 5),
        ("equation", 3), ("variable", 4), ("however", 3), ("alternatively", 5), ("xyz", 1),
    ],
)  # fmt: skip
def test_syllables(word: str, count: int) -> None:
    assert n_syllables(word) == count


def test_flesch_orders_the_three_levels_of_an_article() -> None:
    articles: dict[str, dict[int, str]] = collections.defaultdict(dict)
    for row in rows_of("readability_onestop"):
        articles[row["article"]][int(row["level"])] = row["text"]
    triples = [levels for levels in articles.values() if len(levels) == 3]
    ease = flesch_reading_ease(
        measure(pl.Series([triple[level] for triple in triples for level in (1, 2, 3)]))
    )
    values = [[x or 0.0 for x in ease[i : i + 3]] for i in range(0, len(ease), 3)]
    ordered = sum(a > b > c for a, b, c in values)
    assert ordered / len(triples) >= 0.9


def test_damage_lowers_the_readability_of_real_thinking() -> None:
    rows = [row for row in rows_of("traces_misguided") if len(row["reasoning"] or "") > 1500]
    kept = random.Random(3).sample(rows, 20)
    texts = [row["reasoning"] for row in kept]
    damaged = [
        texts,
        [text + CODE for text in texts],
        [text.replace("\n\n", " ") for text in texts],
        [text + text[-300:] * 9 for text in texts],
        [text + "\n\n" + CHINESE for text in texts],
    ]
    values = [
        score(*[("", text, row["answer"], "") for text, row in zip(version, kept, strict=True)])
        for version in damaged
    ]
    for version in values[1:]:
        assert (version["readability"] < values[0]["readability"]).all()


def test_lengths_and_reflection() -> None:
    thought = "Wait, 等等，但是 x"
    frame = pl.DataFrame(
        {
            "completion": [f"<think>{thought}</think>ok", None],
            "reasoning": [thought, None],
            "answer": ["ok", None],
        }
    )
    lengths = length.score(frame)
    assert lengths["reasoning_words"].to_list() == [6, None]
    assert lengths["answer_chars"].to_list() == [2, None]
    assert dynamics.score(frame).row(0)[:2] == (3, 2)
    assert set(dynamics.score(frame).row(1)) == {None}


def test_readability_takes_foreign_words_from_the_language_score_of_the_same_texts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chinese = "所以我们需要再检查一次"
    mixed = f"{joined(2)} {chinese} {THINKING[0]}"
    cases = [
        (joined(2), None),
        (mixed, None),
        (mixed, f"What does {chinese} mean?"),
        (f"{joined(2)} {GERMAN}", f"Is this right: {GERMAN}"),
        (None, "no text"),
        ("= 4", "no word"),
    ]
    frame = pl.DataFrame(
        [(text, text, "", None, prompt, None) for text, prompt in cases],
        dict.fromkeys((*COLUMNS, "prompt", "target_language"), pl.String),
        orient="row",
    )
    alone = Scorer(["readability"]).score(frame)["readability"].to_list()
    spans = language.score(frame)
    # The prompt makes a gloss of it for the language score alone.
    assert spans["mixed_fraction"][1] > 0
    assert list(spans["mixed_fraction"][2:4]) == [0.0, 0.0]
    assert spans["foreign_word_fraction"].is_null().to_list() == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]
    for names in (["language", "readability"], ["readability", "language"]):
        assert Scorer(names).score(frame)["readability"].to_list() == alone
    strict = Scorer(["language", "readability"], {"language": {"min_words": 50}})
    assert strict.score(frame)["readability"].to_list() == alone
    lent = frame.with_columns(pl.Series("foreign_word_fraction", [0.5, *[None] * 5]))
    given = readability.score(lent)["readability"].to_list()
    assert given[1:] == alone[1:]
    assert given[0] < alone[0]


@pytest.mark.parametrize(
    ("broken", "clean"),
    [("a \ud800 b", "a \ufffd b"), ("\ud83d\ude00", "😀"), ("\udfff", "\ufffd")],
)
def test_lone_surrogates_are_replaced_and_leave_the_neighbours_alone(
    broken: str, clean: str
) -> None:
    frame = frame_of([joined(2), f"{joined(2)} {broken}", None], prompts=[broken, "é", None])
    assert frame["completion"].to_list() == [joined(2), f"{joined(2)} {clean}", None]
    assert frame["prompt"].to_list() == [clean, "é", None]
    out = Scorer(["readability"]).score(frame)["readability"]
    assert out[0] == of_completion(joined(2))
    assert out.is_null().to_list() == [False, False, True]


def of_completion(text: str) -> float:
    value = score((text, None, None, None))["readability"][0]
    assert isinstance(value, float)
    return value


SHORT_LINES = "\n".join(f"add the number {n} to all" for n in range(20))
WRAPPED = (
    "This is one long sentence of running text that some editor has wrapped after\n"
    "seventy bytes, so that a line ends where no sentence does and the next one is\n"
    "begun by a small letter\n"
)


@pytest.mark.parametrize(
    ("text", "n"),
    [
        (SHORT_LINES, 20),
        (SHORT_LINES.replace("\n", "\n\n"), 20),
        (SHORT_LINES.replace("\n", ".\n"), 20),
        ("\n".join(f"- {line}" for line in SHORT_LINES.splitlines()), 20),
        (WRAPPED, 1),
        (WRAPPED + "\n" + WRAPPED, 2),
        ("A heading of four words\nand the text of it. It has two sentences.", 3),
        ("\n".join(120 * "word " for _ in range(3)), 3),
    ],
)
def test_a_line_without_a_stop_is_read_as_a_sentence(text: str, n: int) -> None:
    prose = measure(pl.Series([text]))
    assert prose.sentences[0] == n
