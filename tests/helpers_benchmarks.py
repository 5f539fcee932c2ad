"""Rows in the shapes of the public benchmarks, ten each, written here; and how models answer them.

No row of a benchmark stands here: the questions are our own, the columns are theirs.
"""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]
Answer = Callable[[Row, int], tuple[str, str]]
"""Row, its number → an obedient right answer and a wrong one."""

_WORDS = ["red", "green", "blue", "grey", "pink", "black", "white", "brown", "gold", "teal"]


def _sums(i: int) -> tuple[str, int]:
    return f"What is {i + 3} times {i + 7}, less {2 * i + 1}?", (i + 3) * (i + 7) - 2 * i - 1


def _math_rows(question: str, answer: str, **more: Any) -> list[Row]:
    rows = []
    for i in range(10):
        text, value = _sums(i)
        rows.append({question: text, answer: value, **more})
    return rows


_SHOWN = [
    "\\boxed{%s}", "The answer is $\\boxed{%s}$.", "**\\boxed{%s}**", "\\[\\boxed{%s}\\]",
    "So we get\n\n$$\\boxed{%s}$$", "\\boxed{%s}.", "Final answer: \\(\\boxed{%s}\\)",
    "Thus $x = \\boxed{%s}$", "Answer: $\\boxed{%s}$", "\\boxed{ %s }",
]  # fmt: skip


def _think(text: str) -> str:
    return f"<think>\nFirst \\boxed{{0}}? Maybe A, maybe B.\n</think>\n\n{text}"


def _boxed(column: str) -> Answer:
    def made(row: Row, i: int) -> tuple[str, str]:
        gold = str(row[column]).rpartition("####")[2].strip().replace(",", "")
        wrong = str(int(gold) + 1)
        return _think(_SHOWN[i] % gold), _think(_SHOWN[i] % wrong)

    return made


_LINES = [
    "ANSWER: %s", "**ANSWER: %s**", "ANSWER: $%s", "ANSWER: %s.", "ANSWER: %s\n", "ANSWER: (%s)",
    "Answer: %s", "I am sure.\nANSWER: %s", "ANSWER:%s", "ANSWER: **%s**",
]  # fmt: skip
_IS = [
    "The answer is (%s)", "The answer is (%s).", "**The answer is (%s).**", "the answer is (%s)",
    "The answer is **(%s)**", "The answer is %s.", "Therefore, the answer is (%s).",
    "The answer is: (%s)", "So the answer is (%s)", "The answer is $(%s)$",
]  # fmt: skip
_ZH = [
    "答案：%s", "**答案：%s**", "答案: %s", "答案：%s。", "因此答案：%s", "答案：（%s）",
    "答案是 %s", "答案：%s\n", "正确答案：%s", "答案：**%s**",
]  # fmt: skip


def _json_answer(letter: str, i: int) -> str:
    text = json.dumps({"reasoning": "It is not A but the other.", "answer": letter})
    return text if i % 2 else f"```json\n{text}\n```"


def _letter(lines: list[str] | None, reason: str = "A stands for something else.") -> Any:
    def made(letter: str, other: str, i: int) -> tuple[str, str]:
        if lines is None:
            return _think(_json_answer(letter, i)), _think(_json_answer(other, i))
        return _think(f"{reason}\n\n{lines[i] % letter}"), _think(f"{reason}\n\n{lines[i] % other}")

    return made


def _tests(i: int, n: int = 3) -> list[dict[str, str]]:
    return [{"input": f"{j} {i}", "output": str(j * (i + 2) + i), "testtype": "stdin"}
            for j in range(1, n + 1)]  # fmt: skip


def packed(value: Any) -> str:
    """Pack tests as LiveCodeBench does."""
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def _program(body: str, i: int) -> str:
    return _think(f"It is a line.\n\n```python\n{body}\n```" + ("" if i % 2 else "\n\nDone."))


def _stdin_answer(row: Row, i: int) -> tuple[str, str]:
    right = f"a, b = map(int, input().split())\nprint(a * (b + 2) + b + 0 * {i})"
    return _program(right, i), _program(right.replace("+ 2", "+ 3"), i)


_HEAD = 'def grow_{i}(x: float) -> float:\n    """Return {i} more than x."""\n'
_PLUS = """import numpy as np

def is_floats(x) -> bool:
    if isinstance(x, float):
        return True
    if isinstance(x, (list, tuple)):
        return all(isinstance(i, float) for i in x)
    if isinstance(x, np.ndarray):
        return x.dtype == np.float64 or x.dtype == np.float32
    return False

def assertion(out, exp, atol):
    exact_match = out == exp
    if atol == 0 and is_floats(exp):
        atol = 1e-6
    if not exact_match and atol != 0:
        assert type(out) == type(exp)
        if isinstance(exp, (list, tuple)):
            assert len(out) == len(exp)
        assert np.allclose(out, exp, rtol=1e-07, atol=atol)
    else:
        assert exact_match
"""


def _functions(plus: bool) -> list[Row]:
    rows = []
    for i in range(10):
        cases = [(0.5, i + 0.5), (0.1, i + 0.1), (2, i + 2)]
        check = (
            _PLUS + f"\ndef check(candidate):\n    inputs = {[[a] for a, _ in cases]}\n"
            f"    results = {[b for _, b in cases]}\n"
            "    for i, (inp, exp) in enumerate(zip(inputs, results)):\n"
            "        assertion(candidate(*inp), exp, 0)\n"
            if plus
            else f"def check(candidate):\n    assert candidate(2) == {i + 2}\n"
            f"    assert candidate(5) == {i + 5}\n"
        )
        rows.append(
            {
                "task_id": f"T/{i}",
                "prompt": _HEAD.format(i=i),
                "test": check,
                "entry_point": f"grow_{i}",
                "canonical_solution": f"    return x + {i}\n",
            }
        )
    return rows  # fmt: skip


def _function_answer(row: Row, i: int) -> tuple[str, str]:
    right = f"def grow_{i}(x):\n    return x + {i}"
    return _program(right, i), _program(right.replace("x + ", "1 + x + "), i)


def _mbpp_rows(plus: bool) -> list[Row]:
    rows = []
    for i in range(10):
        shown = [f"assert grow_{i}(2) == {i + 2}", f"assert grow_{i}(5) == {i + 5}"]
        row: Row = {"task_id": i, "test_list": shown}
        if plus:
            row |= {"prompt": f"Write a function that adds {i}.", "test_imports": [],
                    "code": f"def grow_{i}(x):\n    return x + {i}",
                    "test": _PLUS + f"\ninputs = [[1], [2.5]]\nresults = [{i + 1}, {i + 2.5}]\n"
                    "for i, (inp, exp) in enumerate(zip(inputs, results)):\n"
                    f"    assertion(grow_{i}(*inp), exp, 0)\n"}  # fmt: skip
        else:
            row |= {"text": f"Write a function that adds {i}.", "test_setup_code": ""}
        rows.append(row)
    return rows


_RULES: list[tuple[str, Row, str, str]] = [
    ("punctuation:no_comma", {}, "One two three", "One, two"),
    ("change_case:english_lowercase", {}, "all of it is small", "Not all of it"),
    ("change_case:english_capital", {}, "ALL OF IT IS LARGE", "Not all of it"),
    ("keywords:existence", {"keywords": ["river"]}, "A river runs here", "Nothing of it"),
    ("keywords:forbidden_words", {"forbidden_words": ["river"]}, "Nothing of it", "A river"),
    ("startend:end_checker", {"end_phrase": "That is all"}, "Well. That is all", "That was it"),
    ("detectable_format:title", {}, "<<A title>>\nand text", "No title at all"),
    ("startend:quotation", {}, '"All of it in quotes"', "None in quotes"),
    ("length_constraints:number_words", {"relation": "less than", "num_words": 4}, "Two words",
     "This one has far more than four words"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n* two", "* one"),
]  # fmt: skip
_IFEVAL = [
    {"key": i, "prompt": f"Write about a river, number {i}.", "instruction_id_list": [name],
     "kwargs": [{"keywords": None, "end_phrase": None, **kwargs}]}
    for i, (name, kwargs, _, _) in enumerate(_RULES)
]  # fmt: skip

_DROPS = [
    (["12"], "12", "13"), (["Ann Lee"], "Ann Lee", "Bob"), (["3"], "3.", "4"),
    (["the red house"], "red house", "blue barn"), (["4 May 1901"], "4 May 1901", "5 June 1902"),
    (["Ann", "Bob"], "Ann and Bob", "Carl and Dora"), (["7"], "**7**", "8"),
    (["north"], "North", "south"), (["2.5"], "2.50", "3"), (["x-ray"], "X-ray", "scan"),
]  # fmt: skip


def _drop_row(i: int, spans: list[str]) -> Row:
    row: Row = {"query_id": f"q{i}", "passage": f"Text number {i} says much.",
                "question": f"What does text {i} say?"}  # fmt: skip
    if i % 2:
        return {**row, "answers_spans": {"spans": spans, "types": ["span"] * len(spans)}}
    number = spans[0] if spans[0].replace(".", "").isdigit() else ""
    own = {"number": number, "date": {"day": "", "month": "", "year": ""},
           "spans": [] if number else spans}  # fmt: skip
    other = {"number": ["99"], "date": [own["date"]], "spans": [[]]}
    return {**row, "answer": own, "validated_answers": other}


def _codeforces_row(i: int) -> Row:
    tests = [{"input": t["input"], "output": t["output"]} for t in _tests(i)]
    return {"id": f"{i}/A", "title": "A line", "description": "Compute it.",
            "input_format": "Two integers.", "output_format": "One integer.", "note": None,
            "time_limit": 2.0, "examples": tests[:1], "official_tests": tests,
            "official_tests_complete": True, "input_mode": "stdio", "generated_checker": None,
            "interaction_format": None, "rating": 800, "contest_start": 1_722_500_000}  # fmt: skip


def _lcb_row(i: int) -> Row:
    return {"question_content": f"Compute line {i}.", "question_id": str(i), "difficulty": "easy",
            "starter_code": "", "contest_date": f"2024-{i % 12 + 1:02d}-15T00:00:00",
            "public_test_cases": json.dumps(_tests(i, 1)),
            "private_test_cases": packed(json.dumps(_tests(i))) if i % 2 else json.dumps(_tests(i)),
            "metadata": "{}"}  # fmt: skip


def _choices(i: int, n: int = 4) -> list[str]:
    return [_WORDS[(i + j) % 10] for j in range(n)]


_GPQA = [
    {"Question": f"Which colour is number {i}?", "Correct Answer": f"{_WORDS[i]} ",
     **{f"Incorrect Answer {j}": _WORDS[(i + j) % 10] for j in (1, 2, 3)}, "Record ID": f"r{i}"}
    for i in range(10)
]  # fmt: skip
_MMLU = [
    {"question": f"Which is {i}?", "choices": _choices(i), "answer": i % 4, "subject": "colours"}
    for i in range(10)
]  # fmt: skip
_PRO = [
    {"question_id": i, "question": f"Which is {i}?", "options": _choices(i, 10),
     "answer": "ABCDEFGHIJ"[i], "answer_index": i, "category": "physics"}
    for i in range(10)
]  # fmt: skip
_COLUMNS = [
    {"id": i, "question": f"第{i}题是什么颜色？", **dict(zip("ABCD", _choices(i), strict=True)),
     "answer": "ABCD"[i % 4]}
    for i in range(10)
]  # fmt: skip
_WSC = [
    {"idx": i, "text": f"老王看见小李，第{i}次他笑了。", "label": i % 2,
     "target": {"span1_text": "小李", "span1_index": 4, "span2_text": "他", "span2_index": 11}}
    for i in range(10)
]  # fmt: skip

MATH: dict[str, tuple[list[Row], Answer]] = {
    "aime24": (_math_rows("problem", "answer"), _boxed("answer")),
    "aime25": (_math_rows("problem", "answer"), _boxed("answer")),
    "hmmt25": (_math_rows("problem", "answer"), _boxed("answer")),
    "amc23": (_math_rows("problem", "answer"), _boxed("answer")),
    "math500": (_math_rows("problem", "answer", level=3, subject="Algebra"), _boxed("answer")),
    "cmath": (_math_rows("question", "golden", grade=2), _boxed("golden")),
    "cnmo24": (_math_rows("question", "answer"), _boxed("answer")),
    "gsm8k": (
        [{**r, "answer": f"We count.\n#### {r['answer']:,}"}
         for r in _math_rows("question", "answer")],
        _boxed("answer"),
    ),
}  # fmt: skip
CHOICE: dict[str, tuple[list[Row], Any]] = {
    "gpqa-diamond": (_GPQA, _letter(_LINES)),
    "mmlu": (_MMLU, _letter(_LINES)),
    "mmlu-redux": ([{**r, "error_type": "ok"} for r in _MMLU], _letter(None)),
    "mmlu-pro": (_PRO, _letter(_IS)),
    "ceval": (_COLUMNS, _letter(_ZH, "A 不对。")),
    "cmmlu": (
        [{k.title() if len(k) > 2 else k: v for k, v in r.items()} for r in _COLUMNS],
        _letter(_ZH, "A 不对。"),
    ),
    "cluewsc": (_WSC, _letter(_ZH, "想一想。")),
}  # fmt: skip
OTHERS: dict[str, tuple[list[Row], Answer]] = {
    "drop": (
        [_drop_row(i, spans) for i, (spans, _, _) in enumerate(_DROPS)],
        lambda row, i: (_think(f"We read.\nAnswer: {_DROPS[i][1]}"),
                        _think(f"We read.\nAnswer: {_DROPS[i][2]}")),
    ),
    "ifeval": (
        _IFEVAL, lambda row, i: ("<think>\nA, b.\n</think>\n\n" + _RULES[i][2], _RULES[i][3])
    ),
}  # fmt: skip
CODE: dict[str, tuple[list[Row], Answer]] = {
    "livecodebench": ([_lcb_row(i) for i in range(10)], _stdin_answer),
    "codeforces": ([_codeforces_row(i) for i in range(10)], _stdin_answer),
    "humaneval": (_functions(plus=False), _function_answer),
    "humaneval-plus": (_functions(plus=True), _function_answer),
    "mbpp": (_mbpp_rows(plus=False), _function_answer),
    "mbpp-plus": (_mbpp_rows(plus=True), _function_answer),
}
JUDGED: dict[str, list[Row]] = {
    "simpleqa": [{"problem": f"Who was number {i}?", "answer": "Ann"} for i in range(10)],
    "csimpleqa": [{"id": str(i), "question": f"第{i}位是谁？", "answer": "安"}
                  for i in range(10)],
}  # fmt: skip
