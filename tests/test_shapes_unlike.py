"""Shapes that look like another one: read as what they are, or refused; never a wrong guess."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factory.errors import UsageError
from factory.sources import files as file_source
from factory.stages.importing import import_rows
from factory.store import Store
from tests.test_shapes import ASK, BASE, REPLY, THINK, USER, assert_read, assert_refused, write

ANSWER = "It is \\boxed{54}."
LLAMA = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\ndetailed thinking on<|eot_id|>"
    f"<|start_header_id|>user<|end_header_id|>\n\n{ASK}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
CHATML = f"<|im_start|>user\n{ASK}<|im_end|>\n<|im_start|>assistant\n"

TRACES: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
    ("a prompt that Llama's template rendered",
     {"input": LLAMA, "output": REPLY, "generator": "DeepSeek-R1", "reasoning": "on"},
     [BASE | {"system": "detailed thinking on", "model": "DeepSeek-R1"}]),
    ("a prompt in ChatML", {"prompt": CHATML, "response": REPLY}, [BASE | {"system": None}]),
    ("a thought beside the response", {"query": ASK, "thought": THINK, "response": ANSWER}, [BASE]),
    ("a chain of thought beside the answer", {"question": ASK, "chain_of_thought": THINK,
        "answer": ANSWER, "ground_truth": "54"}, [BASE | {"gold": "54"}]),
    ("OpenR1-Math-Raw, which has all of NuminaMath's columns", {"problem": ASK, "solution": "54.",
        "answer": "54", "problem_is_valid": "Yes", "solution_is_valid": "Yes", "generations":
        [REPLY], "correctness_math_verify": [True]}, [BASE | {"gold": "54"}]),
    ("preferred turns of a conversation", {"conversations": [{"from": "human", "value": ASK}],
        "chosen": {"from": "gpt", "value": REPLY}, "rejected": {"from": "gpt", "value": "7"}},
     [BASE, {"user": ASK, "answer": "7"}]),
    ("columns named after fields of an API", {"question": ASK, "reasoning (reasoning_content)":
        THINK, "response (content)": ANSWER}, [BASE]),
    ("an answer that is the reply, as its marks say", {"question": ASK, "answer": REPLY},
     [BASE | {"gold": None}]),
    ("MegaScience", {"question": ASK, "answer": "He has 84 rolls. He sells 30 of them, so that "
        "54 are left.\n\n\\boxed{54}", "subject": "math", "reference_answer": "54"},
     [{"user": ASK, "thinking": "", "answer": "He has 84 rolls. He sells 30 of them, so that "
       "54 are left.\n\n\\boxed{54}", "gold": "54", "domain": "math"}]),
    ("GeneralThought", {"question": ASK, "reference_answer": "54", "model_name": "DeepSeek/R1",
        "model_answer": ANSWER, "model_reasoning": THINK, "verifier_score": 1.0},
     [BASE | {"gold": "54", "model": "DeepSeek/R1"}]),
    ("AM-Thinking", {"system": "", "conversations": [{"from": "human", "value": ASK, "info": None},
        {"from": "assistant", "value": REPLY, "info": {"category": "math", "ground_truth": "54",
        "model_name": "Qwen3"}}]}, [BASE | {"gold": "54", "model": "Qwen3", "domain": "math"}]),
    ("thinking beside an output", {"input": ASK, "cot": THINK, "output": ANSWER}, [BASE]),
    ("the items of one reply", {"input": [USER], "output": [{"type": "reasoning", "summary": [
        {"type": "summary_text", "text": THINK}]}, {"type": "message", "role": "assistant",
        "content": [{"type": "output_text", "text": ANSWER}]}]}, [BASE]),
    ("contents with parts", {"contents": [{"role": "user", "parts": [{"text": ASK}]},
        {"role": "model", "parts": [{"text": THINK, "thought": True}, {"text": ANSWER}]}]}, [BASE]),
    ("a batch's results by the Responses API", {"custom_id": "7", "request": {"body": {"input": ASK,
        "instructions": "Be kind."}}, "response": {"body": {"model": "m", "output": [{"type":
        "message", "content": [{"type": "output_text", "text": "54"}]}]}}},
     [{"user": ASK, "answer": "54", "system": "Be kind.", "model": "m", "item": "7"}]),
    ("responses beside columns of a shape of prompts", {"problem": ASK, "solution": "It is "
        "\\boxed{54}.", "answer": "54", "responses": [REPLY, "It is seven, for he sold the rest."]},
     [BASE | {"gold": "54"}, {"user": ASK, "answer": "It is seven, for he sold the rest."}]),
    ("an answer that is a gold beside the reply", {"question": ASK, "answer": "54", "response":
        REPLY}, [BASE | {"gold": "54"}]),
]  # fmt: skip

PROMPTS: list[tuple[str, dict[str, Any], str | None, str | None]] = [
    ("an answer that is a gold", {"question": ASK, "answer": "54"}, "54", "math"),
    ("two keys beside a question", {"question": ASK, "answer": "54", "reference_answer": "54",
        "subject": "math"}, "54", "math"),
    ("GURU, LeetCode", {"prompt": [USER], "data_source": "codegen__leetcode2k", "reward_model":
        {"ground_truth": '{"functional": "def check(f):\\n    assert f(1) == 2\\n\\ncheck(f)"}'}},
     '{"functional": "def check(f):\\n    assert f(1) == 2\\n\\ncheck(f)"}', "code"),
    ("APPS", {"question": ASK, "solutions": '["print(1)"]', "starter_code": "",
              "input_output": '{"inputs": ["1"], "outputs": ["2"]}'},
     '{"inputs": ["1"], "outputs": ["2"]}', "code"),
    ("MBPP", {"task_id": 1, "text": ASK, "code": "def f(x): pass", "test_list": ["assert f(1)"],
              "test_setup_code": ""}, '{"test_list":["assert f(1)"]}', "code"),
    ("HumanEval", {"task_id": "0", "prompt": ASK, "canonical_solution": "  return x", "test":
        "def check(f): assert f(1)", "entry_point": "f"},
     '{"test":"def check(f): assert f(1)","entry_point":"f"}', "code"),
    ("IFEval", {"key": 1, "prompt": ASK, "instruction_id_list": ["punctuation:no_comma"],
                "kwargs": [{}]},
     '{"instruction_ids":["punctuation:no_comma"],"kwargs":[{}]}', "constraints"),
    ("SYNTHETIC-2, answers", {"prompt": ASK, "task_type": "reasoning_gym", "verification_info":
        '{"answer": "54"}'}, "54", "math"),
    ("RLVR-GSM", {"messages": [USER], "ground_truth": "54", "dataset": "gsm8k"}, "54", "math"),
    ("AceCode", {"id": "1", "question": ASK, "test_cases": ["assert f(1) == 2"], "inferences":
        [{"model_name": "q", "completions": ["def f(x): return 2"], "pass_rate": 1.0}]},
     '{"test_list":["assert f(1) == 2"]}', "code"),
    ("DeepCoder", {"problem": ASK, "solutions": ["print(2)"], "tests":
        '{"inputs": ["1"], "outputs": ["2"]}'},
     '{"tests":"{\\"inputs\\": [\\"1\\"], \\"outputs\\": [\\"2\\"]}"}', "code"),
    ("CodeContests", {"name": "A", "description": ASK, "public_tests": {"input": ["1"], "output":
        ["2"]}, "private_tests": {"input": [], "output": []}, "generated_tests": {"input": ["2"],
        "output": ["4"]}, "difficulty": 7, "solutions": {"language": [3], "solution": ["x"]}},
     '{"public_tests":{"input":["1"],"output":["2"]},"private_tests":{"input":[],"output":[]},'
     '"generated_tests":{"input":["2"],"output":["4"]}}', "code"),
    ("LiveCodeBench", {"question_content": ASK, "starter_code": "", "public_test_cases":
        '[{"input": "1", "output": "2", "testtype": "stdin"}]', "contest_date": "2024-01-01"},
     '{"public_test_cases":"[{\\"input\\": \\"1\\", \\"output\\": \\"2\\", '
     '\\"testtype\\": \\"stdin\\"}]"}', "code"),
    ("LeetCodeDataset", {"task_id": "f", "problem_description": ASK, "starter_code": "", "prompt":
        "import math", "completion": "def f(x): return 2", "entry_point": "f", "test":
        "def check(candidate):\n    assert candidate(1) == 2", "query": "x", "response": "y"},
     '{"test":"def check(candidate):\\n    assert candidate(1) == 2","entry_point":"f",'
     '"setup":"import math"}', "code"),
    ("verl, tests of a form that no verifier here reads", {"prompt": [USER], "data_source": "kk",
        "reward_model": {"ground_truth": {"statements": "x"}, "style": "rule"}},
     '{"statements":"x"}', None),
]  # fmt: skip

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("test cases in columns", {"question": ASK, "inputs": '["1"]', "outputs": '["2"]'},
     "outputs beside inputs"),
    ("steps of one reply", {"prompt": ASK, "completions": ["First.", "Then."],
                            "labels": [True, False]}, "completions beside labels"),
    ("transcripts of a preference set", {"chosen": f"\n\nHuman: {ASK}\n\nAssistant: 54",
        "rejected": f"\n\nHuman: {ASK}\n\nAssistant: 7"}, "chosen, rejected"),
    ("a rationale beside the response", {"prompt": ASK, "rationale": THINK, "response": "54"},
     "rationale may be the thinking"),
    ("a trace beside a question and its key", {"problem": ASK, "r1_solution": REPLY, "gold": "54"},
     "r1_solution"),
    ("a story beside its question", {"Body": "He has 84 rolls and sells 30.", "Question":
        "How many are left?", "Answer": "54.0"}, "Body"),
    ("tests of a form of their own", {"question": ASK, "unit_tests": {"a": 1}}, "unit_tests"),
    ("marked thinking under a name of its own", {"question": ASK, "qwq": REPLY},
     "qwq"),
    ("a whole text", {"question": ASK, "combined": REPLY, "domain": "x"}, "combined"),
    ("prose that may be the reply or the gold", {"question": ASK, "answer": "He has 84 rolls and "
        "sells thirty of them, so that 54 of the rolls are left over."}, "answer"),
    ("two models", {"problem": ASK, "o1_response": "54", "r1_response": "54"}, "o1_response"),
    ("a nested row", {"data": {"prompt": ASK, "response": REPLY}, "meta": {}}, "data, meta"),
    ("turns in columns", {"message_1": ASK, "message_2": "54"}, "message_1, message_2"),
    ("two written texts", {"instruction": ASK, "response": "It is 54.", "completion": "It is 7."},
     "both be the completion"),
    ("an outer list of turns", {"data": [[USER, {"role": "assistant", "content": "54"}]]}, "data"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "expected"), TRACES, ids=[t[0] for t in TRACES])
def test_what_is_read(
    tmp_path: Path, name: str, row: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    assert_read(tmp_path, row, expected)


@pytest.mark.parametrize(("name", "row", "gold", "verifier"), PROMPTS, ids=[t[0] for t in PROMPTS])
def test_prompts_and_their_golds(
    tmp_path: Path, name: str, row: dict[str, Any], gold: str | None, verifier: str | None
) -> None:
    ((prompt, source),) = file_source.prompts(str(write(tmp_path, [row], "jsonl")))
    assert (prompt.text, source.gold, source.verifier) == (ASK, gold, verifier)
    with pytest.raises(UsageError):
        import_rows(Store(tmp_path / "data"), [("x", 0, row)])


@pytest.mark.parametrize(("name", "row", "said"), REFUSED, ids=[t[0] for t in REFUSED])
def test_what_could_be_read_in_two_ways_is_refused(
    tmp_path: Path, name: str, row: dict[str, Any], said: str
) -> None:
    assert_refused(tmp_path, row, said)


def test_code_to_complete_stands_in_the_prompt(tmp_path: Path) -> None:
    """A test that calls a function by name is only fair where the prompt names it."""
    row = {"question": "Double n.", "starter_code": "def double(n):\n    ", "input_output":
           {"fn_name": "double", "inputs": [[2]], "outputs": [4]}}  # fmt: skip
    ((prompt, source),) = file_source.prompts(str(write(tmp_path, [row], "jsonl")))
    assert prompt.text.startswith("Double n.\n\nComplete this code:\n\n```python\ndef double(n):")
    assert source.verifier == "code"


def test_a_rendered_prompt_of_another_form_is_counted(tmp_path: Path) -> None:
    rows = [("x", 0, {"prompt": f"[INST] {ASK} [/INST]", "response": REPLY}),
            ("x", 1, {"prompt": ASK, "response": REPLY})]  # fmt: skip
    done = import_rows(Store(tmp_path / "data"), rows)
    assert (done.new, done.skipped) == (1, {"rendered_prompt": 1})
