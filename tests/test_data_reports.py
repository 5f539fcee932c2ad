"""Every case of the shared reports on files, servers and sets is held, here or by another test.

The cases are told in words in ``shared/data/data_reports.jsonl``. Each has a check here, or the
name of the test that holds it, or a reason why it does not hold.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from factory.cli.main import main
from factory.errors import UsageError
from factory.rows.files import read_rows
from factory.sources import files as file_source
from factory.stages.export import export
from factory.stages.importing import import_rows
from factory.stages.release import release
from factory.stages.select import Selection, select
from factory.stages.verify import verify
from factory.store import Store
from tests.test_shapes import ASK, REPLY, USER, imported

REPORTS = Path(__file__).parent.parent.parent / "shared" / "data" / "data_reports.jsonl"
HERE = Path(__file__).parent
REPLIED = {"role": "assistant", "content": REPLY}
PAIR = {"prompt": ASK, "response": REPLY}


class Case:
    """What a check has at hand: a folder, and what the terminal said."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys, self._n = folder, capsys, 0

    def file(self, rows: Any, name: str = "rows.jsonl") -> Path:
        path = self.folder / name
        if isinstance(rows, bytes):
            path.write_bytes(rows)
        elif name.endswith(".json"):
            path.write_bytes(orjson.dumps(rows))
        else:
            path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        return path

    def store(self) -> Store:
        self._n += 1
        return Store(self.folder / f"store-{self._n}")

    def read(self, *rows: Any, **options: Any) -> list[dict[str, Any]]:
        return imported(self.file(rows), self.store(), **options)

    def run(self, *argv: str) -> tuple[int, str]:
        self._capsys.readouterr()
        status = main(list(argv))
        said = self._capsys.readouterr()
        return status, said.out + said.err

    def clean(self, rows: list[Any], bench: list[Any], *more: str) -> list[Any]:
        out = self.folder / "out.jsonl"
        against = self.file(bench, "bench.jsonl")
        argv = ["decontaminate", str(self.file(rows)), "--against", str(against), "--out", str(out)]
        assert main([*argv, *more]) == 0
        return [row["is_contaminated"] for row in read_rows(str(out)) if isinstance(row, dict)]


CHECKS: dict[str, Callable[[Case], Any]] = {}


def check(*names: str) -> Callable[[Callable[[Case], Any]], Callable[[Case], Any]]:
    def add(function: Callable[[Case], Any]) -> Callable[[Case], Any]:
        CHECKS.update(dict.fromkeys(names, function))
        return function

    return add


# ---- rows


@check("D111")
def content_parts(case: Case) -> None:
    def parts(text: str) -> list[dict[str, str]]:
        return [{"type": "text", "text": text[:5]}, {"type": "text", "text": text[5:]}]

    turns = [{"role": "user", "content": parts(ASK)},
             {"role": "assistant", "content": parts(REPLY)}]  # fmt: skip
    (found,) = case.read({"messages": turns, "answer": "54"})
    assert (found["user"], found["completion"], found["gold"]) == (ASK, REPLY, "54")


@check("D113", "D115", "D116", "D117", "D150")
def chat_logs(case: Case) -> None:
    (found,) = case.read({"prompt": json.dumps([USER]), "response": REPLY})
    assert found["messages"] == [USER]
    for role in ("chatgpt", "bing", "Assistant", "gpt"):
        turns = [{"from": "system", "value": "Be kind."}, {"from": "human", "value": ASK,
                 "loss": 0}, {"from": role, "value": REPLY}]  # fmt: skip
        (found,) = case.read({"conversations": turns})
        assert (found["system"], found["user"]) == ("Be kind.", ASK), role
        assert found["completion"] == REPLY
    turns = [{"from": "gpt", "value": "Hello."}, *turns[1:]]
    (found,) = case.read({"conversations": turns})
    assert [m["role"] for m in found["messages"]] == ["assistant", "user"]


@check("D118", "D119")
def foreign_keys_are_no_part_of_a_prompt(case: Case) -> None:
    odd = {**USER, "tool_calls": [], "info": {"reference_answer": "54"}}
    rows = [{"messages": [m, REPLIED], "note": i} for i, m in enumerate((USER, odd))]
    store = case.store()
    done = import_rows(store, file_source.rows(str(case.file(rows))))
    assert (done.new, store.table("prompts").n_rows()) == (1, 1)
    ((prompt, _),) = file_source.prompts(str(case.file([rows[1]])))
    assert prompt.messages == (USER,), "nothing else is sent"


@check("D121", "D144")
def what_is_no_prompt_is_counted(case: Case) -> None:
    prompts: list[Any] = [["a", "b"], 7, {"text": ASK}, {"role": "user", "content": ASK}, ASK]
    rows = [{"prompt": p, "response": REPLY} for p in prompts]
    done = import_rows(case.store(), [("x", i, row) for i, row in enumerate(rows)])
    assert (done.traces, sum(done.skipped.values())) == (2, 3)


@check("D124", "D125", "D126")
def forms_of_generations(case: Case) -> None:
    other = REPLY.replace("54", "7")
    for value, n in (([[REPLY]], 1), (json.dumps([REPLY, other]), 2),
                     ([{"text": REPLY, "finish_reason": "stop"}], 1)):  # fmt: skip
        found = case.read({"problem": ASK, "answer": "54", "generations": value})
        assert len(found) == n
        assert (found[0]["completion"], found[0]["gold"]) == (REPLY, "54")


@check("D132", "D134", "D135", "D136", "D137")
def golds_and_options(case: Case) -> None:
    rows: list[tuple[dict[str, Any], str]] = [
        ({"gold": "proof", "response": "So it holds."}, "unscored"),
        ({"gold": "E", "response": "It is \\boxed{E}."}, "pass"),
        ({"gold": "B", "verifier": "choice", "response": "The answer is B."}, "pass"),
        ({"gold": "54", "response": REPLY, "options": "{not json"}, "pass"),
        ({"gold": "54", "response": REPLY, "options": {"difficulty": 3}}, "pass"),
    ]
    store = case.store()
    lines = [{"prompt": f"{i}. {ASK}", **row} for i, (row, _) in enumerate(rows)]
    done = import_rows(store, file_source.rows(str(case.file(lines))))
    assert done.new == len(rows)
    verify(store, n_workers=1)
    found: dict[str, str] = {}
    for name in store.tables():
        if name.startswith("verdicts."):
            found |= dict(store.table(name).read(["trace_id", "status"]).iter_rows())
    assert [found[t] for t in done.trace_ids] == [status for _, status in rows]


@check("D139")
def a_programming_language_is_no_language(case: Case) -> None:
    for name in ("python", "cpp", "C++"):
        assert case.read({**PAIR, "language": name})[0]["language"] is None
    assert case.read({**PAIR, "language": "German"})[0]["language"] == "de"


@check("D142")
def other_columns_are_metadata(case: Case) -> None:
    said = {"source": "olympiads", "category": "algebra", "difficulty": 3, "license": "mit",
            "generator": "R1", "quality": 0.5}  # fmt: skip
    store = case.store()
    import_rows(store, [("x", i, {**PAIR, "prompt": f"{i} {ASK}", **said, "quality": i / 2})
                        for i in range(3)])  # fmt: skip
    query = ("SELECT count(*) FROM wide WHERE meta->>'license' = 'mit' AND meta->>'source' = "
             "'olympiads' AND level = '3' AND domain = 'algebra' AND model = 'R1' "
             "AND (meta->>'quality')::DOUBLE >= 0.5")  # fmt: skip
    status, out = case.run("sql", query, "--store", str(store.root), "--csv")
    assert (status, out.split()[-1]) == (0, "2")


@check("D146", "D147")
def special_tokens_end_and_nul_stays(case: Case) -> None:
    for token in ("<|im_end|>", "<｜end▁of▁sentence｜>", "<|eot_id|>"):
        (found,) = case.read({**PAIR, "response": REPLY + token})
        assert found["completion"] == REPLY
        assert found["meta"]["cut_tokens"] == [token]
    (found,) = case.read({**PAIR, "response": "a\0b"})
    assert found["completion"] == "a\0b"


# ---- files


@check("D158", "D159", "D160")
def json_files(case: Case) -> None:
    orz = [[{"from": "human", "value": ASK},
            {"from": "assistant", "ground_truth": {"value": "54"}}]]  # fmt: skip
    ((prompt, source),) = file_source.prompts(str(case.file(orz, "a.json")))
    assert (prompt.text, source.gold) == (ASK, "54")
    wrapped = case.file({"version": 1, "data": [PAIR]}, "b.json")
    assert "version, data" in case.run("import", str(wrapped), "--store", str(case.store().root))[1]
    lines = case.file(json.dumps(PAIR, indent=1).encode(), "c.jsonl")
    status, said = case.run("import", str(lines), "--store", str(case.store().root))
    assert "1 new" in said or ("malformed" in said and status)


@check("D161", "D162", "D166", "D168", "D175", "D180", "D182", "D178")
def odd_files_are_read(case: Case) -> None:
    rows = [{"prompt": f"{i} {ASK}", "response": REPLY} for i in range(3)]
    text = b"".join(orjson.dumps(row) + b"\n" for row in rows)

    def n(data: bytes, name: str = "x.jsonl") -> tuple[int, dict[str, int]]:
        done = import_rows(case.store(), file_source.rows(str(case.file(data, name))))
        return done.new, dict(done.skipped)

    assert n(text.replace(b"\n", b"\r\n")) == (3, {})
    assert n(b"\xef\xbb\xbf" + text) == (3, {})
    assert n(text + text[:20]) == (3, {"malformed_row": 1})
    import zstandard

    assert n(zstandard.compress(text), "x.jsonl.zst") == (3, {})
    empty = case.folder / "empty.parquet"
    pl.DataFrame(rows).head(0).write_parquet(empty)
    assert case.run("import", str(empty), "--store", str(case.store().root))[1].startswith("0 rows")
    metas = [{"metadata": "a"}, {"metadata": {"b": 1}}, {"other": [1]}]
    assert len(case.read(*[r | m for r, m in zip(rows, metas, strict=True)])) == 3
    late = [{**PAIR, "prompt": f"{i} {ASK}", "extra": {"a": 1} if i > 1500 else None}
            for i in range(1502)]  # fmt: skip
    assert len(case.read(*late)) == 1502


@check("D167", "D169", "D170", "D171", "D174")
def files_that_hold_nothing_are_told(case: Case) -> None:
    cut = case.file(gzip.compress(orjson.dumps(PAIR) * 999)[:-9], "cut.jsonl.gz")
    status, said = case.run("import", str(cut), "--store", str(case.store().root))
    assert status == 2
    assert "cut.jsonl.gz" in said
    nothing = str(case.file(b"", "none.jsonl"))
    assert "0 rows" in case.run("import", nothing, "--store", str(case.store().root))[1]
    store = case.store()
    selected = select(store, Selection(), trace_ids=pl.Series([], dtype=pl.String))
    with pytest.raises(UsageError, match="nothing is kept of 0 traces"):
        release(store, "x", selected)
    root = str(case.store().root)
    for name in ("a.parquet", "b.arrow", "c.xyz", "d"):
        status, said = case.run("import", str(case.file(b"PAR", name)), "--store", root)
        assert status == 2, name
        assert name in said
    rows = pl.DataFrame([PAIR])
    rows.write_csv(case.folder / "t.csv")
    rows.write_ipc(case.folder / "t.arrow")
    case.file([PAIR], "t.JSONL")
    for name in ("t.csv", "t.arrow", "t.JSONL"):
        assert "1 new" in case.run("import", str(case.folder / name), "--store",
                                   str(case.store().root))[1], name  # fmt: skip


@check("D191")
def exports_load_with_datasets(case: Case) -> None:
    datasets = pytest.importorskip("datasets")
    store = case.store()
    import_rows(store, [("x", 0, {**PAIR, "gold": "54"})])
    made = release(store, "r", select(store, Selection()))
    for form in ("trl", "openr1", "verl", "sharegpt"):
        out = case.folder / f"{form}.parquet"
        export(store, made, form=form, out=str(out))
        loaded = datasets.load_dataset(
            "parquet", data_files=str(out), split="train", cache_dir=str(case.folder / "cache")
        )
        assert len(loaded) == 1, form


# ---- sets

ITEM = "A farmer keeps nine grey geese and seven brown hens in a yard; how many legs are there?"
ANSWER = {"role": "assistant", "content": "It is so."}


@check("D252", "D253", "D255", "D256", "D257", "D260", "D262", "D264", "D266")
def planted_items_are_found(case: Case) -> None:
    chat = [{"role": "user", "content": ITEM}]
    rows: list[Any] = [
        {"prompt": ITEM, "completion": "x"}, {"messages": [*chat, ANSWER], "text": "other"},
        {"conversations": [{"from": "human", "value": ITEM}, {"from": "gpt", "value": "x"}]},
        {"prompt": chat, "answer": "x"}, {"prompt": chat, "completion": [ANSWER]},
    ]  # fmt: skip
    for row in rows:
        assert case.clean([row, {"prompt": "Another matter.", "completion": "y"}],
                          [{"Problem": ITEM, "Answer": "4"}]) == [True, False]  # fmt: skip
    short = "What is 2+2?"
    told = f"{short} Please reason step by step, and put your final answer within \\boxed{{}}."
    assert case.clean([{"prompt": told}], [{"problem": short}]) == [True]
    latex = (
        "Let $x$ and $y$ be reals with $\\dfrac{x}{y} = 3$ and $x + y = 8$; find $x \\cdot y$ now"
    )
    plain = latex.replace("\\dfrac", "\\frac").replace("$", "")
    assert case.clean([{"prompt": plain}], [{"problem": latex}]) == [True]
    out, bench = str(case.folder / "o.jsonl"), str(case.file([{"prompt": ITEM}], "b.json"))
    assert main(["decontaminate", str(case.file([{"prompt": ITEM}])), "--against", bench,
                 "--out", out]) == 0  # fmt: skip
    assert [r["is_contaminated"] for r in read_rows(out) if isinstance(r, dict)] == [True]


@check("D268", "D271")
def copies_of_messages(case: Case) -> None:
    chat = [{"role": "user", "content": ITEM}, ANSWER]
    out = str(case.folder / "o.jsonl")
    source = str(case.file([{"messages": chat}, {"messages": chat}]))
    assert main(["dedup", source, "--column", "messages", "--out", out]) == 0
    assert [r["is_duplicate"] for r in read_rows(out) if isinstance(r, dict)] == [False, True]
    source = str(case.file([{"text": t} for t in (None, "", "  ", ITEM)]))
    assert main(["dedup", source, "--out", out]) == 0
    assert not any(r["is_duplicate"] for r in read_rows(out) if isinstance(r, dict))


# ---- scores and verdicts on files, catalog


@check("D286", "D287", "D288")
def a_gold_is_never_measured(case: Case) -> None:
    rows: list[dict[str, Any]] = [
        {"problem": ASK, "solution": "So 54.", "answer": "54", "generations": [REPLY, REPLY]},
        {"question": ASK, "solution": "So 54.", "answer": "54"},
        {"messages": [USER, REPLIED], "reasoning": "on", "category": "math"},
    ]
    for verb in ("score", "verify"):
        for row in rows:
            out = str(case.folder / "o.jsonl")
            status, said = case.run(verb, str(case.file([row])), "--out", out)
            assert status == 2, (verb, row, said)
            assert "completion" in said


@check("D297")
def a_filter_may_name_texts(case: Case) -> None:
    store = case.store()
    import_rows(store, [("x", i, {"prompt": f"{i}?", "response": f"So {i}."}) for i in range(4)])
    filters = {"three": "completion NOT LIKE '%3%'", "two": "prompt_text <> '2?'"}
    selected = select(store, Selection(filters=filters))
    assert selected.keys.height == 2
    assert "completion" not in selected.kept.columns


HELD_BY = {
    # files and golds
    "D148": "test_corrections.py::test_a_corrected_gold_supersedes_and_verdicts_follow",
    "D149": "test_corrections.py::test_golds_that_differ_are_a_finding",
    "D183": "test_cli_files_bad.py::test_the_inputs_columns_come_out_as_they_were",
    "D186": "test_sources.py::test_a_dataset_of_the_hub_is_read_from_a_local_copy_of_its_shape",
    "D187": "test_sources.py::test_a_dataset_of_the_hub_is_read_from_a_local_copy_of_its_shape",
    "D188": "test_cli_files.py::test_standard_input_and_output",
    "D190": "test_exports_again.py::test_an_export_imports_to_what_the_store_held",
    # servers
    "D194": "test_openai.py::test_a_server_gives_the_universe_that_the_replay_engine_gives",
    "D196": "test_openai.py::test_reasoning_that_a_server_split_off_is_joined_by_one_rule",
    "D198": "test_openai.py::test_reasoning_that_a_server_split_off_is_joined_by_one_rule",
    "D200": "test_endpoint_answers.py::test_counts_in_odd_forms_are_counts",
    "D201": "test_endpoints.py::test_every_form_of_an_answer_is_read",
    "D203": "test_openai.py::test_an_answer_without_an_end_is_half_an_answer",
    "D204": "test_endpoints.py::test_all_kinds_of_faults_mixed_lose_nothing_and_double_nothing",
    "D205": "test_endpoints.py::test_all_kinds_of_faults_mixed_lose_nothing_and_double_nothing",
    "D210": "test_openai.py::test_the_key_is_sent_and_never_said",
    **dict.fromkeys(("D211", "D212", "D213", "D214", "D215", "D216", "D218"),
                    "test_endpoints.py::test_every_form_of_an_answer_is_read"),
    "D222": "test_endpoint_answers.py::test_finish_reasons_are_mapped_and_unknown_ones_kept",
    "D224": "test_endpoint_answers.py::test_finish_reasons_are_mapped_and_unknown_ones_kept",
    "D226": "test_endpoint_answers.py::test_refusals_have_their_kind",
    "D227": "test_openai.py::test_every_sampling_field_is_sent",
    "D229": "test_openai.py::test_every_sampling_field_is_sent",
    "D231": "test_endpoints.py::test_the_same_refusal_of_the_first_requests_ends_the_run",
    "D232": "test_vllm.py::test_what_cannot_fit_is_refused_before_it_is_sent",
    "D233": "test_endpoint_answers.py::test_refusals_have_their_kind",
    "D234": "test_endpoint_answers.py::test_refusals_have_their_kind",
    "D235": "test_endpoints.py::test_what_a_server_asks_to_wait",
    "D237": "test_endpoints.py::test_what_a_server_asks_to_wait",
    "D238": "test_endpoints.py::"
            "test_twelve_requests_in_twelve_seconds_with_the_engines_own_settings",
    "D241": "test_openai.py::"
            "test_a_server_that_fails_everything_ends_the_run_and_keeps_what_was_made",
    "D242": "test_kill.py::test_kill_9_at_random_moments",
    "D244": "test_endpoint_answers.py::test_a_server_that_ignores_the_seed_is_noticed",
    "D248": "test_endpoints.py::test_the_same_refusal_of_the_first_requests_ends_the_run",
    # sets, scores and the catalog
    "D263": "test_sets_paraphrases.py::test_a_selection_asks_a_model_of_ones_own",
    "D275": "test_scores_language.py::test_what_cannot_be_known_is_not_guessed",
    "D277": "test_scores_language.py::"
            "test_sentences_of_a_hundred_languages_and_of_fifty_that_the_model_does_not_know",
    "D278": "test_scores_language.py::test_glosses_formulas_and_names_are_no_mixing",
    "D283": "test_scores_readability.py::test_columns_of_style",
    "D284": "test_scores_readability.py::test_a_line_without_a_stop_is_read_as_a_sentence",
    "D285": "test_scores_readability.py::test_formulas_are_null_where_the_language_has_none",
    "D294": "test_catalog.py::test_readers_never_fail_while_it_is_rebuilt",
    "D295": "test_two_runs.py::test_two_runs_at_once_pay_for_each_trace_once",
    "D298": "test_sql_safety.py::test_a_probe_gets_one_line_and_touches_nothing",
}  # fmt: skip

KNOWN = {
    "D177": "a row group of 2.6 GB takes minutes to write; it was not read again",
    "D270": "template twins are near-duplicates by default, as documented: a threshold keeps them",
}


@pytest.fixture
def case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Case:
    return Case(tmp_path, capsys)


@pytest.mark.parametrize("function", list(dict.fromkeys(CHECKS.values())), ids=lambda f: f.__name__)
def test_what_was_reported(case: Case, function: Callable[[Case], Any]) -> None:
    function(case)


@pytest.mark.skipif(not REPORTS.exists(), reason="needs ../shared/data/data_reports.jsonl")
def test_every_case_is_accounted_for() -> None:
    cases = {json.loads(line)["id"] for line in REPORTS.read_text().splitlines()}
    accounted = [*CHECKS, *HELD_BY, *KNOWN]
    assert len(accounted) == len(set(accounted))
    assert cases - set(accounted) == set(), "cases of which nothing is said"


@pytest.mark.parametrize("where", sorted(set(HELD_BY.values())))
def test_the_test_that_holds_a_case_is_there(where: str) -> None:
    name, _, function = where.partition("::")
    assert f"\ndef {function}(" in (HERE / name).read_text()
