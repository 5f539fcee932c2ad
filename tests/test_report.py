"""The report of a release: its numbers, and that no text of a model can break out of its page."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import orjson
import polars as pl
import pytest

from catalogs import build
from catalogs.show import open_release
from factory import report
from factory.cli.main import main
from factory.errors import UsageError
from factory.records import Prompt, PromptSource, Verdict
from factory.report.data import ReportData
from factory.report.data import collect as collect_from
from factory.report.html import page
from factory.store import Store
from factory.store.durable import write_json
from tests import helpers_browse
from tests import helpers_catalog as made

VOID = {"meta"}


class Page(HTMLParser):
    """Collects tags and attributes; fails on a tag that closes what is not open."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def collect(store: Store, release: str) -> ReportData:
    with open_release(store, release) as (con, name, version):
        return collect_from(con, name, version)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = made.make_store(tmp_path_factory.mktemp("report") / "data")
    made.make_release(store)
    return store


@pytest.fixture(scope="module")
def data(store: Store) -> ReportData:
    return collect(store, "sums")


def test_its_numbers_are_those_of_the_release(data: ReportData) -> None:
    t = data.totals
    assert (t["n_universe"], t["n_kept"], t["n_prompts"], t["n_prompts_kept"]) == (24, 13, 6, 5)
    assert (t["n_scored"], t["n_pass"], t["n_unscored"], t["n_unverified"]) == (22, 14, 1, 1)
    assert t["tokens_per_kept"] == pytest.approx(179 / 13)
    assert [f["n_dropped"] for f in data.funnel] == [10, 1, 6]


def test_pass_rates_are_means_over_prompts(data: ReportData) -> None:
    rates = {r.source: r for r in data.rates}
    # Prompts 2, 4, 6 have 1, 3, 4 right of 4; prompts 1, 3, 5 have 0 of 2, 2 of 4, 4 of 4.
    assert rates["doubles"].interval.mean == pytest.approx((1 / 4 + 3 / 4 + 4 / 4) / 3)
    assert rates["sums"].interval.mean == pytest.approx((0 / 2 + 2 / 4 + 4 / 4) / 3)
    assert rates["sums"].n_scored == 10


def test_coverage_counts_prompts_by_their_pass_rate(data: ReportData) -> None:
    rows = {r["pass_rate"]: (r["n_prompts"], r["n_prompts_kept"]) for r in data.coverage.dicts()}
    assert rows == {
        "never right": (1, 0),
        "up to 1/4": (1, 1),
        "up to 1/2": (1, 1),
        "up to 3/4": (1, 1),
        "always right": (2, 2),
    }


def test_the_histogram_counts_every_trace_once(data: ReportData) -> None:
    assert data.lengths is not None
    assert sum(data.lengths.n_all) == 24
    assert sum(data.lengths.n_kept) == 13


def test_samples_are_kept_or_dropped_by_each_filter(data: ReportData) -> None:
    kinds = {s.title: s for s in data.samples}
    assert [s.title for s in data.samples] == [
        "kept", "kept", "dropped by right", "dropped by readable",
    ]  # fmt: skip
    assert kinds["dropped by readable"].text.startswith("<think>\n所以")
    assert kinds["dropped by right"].facts.startswith("fail · wrong")


def test_what_to_know_stands_on_top(tmp_path: Path) -> None:
    store = made.make_store(tmp_path / "data")
    folder = made.make_release(store)
    with build.connect(store) as con:
        every = [r[0] for r in con.execute("SELECT trace_id FROM wide").fetchall()]
    pl.DataFrame({"trace_id": every}).write_parquet(folder / "part-00000.parquet")
    decided = pl.read_parquet(folder / "decisions.parquet").with_columns(is_kept=pl.lit(True))
    decided.write_parquet(folder / "decisions.parquet")
    (folder / "manifest.json").touch()  # else nothing says that the catalog is older
    text = page(collect(store, "sums"))
    assert "of 24 kept rows 2 have no verdict" in text
    assert "are exact copies of others" in text
    assert text.index("have no verdict") < text.index("<h2>Funnel")


def test_formulas_are_typeset_by_the_one_script_that_may_run(store: Store) -> None:
    data = collect(store, "sums")
    samples = [replace(s, prompt="What is $1 + 1$?") for s in data.samples]
    text = page(replace(data, samples=samples))
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert len(scripts) == 3
    policy = f"script-src {' '.join(repr(f'sha256-{h}') for h in hashes)}"
    assert policy in html.unescape(text.partition("<style>")[0])
    assert len(text) < 500_000


def test_it_is_written_beside_the_store_whole(store: Store) -> None:
    with open_release(store, "sums") as (con, name, version):
        paths = report.write_report(con, name, version, folder=store.root / "reports")
    assert paths.html == store.root / "reports" / "sums-v1.html"
    found = Page(paths.html.read_text("utf-8"))
    for words in ("Funnel", "13", "language_consistency = 1", "63.6 %", "Sample traces"):
        assert words in found.text
    assert "| right | yes | 24 | 10 | 10 | 10 | 1 |" in paths.markdown.read_text("utf-8")
    assert [p.name for p in paths.html.parent.iterdir() if p.name.startswith(".")] == []


def test_it_holds_no_script_and_fetches_nothing(data: ReportData) -> None:
    text = page(data)
    found = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(found.tags)
    names = {name for name, _ in found.attributes}
    assert not {"src", "href", "srcset", "action"} & names
    assert not [n for n in names if n.startswith("on")]
    assert not re.search(r"url\(|@import|https?://", text)
    assert "default-src 'none'; style-src 'unsafe-inline'; script-src 'none'" in html.unescape(text)


HOSTILE = (
    "</pre></details><script>alert(1)</script><img src=x onerror=alert(2)>"
    "\"'><b>&amp;\x1b[31m\x00\u202e```\n~~~\n# heading\n````"
)


@pytest.fixture
def hostile(tmp_path: Path) -> Store:
    """A store in which every text that somebody else writes is hostile."""
    store = Store(tmp_path / "data")
    prompt = Prompt.of(HOSTILE)
    source = PromptSource(
        prompt_id=prompt.prompt_id, source=HOSTILE, item=HOSTILE, gold=HOSTILE, verifier="math"
    )
    trace = made.trace(prompt, 0, HOSTILE * 400, model=HOSTILE)
    clean = {
        k: v.replace("\x00", "\x01") if isinstance(v, str) else v for k, v in trace.row("r").items()
    }
    store.table("prompts").add(pl.DataFrame([prompt.row("r")]))
    store.table("prompt_sources").add(pl.DataFrame([source.row("r")]))
    store.table("traces").add(pl.DataFrame([clean]))
    verdict = Verdict.failed(HOSTILE, decided_by="x", extracted=HOSTILE)
    store.table("verdicts.math@1").add(
        pl.DataFrame([made.verdict_row(trace.trace_id, HOSTILE, verdict)])
    )
    folder = store.root / "releases" / "bad" / "v1"
    folder.mkdir(parents=True)
    pl.DataFrame({"trace_id": [trace.trace_id]}).write_parquet(folder / "part-0.parquet")
    write_json(
        folder / "manifest.json",
        {
            "name": "bad", "version": "v1", "rows": 1, "recipe": {HOSTILE: HOSTILE},
            "filters": [{"name": HOSTILE, "sql": HOSTILE, "n_in": 1, "n_dropped": 0}],
        },
    )  # fmt: skip
    return store


def test_hostile_texts_stay_texts(hostile: Store) -> None:
    data = collect(hostile, "bad")
    text = page(data)
    found = Page(text)
    assert not {"script", "img"} & set(found.tags)
    assert "onerror" not in {name for name, _ in found.attributes}
    assert "\x1b" not in text
    assert "\x00" not in text
    assert found.text.count("alert(1)") > 3, "shown, not run"
    lines = report.markdown(data).splitlines()
    fences = [i for i, line in enumerate(lines) if re.fullmatch("`{5,}", line)]
    assert len(fences) == 2 * len(data.samples), "no text ends its own block"
    outside = [line for i, line in enumerate(lines) if i < fences[0]]
    assert "# heading" not in outside


def test_a_huge_trace_is_shortened_and_says_so(hostile: Store) -> None:
    data = collect(hostile, "bad")
    assert len(data.samples[0].text) > 40_000
    assert len(page(data)) < 90_000
    assert "characters left out" in page(data)


def test_a_release_without_decisions_or_scores_still_has_a_report(hostile: Store) -> None:
    data = collect(hostile, "bad")
    assert data.totals["n_universe"] == data.totals["n_kept"] == 1
    assert data.languages is None
    assert "the score" in page(data)
    assert data.totals["tokens_per_kept"] is not None


def test_a_release_that_cannot_be_read_says_so(store: Store, tmp_path: Path) -> None:
    other = made.make_store(tmp_path / "data")
    folder = made.make_release(other)
    (folder / "part-00000.parquet").unlink()
    data = collect(other, "sums")
    assert "part-00000.parquet is missing" in (data.problem or "")
    assert "part-00000.parquet is missing" in page(data)


def test_an_empty_release_divides_by_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    folder = store.root / "releases" / "none" / "v1"
    folder.mkdir(parents=True)
    write_json(folder / "manifest.json", {"name": "none", "version": "v1", "rows": 0})
    data = collect(store, "none")
    assert data.totals["pass_rate"] is None
    assert data.lengths is None
    Page(page(data))
    assert "pass rate –" in report.markdown(data)


def test_an_unknown_release_is_one_line(store: Store) -> None:
    with pytest.raises(UsageError, match="no release 'x': `factory ls` lists them"):
        collect(store, "x")
    with (
        open_release(store, "sums") as (con, name, _),
        pytest.raises(UsageError, match="no release 'sums/v9': `factory ls` lists them"),
    ):
        report.write_report(con, name, "v9", folder=store.root / "reports")


def test_many_groups_are_cut_and_that_is_said(tmp_path: Path) -> None:
    store = made.make_store(tmp_path / "data")
    rows = []
    for i in range(40):
        row = made.trace(made.prompts()[0], i, "x", model=f"model-{i:02}").row("r")
        rows.append(row)
    store.table("traces").add(pl.DataFrame(rows))
    folder = made.make_release(store, "v2")
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    assert manifest["n_universe"] == 64
    data = collect(store, "sums/v2")
    assert data.cost.note == "The 24 largest of 41 groups."
    assert data.cost.note in page(data)
    assert [r[0] for r in data.cost.rows] == sorted(r[0] for r in data.cost.rows)


def test_trainings_are_one_page_that_fetches_nothing(tmp_path: Path) -> None:
    store = made.make_store(tmp_path / "data")
    helpers_browse.add_rl(store, "run <b>one</b>")
    assert main(["report", "--runs", "--store", str(store.root)]) == 0
    page = (store.root / "reports" / "runs.html").read_text()
    assert "run &lt;b&gt;one&lt;/b&gt;" in page
    assert page.count("<figure>") >= 8
    assert 'aria-label="reward by step' in page
    drawn = re.findall(r'points="([^"]+)"', page)
    places = [float(n) for points in drawn for n in re.split("[ ,]", points)]
    assert 0 <= min(places) <= max(places) <= 420
    assert not re.search(r"(src|href)=|url\(|@import|<script", page)
