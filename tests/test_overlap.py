"""Contamination in rows of any form: planted items are found, a shared instruction is no alarm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from factory.cli.main import main
from factory.errors import UsageError
from factory.rows.files import read_rows
from factory.stages.importing import import_rows
from factory.stages.overlap import benchmark_items
from factory.stages.select import Selection, select
from factory.store import Store

ITEMS = {
    "en": "A farmer keeps nine grey geese and seven brown hens in a yard; how many legs?",
    "de": "Ein Bauer hält neun graue Gänse und sieben braune Hennen im Hof; wie viele Beine?",
    "zh": "农夫在院子里养了九只灰鹅和七只棕色母鸡，请问院子里一共有多少条腿在走动？",
}
CLEAN = {
    "en": "A baker sells twelve round loaves before noon and twenty after; how many?",
    "de": "Ein Bäcker verkauft vormittags zwölf runde Brote und danach zwanzig; wie viele?",
    "zh": "面包师上午卖出十二个圆面包，下午又卖出二十个，请问他今天总共卖出多少个面包？",
}


def say(role: str, text: Any) -> dict[str, Any]:
    return {"role": role, "content": text}


SHAPES: dict[str, Any] = {
    "prompt text": lambda t: {"prompt": t, "completion": "It is so."},
    "chat prompt": lambda t: {"prompt": [say("user", t)], "answer": "It is so."},
    "messages": lambda t: {"source": "x", "text": "other",
                           "messages": [say("system", "Be kind."), say("user", t),
                                        say("assistant", "It is so.")]},
    "content parts": lambda t: {"messages": [say("user", [{"type": "text", "text": t}])]},
    "conversations": lambda t: {"conversations": [{"from": "human", "value": t},
                                                  {"from": "gpt", "value": "It is so."}]},
    "generations": lambda t: {"problem": "?", "generations": ["It is so.", f"Well: {t} So."]},
    "own trl export": lambda t: {"prompt": [say("user", t)], "trace_id": "0",
                                 "completion": [say("assistant", "It is so.")]},
    "messages as JSON text": lambda t: {"messages": orjson.dumps([say("user", t)]).decode()},
}  # fmt: skip


def write(path: Path, rows: list[Any]) -> str:
    path.write_bytes(b"\n".join(orjson.dumps(row) for row in rows) + b"\n")
    return str(path)


def decontaminated(tmp_path: Path, rows: list[Any], bench: list[Any], *more: str) -> list[Any]:
    source, out = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    against = write(tmp_path / "bench.jsonl", bench)
    assert main(["decontaminate", source, "--against", against, "--out", str(out), *more]) == 0
    return [row["is_contaminated"] for row in read_rows(str(out)) if isinstance(row, dict)]


@pytest.mark.parametrize("language", ITEMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_planted_item_is_found_in_every_shape(tmp_path: Path, shape: str, language: str) -> None:
    make = SHAPES[shape]
    rows = [make(CLEAN[language]), make(ITEMS[language]), make(f"Say: {ITEMS[language]}")]
    benches = ({"problem": ITEMS[language]}, {"messages": [say("user", ITEMS[language])]},
               {"Question": ITEMS[language]}, SHAPES["conversations"](ITEMS[language]))  # fmt: skip
    for bench in benches:
        assert decontaminated(tmp_path, rows, [bench]) == [False, True, True]
    texts = [{"text": next(iter(ITEMS.values())), "id": 1}]
    assert decontaminated(tmp_path, texts, [{"problem": ITEMS["en"]}], "--column", "text") == [True]


OWN = "Write down every single step of your work and close with the result on a line of its own."
KNOWN = "Please reason step by step, and put your final answer within \\boxed{}."
NUMBERS = [3, 14, 15, 92, 65, 35, 89, 79]


def begin(n: int) -> str:
    return ("How", "Say: how", "Tell me how", "Find out how")[n % 4]


@pytest.mark.parametrize("instruction", [OWN, KNOWN])
@pytest.mark.parametrize("form", ["{q} {i}", "{i}\n\n{q}", "{i} {q}\n{i}"])
@pytest.mark.parametrize("shape", ["prompt text", "chat prompt", "conversations"])
def test_a_shared_instruction_is_no_alarm(
    tmp_path: Path, instruction: str, form: str, shape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(question: str) -> Any:
        return SHAPES[shape](form.format(q=question, i=instruction))

    rows = [asked(f"{begin(n)} much is {n} and {n + 1}?") for n in NUMBERS]
    bench = [asked(f"{begin(n)} long are {n} feet and {n} inches?") for n in NUMBERS]
    assert decontaminated(tmp_path, rows, bench) == [False] * 8
    assert "set aside" in capsys.readouterr().err, "and that is said"
    # An item is found all the same: the short one by its whole text, with or without instruction.
    planted = [*rows, bench[3], SHAPES[shape](f"{begin(92)} long are 92 feet and 92 inches?")]
    assert decontaminated(tmp_path, planted, bench) == [False] * 8 + [True, True]
    bare = [SHAPES[shape](f"{begin(n)} long are {n} feet and {n} inches?") for n in NUMBERS]
    assert decontaminated(tmp_path, [*rows, bench[3]], bare) == [False] * 8 + [True]


def test_an_instruction_can_be_given(tmp_path: Path) -> None:
    rows = [{"prompt": f"How much is two and two? {OWN}"}]
    bench = [{"prompt": f"How long is a foot? {OWN}"}]
    assert decontaminated(tmp_path, rows, bench) == [True], "two rows tell no instruction"
    given = tmp_path / "ignore.txt"
    given.write_text(f"Another one that is long enough.\n\n{OWN}\n")
    assert decontaminated(tmp_path, rows, bench, "--ignore-text", str(given)) == [False]


def test_an_item_that_many_rows_copy_is_no_instruction(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"{ITEMS['en']}", "completion": f"{ITEMS['en']} It is {n}."} for n in NUMBERS
    ]
    bench = [{"problem": ITEMS["en"]}, {"problem": CLEAN["en"]}]
    assert decontaminated(tmp_path, rows, bench) == [True] * 8


def test_columns_of_a_benchmark_are_mapped_and_odd_rows_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, odd = [{"prompt": ITEMS["en"]}], {"Aufgabe": {"text": ITEMS["en"]}, "Loesung": "32"}
    path = "prompt=Aufgabe.text"
    assert decontaminated(tmp_path, rows, [odd], "--against-map", path) == [True]
    source = str(tmp_path / "in.jsonl")
    out = ["--out", str(tmp_path / "o.jsonl")]
    array = tmp_path / "bench.json"
    array.write_bytes(orjson.dumps([{"problem": ITEMS["en"]}, {"problem": "Other?"}]))
    assert main(["decontaminate", source, "--against", str(array), *out]) == 0
    bad = tmp_path / "bad.jsonl"
    for lines, says in [
        ('{"problem": "a"}\n{"problem": "b"\n', "line 2"),
        ('{"problem": "a"}\n[1]\n', "line 2"),
        ('{"problem": "a"}\n{"Aufgabe": "b"}\n', "row 2 has no prompt"),
        ("", "no prompt in benchmark"),
    ]:
        bad.write_text(lines)
        with pytest.raises(UsageError, match=says):
            benchmark_items(str(bad))
        assert main(["decontaminate", source, "--against", str(bad), *out]) == 2
    for more, says in [(["--against-map", "prompt=Nope"], "no column 'Nope'"),
                       (["--against-map", "x=problem"], "nothing reads x"),
                       (["--column", "nope"], "no column 'nope'")]:  # fmt: skip
        capsys.readouterr()
        assert main(["decontaminate", source, "--against", str(array), *out, *more]) == 2
        assert says in capsys.readouterr().err


@pytest.mark.parametrize("shape", SHAPES)
def test_copies_in_every_shape_are_duplicates(tmp_path: Path, shape: str) -> None:
    texts = [ITEMS["en"], CLEAN["en"], ITEMS["en"]]
    source = write(tmp_path / "in.jsonl", [SHAPES[shape](text) for text in texts])
    out = tmp_path / "out.jsonl"
    column = {"prompt text": "prompt", "chat prompt": "prompt", "generations": "generations",
              "own trl export": "prompt"}.get(shape, "text")  # fmt: skip
    if shape == "messages":
        column = "messages"
    assert main(["dedup", source, "--out", str(out), "--column", column]) == 0
    found = [row["is_duplicate"] for row in read_rows(str(out)) if isinstance(row, dict)]
    assert found == [False, False, True]


def test_a_selection_looks_at_all_messages_of_a_prompt(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    turns = [say("user", ITEMS["en"]), say("assistant", "32."), say("user", "Why?")]
    rows = [{"prompt": turns, "completion": "So."}, {"prompt": "Why?", "completion": "Because."}]
    import_rows(store, (("rows", i, row) for i, row in enumerate(rows)), model="m")
    bench = write(tmp_path / "bench.jsonl", [{"Q": ITEMS["en"]}])
    values = {"decontaminate": {"against": [bench], "mapping": {"prompt": "Q"}}}
    assert select(store, Selection.make(values)).keys.height == 1
