"""Select, release, export: decisions that can be taken again, versions that follow the content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from factory.errors import StoreError, UsageError
from factory.rows.files import read_rows
from factory.stages.export import FORMS, export
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.stages.release import Release, open_release, release
from factory.stages.score import score
from factory.stages.select import Selected, Selection, check_filters, select
from factory.stages.verify import verify
from factory.store import Store
from tests.helpers_run import SAMPLING, new_store, problems, replay

FILTERS = {"right": "status = 'pass'", "short": "answer_words < 100"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = new_store(tmp_path_factory.mktemp("store"))
    generate(store, problems(20), replay(20, 8), sampling=SAMPLING, policy=Policy(n=4))
    score(store, ["length", "repetition"])
    return store


def recipe(**values: object) -> Selection:
    # The recorded answers are copies of each other; what is done with those has tests of its own.
    return Selection.make({"filters": FILTERS, "exact_duplicates": None, **values})


@pytest.fixture(scope="module")
def made(store: Store) -> Release:
    return release(store, "sums", select(store, recipe(universe={"n": 4})))


def step(selected: Selected, name: str) -> dict[str, Any]:
    return next(f for f in selected.funnel if f["name"] == name)


def test_kept_traces_are_right_and_the_funnel_adds_up(store: Store) -> None:
    selected = select(store, recipe())
    assert set(selected.kept["status"]) == {"pass"}
    assert selected.decisions.height == 80
    right = step(selected, "right")
    assert right["n_in"] == 80
    assert right["n_in"] - right["n_dropped"] == selected.kept.height
    assert right["n_dropped_only"] == right["n_dropped"], "no other filter dropped anything"
    dropped = selected.decisions.filter(~pl.col("is_kept"))
    assert all("right" in names for names in dropped["dropped_by"])


def test_a_filter_that_is_off_is_counted_but_drops_nothing(store: Store) -> None:
    selected = select(store, recipe(disabled=["right"]))
    assert selected.kept.height == 80
    assert step(selected, "right")["n_dropped"] > 0
    assert not step(selected, "right")["is_on"]


def test_an_undefined_predicate_does_not_keep_and_is_counted(store: Store) -> None:
    selected = select(store, recipe(filters={"never": "NULL", "all": "true"}))
    assert selected.kept.height == 0
    assert step(selected, "never")["n_undefined"] == 80
    assert selected.decisions["undefined_by"][0].to_list() == ["never"]


def test_caps_and_preferences(store: Store) -> None:
    selected = select(store, recipe(cap_per_prompt=1, prefer="sample_index DESC"))
    assert selected.kept["prompt_id"].is_unique().all()
    every = select(store, recipe())
    best = every.kept.group_by("prompt_id").agg(pl.col("sample_index").max())
    joined = selected.kept.join(best, on="prompt_id", suffix="_best")
    assert (joined["sample_index"] == joined["sample_index_best"]).all()
    assert joined.height == best.height


def test_near_duplicates_keep_one_each(store: Store) -> None:
    selected = select(store, recipe(near_duplicates={"threshold": 0.7}))
    assert 0 < selected.kept.height < select(store, recipe()).kept.height
    assert selected.funnel[-1]["name"] == "near_duplicates"


def test_contaminated_prompts_are_dropped(store: Store, tmp_path: Path) -> None:
    benchmark = tmp_path / "bench.jsonl"
    text = problems(20)[4][0].text
    benchmark.write_bytes(orjson.dumps({"prompt": text}) + b"\n")
    plan = {"against": [str(benchmark)], "ngram": 4}
    selected = select(store, recipe(filters={}, decontaminate=plan))
    lost = selected.decisions.filter(~pl.col("is_kept")).height
    assert lost == 4


def test_new_facts_never_leak_into_an_old_universe(store: Store) -> None:
    before = select(store, recipe(universe={"n": 4}))
    generate(store, problems(20), replay(20, 8), sampling=SAMPLING, policy=Policy(n=6))
    score(store, ["length", "repetition"])
    after = select(store, recipe(universe={"n": 4}))
    assert after.kept["trace_id"].equals(before.kept["trace_id"])
    assert select(store, recipe()).decisions.height == 120


def test_the_same_decision_gives_the_same_version_and_writes_once(store: Store) -> None:
    first = release(store, "sums", select(store, recipe(universe={"n": 4})))
    again = release(store, "sums", select(store, recipe(universe={"n": 4})))
    assert first.version == again.version
    assert first.manifest["created_at"] == again.manifest["created_at"]
    other = release(store, "sums", select(store, recipe(universe={"n": 4}, cap_per_prompt=1)))
    assert other.version != first.version
    frame = first.read()
    assert frame.height == first.manifest["rows"]
    assert frame["completion"].str.starts_with("<think>\n").all(), "the prefill is part of the text"
    assert frame["gold"].null_count() == 0
    assert open_release(store, f"sums/{first.version}").version == first.version


def test_a_release_that_lost_its_manifest_is_named(store: Store) -> None:
    made = release(store, "torn", select(store, recipe(universe={"n": 4})))
    (made.folder / "manifest.json").unlink()
    with pytest.raises(StoreError, match=r"releases/torn/.*/manifest.json is missing"):
        open_release(store, "torn")


def test_nothing_kept_is_an_error_that_names_the_filter(store: Store) -> None:
    with pytest.raises(UsageError, match="'right' drops most"):
        release(store, "empty", select(store, recipe(filters={"right": "false"})))


BAD_FILTERS = [
    ({"typo": "repetition_fractoin < 0.1"}, "typo"),
    ({"broken": "status = "}, "broken"),
    ({"inject": "1); DROP VIEW wide; --"}, "inject"),
    ({"open": "1 = 1) OR (1 = 1"}, "open.*no expression by itself"),
    ({"dice": "random() < 0.5"}, "dice.*changes from run to run"),
    ({"dice": "CASE WHEN true THEN uuid() IS NULL END"}, "dice.*changes"),
    ({"today": "current_date > DATE '2026-01-01'"}, "today.*changes"),
    ({"now": "now() > TIMESTAMP '2026-01-01'"}, "now.*changes"),
]


@pytest.mark.parametrize(("filters", "name"), BAD_FILTERS)
def test_filters_are_bound_before_any_work(filters: dict[str, str], name: str) -> None:
    with pytest.raises(UsageError, match=name):
        check_filters(filters, verifiers=["math"], scores=["length"])


@pytest.mark.parametrize("form", [*FORMS, "dpo"])
@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_every_export_form_holds_every_row(
    store: Store, made: Release, tmp_path: Path, form: str, ending: str
) -> None:
    out = str(tmp_path / f"x{ending}")
    n = export(store, made, form=form, out=out)
    rows = list(read_rows(out))
    assert len(rows) == n
    assert n == made.manifest["rows"] or form == "dpo"
    row = rows[0]
    assert isinstance(row, dict)
    if form == "trl":
        assert row["completion"][0]["content"].startswith("<think>")
    if form == "dpo":
        assert row["chosen"] != row["rejected"]


def test_a_hub_folder_has_a_card_and_its_data(store: Store, made: Release, tmp_path: Path) -> None:
    n = export(store, made, form="hf", out=str(tmp_path / "hub"))
    assert n == made.manifest["rows"]
    text = (tmp_path / "hub" / "README.md").read_text()
    assert "## Filters" in text
    assert "recorded-model" in text


def test_verify_and_score_of_a_store_append_only_what_is_missing(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    generate(store, problems(5), replay(5, 4), sampling=SAMPLING, policy=Policy(n=2), verify=False)
    first = verify(store)
    assert sum(first.new.values()) == 10
    again = verify(store)
    assert sum(again.new.values()) == 0
    assert sum(again.present.values()) == 10
    assert sum(score(store, ["length"]).new.values()) == 10
    assert sum(score(store, ["length"]).new.values()) == 0
