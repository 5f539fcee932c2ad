"""Verdicts of the logic verifier."""
# ruff: noqa: E501 - one case, one line

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from factory.records import Item, Verdict
from factory.verifiers import logic
from factory.verifiers.logic import tasks

DATA = Path(__file__).parents[2] / "shared" / "data"


def rows(name: str) -> list[dict[str, Any]]:
    path = DATA / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path.name} beside the project")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def judge(text: str, gold: object, prompt: str = "", mode: str = "boxed") -> Verdict:
    messages = ({"role": "user", "content": prompt},) if prompt else ()
    return logic.verify(Item(text=text, gold=gold, messages=messages), mode=mode)


LISTED = "Which one?\nOptions:\n(A) the red book\n(B) the gray book"
CASES: list[tuple[str, str, object, str, str | None]] = [
    ("option in a box", "\\boxed{(E)}", "(E)", "pass", None),
    ("a bare letter", "\\boxed{E}", "(E)", "pass", None),
    ("a letter in text", "$\\boxed{\\text{(E)}}$.", "(E)", "pass", None),
    ("a letter and its text", "\\boxed{(B) the gray book}", "(B)", "pass", None),
    ("another letter", "\\boxed{D}", "(E)", "fail", "wrong"),
    ("two letters", "\\boxed{D, E}", "(E)", "fail", "wrong"),
    ("all letters", "\\boxed{A,B,C,D,E}", "(E)", "fail", "wrong"),
    ("letters in a row", "\\boxed{ABCDE}", "(E)", "fail", "wrong"),
    ("the last box counts", "\\boxed{D} no, \\boxed{E}", "(E)", "pass", None),
    ("a box in the thinking does not", "<think>\\boxed{E}</think> done", "(E)", "fail", "no_answer"),
    ("an empty box", "E \\boxed{}", "(E)", "fail", "empty_answer"),
    ("an open box", "\\boxed{E} \\boxed{E", "(E)", "fail", "empty_answer"),
    ("no box", "The answer is E.", "(E)", "fail", "no_answer"),
    ("yes", "\\boxed{\\text{Yes}}", "yes", "pass", None),
    ("a sentence with the word", "\\boxed{No, he lies}", "No", "pass", None),
    ("both words", "\\boxed{Yes or No}", "No", "fail", "wrong"),
    ("a negated word", "\\boxed{not True}", "True", "fail", "wrong"),
    ("unknown is uncertain", "\\boxed{Unknown}", "Uncertain", "pass", None),
    ("invalid is not valid", "\\boxed{invalid}", "valid", "fail", "wrong"),
    ("a number", "\\boxed{15}", "15", "pass", None),
    ("a number with its noun", "\\boxed{15\\text{ fruits}}", "15", "pass", None),
    ("the same number", "\\boxed{15.0}", "15", "pass", None),
    ("two numbers", "\\boxed{14 or 15}", "15", "fail", "wrong"),
    ("minus", "\\boxed{\u221215}", "-15", "pass", None),
    ("words in order", "\\boxed{apple, pear}", "apple pear", "pass", None),
    ("words in another order", "\\boxed{pear apple}", "apple pear", "fail", "wrong"),
    ("brackets", "\\boxed{)  \\} >}", ") } >", "pass", None),
    ("brackets that break the box", "It is $\\boxed{) } >}$.", ") } >", "pass", None),
    ("wrong brackets", "\\boxed{) ) >}", ") } >", "fail", "wrong"),
    ("no gold", "\\boxed{E}", None, "unscored", "bad_gold"),
    ("empty gold", "\\boxed{E}", " ", "unscored", "bad_gold"),
    ("a mapping of nothing", "\\boxed{E}", {"x": 1}, "unscored", "bad_gold"),
    ("an unknown task", "\\boxed{E}", {"task": "riddle", "answer": "E"}, "unscored", "unknown_task"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "gold", "status", "reason"), [pytest.param(*c[1:], id=c[0]) for c in CASES]
)
def test_verdict(text: str, gold: object, status: str, reason: str | None) -> None:
    verdict = judge(text, gold)
    assert (verdict.status, verdict.reason) == (status, reason)


AUTO: list[tuple[str, str, str, str]] = [
    ("a sentence", "Hence B lies. So the answer is (E).", "(E)", "pass"),
    ("a heading", "**Final Answer:** E", "(E)", "pass"),
    ("a tag", "Answer: D\n<answer>E</answer>", "(E)", "pass"),
    ("hashes", "so\n#### 15", "15", "pass"),
    ("Chinese", "所以答案是：15。", "15", "pass"),
    ("a bare word", "Yes", "Yes", "pass"),
    ("a box wins", "The answer is D. \\boxed{E}", "(E)", "pass"),
    ("the last sentence wins", "The answer is E. No: the answer is D.", "(E)", "fail"),
    ("long prose without an answer", "I think about E and yes. " * 20, "(E)", "fail"),
    ("the text of an option", "The answer is the gray book.", "(B)", "pass"),
    ("the text of another option", "The answer is the red book.", "(B)", "fail"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "gold", "status"), [pytest.param(*c[1:], id=c[0]) for c in AUTO])
def test_without_a_box(text: str, gold: str, status: str) -> None:
    assert judge(text, gold, prompt=LISTED, mode="auto").status == status


TRIO = {
    "names": ["Ella", "Bob", "Zoey"],
    "solution": [True, False, True],
    "statements": "(('lying', 1), ('not', ('telling-truth', 0)), ('telling-truth', 0))",
}
LINES = "(1) Ella is a knight\n(2) Bob is a knave\n(3) Zoey is a knight"
KNIGHTS: list[tuple[str, str, object, str, str | None]] = [
    ("lines in a tag", f"<answer>{LINES}</answer>", TRIO, "pass", None),
    ("against the list alone", f"<answer>{LINES}</answer>", LINES, "pass", None),
    ("a box in one line", "\\boxed{\\text{Ella is a knight, Bob is a knave, and Zoey is a knight}}", TRIO, "pass", None),
    ("colons and Markdown", "<answer>\n- **Ella**: knight\n- **Bob**: knave\n- **Zoey**: Knight\n</answer>", TRIO, "pass", None),
    ("another order", "<answer>Zoey is a knight. Ella is a knight. Bob is a knave.</answer>", TRIO, "pass", None),
    ("not a knight", "<answer>Ella is a knight. Bob is not a knight. Zoey is a knight.</answer>", TRIO, "pass", None),
    ("a statement does not fit", f"<answer>{LINES.replace('Zoey is a knight', 'Zoey is a knave')}</answer>", TRIO, "fail", "wrong"),
    ("one is missing", "<answer>Ella is a knight. Bob is a knave.</answer>", TRIO, "fail", "incomplete"),
    ("both roles", "<answer>Ella is a knight, Ella is a knave, Bob is a knave, Zoey is a knight</answer>", TRIO, "fail", "contradictory"),
    ("no names", "<answer>knight, knave, knight</answer>", TRIO, "fail", "no_answer"),
    ("prose does not count in this mode", LINES, TRIO, "fail", "no_answer"),
    ("malformed statements", f"<answer>{LINES}</answer>", {**TRIO, "statements": "(('lying', 9),)"}, "unscored", "bad_gold"),
    ("statements that are code", f"<answer>{LINES}</answer>", {**TRIO, "statements": "__import__('os')"}, "unscored", "bad_gold"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "gold", "status", "reason"), [pytest.param(*c[1:], id=c[0]) for c in KNIGHTS]
)
def test_knights_and_knaves(text: str, gold: object, status: str, reason: str | None) -> None:
    verdict = judge(text, gold)
    assert (verdict.status, verdict.reason) == (status, reason)


def test_the_last_lines_of_prose_count_in_auto_mode() -> None:
    text = "If Ella is a knave, then Bob is a knight, which is absurd.\n\nSo:\n\n" + LINES
    assert judge(text, TRIO, mode="auto").status == "pass"


def task(name: str, answer: str, **metadata: object) -> dict[str, object]:
    return {"task": name, "answer": answer, "metadata": metadata}


def test_a_procedural_task_is_scored_by_its_own_scorer() -> None:
    gold = task("chain_sum", "15")
    assert judge("\\boxed{15}", gold).status == "pass"
    assert judge("\\boxed{16}", json.dumps(gold)).reason == "wrong"
    assert judge("\\boxed{15 or 16}", gold).status == "fail", "partial credit is no pass"


def test_any_right_answer_of_a_task_counts() -> None:
    gold = task("countdown", "3 * 4 + 2", numbers=[2, 3, 4], target=14)
    assert judge("\\boxed{2 + 4*3}", gold).status == "pass"
    assert judge("\\boxed{2 + 4 + 3}", gold).status == "fail"


HOSTILE = [
    "__import__('os').system('touch {file}')", "[x for x in open('{file}','w')]",
    "(lambda: open('{file}','w'))()", "9**9**9**9", "[__import__('os').system('touch {file}')]",
    "exec(\"open('{file}','w')\")", "x**9999999999", "[" * 5000, "1" * 100000, "((" * 3000,
    "factorial(99999)", "integrate(x**x, x)", "x.__class__", "print(1)",
]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    sorted(tasks.LITERAL_TASKS | tasks.ARITHMETIC_TASKS | tasks.SYMBOLIC_TASKS),
)
def test_no_scorer_evaluates_what_a_model_wrote(name: str, tmp_path: Path) -> None:
    file = tmp_path / "made"
    gold = task(
        name,
        "1",
        numbers=[1],
        target=1,
        variable="x",
        integrand="1",
        expected_answer="C + x",
        solution=[[1]],
    )
    for text in HOSTILE:
        verdict = judge(f"<answer>{text.replace('{file}', str(file))}</answer>", gold, mode="auto")
        assert verdict.status != "pass"
        assert not file.exists()


def test_a_scorer_that_evaluates_text_and_is_not_known_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "SYMBOLIC_TASKS", set())
    tasks.scorer_of.cache_clear()
    verdict = judge("\\boxed{x + C}", task("simple_integration", "x + C", variable="x"))
    assert (verdict.status, verdict.reason) == ("unscored", "scorer_evaluates_text")
    tasks.scorer_of.cache_clear()


def test_golds_pass_themselves() -> None:
    failed = []
    for row in rows("logic_tasks"):
        machine = row["machine"] if row["machine"] and "names" in row["machine"] else None
        for gold in [row["gold"], *([machine] if machine else [])]:
            verdict = judge(logic.as_completion(gold), gold, prompt=row["prompt"])
            if verdict.status != "pass":
                failed.append((row["id"], verdict.reason))
    assert failed == []


def test_model_outputs_follow_their_gold() -> None:
    """The sources' own rule: what stands after "So the answer is" is the answer."""
    differ = []
    for row in rows("logic_model_outputs"):
        verdict = judge(row["output"], row["gold"], prompt=row["prompt"], mode="auto")
        said = re.search(r"So the answer is (.*?)\.?$", row["output"].strip(), re.S)
        label = (
            row["label"]
            if row["label"] is not None
            else bool(said and said.group(1) == row["gold"])
        )
        if label != (verdict.status == "pass"):
            differ.append((row["id"], verdict.reason, verdict.extracted))
    assert differ == []


COUNTDOWN: list[tuple[str, str]] = [
    ("3*7+5", "pass"), ("5+3*7", "pass"), ("3*7+5=26", "pass"), ("26 = 3*7+5", "pass"),
    ("3 * 7 + 5 = 26.", "pass"), (r"3 \times 7 + 5", "pass"), (r"3 \cdot 7 + 5 = 26", "pass"),
    ("3 × 7 + 5", "pass"), ("3·7+5", "pass"), ("3 x 7 + 5", "pass"), ("3⋅7+5", "pass"),
    (r"\left(3 \times 7\right) + 5", "pass"), ("[3*7]+5", "pass"), ("{3*7}+5", "pass"),
    (r"$3 \times 7 + 5$", "pass"), (r"\(3 \times 7 + 5\)", "pass"), (r"\text{3*7+5}", "pass"),
    ("`3*7+5`", "pass"), ("3*7+5 = 21+5 = 26", "pass"), (r"3*7+5 \Rightarrow 26", "pass"),
    ("3*7 − (−5)", "pass"), ("-(-3*7-5)", "pass"), ("(3*7)+5", "pass"), ("+3*7+5", "pass"),
    (r"\frac{3}{1} * 7 + 5", "fail"), ("3*7+5=27", "fail"), ("27=3*7+5", "fail"),
    ("26", "fail"), ("26=26", "fail"), ("20+6", "fail"), ("3*7", "fail"), ("3*7+5+0", "fail"),
    ("7*3+5-3+3", "fail"), ("26*1", "fail"), ("37+5", "fail"), ("3*7+5 or 26", "fail"),
    ("3*7=21, 21+5=26", "fail"), ("3*7+5, 3+5+7", "fail"), ("3+5+7", "fail"), ("3**7+5", "fail"),
    ("3//7+5", "fail"), ("3*7+5/0", "fail"), ("3*7+5e0", "fail"), ("3*7+5.0", "fail"),
    ("3*7+5 #", "fail"), ("3*7+5\n3", "fail"), ("int('3')*7+5", "fail"), ("", "fail"),
    ("0x3*7+5", "fail"), ("3*7+05", "fail"), ("7*5-3*3", "fail"), ("(3*7+5", "fail"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "status"), COUNTDOWN)
def test_countdown_is_read_as_people_write_it(answer: str, status: str) -> None:
    gold = task("countdown", "3*7+5", numbers=[3, 5, 7], target=26)
    assert judge(f"\\boxed{{{answer}}}", gold).status == status


TWENTY_FOUR: list[tuple[str, str]] = [
    ("1*3*5 + 9", "pass"), ("9 + 3 * 5 = 24", "fail"), ("9+5*3*1", "pass"), ("(9-1)*3*(5-5+1)", "fail"),
    (r"\frac{9}{1} + 3 \cdot 5", "pass"), ("9 + 5 + 1 + 3", "fail"), ("8*3*1*1", "fail"),
    ("3*5+9*1+1/2", "fail"), ("24", "fail"), ("9*5/3+9", "fail"), ("(9 + 3*5)/1 = 24", "pass"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "status"), TWENTY_FOUR)
def test_the_game_of_24_uses_its_own_numbers(answer: str, status: str) -> None:
    gold = task("puzzle24", "1*3*5 + 9", numbers=[1, 3, 5, 9])
    assert judge(f"\\boxed{{{answer}}}", gold).status == status


def test_a_gold_that_does_not_pass_itself_is_bad() -> None:
    wrong = task("countdown", "3*7+6", numbers=[3, 5, 7], target=26)
    assert judge("\\boxed{3*7+6}", wrong).status == "unscored"
    assert judge("\\boxed{3*7+5}", wrong).reason == "bad_gold"
    for gold in (task("countdown", "3*7+5"), task("countdown", "x", numbers=[3], target="y")):
        assert judge("\\boxed{3*7+5}", gold).reason == "bad_gold"


def test_numbers_are_read_in_their_dress() -> None:
    gold = task("chain_sum", "-1234")
    for answer in ("-1234", "-1,234", "\u22121,234", r"-1{,}234", r"\text{-1234}", "**-1234**"):
        assert judge(f"\\boxed{{{answer}}}", gold).status == "pass", answer
    for answer in ("1234", "-1.234", "-1234 or 5"):
        assert judge(f"\\boxed{{{answer}}}", gold).status == "fail", answer


def test_contradictory_and_vacuous_golds_are_bad() -> None:
    text = f"<answer>{LINES}</answer>"
    lies = {**TRIO, "solution": None, "statements": "(('lying', 0), ('lying', 1), ('lying', 2))"}
    said = "(('telling-truth', 0), ('telling-truth', 1), ('telling-truth', 2))"
    assert judge(text, lies).reason == "bad_gold: contradictory"
    assert judge(text, {**TRIO, "solution": [True, True, True]}).reason == "bad_gold: contradictory"
    assert judge(text, {**TRIO, "statements": said}).reason == "bad_gold: vacuous"
    premises = {"variables": ["P", "Q"], "premises": ["P", "¬P"], "example_answer": "(P ∧ Q)"}
    gold = {"task": "propositional_logic", "answer": None, "metadata": premises}
    assert judge("\\boxed{(P ∨ Q)}", gold).reason == "bad_gold: vacuous"
    sound = {**premises, "premises": ["P", "(P → Q)"]}
    assert judge("\\boxed{(Q ∧ P)}", {**gold, "metadata": sound}).status == "pass"
    assert judge("\\boxed{¬Q}", {**gold, "metadata": sound}).status == "fail"


def test_every_task_takes_its_own_golds_and_no_others() -> None:
    """Two of the table's columns, on the tasks whose scorers are cheap; all: ``bench_tasks``."""
    pytest.importorskip("reasoning_gym")
    from tests.bench import bench_tasks

    names = bench_tasks.task_names()
    assert len(names) >= 100
    for name in names[::7]:
        row = bench_tasks.measure(name, 2)
        assert (row.n_own, row.n_other, row.n_junk) == (row.n - row.n_without, 0, 0), name


@pytest.mark.slow
def test_all_tasks_take_their_own_golds_and_no_others() -> None:
    pytest.importorskip("reasoning_gym")
    from tests.bench import bench_tasks

    rows = [bench_tasks.measure(name, 4) for name in bench_tasks.task_names()]
    assert len(rows) >= 100
    assert [r.task for r in rows if r.n_own != r.n - r.n_without] == []
    assert [r.task for r in rows if r.n_without] == ["boxnet", "rush_hour"]
    # a conclusion that follows from the premises of another item follows, too
    assert [r.task for r in rows if r.n_other] == ["propositional_logic"]
    assert [r.task for r in rows if r.n_junk] == []


def test_a_scorer_that_calls_every_word_right_is_not_asked() -> None:
    gold = task("game_of_life_halting", True)  # type: ignore[arg-type]
    assert judge("\\boxed{True}", gold).status == "pass"
    for answer in ("False", "0", "none", "qqq"):
        assert judge(f"\\boxed{{{answer}}}", gold).status == "fail"
    assert judge("\\boxed{0}", task("coin_flip", "0.00001")).status == "fail"
    assert judge("\\boxed{1/4}", task("coin_flip", "0.25")).status == "pass"
