"""What people do with the browser, done in Chromium at three widths, and what axe-core says of it.

Every page that a flow reaches is held against the same rules: nothing is asked from elsewhere, no
script fails, nothing is wider than the window, it weighs at most 1.5 MB, and axe-core (4.14.1, in
``tests/browser``, MPL-2.0) finds no serious fault.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.stages.select import Selection, select
from factory.store import Store
from tests import helpers_browse

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
AXE = ROOT / "tests" / "browser" / "axe.min.js"
WIDTHS = (1280, 768, 390)
MAX_BYTES = 1_500_000
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def serving(root: Path) -> Iterator[str]:
    """Run ``factory browse`` on a store and yield its address."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "factory", "browse", "--store", str(root), "--author", "ada"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip().rstrip("/")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert all("ended_at" in run for run in Store(root).runs() if run["kind"] == "review")


class Walk:
    """One visitor: a page of the browser and the rules that every page is held against."""

    def __init__(self, browser: Any, base: str, width: int) -> None:
        self.base, self.width = base, width
        height = 900 if width > 500 else 800
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.elsewhere: list[str] = []
        self.faults: list[str] = []
        self.n_bytes = 0
        self.page.on("request", self._request)
        self.page.on("response", self._response)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on(
            "console",
            lambda m: self.faults.append(m.text) if m.type in ("error", "warning") else None,
        )

    def _request(self, request: Any) -> None:
        if not request.url.startswith((f"{self.base}/", "data:")) and request.url != self.base:
            self.elsewhere.append(request.url)

    def _response(self, response: Any) -> None:
        if response.request.is_navigation_request():
            self.n_bytes = 0
        with contextlib.suppress(Exception):
            self.n_bytes += len(response.body())

    def open(self, path: str) -> None:
        self.page.goto(self.base + path)
        self.settle()

    def settle(self) -> None:
        self.page.wait_for_load_state("load")
        self.page.wait_for_selector(
            ".htmx-request, [hx-trigger=load] > p.soft:only-child", state="detached"
        )

    def click(self, selector: str, *, nth: int = 0) -> None:
        self.page.locator(selector).nth(nth).click()
        self.settle()

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)

    def text(self, selector: str = "main") -> str:
        return re.sub(r"\s+", " ", self.page.locator(selector).first.text_content())

    def n(self, selector: str) -> int:
        return int(self.page.locator(selector).count())

    def hold(self, name: str) -> None:
        """Hold the page against the rules; its picture is kept where one asks for it."""
        folder = os.environ.get("FACTORY_SCREENSHOTS")
        if folder:
            self.page.screenshot(path=f"{folder}/{name}-{self.width}.png")
        assert self.elsewhere == []
        assert self.faults == []
        over = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert over <= 0, f"{name} is {over} px too wide at {self.width}"
        assert self.n_bytes <= MAX_BYTES
        if self.width == 768:  # the same elements as at 1280
            return
        self.page.evaluate(AXE.read_text("utf-8"))
        found = self.page.evaluate("axe.run().then(r => r.violations)")
        serious = [
            f"{v['id']}: {v['nodes'][0]['html'][:160]}"
            for v in found
            if v["impact"] in ("serious", "critical")
        ]
        assert serious == [], f"{name} at {self.width}"


def why_dropped(walk: Walk) -> None:
    walk.open("/")
    walk.hold("overview")
    walk.click("text=sums >> nth=-1")
    walk.open("/release/sums/v1")
    walk.hold("release")
    walk.click(".funnel a:text-is('readable')")
    assert walk.n(".rows .row") == 1
    walk.click(".rows .go")
    says = walk.text(".why")
    assert "drops readable" in says
    assert "language_consistency = 0.75" in says
    walk.hold("trace")


def compare_releases(walk: Walk) -> None:
    walk.open("/releases")
    walk.hold("releases")
    walk.click("button:text('Compare a with b')")
    assert "filtershort–completion_words < 9" in walk.text()
    walk.hold("compare")
    walk.click("p a >> nth=0")
    assert walk.n(".rows .row") == 3


def rollouts_at_a_drop(walk: Walk) -> None:
    walk.open("/runs")
    walk.hold("runs")
    walk.click(f"a.go:has-text('{helpers_browse.RL_RUN}')")
    walk.page.wait_for_selector(".chart svg")
    assert walk.n(".chart svg") == walk.n(".chart") >= 6
    walk.click(".remark a:text('step 16')")
    walk.page.wait_for_selector("#rollouts .group-of")
    shown = walk.text("#rollouts")
    assert "reward 1 +0.750 (+1.50)" in shown
    assert "reward 0 -0.250 (-0.50)" in shown
    walk.hold("rl")
    walk.click("#rollouts li a.mono")
    assert "rollout of zero-math, step 16" in walk.text(".trace-head")


def a_point_leads_to_its_rollouts(walk: Walk) -> None:
    walk.open(f"/rl?run={helpers_browse.RL_RUN}")
    walk.page.wait_for_selector(".chart svg .mark-symbol path")
    walk.page.locator(".chart svg .mark-symbol path").nth(9).click(force=True)
    walk.page.wait_for_selector("#rollouts .group-of")
    assert "step 10" in walk.text("#rollouts")


def two_runs_and_trainings(walk: Walk) -> None:
    walk.open("/runs")
    for i in range(2):
        walk.page.locator("input[name=run]").nth(i).check()
    walk.click("button:text('Compare the marked ones') >> nth=0")
    walk.page.wait_for_selector(".chart svg")
    assert "zero-math" in walk.text(".chart svg")
    assert "zero-again" in walk.text(".chart svg")
    walk.open("/runs")
    for i in range(3):
        walk.page.locator("input[name=folder]").nth(i).check()
    walk.click("button:text('Compare the marked ones') >> nth=1")
    walk.page.wait_for_selector(".chart svg")
    assert "student-c: not finished" in walk.text()
    walk.hold("training")


def narrow_and_sort(walk: Walk) -> None:
    walk.open("/traces")
    walk.page.wait_for_selector("#facets .facet", state="attached")
    if walk.width <= 860:
        walk.click(".side-fold > summary")
    walk.click(".facet a:has-text('fail')")
    n = walk.n(".rows .row")
    assert n
    assert walk.n(".badge.fail") >= n
    walk.page.locator("#sort").select_option(label="n_completion_tokens")
    walk.page.wait_for_url("**sort=n_completion_tokens**")
    walk.settle()
    values = walk.page.locator(".sorted b").all_inner_texts()
    assert values == sorted(values, key=int, reverse=True)
    walk.hold("traces")
    walk.click(".piece")
    assert walk.n(".rows .row") == 50


def search_in_texts(walk: Walk) -> None:
    walk.open("/traces")
    walk.press("/")
    walk.page.keyboard.type("sum must")
    walk.press("Enter")
    walk.page.wait_for_selector(".hits .end")
    assert walk.n("article.hit") == 11
    assert walk.n("article.hit mark") == 11
    walk.hold("search")
    walk.click("article.hit a")
    assert "sum must" in walk.page.locator("details.thinking").text_content()


def ask_in_sql(walk: Walk) -> None:
    walk.open("/sql")
    walk.page.fill("#query", "SELECT trace_id, status FROM wide ORDER BY 1 LIMIT 3")
    walk.press("Control+Enter")
    walk.page.wait_for_selector("td a")
    assert "factory sql 'SELECT trace_id" in walk.text()
    walk.hold("sql")
    walk.click("td a")
    assert walk.n(".trace-head") == 1


def read_with_keys(walk: Walk) -> None:
    walk.open("/traces?status=pass&source=doubles")
    walk.press("j")
    walk.press("j")
    walk.press("x")
    assert walk.page.locator(".rows input:checked").count() == 1
    walk.press("Enter")
    walk.page.wait_for_selector(".trace-head")
    walk.settle()
    assert walk.n(".text mark.answer .katex") == 1, "the answer's box is typeset"
    walk.press("m")
    assert walk.n(".katex") == 0
    walk.press("m")
    walk.press("t")
    assert walk.page.locator("details.thinking").get_attribute("open") is not None
    first = walk.page.url
    walk.press("j")
    walk.page.wait_for_url(lambda url: url != first)
    walk.press("?")
    assert walk.page.locator("#keys").is_visible()
    walk.hold("keys")


def side_by_side(walk: Walk) -> None:
    walk.open("/traces?item=2&status=pass")
    walk.click(".rows .go")
    walk.click("text=side by side")
    assert walk.n(".beside.many article") >= 4
    walk.hold("prompt")


def review_one(walk: Walk) -> None:
    walk.open("/traces?source=sums&status=pass")
    walk.click(".rows .go")
    walk.press("2")
    walk.page.wait_for_selector("#review .on.drop")
    walk.press("n")
    walk.page.keyboard.type(f" seen at {walk.width}")
    walk.press("Enter")
    walk.press("Escape")
    walk.press("0")  # while the note may still be on its way
    walk.page.wait_for_selector("#review button.on", state="detached")
    walk.hold("reviewed")
    walk.open("/reviews")
    assert f"seen at {walk.width}" in walk.text()
    walk.hold("reviews")


FLOWS: list[Callable[[Walk], None]] = [
    why_dropped, compare_releases, rollouts_at_a_drop, a_point_leads_to_its_rollouts,
    two_runs_and_trainings, narrow_and_sort, search_in_texts, ask_in_sql, read_with_keys,
    side_by_side, review_one,
]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("chromium") / "data"
    helpers_browse.make_store(root)
    with serving(root) as address:
        yield address


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
def test_a_flow(chromium: Any, base: str, flow: Callable[[Walk], None], width: int) -> None:
    walk = Walk(chromium, base, width)
    try:
        flow(walk)
        assert walk.elsewhere == []
        assert walk.faults == []
    finally:
        walk.context.close()


def test_forms_that_no_script_submits_are_taken(chromium: Any, tmp_path: Path) -> None:
    store = helpers_browse.make_store(tmp_path / "data")
    with serving(store.root) as address:
        context = chromium.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(f"{address}/traces?source=sums&status=pass")
        page.locator(".rows .go").first.click()
        page.locator("#review button[value=drop]").click()
        assert page.locator("#review button.on.drop").count() == 1
        page.goto(f"{address}/reviews")
        with page.expect_download() as download:
            page.locator("a[download]").click()
        download.value.save_as(tmp_path / "reviews.jsonl")
        page.locator("#file").set_input_files(tmp_path / "reviews.jsonl")
        page.locator("text=Take in").click()
        assert "0 new reviews, 1 were there" in page.locator("main").text_content()
        context.close()


def test_twenty_rows_are_marked_and_a_release_is_made_without_them(
    chromium: Any, tmp_path: Path
) -> None:
    store = helpers_browse.make_store(tmp_path / "data")
    with serving(store.root) as address:
        walk = Walk(chromium, address, 1280)
        walk.open("/traces?model=policy-zero-math&status=pass")
        for i in range(20):
            walk.page.locator(".rows input[type=checkbox]").nth(i).check()
        walk.click("#marking button[value=drop]")
        walk.page.wait_for_selector(".row .rev.drop")
        assert walk.n(".row .rev.drop") == 20
        assert "20 traces: drop" in walk.text("#said")
        walk.hold("marked")
        walk.context.close()

    def kept(filters: dict[str, str]) -> int:
        recipe = Selection(filters=filters, exact_duplicates=None)
        return select(store, recipe, verifiers=["math"], scores=[]).kept.height

    right = {"right": "status = 'pass'"}
    reviewed = {**right, "reviewed": "review IS DISTINCT FROM 'drop'"}
    assert kept(right) - kept(reviewed) == 20
