"""Shapes: each public layout is read as written, in every file form; the rest is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from factory import dialects
from factory.errors import UsageError
from factory.rows.files import write_rows
from factory.sources import files as file_source
from factory.sources.columns import Wishes, reading
from factory.stages.importing import import_rows
from factory.store import Store

SHAPES = Path(__file__).parent.parent.parent / "shared" / "data" / "shapes"
NAMES = sorted(p.stem for p in SHAPES.glob("*.jsonl"))
FORMS = ("jsonl", "json", "parquet")

THINK = "Seven by twelve is 84."
REPLY = f"<think>\n{THINK}\n</think>\n\nIt is \\boxed{{54}}."
ASK = "How many rolls are left?"
USER = {"role": "user", "content": ASK}


def write(path: Path, rows: Sequence[dict[str, Any]], form: str) -> Path:
    out = path / f"rows.{form}"
    if form == "json":
        out.write_text(json.dumps(rows, indent=1))
    else:
        write_rows(str(out), [rows])
    return out


def imported(path: Path, store: Store, **options: Any) -> list[dict[str, Any]]:
    """The traces of a file after an import, in the file's order, in the words of the shapes."""
    done = import_rows(store, file_source.rows(str(path)), **options)
    frame = (
        store.table("traces").read()
        .join(store.table("prompts").read().select("prompt_id", "messages", "text"), on="prompt_id")
        .join(store.table("prompt_sources").read().drop("run_id", "meta"), on="prompt_id")
    )  # fmt: skip
    by_id = {row["trace_id"]: row for row in frame.iter_rows(named=True)}
    return [as_expected(by_id[trace_id]) for trace_id in done.trace_ids]


def as_expected(row: dict[str, Any]) -> dict[str, Any]:
    messages = json.loads(row["messages"])
    halves = dialects.split_reasoning(row["completion"])
    return {
        **row, "messages": messages, "user": row["text"], "thinking": halves.reasoning.strip(),
        "answer": halves.answer.strip(), "meta": json.loads(row["meta"]),
        "system": next((m["content"] for m in messages if m["role"] == "system"), None),
    }  # fmt: skip


def check(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        if name == "user_contains":
            assert all(part in found["user"] for part in value), found["user"]
        elif name == "clean_messages":
            assert all(set(m) == {"role", "content"} for m in found["messages"])
        else:
            assert found[name] == value, name


def assert_read(tmp_path: Path, row: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    found = imported(write(tmp_path, [row], "jsonl"), Store(tmp_path / "data"))
    assert len(found) == len(expected)
    for one, wanted in zip(found, expected, strict=True):
        check(one, wanted)


def assert_refused(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    store = Store(tmp_path / "data")
    with pytest.raises(UsageError, match=said) as error:
        import_rows(store, [("x", i, row) for i in range(3)])
    assert "--map" in str(error.value)
    assert store.tables() == []
    with pytest.raises(UsageError):
        list(file_source.prompts(str(write(tmp_path, [row], "jsonl"))))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES or ["none"])
def test_every_shared_shape_gives_every_expected_row(tmp_path: Path, name: str, form: str) -> None:
    if not NAMES:
        pytest.skip("the shapes of public data sets (../shared/data/shapes) are not here")
    rows = [json.loads(x) for x in (SHAPES / f"{name}.jsonl").read_text("utf-8").splitlines()]
    expected = json.loads((SHAPES / f"{name}.expect.json").read_text("utf-8"))
    path = write(tmp_path, rows, form)
    if expected["kind"] == "traces":
        found = imported(path, Store(tmp_path / "data"))
    else:
        found = [
            {"user": p.text, "gold": s.gold, "verifier": s.verifier}
            for p, s in file_source.prompts(str(path))
        ]
    assert len(found) == len(expected["rows"])
    for one, wanted in zip(found, expected["rows"], strict=True):
        check(one, wanted)


OPTIONS = ("Which planet is the largest?", ["Mars", "Jupiter", "Venus"])
CHAT = [USER, {"role": "assistant", "content": REPLY}]
SHAREGPT = [{"from": "human", "value": ASK}, {"from": "gpt", "value": REPLY}]
BASE: dict[str, Any] = {"user": ASK, "thinking": THINK, "answer": "It is \\boxed{54}."}
TRACES: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
    ("OpenThoughts2", {"conversations": SHAREGPT, "question": ASK, "source": "x", "id": 3},
     [BASE | {"item": "3"}]),
    ("OpenThoughts3", {"difficulty": 7, "source": "x", "domain": "math",
                       "conversations": SHAREGPT}, [BASE | {"domain": "math", "level": "7"}]),
    ("OpenThoughts metadata", {"problem": ASK, "deepseek_reasoning": THINK,
        "deepseek_solution": "It is \\boxed{54}.", "ground_truth_solution": "x", "domain": "math",
        "source": "y", "test_cases": None, "starter_code": None}, [BASE | {"gold": None}]),
    ("s1K", {"solution": "54", "question": ASK, "cot_type": "math", "source_type": "x",
             "metadata": "{}", "cot": None, "thinking_trajectories": [THINK],
             "attempt": "It is \\boxed{54}."}, [BASE | {"gold": "54"}]),
    ("Light-R1", {"conversations": [{"from": "user", "value": ASK},
                                    {"from": "assistant", "value": REPLY}]}, [BASE]),
    ("NuminaMath-CoT", {"source": "x", "problem": ASK, "solution": "So \\boxed{54}.",
        "messages": [USER, {"role": "assistant", "content": "So \\boxed{54}."}]},
     [{"user": ASK, "completion": "So \\boxed{54}.", "gold": "54"}]),
    ("Dolphin nonreasoning", {"messages": [USER, {"role": "assistant", "content": "54"}],
        "score": 3}, [{"user": ASK, "completion": "54", "gold": None}]),
    ("Llama-Nemotron", {"input": [USER], "output": REPLY, "category": "math", "license": "cc",
        "reasoning": "on", "generator": "DeepSeek-R1", "used_in_training": "yes",
        "version": "v1", "system_prompt": "detailed thinking on"},
     [BASE | {"system": "detailed thinking on", "model": "DeepSeek-R1"}]),
    ("Nemotron v2, reasoning off", {"uuid": "u", "license": "cc", "generator": "Q", "version": "v2",
        "category": "chat", "reasoning": "off", "metadata": "{}", "messages": [
            {"role": "system", "content": "", "tool_calls": []}, {**USER, "tool_calls": []},
            {"role": "assistant", "content": "54", "tool_calls": []}]},
     [{"user": ASK, "thinking": "", "answer": "54", "clean_messages": True, "system": None}]),
    ("SYNTHETIC-1-SFT", {"response_id": "r", "problem_id": "p", "task_type": "verifiable_math",
        "score": 1.0, "messages": CHAT}, [BASE | {"item": "p"}]),
    ("KodCode SFT", {"style": "instruct", "subset": "Leetcode", "question_id": "L1",
        "question": ASK, "solution": "def f(): pass", "test": "def test_f():\n    assert f() == 1",
        "conversations": SHAREGPT}, [BASE | {"verifier": "code"}]),
    ("OpenCodeReasoning", {"id": "1", "input": ASK, "output": REPLY, "source": "atcoder",
        "license": "cc", "dataset": "apps", "split": "train", "difficulty": "EASY",
        "solution": "print(1)"}, [BASE | {"split": "train", "level": "EASY", "gold": None}]),
    ("OpenCodeReasoning-2", {"id": "1", "question_id": "q", "question": ASK, "r1_generation": REPLY,
        "qwq_critique": "good", "solution": "print(1)", "judgement": "right"},
     [BASE | {"model": "DeepSeek-R1"}]),
    ("OpenMathReasoning", {"expected_answer": "54", "problem_type": "has_answer_extracted",
        "problem_source": "aops", "generation_model": "DeepSeek-R1", "pass_rate_72b_tir": "0.9",
        "problem": ASK, "generated_solution": REPLY, "inference_mode": "cot"},
     [BASE | {"gold": "54", "model": "DeepSeek-R1"}]),
    ("Mixture-of-Thoughts", {"messages": CHAT, "num_tokens": 40, "source": "open-r1"}, [BASE]),
    ("R1-Distill-SFT", {"problem": ASK, "solution": "We get $\\boxed{54}$.", "source": "x",
        "reannotated_assistant_content": REPLY, "reannotated_messages": CHAT, "verified": None},
     [BASE | {"gold": "54"}]),
    ("AceReason SFT", {"category": "math", "source": "x", "input": ASK, "output": REPLY}, [BASE]),
    ("AceMath-Instruct", {"messages": CHAT, "answer": "54"}, [BASE | {"gold": "54"}]),
    ("AM 40M", {"question": ASK, "answer": REPLY, "question_source": "x", "model_name": "R1",
                "ground_truth": "54", "verify_score": 1}, [BASE | {"gold": "54", "model": "R1"}]),
    ("distilabel", {"instruction": ASK, "generation": REPLY, "model_name": "R1",
                    "distilabel_metadata": {"raw": "x"}}, [BASE | {"model": "R1"}]),
    ("Curator", {"response_message": "It is \\boxed{54}.", "finish_reason": "stop",
        "generic_request": {"model": "R1", "messages": [USER], "original_row_idx": 4},
        "raw_response": {"choices": [{"message": {"content": "It is \\boxed{54}.",
                                                  "reasoning_content": THINK}}]}},
     [BASE | {"model": "R1", "finish_reason": "stop", "item": "4"}]),
    ("Congliu SFT", {"instruction": ASK, "input": "", "output": REPLY, "repo_name": "x",
                     "score": 9}, [BASE]),
    ("ShareGPT roles", {"conversations": [{"from": "system", "value": "Be brief."},
        {"from": "human", "value": ASK}, {"from": "chatgpt", "value": REPLY}]},
     [BASE | {"system": "Be brief."}]),
    ("reasoning_content", {"messages": [USER, {"role": "assistant",
        "content": "It is \\boxed{54}.", "reasoning_content": THINK}]}, [BASE]),
    ("content parts", {"messages": [{"role": "user", "content": [{"type": "text", "text": ASK}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": THINK},
                                          {"type": "text", "text": "It is \\boxed{54}."}]}],
        "answer": "54"}, [BASE | {"gold": "54"}]),
    ("messages as JSON text", {"messages": json.dumps(CHAT)}, [BASE]),
    ("messages as lists under keys", {"messages": {"role": ["user", "assistant"],
                                                   "content": [ASK, REPLY]}}, [BASE]),
    ("thinking of history is not sent", {"messages": [USER, {"role": "assistant",
        "content": "<think>a</think>b"}, USER, CHAT[1]]},
     [BASE | {"messages": [USER, {"role": "assistant", "content": "b"}, USER]}]),
    ("tools are kept", {"messages": [USER, {"role": "assistant", "content": None,
        "tool_calls": [{"id": "1"}]}, {"role": "tool", "content": "54", "tool_call_id": "1",
        "weight": 0}, CHAT[1]]},
     [{"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]},
                    {"role": "tool", "content": "54", "tool_call_id": "1"}]}]),
    ("preference pair", {"prompt": ASK, "chosen": REPLY, "rejected": "It is 7."},
     [BASE | {"meta": {"column": "chosen", "item": "0"}}, {"user": ASK, "completion": "It is 7."}]),
    ("preference conversations", {"chosen": CHAT, "rejected": [USER, {"role": "assistant",
        "content": "It is 7."}]}, [BASE, {"user": ASK, "completion": "It is 7."}]),
    ("UltraFeedback", {"source": "x", "instruction": ASK, "models": ["a", "b"], "completions": [
        {"model": "a", "response": REPLY, "overall_score": 7}, {"model": "b", "response": "7"}]},
     [BASE | {"model": "a"}, {"completion": "7", "model": "b"}]),
    ("vLLM outputs", {"prompt": ASK, "outputs": [{"text": REPLY, "finish_reason": "stop"}]},
     [BASE | {"finish_reason": "stop"}]),
    ("choices of an API", {"prompt": ASK, "response": {"message": {"content": "It is \\boxed{54}.",
        "reasoning_content": THINK}, "finish_reason": "length"}},
     [BASE | {"finish_reason": "length"}]),
    ("lists in lists", {"problem": ASK, "answer": "54", "generations": [[REPLY]]},
     [BASE | {"gold": "54"}]),
    ("generations as JSON text", {"problem": ASK, "generations": json.dumps([REPLY, "7"])},
     [BASE, {"completion": "7"}]),
    ("text and null", {"problem": ASK, "answer": "54", "generations": [None, REPLY]},
     [BASE | {"gold": "54"}]),
    ("wrapped twice", {"prompt": ASK, "reasoning": f"<think>{THINK}</think>",
                       "answer": "It is \\boxed{54}."}, [BASE]),
    ("other dialect", {"prompt": ASK, "response": f"[THINK]{THINK}[/THINK]It is \\boxed{{54}}."},
     [BASE]),
    ("special tokens", {"prompt": ASK, "response": REPLY + "<|im_end|>\n"}, [BASE]),
    ("long solution, short answer", {"question": ASK, "solution": REPLY, "answer": "54"},
     [BASE | {"gold": "54"}]),
    ("reply in answer, marked", {"question": ASK, "answer": REPLY}, [BASE | {"gold": None}]),
    ("verl, our export", {"data_source": "x", "prompt": [USER], "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "54"},
        "extra_info": {"index": "t", "split": "train", "completion": REPLY}},
     [BASE | {"gold": "54", "split": "train"}]),
    ("Dolly", {"instruction": ASK, "context": "A baker fills 7 trays.", "response": REPLY,
               "category": "qa"}, [BASE | {"user": "A baker fills 7 trays.\n\n" + ASK}]),
    ("options of a choice beside a reply", {"question": OPTIONS[0], "options": OPTIONS[1],
        "gold": "B", "response": REPLY},
     [{"user": OPTIONS[0] + "\n\nA. Mars\nB. Jupiter\nC. Venus", "gold": "B",
       "verifier": "choice"}]),
    ("choices of completions", {"prompt": ASK, "outputs": [
        {"text": REPLY, "finish_reason": "stop"}, {"text": "7", "finish_reason": "length"}]},
     [BASE | {"finish_reason": "stop"}, {"user": ASK, "finish_reason": "length"}]),
    ("language of a program", {"prompt": ASK, "response": REPLY, "language": "python"},
     [BASE | {"language": None}]),
    ("options of nothing", {"prompt": ASK, "response": REPLY, "gold": "54",
                            "options": "{not json"}, [BASE | {"gold": "54"}]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "expected"), TRACES, ids=[t[0] for t in TRACES])
def test_other_shapes_of_traces(
    tmp_path: Path, name: str, row: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    assert_read(tmp_path, row, expected)


PROMPTS: list[tuple[str, dict[str, Any], str | None, str | None]] = [
    ("NuminaMath-1.5", {"problem": ASK, "solution": "So 54.", "answer": "54", "source": "x",
        "problem_is_valid": "Yes", "solution_is_valid": "Yes"}, "54", "math"),
    ("DeepScaleR", {"problem": ASK, "answer": "54", "solution": "So it is 54."}, "54", "math"),
    ("Big-Math", {"problem": ASK, "answer": "54", "source": "x", "domain": ["a"],
                  "llama8b_solve_rate": 0.5}, "54", "math"),
    ("ORZ", {"0": {"from": "human", "value": ASK},
             "1": {"from": "assistant", "ground_truth": {"value": "54"}}}, "54", "math"),
    ("MATH", {"problem": ASK, "level": "Level 3", "type": "Algebra",
              "solution": "So $\\boxed{54}$."}, "54", "math"),
    ("MATH-500", {"problem": ASK, "solution": "So $54$.", "answer": "54", "subject": "Algebra",
                  "level": 2, "unique_id": "a/1"}, "54", "math"),
    ("GSM8K", {"question": ASK, "answer": "84 - 30 = <<84-30=54>>54\n#### 54"}, "54", "math"),
    ("AIME 2024", {"ID": "2024-I-1", "Problem": ASK, "Solution": "So 54.", "Answer": 54}, "54",
     "math"),
    ("DAPO processed", {"prompt": ASK, "solution": "54", "data_source": "x", "source_prompt":
        [USER], "ability": "MATH", "reward_model": {"ground_truth": "54", "style": "x"},
        "extra_info": {"index": "1"}}, "54", "math"),
    ("guru", {"data_source": "math", "prompt": [USER], "ability": "math", "apply_chat_template":
        True, "reward_model": {"ground_truth": "54", "style": "rule"}, "extra_info":
        {"index": 1}, "qwen2.5_7b_pass_rate": 0.5}, "54", "math"),
    ("verl GSM8K: the written answer is no completion", {"data_source": "openai/gsm8k", "prompt":
        [USER], "ability": "math", "reward_model": {"style": "rule", "ground_truth": "54"},
        "extra_info": {"split": "train", "index": 0, "answer": "so\n#### 54", "question": ASK}},
     "54", "math"),
    ("KodCode", {"question": ASK, "solution": "def f(): pass", "test": "def test_f():\n  pass",
                 "subset": "x"}, "def test_f():\n  pass", "code"),
    ("medical verifiable", {"Open-ended Verifiable Question": ASK, "Ground-True Answer":
        "Scurvy"}, "Scurvy", "math"),
    ("natural_reasoning, prose", {"question": ASK, "reference_answer": "Because the light of the "
        "sun is scattered by the small molecules that the air is made of."},
     "Because the light of the sun is scattered by the small molecules that the air is made of.",
     None),
    ("MMLU", {"question": OPTIONS[0], "subject": "x", "choices": OPTIONS[1], "answer": 1}, "B",
     "choice"),
    ("ARC", {"id": "a", "question": OPTIONS[0], "choices": {"text": OPTIONS[1], "label":
        ["1", "2", "3"]}, "answerKey": "2"}, "B", "choice"),
    ("C-Eval", {"id": 1, "question": OPTIONS[0], "A": "Mars", "B": "Jupiter", "C": "Venus",
                "D": "Earth", "answer": "B"}, "B", "choice"),
    ("MedMCQA", {"question": OPTIONS[0], "opa": "Mars", "opb": "Jupiter", "opc": "Venus",
                 "opd": "Earth", "cop": 1}, "B", "choice"),
    ("the text of an option", {"question": OPTIONS[0], "options": OPTIONS[1], "answer":
        "Jupiter"}, "B", "choice"),
    ("batch requests", {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions",
                        "body": {"model": "m", "messages": [USER]}}, None, None),
    ("bare", {"prompt": ASK}, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "gold", "verifier"), PROMPTS, ids=[t[0] for t in PROMPTS])
def test_other_shapes_of_prompts(
    tmp_path: Path, name: str, row: dict[str, Any], gold: str | None, verifier: str | None
) -> None:
    ((prompt, source),) = file_source.prompts(str(write(tmp_path, [row], "jsonl")))
    assert (source.gold, source.verifier) == (gold, verifier)
    assert prompt.text.startswith(ASK if "planet" not in str(row) else OPTIONS[0])
    if verifier == "choice":
        assert "\n\nA. Mars\nB. Jupiter\nC. Venus" in prompt.text
    with pytest.raises(UsageError):  # no completion is made of a gold or a written solution
        import_rows(Store(tmp_path / "data"), [("x", 0, row)])


UNKNOWN: list[tuple[str, dict[str, Any], str]] = [
    ("other words", {"frage": ASK, "antwort": REPLY}, "frage, antwort"),
    ("an answer that may be either", {"question": ASK, "answer": "He sells thirty of the rolls, so "
        "that fifty-four are left over."}, "question, answer"),
    ("a rationale beside a key", {"question": ASK, "rationale": "Seven by twelve.", "target":
        "54"}, "rationale"),
    ("two completions", {"prompt": ASK, "response": "It is 54.", "output": "It is 7."},
     "both be the completion"),
    ("a table", {"name": "x", "age": 3, "city": "y"}, "name, age, city"),
    ("texts of a corpus", {"text": "Once upon a time.", "url": "x"}, "text, url"),
    ("a pair of sentences", {"sentence1": "A.", "sentence2": "B.", "label": 1}, "sentence1"),
    ("a benchmark's spans", {"context": "x", "question": ASK, "answers": {"text": ["54"],
        "answer_start": [3]}}, "answers"),
    ("tokens", {"input_ids": [1, 2], "labels": [1, 2]}, "input_ids, labels"),
    ("a key under another name", {"question": ASK, "solution_key": "54"}, "solution_key"),
    ("a context that a shape would lose", {"question": ASK, "passage": "A baker.", "response":
        REPLY}, "passage may belong to the prompt"),
    ("an image", {"question": "What is this?", "image": "a.png", "answer": "54"}, "image"),
    ("two replies to compare", {"prompt": ASK, "response_a": "x", "response_b": "y", "winner":
        "a"}, "response_a"),
    ("inputs and targets", {"inputs": ASK, "targets": REPLY}, "inputs, targets"),
    ("a wrapper", {"version": 1, "data": [{"prompt": "a"}]}, "version, data"),
    ("a translation", {"translation": {"en": "a", "de": "b"}}, "translation"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "said"), UNKNOWN, ids=[t[0] for t in UNKNOWN])
def test_what_no_shape_explains_is_refused_with_its_columns(
    tmp_path: Path, name: str, row: dict[str, Any], said: str
) -> None:
    assert_refused(tmp_path, row, said)


MAPS: list[tuple[dict[str, Any], dict[str, str], dict[str, Any]]] = [
    ({"frage": ASK, "antwort": REPLY}, {"prompt": "frage", "completion": "antwort"}, BASE),
    ({"q": {"text": ASK}, "out": [{"t": "x"}, {"t": REPLY}], "k": '{"v": "54"}'},
     {"prompt": "q.text", "completion": "out[-1].t", "gold": "k.v", "model": "=R1"},
     BASE | {"gold": "54", "model": "R1"}),
    ({"instruction": "How many rolls", "extra": "are left?", "a": THINK,
      "b": "It is \\boxed{54}."},
     {"prompt": "{instruction} {extra}", "thinking": "a", "answer": "b"}, BASE),
    ({"problem": ASK, "answer": "54", "solution": REPLY}, {"completion": "solution"},
     BASE | {"gold": "54"}),
    ({"question": "are left?", "passage": "How many rolls", "response": REPLY, "gold": "54"},
     {"prompt": "{passage} {question}"}, BASE | {"gold": "54"}),
    ({"prompt": ASK, "response": "7", "output": REPLY}, {"completion": "output"}, BASE),
    ({"question": ASK, "answer": REPLY.replace("<think>", "").replace("</think>", "")},
     {"prompt": "question", "completion": "answer"}, {"user": ASK, "gold": None}),
]  # fmt: skip


@pytest.mark.parametrize(("row", "mapping", "expected"), MAPS)
def test_a_mapping_reads_paths_templates_and_constants(
    tmp_path: Path, row: dict[str, Any], mapping: dict[str, str], expected: dict[str, Any]
) -> None:
    (found,) = imported(write(tmp_path, [row], "jsonl"), Store(tmp_path / "data"), mapping=mapping)
    check(found, expected)


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"completion": "nope"}, "no column nope.*it has prompt, output, reward"),
        ({"gold": "lable"}, "no column lable"),
        ({"foo": "output"}, "nothing reads foo.*completion"),
        ({"gold": "reward.truth"}, "nothing stands there.*ground_truth"),
        ({"prompt": "{prompt} {more}"}, "no column more"),
    ],
)
def test_unknown_names_and_columns_of_a_mapping_are_refused(
    tmp_path: Path, mapping: dict[str, str], said: str
) -> None:
    row = {"prompt": ASK, "output": REPLY, "reward": {"ground_truth": "54"}}
    with pytest.raises(UsageError, match=said):
        import_rows(Store(tmp_path / "data"), [("x", 0, row)], mapping=mapping)
    with pytest.raises(UsageError, match=said):
        list(file_source.prompts(str(write(tmp_path, [row], "jsonl")), mapping=mapping))


def test_a_shape_of_ones_own_is_a_file(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(
        "from factory.sources.shape import Shape\n"
        "SHAPE = Shape(name='mine', has=('frage',), prompt='frage', completion='antwort')\n"
    )
    row = {"frage": ASK, "antwort": REPLY}
    (found,) = imported(write(tmp_path, [row], "jsonl"), Store(tmp_path / "data"), shape=str(own))
    check(found, BASE)
    with pytest.raises(UsageError, match="unknown shape 'nope'"):
        import_rows(Store(tmp_path / "data"), [("x", 0, row)], shape="nope")


def test_a_file_of_two_shapes_is_read_row_by_row(tmp_path: Path) -> None:
    rows = [{"prompt": ASK, "response": REPLY}] * 3 + [{"conversations": SHAREGPT}] * 2
    done = import_rows(Store(tmp_path / "data"), [("x", i, r) for i, r in enumerate(rows)])
    assert (done.traces, done.skipped) == (5, {})


def test_metadata_is_kept_for_each_completion(tmp_path: Path) -> None:
    row = {"problem": ASK, "generations": [REPLY, "7"], "score": [1, 0], "license": "mit"}
    first, second = imported(write(tmp_path, [row], "jsonl"), Store(tmp_path / "data"))
    assert (first["meta"]["score"], first["meta"]["license"]) == (1, "mit")
    assert second["meta"]["score"] == 0


@pytest.mark.parametrize("ending", ["csv", "tsv", "arrow", "folder", "saved", "pattern", "object"])
def test_other_file_forms(tmp_path: Path, ending: str) -> None:
    rows = [{"prompt": f"{i}. {ASK}", "response": REPLY, "gold": "54"} for i in range(3)]
    frame = pl.DataFrame(rows)
    path = tmp_path / f"rows.{ending}"
    if ending in ("csv", "tsv"):
        frame.write_csv(path, separator="\t" if ending == "tsv" else ",")
    elif ending == "arrow":
        frame.write_ipc(path)
    elif ending == "object":
        path = tmp_path / "rows.json"
        path.write_text("\n".join(json.dumps(r, indent=2) for r in rows))
    elif ending == "saved":
        datasets = pytest.importorskip("datasets")
        datasets.Dataset.from_list(rows).save_to_disk(str(path))
    else:
        path = tmp_path / "rows"
        path.mkdir()
        for i, row in enumerate(rows):
            (path / f"{i}.jsonl").write_text(json.dumps(row))
        path = path / "*.jsonl" if ending == "pattern" else path
    store = Store(tmp_path / "data")
    done = import_rows(store, file_source.rows(str(path)))
    assert (done.new, done.with_gold, done.skipped) == (3, 3, {})
    assert store.table("traces").read()["completion"].to_list() == [REPLY] * 3


def test_exact_copies_of_a_prompt_are_one(tmp_path: Path) -> None:
    rows = [{"prompt": ASK, "gold": "54"}] * 3 + [{"prompt": ASK, "gold": "55"}]
    found = list(file_source.prompts(str(write(tmp_path, rows, "jsonl"))))
    assert [s.gold for _, s in found] == ["54", "55"]


def test_the_answers_of_a_reader_name_the_shape(tmp_path: Path) -> None:
    row = {"problem": ASK, "generations": [REPLY], "answer": "54"}
    ((reader, _, _, found),) = reading([("x", 0, row)], Wishes())
    assert reader.shape.name == "OpenR1-Math"
    assert reader.reads["completion"] == ("generations",)
    assert found.replies[0].text == REPLY


def test_results_of_a_batch_are_joined_with_their_requests(tmp_path: Path) -> None:
    request = {"custom_id": "7", "method": "POST", "body": {"model": "m", "messages": [USER]}}
    result = {"id": "b", "custom_id": "7", "error": None, "response": {"status_code": 200, "body": {
        "model": "R1", "choices": [{"finish_reason": "stop", "message": {"role": "assistant",
            "content": "It is \\boxed{54}.", "reasoning_content": THINK}}]}}}  # fmt: skip
    asked = write(tmp_path, [request], "jsonl").rename(tmp_path / "asked.jsonl")
    made = write(tmp_path, [result], "jsonl")
    store = Store(tmp_path / "data")
    done = import_rows(store, file_source.rows([str(asked), str(made)]))
    (found,) = store.table("traces").read().iter_rows(named=True)
    assert (done.new, done.skipped, found["model"], found["finish_reason"]) == (1, {}, "R1", "stop")
    assert found["completion"] == dialects.join_reasoning(THINK, "It is \\boxed{54}.")
    with pytest.raises(UsageError, match="custom_id"):  # results alone have no prompt
        import_rows(Store(tmp_path / "alone"), file_source.rows(str(made)))


def test_columns_are_looked_through_once_however_many_they_are() -> None:
    row = {f"k{i}": 1 for i in range(10_000)} | {"Prompt": ASK, "completion": REPLY}
    begun = time.process_time()
    ((_, _, _, found),) = reading([("wide", 0, row)], Wishes())
    # Folding every name for every path of every shape took minutes.
    assert time.process_time() - begun < 3
    assert [r.text for r in found.replies] == [REPLY]
