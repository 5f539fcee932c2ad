"""Evaluation stays out of training sets, and exact copies go, unless somebody asks for them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from catalogs import query
from catalogs.show import audit
from distill.evaluate import evaluate
from factory.errors import UsageError
from factory.rows.files import read_rows
from factory.sets.splits import is_evaluation
from factory.stages.export import export
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.stages.importing import import_rows
from factory.stages.reading import read_pairs
from factory.stages.release import release
from factory.stages.select import Selected, Selection, select
from factory.stages.select.evaluation import training_pairs
from factory.store import Store
from tests.helpers_run import SAMPLING, new_store, problems, replay

SPLITS = {
    "test": True, "Test": True, "validation": True, "valid": True, "val": True, "dev": True,
    "eval": True, "test_sft": True, "testmini": True, "gsm8k-test": True, "held_out": True,
    "train": False, "train_sft": False, "train_eval": False, "math": False, "crawl": False,
    "latest": False, "default": False, "": False, None: False,
}  # fmt: skip


@pytest.mark.parametrize(("split", "expected"), SPLITS.items())
def test_which_splits_are_evaluation(split: str | None, expected: bool) -> None:
    assert is_evaluation(split) == expected


def row(number: int, split: str | None, text: str = "") -> dict[str, Any]:
    return {"prompt": f"What is {number} + 1?", "completion": text or f"It is {number + 1}.",
            "gold": str(number + 1), "split": split, "id": f"{split}-{number}"}  # fmt: skip


def filled(folder: Path, rows: list[dict[str, Any]], source: str = "rows") -> Store:
    store = new_store(folder)
    import_rows(store, ((source, i, r) for i, r in enumerate(rows)), model="other")
    return store


@pytest.fixture(scope="module")
def read_only(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Ten prompts each of train, no split, eval and test; one train prompt is a test prompt too."""
    splits = ["train", None, "eval", "test"]
    store = filled(tmp_path_factory.mktemp("splits"), [row(i, splits[i % 4]) for i in range(40)])
    twice = row(0, "test")
    import_rows(store, [("benchmark", 0, twice)], model="other")
    store.seal()
    return store


@pytest.fixture
def store(read_only: Store, tmp_path: Path) -> Store:
    """A copy of it, to make releases in."""
    shutil.copytree(read_only.root, tmp_path / "copy")
    return Store(tmp_path / "copy")


def run(store: Store, **values: Any) -> Selected:
    return select(store, Selection.make(values))


def kept_by_split(selected: Selected) -> dict[str | None, int]:
    return dict(selected.keys["split"].value_counts().iter_rows())


def test_splits_of_evaluation_are_left_out_by_the_first_step(store: Store) -> None:
    selected = run(store)
    assert kept_by_split(selected) in ({"train": 9, None: 10}, {None: 10, "train": 9})
    first = selected.funnel[0]
    assert (first["name"], first["n_in"], first["n_dropped"]) == ("not_evaluation", 40, 21)
    made = release(store, "natural", selected)
    assert audit(store) == []
    answer = query.run(store, "@splits")
    assert {(r["split"], r["n_rows"], r["is_evaluation"]) for r in answer.dicts()} == {
        ("train", 9, False), ("none", 10, False)
    }  # fmt: skip
    assert made.manifest["rows"] == 19


ASKED = [
    ({"universe": {"splits": ["eval"]}}, {"eval": 10}),
    ({"universe": {"splits": ["eval", "train"]}}, {"eval": 10, "train": 9}),
    ({"disabled": ["not_evaluation"]}, None),
]


@pytest.mark.parametrize(("values", "kept"), ASKED)
def test_asked_for_by_name_they_are_there(
    store: Store, values: dict[str, Any], kept: dict[str | None, int] | None
) -> None:
    found = run(store, **values)
    if kept is None:
        assert found.keys.height == 40
        release(store, "all", found)
        (finding,) = audit(store)
        assert {r["why"] for r in finding.dicts()} == {"split eval", "split test"}
    else:
        assert kept_by_split(found) == kept
        release(store, "named", found)
        assert audit(store) == []


@pytest.mark.parametrize(
    ("field", "says"),
    [("sources", "rows"), ("models", "other"), ("splits", "eval"), ("runs", ""), ("samplings", "")],
)
def test_a_universe_of_unknown_names_is_refused(read_only: Store, field: str, says: str) -> None:
    with pytest.raises(UsageError, match=f"universe.{field} names typo.*there is .*{says}"):
        run(read_only, universe={field: ["typo"]})


def test_an_export_leaves_evaluation_out_of_a_release_that_holds_it(
    store: Store, tmp_path: Path
) -> None:
    every = release(store, "all", run(store, disabled=["not_evaluation"]))
    named = release(store, "named", run(store, universe={"splits": ["eval"]}))
    out = str(tmp_path / "x.jsonl")
    assert export(store, every, form="trl", out=out) < 40
    assert export(store, every, form="trl", out=out, splits=["eval"]) == 10
    assert export(store, named, form="trl", out=out) == 10, "the release was asked for by name"
    folder = tmp_path / "hub"
    export(store, every, form="hf", out=str(folder), splits=["train", "eval", "test"])
    names = sorted(p.name.partition("-")[0] for p in (folder / "data").iterdir())
    assert names == ["eval", "test", "train"]
    assert "| eval | 10 |" in (folder / "README.md").read_text()
    with pytest.raises(UsageError, match=r"no split 'dev'.*eval"):
        export(store, every, form="trl", out=out, splits=["dev"])


def test_a_models_answers_to_a_benchmark_are_no_training_data(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    pairs = problems(6)
    found = evaluate(store, pairs, replay(6, 8), benchmark="sums", k=2, sampling=SAMPLING)
    generate(store, pairs, replay(6, 8), sampling=SAMPLING, policy=Policy(n=4))
    selected = run(store, exact_duplicates=None)
    assert selected.decisions.height == 24
    assert selected.funnel[0]["n_dropped"] == 12 == 24 - selected.keys.height
    named = run(store, exact_duplicates=None, universe={"runs": [found.run_id]})
    assert named.keys.height == 12
    made = release(store, "answers", run(store, disabled=["not_evaluation"]))
    assert made.manifest["rows"]
    (finding,) = audit(store)
    assert "run of an evaluation" in finding.rows[0][2]


def test_rates_of_prompts_are_not_those_of_the_answers_to_a_benchmark(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    evaluate(store, problems(6), replay(6, 8), benchmark="sums", k=4, sampling=SAMPLING)
    selected = run(store, pass_rates={"low": 0, "high": 1})
    assert selected.keys.is_empty()


def test_prompts_for_rl_are_train_prompts(read_only: Store) -> None:
    pairs = read_pairs(read_only, "rows")
    kept = training_pairs(read_only, pairs)
    assert {source.split for _, source in kept} == {"train", None}
    assert len(kept) == 19, "the train prompt that stands in the benchmark is left out"
    assert len(training_pairs(read_only, pairs, splits=["eval"])) == 10
    with pytest.raises(UsageError, match="none of 1 prompts may be trained on"):
        training_pairs(read_only, read_pairs(read_only, "benchmark"))


def test_copies_of_a_text_go_and_caps_count_distinct_texts(tmp_path: Path) -> None:
    texts = ["It is 2.", "It is 2.", "It is 2.", "Surely 2.", "2, I say."]
    rows = [row(1, "train", text) for text in texts]
    store = new_store(tmp_path)
    for model in ("a", "b", "c"):  # one text of three models is three traces
        import_rows(store, (("rows", i, r) for i, r in enumerate(rows)), model=model)
    selected = run(store, cap_per_prompt=2)
    assert selected.keys.height == 2 == selected.keys["text_hash"].n_unique()
    assert run(store).keys.height == 3
    assert run(store, exact_duplicates=None).keys.height == 9
    assert run(store, disabled=["exact_duplicates"]).keys.height == 9
    copies = {f["name"]: f["n_dropped_here"] for f in selected.funnel}
    assert copies == {"not_evaluation": 0, "exact_duplicates": 6, "cap_per_prompt": 1}


def test_rejected_texts_are_no_answers_to_a_benchmark(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    evaluate(store, problems(5), replay(5, 8), benchmark="sums", k=4, sampling=SAMPLING)
    generate(store, problems(5), replay(5, 16), sampling=SAMPLING, policy=Policy(n=8))
    made = release(store, "dpo", run(store, filters={"right": "status = 'pass'"}))
    out = str(tmp_path / "dpo.jsonl")
    export(store, made, form="dpo", out=out)
    train = made.read(["trace_id"])["trace_id"].to_list()
    assert {r["trace_id"] for r in read_rows(out) if isinstance(r, dict)} <= set(train)
    assert made.manifest["splits"] == {"none": made.manifest["rows"]}


def test_what_is_imported_carries_its_split(tmp_path: Path) -> None:
    from factory.sources import hub

    folder = tmp_path / "set"
    folder.mkdir()
    for split in ("train", "test"):
        lines = [orjson.dumps({**row(i, None), "split": None}) for i in range(4)]
        (folder / f"{split}.jsonl").write_bytes(b"\n".join(lines))
    for split in ("train", "test"):
        store = Store(tmp_path / split)
        import_rows(store, hub.rows(str(folder), split=f"{split}[:2]"), model="m")
        assert {source.split for _, source in read_pairs(store)} == {split}
    store = Store(tmp_path / "files")
    import_rows(store, [("x", 0, row(1, None))], model="m", split="dev")
    assert run(store).keys.is_empty()
    assert run(store, universe={"splits": ["dev"]}).keys.height == 1
