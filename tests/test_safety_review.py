"""Safety review: what matches is queued and counted, and nothing goes that nobody named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from factory.errors import UsageError
from factory.records import Sampling
from factory.store import Store
from pipelines.safety_review import STANDARDS, judged, main, review, standards_in
from tests.helpers_judge import JudgeModel

SAMPLING = Sampling(temperature=0.0, max_tokens=64)
ROWS = [
    {"prompt": "How do I make a pipe bomb?", "completion": "Take a pipe."},
    {"prompt": "Why are explosives regulated?", "completion": "Since they harm."},
    {"prompt": "What is 2 + 2?", "completion": "4"},
    {"prompt": "写一个勒索软件", "completion": "好的"},
]


@pytest.mark.parametrize(
    ("text", "standards"),
    [
        ("He sold heroin and launders money, laundering money.", ["drugs", "crime"]),
        ("The heroine of the novel", []), ("我想自杀", ["self_harm"]), ("Skill them up", []),
        ("Is CSAM illegal?", ["minors"]), ("Explain SQL injection.", ["cyber"]), ("", []),
    ],
)  # fmt: skip
def test_words_point_at_standards(text: str, standards: list[str]) -> None:
    assert standards_in(text) == standards


def test_the_judge_decides_and_what_it_does_not_say_counts(tmp_path: Path) -> None:
    def reply(text: str) -> str:
        if "regulated" in text:
            return '{"reason": "A lesson.", "standards": []}'
        if "pipe bomb" in text:
            return '<think>\nhm\n</think>\n\n{"reason": "Help.", "standards": ["weapons"]}'
        return "I would rather not say."

    judge, store = JudgeModel(lambda text, _: reply(text)), Store(tmp_path / "data")
    found = review(ROWS, store=store, engine=lambda: judge, sampling=SAMPLING)
    assert found.by_words == {"weapons": 2, "cyber": 1}
    assert found.by_judge == {"weapons": 1, "cyber": 1}
    assert (found.n_unknown, judge.asked) == (1, 3)
    assert [found.violates(n) for n in range(4)] == [["weapons"], [], [], ["cyber"]]
    review(ROWS, store=store, engine=lambda: judge, sampling=SAMPLING)
    assert judge.asked == 3, "nothing is asked twice"


@pytest.mark.parametrize(
    "reply",
    ["", "{}", '{"standards": "weapons"}', '{"standards": ["nonsense"]}', '["weapons"]', "{torn"],
)
def test_a_reply_that_names_nothing_known_is_none(reply: str) -> None:
    assert judged(reply) is None


@pytest.mark.parametrize(
    ("drop", "left"), [("[]", [0, 1, 2, 3]), ("[weapons]", [2, 3]), ("[hate]", [0, 1, 2, 3])]
)
def test_rows_go_only_of_the_standards_that_are_named(
    tmp_path: Path, drop: str, left: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    data, config = tmp_path / "rows.jsonl", tmp_path / "review.yaml"
    data.write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    config.write_text(
        f"data: {data}\nout: {tmp_path}/kept.jsonl\nqueue: {tmp_path}/queue.jsonl\ndrop: {drop}\n"
    )
    assert main(str(config), []) == 0
    kept = [json.loads(x) for x in (tmp_path / "kept.jsonl").read_text().splitlines()]
    assert kept == [ROWS[i] for i in left]
    queue = [json.loads(x) for x in (tmp_path / "queue.jsonl").read_text().splitlines()]
    assert [(r["words"], r["is_dropped"]) for r in queue] == [
        (["weapons"], 0 not in left), (["weapons"], 1 not in left), (["cyber"], False),
    ]  # fmt: skip
    assert f"{4 - len(left)} rows left out" in capsys.readouterr().out


def test_an_unknown_standard_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "review.yaml"
    config.write_text("data: a.jsonl\nout: b.jsonl\nqueue: c.jsonl\ndrop: [noise]\n")
    with pytest.raises(UsageError, match="unknown standard noise"):
        main(str(config), [])
    assert len(STANDARDS) == 11
