"""Scores that read columns of other scores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from factory.errors import PluginError
from factory.stages.generate.scoring import measure
from factory.stages.importing import import_rows
from factory.stages.score import score
from factory.stages.scorer import Scorer, frame_of
from factory.store import Store

TEXTS = ["<think>one two three</think>four five", "<think>one</think>two", None]


def plug_in(folder: Path, name: str, *, reads: str, body: str, writes: str, lends: str = "") -> str:
    path = folder / f"{name}.py"
    lent = f"LENDS = {{{lends!r}: 'int'}}\n" if lends else ""
    path.write_text(
        f"import polars as pl\nVERSION = 1\nREADS = ({reads!r},)\nPARAMS = ('times',)\n"
        f"WRITES = {{{writes!r}: 'int'}}\n{lent}\n\n"
        f"def score(df, *, times=1):\n    return df.select({body})\n"
    )
    return str(path)


@pytest.fixture
def words(tmp_path: Path) -> str:
    return plug_in(
        tmp_path, "words", reads="completion", writes="n_words_of_mine", lends="n_lent",
        body="(pl.col('completion').str.count_matches(r'[a-z]+') * times).alias('n_words_of_mine'),"
        "(pl.col('completion').str.len_bytes()).alias('n_lent')",
    )  # fmt: skip


@pytest.fixture
def doubled(tmp_path: Path) -> str:
    body = "(pl.col('n_words_of_mine') * 2 * times).alias('n_doubled')"
    return plug_in(tmp_path, "doubled", reads="n_words_of_mine", writes="n_doubled", body=body)


def test_a_score_is_given_what_another_wrote_whatever_the_order(words: str, doubled: str) -> None:
    frame = frame_of(TEXTS)
    for names in ([words, doubled], [doubled, words]):
        out = Scorer(names).score(frame)
        assert out["n_doubled"].to_list() == [14, 8, None]
        assert out.columns[0] == ("n_words_of_mine" if names[0] == words else "n_doubled")
    both = dict(Scorer([doubled, words]).each(frame))
    assert list(both) == [words, doubled]


def test_what_a_score_reads_does_not_depend_on_parameters_of_the_other(
    words: str, doubled: str
) -> None:
    out = Scorer([words, doubled], {words: {"times": 10}, doubled: {"times": 3}}).score(
        frame_of(TEXTS)
    )
    assert out["n_words_of_mine"].to_list() == [70, 40, None]
    assert out["n_doubled"].to_list() == [42, 24, None]


def test_a_score_that_comes_with_the_factory_is_measured_along(tmp_path: Path) -> None:
    body = "(pl.col('completion_words') + times).alias('n_more')"
    more = plug_in(tmp_path, "more", reads="completion_words", writes="n_more", body=body)
    scorer = Scorer([more])
    assert scorer.columns == {"n_more": "int"}
    assert scorer.inputs >= {"completion"}
    length = Scorer(["length"]).score(frame_of(TEXTS))["completion_words"]
    assert scorer.score(frame_of(TEXTS))["n_more"].to_list() == (length + 1).to_list()


def test_what_is_lent_is_there_beside_its_lender_alone_and_is_not_stored(
    tmp_path: Path, words: str
) -> None:
    body = "pl.col('n_lent').fill_null(-1).cast(pl.Int64).alias('n_seen')"
    reader = plug_in(tmp_path, "reader", reads="n_lent", writes="n_seen", body=body)
    scorer = Scorer([reader, words])
    assert set(scorer.columns) == {"n_seen", "n_words_of_mine"}
    sizes = [None if t is None else len(t) for t in TEXTS]
    out = scorer.score(frame_of(TEXTS))
    assert out["n_seen"].to_list() == [*sizes[:2], -1]
    assert set(out.columns) == set(scorer.columns)
    assert scorer.score_one(reader, frame_of(TEXTS))["n_seen"].to_list() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("reads", "said"),
    [
        ("nothing_writes_this", "add the score that writes it"),
        ("n_own", "read each other"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, reads: str, said: str) -> None:
    body = "pl.lit(1).alias('n_own')"
    path = plug_in(tmp_path, f"bad_{reads}", reads=reads, writes="n_own", body=body)
    with pytest.raises(PluginError, match=said) as caught:
        Scorer([path])
    assert reads in str(caught.value) or path in str(caught.value)


def test_a_row_on_which_the_read_score_fails_is_null_in_both(tmp_path: Path, doubled: str) -> None:
    body = (
        "df['completion'].map_elements(lambda t: 7 // t.count('o'), return_dtype=pl.Int64)"
        ".alias('n_words_of_mine')"
    )
    breaks = plug_in(tmp_path, "breaks", reads="completion", writes="n_words_of_mine", body=body)
    scorer = Scorer([breaks, doubled])
    out = scorer.score(frame_of(["o", "none here but", "x", "oo"]))
    assert out["n_words_of_mine"].to_list() == [7, 7, None, 3]
    assert out["n_doubled"].to_list() == [14, 14, None, 6]
    assert list(scorer.failures) == [breaks]


def test_a_worker_measures_each_score_under_its_name(words: str, doubled: str) -> None:
    columns = {"completions": TEXTS, "prompts": [None] * 3}
    assert set(measure(columns, names=[doubled, words], params={})) == {words, doubled}


def test_workers_make_the_same_facts_as_this_process(words: str, tmp_path: Path) -> None:
    texts = [f"<think>{'so ' * (n % 50)}</think> It is {n}." for n in range(30)]
    rows = [("x", n, {"prompt": f"What is {n}?", "response": t}) for n, t in enumerate(texts)]
    tables = []
    for n_workers in (1, 2):
        store = Store(tmp_path / f"store-{n_workers}")
        import_rows(store, rows)
        done = score(store, ["length", words], n_workers=n_workers)
        assert sorted(done.new.values()) == [30, 30]
        names = [t for t in store.tables() if t.startswith("scores.")]
        tables.append([store.table(t).read().drop("run_id").sort("trace_id") for t in names])
    assert len(tables[0]) == 2
    assert all(a.equals(b) for a, b in zip(*tables, strict=True))


def test_what_a_worker_dies_of_is_measured_here(tmp_path: Path) -> None:
    path = tmp_path / "deadly.py"
    path.write_text(
        "import os\nimport polars as pl\nVERSION = 1\nREADS = ('completion',)\n"
        "WRITES = {'n_mine': 'int'}\n\n\ndef score(df):\n"
        f"    if os.getpid() != {os.getpid()}:\n        os._exit(9)\n"
        "    return df.select(pl.col('completion').str.len_bytes().alias('n_mine'))\n"
    )
    store = Store(tmp_path / "store")
    import_rows(store, [("x", n, {"prompt": f"{n}?", "response": f"It is {n}."}) for n in range(9)])
    assert score(store, [str(path)], n_workers=2).new.total() == 9
