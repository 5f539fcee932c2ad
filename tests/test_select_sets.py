"""Select recipes by name: presets, choices, bands, mixtures, diversity; releases in many parts."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from factory.errors import UsageError
from factory.stages import release as release_stage
from factory.stages.importing import import_rows
from factory.stages.release import release
from factory.stages.score import score
from factory.stages.select import Selected, Selection, select
from factory.stages.verify import verify, verify_shape
from factory.store import Store

SCORES = ["length", "language", "repetition", "readability"]
THINKING = (
    "I need the total price of the tickets, so I read the task again. There are four tickets, and "
    "each of them costs nine dollars.\n\nFirst I multiply nine by four, which gives me thirty-six. "
    "Then I check the product by adding, and both ways agree.\n\nSo I am confident in the result."
)
ANSWER = "The total price is \\boxed{36} dollars, because four tickets cost nine dollars each."
CHINESE = "我们先算一下总价，四张票每张九美元，所以一共是三十六美元，然后再检查一遍这个结果对不对。"


def words(n: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    return " ".join(
        rng.choice(["tickets", "price", "and", "the", "then", "number"]) + f" {i}" for i in range(n)
    )


# One trace for each filter of the cold start that it alone drops.
VIOLATES = {
    "one_language": f"{THINKING}\n\n{CHINESE}\n\n{CHINESE}",
    "short_paragraphs": f"{THINKING} {words(400)}",
    "no_code_in_thinking": f"{THINKING}\n\n```python\nprice = 9 * 4\n```\n\nSo it is.",
    "no_broken_characters": THINKING.replace("tickets", "tick\ufffdts"),
}


def filled(tmp_path: Path, rows: list[dict[str, Any]], scores: list[str] | None = None) -> Store:
    store = Store(tmp_path / "data")
    import_rows(store, (("rows", i, row) for i, row in enumerate(rows)), model="m")
    verify(store)
    verify_shape(store)
    if scores is None or scores:
        score(store, SCORES if scores is None else scores)
    return store


def trace(prompt: str, thinking: str, answer: str = ANSWER, **more: Any) -> dict[str, Any]:
    text = (
        f"<think>\n{thinking}\n</think>\n\n{answer}" if answer else f"<think>\n{thinking}\n</think>"
    )
    return {"prompt": prompt, "completion": text, "gold": "36", "verifier": "math", **more}


# ---- presets


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Store:
    rows = [trace("What do four tickets at nine dollars cost?", THINKING)]
    rows += [trace(f"What do four tickets cost ({name})?", t) for name, t in VIOLATES.items()]
    rows.append(trace("And without a summary?", THINKING, answer=""))
    loop = THINKING + "\n\n" + "Wait, let me check that once more. " * 60
    rows.append(trace("And with a loop?", loop))
    return filled(tmp_path_factory.mktemp("planted"), rows)


def run(store: Store, **values: Any) -> Selected:
    return select(store, Selection.make(values), verifiers=["math", "format"], scores=SCORES)


def counts(selected: Selected, key: str) -> dict[str, int]:
    return {f["name"]: f[key] for f in selected.funnel}


def test_each_filter_of_a_preset_drops_its_violation_and_nothing_else(planted: Store) -> None:
    selected = run(planted, presets=["r1_cold_start"])
    only = counts(selected, "n_dropped_only")
    assert {name: only[name] for name in VIOLATES} == dict.fromkeys(VIOLATES, 1)
    assert only["has_summary"] == 1
    assert counts(selected, "n_dropped")["no_loop"] == 1
    assert selected.keys.height == 1
    rejection = run(planted, presets=["r1_rejection"])
    names = ["one_language", "short_paragraphs", "no_code_in_thinking"]
    assert list(counts(rejection, "n_dropped")) == ["not_evaluation", *names, "exact_duplicates"]
    assert [counts(rejection, "n_dropped_only")[n] for n in names] == [1, 1, 1]


@pytest.mark.parametrize(
    ("name", "how"), [*((name, "disabled") for name in VIOLATES), ("one_language", "null")]
)
def test_each_filter_of_a_preset_can_be_switched_off(planted: Store, name: str, how: str) -> None:
    off: dict[str, Any] = {"disabled": [name]} if how == "disabled" else {"filters": {name: None}}
    selected = run(planted, presets=["r1_cold_start"], **off)
    assert selected.keys.height == 2
    row = [f for f in selected.funnel if f["name"] == name]
    assert len(row) == (how == "disabled"), "counted, or not there at all"
    assert all(not f["is_on"] and f["n_dropped"] == 1 and f["n_dropped_here"] == 0 for f in row)


def test_a_recipes_own_filter_replaces_that_of_a_preset(planted: Store) -> None:
    selected = run(planted, presets=["r1_rejection"],
                   filters={"short_paragraphs": "max_paragraph_words <= 5000"})  # fmt: skip
    assert counts(selected, "n_dropped")["short_paragraphs"] == 0


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"presets": ["r2"]}, "no preset 'r2'"),
    ({"filters": {"f": "true"}, "disabled": ["g"]}, "disabled names g"),
    ({"disabled": ["near_duplicates"]}, "disabled names near_duplicates"),
    ({"filters": {"max_rows": "true"}}, "name of a step"),
    ({"prefer": "beauty DESC"}, "prefer does not bind"),
    ({"prefer": "1) AS _rank FROM wide; DROP VIEW wide; SELECT (1"}, "more than one"),
    ({"universe": {"where": "nope = 1"}}, "universe.where or prefer"),
    ({"universe": {"where": "true); DROP VIEW wide; SELECT (true"}}, "more than one"),
    ({"filters": {"spy": "(SELECT count(*) FROM read_text('/etc/hosts')) > 0"}}, "'spy'"),
    ({"filters": {"spy": "(SELECT count(*) FROM glob('/etc/*')) > 0"}}, "'spy'"),
    ({"filters": {"sum": "sum(answer_words) > 3"}}, "no aggregate"),
    ({"filters": {"cast": "trace_id::INTEGER > 3"}}, "fails on a row"),
    ({"filters": {"list": "unnest([true, false])"}}, "no unnest"),
    ({"diversity": {"limit": 2}}, "needs an embedding"),
    ({"mixture": {"shares": {"x": 1}, "by": "colour"}}, "set step's column"),
]


@pytest.mark.parametrize(("values", "says"), MISTAKES, ids=[m[1] for m in MISTAKES])
def test_a_mistake_in_a_recipe_is_named(planted: Store, values: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        run(planted, **values)
    assert not [p for p in planted.root.iterdir() if p.name.startswith(".tmp")], "nothing is left"


# ---- choice, bands, mixtures, diversity


PLUGIN = """
import json
import polars as pl
VERSION = 1
READS = ("completion",)
WRITES = {"rm_score": "float", "vector": "text"}
def score(df):
    value = df["completion"].str.extract(r"score (-?[0-9.]+|nan)").cast(pl.Float64, strict=False)
    angle = df["completion"].str.extract(r"at (-?[0-9]+)").cast(pl.Float64, strict=False)
    vectors = [None if a is None else json.dumps([a // 100, 1.0 - a // 100]) for a in angle]
    return pl.DataFrame({"rm_score": value, "vector": vectors},
                        schema={"rm_score": pl.Float64, "vector": pl.String})
"""


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    folder = tmp_path_factory.mktemp("rated")
    plugin = folder / "rater.py"
    plugin.write_text(PLUGIN)
    rows = []
    for p in range(6):
        for s, (n, value) in enumerate(
            [(30, "2"), (10, "1"), (50, "nan"), (20, "3"), (40, "none")]
        ):
            right = s < p  # pass rates 0, .2, .4, .6, .8, 1
            answer = f"It is \\boxed{{{36 if right else 35}}}, score {value}, at {p * 25}."
            rows.append(
                trace(
                    f"Problem {p}?",
                    words(n, p * 10 + s),
                    answer,
                    domain="math" if p % 3 else "code",
                )
            )
    store = filled(folder, rows, ["length", str(plugin)])
    return store, str(plugin)


def kept(rated: tuple[Store, str], **values: Any) -> pl.DataFrame:
    store, plugin = rated
    return select(store, Selection.make(values), verifiers=["math"], scores=["length", plugin]).kept


CHOICES = [
    ("shortest", {"score 1"}), ("longest", {"score nan"}), ("highest rm_score", {"score 3"}),
    ("lowest rm_score", {"score 1"}), ("rm_score DESC, trace_id", {"score 3"}),
]  # fmt: skip


@pytest.mark.parametrize(("prefer", "scores"), CHOICES)
def test_one_trace_of_each_prompt_by_choice(
    rated: tuple[Store, str], prefer: str, scores: set[str]
) -> None:
    chosen = kept(rated, cap_per_prompt=1, prefer=prefer)
    assert chosen["prompt_id"].is_unique().all()
    assert chosen.height == 6
    texts = rated[0].table("traces").read(["trace_id", "completion"])
    found = texts.join(chosen, on="trace_id", how="semi")["completion"]
    assert set(found.str.extract(r"(score \S+),")) == scores


def test_null_and_not_a_number_never_win(rated: tuple[Store, str]) -> None:
    for prefer in ("highest rm_score", "lowest rm_score"):
        chosen = kept(rated, cap_per_prompt=3, prefer=prefer)
        assert chosen["rm_score"].is_not_nan().all()
        assert chosen["rm_score"].null_count() == 0


def test_prompts_by_their_pass_rate(rated: tuple[Store, str]) -> None:
    chosen = kept(rated, pass_rates={"low": 0.2, "high": 0.8, "min_scored": 5})
    assert chosen["prompt_id"].n_unique() == 4
    assert chosen.height == 20, "wrong traces of such prompts stay: it is the prompt that counts"
    store, _ = rated
    few = select(store, Selection.make({"pass_rates": {"low": 0, "high": 1, "min_scored": 6}}))
    assert few.keys.is_empty()
    assert counts(few, "n_undefined")["pass_rates"] == 30


def test_a_mixture_by_shares_and_by_table_5(rated: tuple[Store, str]) -> None:
    # 20 traces of math, 10 of code.
    half = kept(rated, mixture={"shares": {"math": 1, "code": 1}})
    assert half["domain"].value_counts().sort("domain").rows() == [("code", 10), ("math", 10)]
    small = kept(rated, mixture={"shares": {"math": 3, "code": 1}, "total": 8})
    assert small["domain"].value_counts().sort("domain").rows() == [("code", 2), ("math", 6)]
    store, _ = rated
    with pytest.raises(UsageError, match="too few rows"):
        select(store, Selection.make({"mixture": {"shares": "r1_table_5", "total": 20}}))


def test_diverse_traces_by_a_stored_embedding(rated: tuple[Store, str]) -> None:
    chosen = kept(rated, diversity={"limit": 2, "column": "vector"})
    assert set(chosen["vector"]) == {"[0.0, 1.0]", "[1.0, 0.0]"}


@pytest.mark.slow
def test_diverse_prompts_by_a_given_model(rated: tuple[Store, str], tmp_path: Path) -> None:
    from tests.tiny_model import make_tiny_model

    model = make_tiny_model(tmp_path / "encoder")
    one = kept(rated, diversity={"limit": 4, "model": model})
    again = kept(rated, diversity={"limit": 4, "model": model})
    assert one.height == 4
    assert one["trace_id"].equals(again["trace_id"])
    assert one["prompt_id"].n_unique() == 4, "equal prompts lie in one place"
    with pytest.raises(UsageError, match="embedding model"):
        kept(rated, diversity={"limit": 4, "model": str(tmp_path / "none")})


def test_set_steps_can_be_disabled_and_are_counted_all_the_same(rated: tuple[Store, str]) -> None:
    store, _ = rated
    recipe = {"cap_per_prompt": 2, "max_rows": 5, "disabled": ["max_rows"]}
    selected = select(store, Selection.make(recipe))
    assert selected.keys.height == 12
    (*_, cap, most) = selected.funnel
    assert (cap["n_dropped_here"], most["n_dropped"], most["n_dropped_here"]) == (18, 7, 0)


def test_disabled_names_of_the_funnel_are_kept_apart_from_what_decides(
    rated: tuple[Store, str],
) -> None:
    store, _ = rated
    filters = {"right": "status = 'pass'", "short": "reasoning_words < 60"}
    both = select(store, Selection.make({"filters": filters}))
    off = select(store, Selection.make({"filters": filters, "disabled": ["short"]}))
    assert both.keys.height < off.keys.height
    assert all("short" not in names for names in off.decisions["dropped_by"])


# ---- releases


def many(tmp_path: Path, name: str, *, order: int) -> Store:
    rows = []
    for i in range(60):
        text = words(80, seed=i // 2) + (f" end {i}" if i % 2 else "")  # pairs of near-duplicates
        rows.append(trace(f"Problem {i % 20}?", text, f"It is \\boxed{{{36}}} {i}."))
    random.Random(order).shuffle(rows)
    return filled(tmp_path / name, rows, ["length"])


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Store:
    rows = [trace("One?", THINKING), trace("One?", f"{THINKING} Wait."), trace("Two?", THINKING)]
    store = filled(tmp_path_factory.mktemp("copies"), rows, ["length"])
    import_rows(store, (("rows", i, row) for i, row in enumerate(rows)), model="other")
    score(store, ["length"])
    return store


@pytest.mark.parametrize(
    ("within", "n_kept", "n_dropped"), [(None, 6, None), ("prompt", 3, 3), ("set", 2, 4)]
)
def test_exact_duplicates_keep_one(
    copies: Store, within: str | None, n_kept: int, n_dropped: int | None
) -> None:
    recipe = Selection.make({"exact_duplicates": within, "prefer": "longest"})
    selected = select(copies, recipe)
    assert counts(selected, "n_dropped_here").get("exact_duplicates") == n_dropped
    assert selected.keys.height == n_kept
    assert selected.keys["text_hash"].n_unique() == 2
    # What an earlier step drops stands for no copy of it.
    one_model = select(
        copies,
        Selection.make({"exact_duplicates": within, "filters": {"other": "model = 'other'"}}),
    )
    assert one_model.keys.height == {None: 3, "prompt": 3, "set": 2}[within]


def test_the_order_in_which_the_store_holds_traces_decides_nothing(tmp_path: Path) -> None:
    recipe = Selection.make({"near_duplicates": {"threshold": 0.6}, "cap_per_prompt": 2,
                             "prefer": "shortest"})  # fmt: skip
    found = [select(many(tmp_path, str(order), order=order), recipe) for order in range(3)]
    assert 0 < found[0].keys.height < 60
    assert counts(found[0], "n_dropped_here")["near_duplicates"] >= 20
    kept_texts = [set(f.keys["text_hash"]) for f in found]
    assert kept_texts[0] == kept_texts[1] == kept_texts[2]


@pytest.fixture(scope="module")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> Selected:
    return select(many(tmp_path_factory.mktemp("many"), "s", order=0), Selection())


def test_a_release_in_many_parts_is_that_in_one(
    sixty: Selected, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, selected = sixty.store, sixty
    whole = release(store, "whole", selected)
    monkeypatch.setattr(release_stage, "PART_ROWS", 7)
    parts = release(store, "parts", selected)
    assert len(whole.manifest["parts"]) == 1
    assert [p["rows"] for p in parts.manifest["parts"]] == [7] * 8 + [4]
    assert parts.version == whole.version
    assert parts.read().equals(whole.read())
    assert parts.read()["trace_id"].is_sorted()
    names = {p.name for p in parts.folder.iterdir()}
    assert not [n for n in names if n.startswith(".")], "what was dealt out is gone"
    assert parts.read(["gold"])["gold"].null_count() == 0
    assert json.loads(parts.read(["messages"])["messages"][0])[0]["role"] == "user"


def test_long_traces_make_parts_of_fewer_rows(
    sixty: Selected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release_stage, "PART_TEXT_BYTES", 5000)
    made = release(sixty.store, "long", sixty)
    assert len(made.manifest["parts"]) > 5
    assert made.read().height == 60
