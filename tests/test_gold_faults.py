"""Golds that pass nothing, or everything, are unscored wherever a verdict is given, and counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from factory import plugins
from factory.cli.main import main
from factory.records import Item
from factory.stages.checker import Checker
from factory.stages.gold_faults import GoldFaults

GENEROUS = """
from factory.records import Item, Verdict

VERSION = 1

def quick(item, **options):
    how = Verdict.passed if GENEROUS(item) else lambda **by: Verdict.failed("wrong", **by)
    return how(decided_by="own")

def verify(item, **options):
    return quick(item)

def as_completion(gold, **options):
    return f"so {gold}"
"""


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("lambda item: True", "bad_gold: it passes an empty answer"),
        ("lambda item: bool(item.text and item.gold)", "bad_gold: it passes all 2 wrong answers"),
        ("lambda item: item.text == '15'", "bad_gold: it does not pass itself (wrong)"),
        ("lambda item: bool(item.text)", None),  # it looks at no gold at all, as format does
        ("lambda item: bool(item.gold) and item.gold in item.text", None),
    ],
)
def test_a_gold_is_checked_before_it_pays(tmp_path: Path, rule: str, reason: str | None) -> None:
    path = tmp_path / "own.py"
    path.write_text(GENEROUS.replace("GENEROUS(item)", f"({rule})(item)"))
    plugins.allow(str(path))
    checker = Checker(str(path))
    (verdict,) = checker.check([Item(text="so 15", gold="15")])
    assert (verdict.reason if verdict.status == "unscored" else None) == reason
    assert verdict.reward is None if reason else verdict.reward is not None


def test_right_and_wrong_answers_to_a_good_gold_are_judged_as_before() -> None:
    checker = Checker("math")
    golds = ("5", "x^2, x > 0", r"\\{1, 2\\}", "5 cm", "yes", "(1, 2)", "The answer is 7.")
    for gold in golds:
        right, wrong = checker.check(
            [Item(text=rf"\boxed{{{a}}}", gold=gold) for a in (gold.strip("."), "99999")]
        )
        assert right.status == "pass", gold
        assert wrong.status in ("fail", "unscored"), gold


ASKS = """
from factory.records import Item, Verdict

VERSION = 1


def verify(item: Item) -> Verdict:
    return quick(item)


def quick(item: Item) -> Verdict:
    if item.gold == "5":
        return Verdict.failed("wrong", decided_by="text")
    is_odd = "odd" in item.messages[-1]["content"]
    return Verdict.unscored("gold_odd") if is_odd else Verdict.failed("wrong", decided_by="text")
"""


def test_a_gold_is_asked_about_again_only_where_its_verifier_reads_the_question(
    tmp_path: Path,
) -> None:
    path = tmp_path / "asks.py"
    path.write_text(ASKS)
    faults = GoldFaults(plugins.load_file(path))
    calls = []
    quick = faults._quick  # type: ignore[attr-defined]
    faults._quick = lambda *a, **o: calls.append(1) or quick(*a, **o)  # type: ignore[attr-defined]

    def fault(gold: str, asked: str) -> str | None:
        messages = ({"role": "user", "content": asked},)
        return faults.of(Item(text="", gold=gold, messages=messages), {})

    found = [fault("6", asked) for asked in ("even", "odd", "even")]
    assert found == [None, "gold_odd", None]
    n = len(calls)
    assert [fault("5", asked) for asked in ("even", "odd", "any")] == [None] * 3
    assert len(calls) == n + 1
    assert fault("6", "odd") == "gold_odd"
    assert len(calls) == n + 1


def test_bad_golds_are_counted_where_rows_come_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"prompt": "1+1?", "completion": "so \\boxed{2}", "gold": "2", "verifier": "math"},
        {"prompt": "see?", "completion": "so \\boxed{2}", "gold": "see figure", "verifier": "math"},
        {"prompt": "f?", "completion": "x", "verifier": "code", "gold": json.dumps(
            {"test_cases": [{"code": "assert f(1) == 1"}, {"code": "assert f(2) == 1"}]})},
    ]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "bad golds" in shown
    assert "gold_unparsable 1" in shown
    assert "bad_gold: vacuous: every test expects the same 1" in shown
    store = ["--store", str(tmp_path / "store")]
    assert main(["import", *store, str(path)]) == 0
    assert "3 rows with a gold, 2 of them bad golds" in capsys.readouterr().err
