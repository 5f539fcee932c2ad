"""The browser's pages: what they show, who is let in, and that hostile texts stay texts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import polars as pl
import pytest
from starlette.datastructures import QueryParams
from starlette.testclient import TestClient

from catalogs.marks import halves
from factory.browse.app import make_app
from factory.browse.render import HERE
from factory.browse.view import View
from factory.errors import UsageError
from factory.records import Prompt, PromptSource, Verdict
from factory.store import Store
from tests import helpers_catalog as made

TOKEN = "a-token-of-24-characters"
HOST = "127.0.0.1:8765"
BASE = f"/t/{TOKEN}"
POST = {"origin": f"http://{HOST}"}
HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"><svg onload=alert(1)>",
    "javascript:alert(1)", "{{ 7 * 7 }}", "{% raw %}", "${7*7}", "</textarea><script>1</script>",
    "</title><script>1</script>", "<!--", "]]>", "<style>*{display:none}</style>",
    "<base href=//evil>", "<meta http-equiv=refresh content=0>", "<iframe src=//evil></iframe>",
    "<form action=//evil><input name=x>", "<a href=\"javascript:alert(1)\">x</a>",
    "' OR 1=1 --", "'; DROP TABLE wide; --", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07",
    "\x1b]8;;http://evil\x1b\\x", "\x07\x08\x0b\x0c", "\u202eevil\u202c", "\u2066x\u2069",
    "\u200f\u200e", "\u200b\u2060\ufeff", "\u2028\u2029", "&lt;script&gt;", "&#x3c;script&#x3e;",
    "\\href{javascript:alert(1)}{x}", "$\\htmlClass{x}{y}$", "\\includegraphics{http://evil/x}",
    "$\\def\\a{\\a\\a}\\a$", "hx-get=/review hx-trigger=load", "<div hx-post='/review'>",
    "<details open ontoggle=alert(1)>", "\U000e0041\U000e0042", "data:text/html,<script>1</script>",
    "%3Cscript%3E", "\ud83d\ude00", "a" * 5000 + "<b>",
]  # fmt: skip


class Seen(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def client_of(store: Store, roots: list[Path] | None = None) -> TestClient:
    app = make_app(store, token=TOKEN, hosts=[HOST], author="ada", roots=roots or [])
    return TestClient(app, base_url=f"http://{HOST}", follow_redirects=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = made.make_store(tmp_path_factory.mktemp("browse") / "data")
    made.make_release(store)
    return store


@pytest.fixture(scope="module")
def client(store: Store) -> Iterator[TestClient]:
    with client_of(store) as client:
        yield client


def keys(client: TestClient, query: str = "") -> list[str]:
    page = client.get(f"{BASE}/traces{query}").text
    return list(dict.fromkeys(re.findall(r'data-key="([0-9a-f]{32})"', page)))


# ---- who is let in


OUTSIDE: list[tuple[str, str, dict[str, str], int]] = [
    ("GET", f"{BASE}/", {"host": "evil.example"}, 421),
    ("GET", f"{BASE}/", {"host": "127.0.0.1"}, 421),
    ("GET", f"{BASE}/", {"host": "127.0.0.1:8765.evil.example"}, 421),
    ("GET", f"{BASE}/", {"host": "localhost:8765"}, 421),
    ("GET", "/", {}, 403),
    ("GET", "/traces", {}, 403),
    ("GET", "/t/wrong-token/traces", {}, 403),
    ("GET", f"/t/{TOKEN}x/traces", {}, 403),
    ("GET", f"/t/{TOKEN[:-1]}/traces", {}, 403),
    ("GET", "/static/app.js", {}, 403),
    ("GET", f"{BASE}/", {"origin": "http://evil.example"}, 403),
    ("GET", f"{BASE}/", {"origin": "null"}, 403),
    ("GET", f"{BASE}/", {"sec-fetch-site": "cross-site"}, 403),
    ("GET", f"{BASE}/", {"sec-fetch-site": "same-site"}, 403),
    ("POST", f"{BASE}/review", {}, 403),
    ("POST", f"{BASE}/review", {"origin": "http://evil.example"}, 403),
    ("POST", f"{BASE}/review", {"origin": "https://127.0.0.1:8765"}, 403),
    ("POST", "/review", POST, 403),
    ("POST", f"{BASE}/review", {**POST, "content-length": str(1 << 30)}, 413),
    ("PUT", f"{BASE}/review", POST, 405),
    ("DELETE", f"{BASE}/traces", POST, 405),
    ("POST", f"{BASE}/traces", POST, 405),
    ("GET", f"{BASE}/review", {}, 405),
    ("GET", f"{BASE}/static/../app.py", {}, 404),
    ("GET", f"{BASE}/static/%2e%2e/app.py", {}, 404),
    ("GET", f"{BASE}/static/..%2f..%2fcli/main.py", {}, 404),
    ("GET", f"{BASE}/static//etc/passwd", {}, 404),
    ("GET", f"{BASE}/trace/..%2f..%2fstore.json", {}, 404),
    ("GET", f"{BASE}/training?folder=/etc", {}, 400),
]


@pytest.mark.parametrize(("method", "path", "headers", "status"), OUTSIDE)
def test_requests_from_outside_get_nothing(
    client: TestClient, store: Store, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    key = keys(client)[0]
    answer = client.request(method, path, headers=headers, content=f"trace_id={key}&review=drop")
    assert answer.status_code == status
    assert "store.json" not in answer.text
    assert key not in answer.text
    assert not store.has("reviews") or store.table("reviews").n_rows() == 0


@pytest.mark.parametrize(
    "query",
    [
        "COPY wide TO '/tmp/x.csv'", "SELECT * FROM '/etc/passwd'", "SELECT 1; SELECT 2",
        "SET memory_limit = '1TB'",
    ],
)  # fmt: skip
def test_sql_that_is_no_question_of_the_catalog_is_refused(client: TestClient, query: str) -> None:
    box = client.get(f"{BASE}/sql?{urlencode({'query': query})}").text
    assert 'role="alert"' in box
    assert "root:" not in box
    where = client.get(f"{BASE}/traces?{urlencode({'where': f'true) ; {query} --'})}")
    assert where.status_code == 400


def test_pages_forbid_what_they_do_not_need(client: TestClient) -> None:
    headers = client.get(f"{BASE}/").headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "script-src 'self' 'sha256-" in policy
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"


# ---- hostile texts


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, list[str]]]:
    """A store in which every text that somebody else writes is hostile."""
    store = Store(tmp_path_factory.mktemp("hostile") / "data")
    rows: dict[str, list[dict[str, Any]]] = {}
    for i, text in enumerate(t.encode("utf-16", "surrogatepass").decode("utf-16") for t in HOSTILE):
        prompt = Prompt.of(f"{i} {text}")
        source = PromptSource(
            prompt_id=prompt.prompt_id, source=text[:200], item=text[:200], gold=text,
            verifier="math", domain=text[:200],
        )  # fmt: skip
        trace = made.trace(prompt, 0, f"{text}</think>{text}", model=text[:200])
        verdict = Verdict.failed(text[:200], decided_by=text[:100], extracted=text)
        for table, row in (
            ("prompts", prompt.row("r")), ("prompt_sources", source.row("r")),
            ("traces", trace.row("r")),
            ("verdicts.math@1", made.verdict_row(trace.trace_id, text, verdict)),
        ):  # fmt: skip
            rows.setdefault(table, []).append(row)
    for table, found in rows.items():
        store.table(table).add(pl.DataFrame(found, infer_schema_length=None))
    traces = [row["trace_id"] for row in rows["traces"]]
    folder = store.root / "releases" / "bad" / "v1"
    folder.mkdir(parents=True)
    pl.DataFrame({"trace_id": traces}).write_parquet(folder / "part-0.parquet")
    filters = [{"name": t, "sql": t, "n_in": 1, "n_dropped": 0} for t in HOSTILE[:36]]
    (folder / "manifest.json").write_text(
        json.dumps({"name": "bad", "version": "v1", "rows": len(traces), "filters": filters})
    )
    with client_of(store) as client:
        yield client, traces


def assert_harmless(page: str) -> None:
    seen = Seen(page)
    ours = [v for tag, name, v in seen.attributes if tag == "script" and name == "src"]
    assert all(v.startswith(f"{BASE}/static/") for v in ours)
    assert page.count("<script") == len(ours) + page.count('<script type="importmap">')
    assert not seen.tags & {"iframe", "base", "style", "img", "object", "embed"}
    assert not [n for _, n, _ in seen.attributes if n.startswith("on")]
    hrefs = [
        v for _, n, v in seen.attributes if n in ("href", "action", "src", "hx-get", "hx-post")
    ]
    assert all(v.startswith((f"{BASE}/", "#main")) for v in hrefs)
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e0fff]", page
    )


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_text_is_shown_and_does_nothing(
    hostile: tuple[TestClient, list[str]], number: int
) -> None:
    client, traces = hostile
    page = client.get(f"{BASE}/trace/{traces[number]}")
    assert page.status_code == 200
    assert_harmless(page.text)
    if HOSTILE[number].isascii() and HOSTILE[number].isprintable():
        assert Seen(page.text).text.count(HOSTILE[number][:60]) >= 3


def test_hostile_texts_do_nothing_on_any_page(hostile: tuple[TestClient, list[str]]) -> None:
    client, _ = hostile
    pages = ["/", "/traces", "/facets", "/releases", "/release/bad/v1", "/runs", "/reviews"]
    pages += [f"/search?q={quote(t[:20])}" for t in HOSTILE[:20]]
    pages += [f"/traces?q={quote(t[:100])}&model={quote(t[:100])}" for t in HOSTILE[:10]]
    pages += [f"/sql?query={quote(t)}" for t in HOSTILE[:4]]
    pages += ["/sql?query=" + quote("SELECT source, model, extracted FROM wide")]
    for path in pages:
        answer = client.get(BASE + path)
        assert answer.status_code == 200, path
        assert_harmless(answer.text)


# ---- what the pages show


def test_why_a_row_was_dropped(client: TestClient) -> None:
    (key,) = keys(client, "?release=sums/v1&dropped=readable")
    text = re.sub(r"\s+", "", Seen(client.get(f"{BASE}/trace/{key}").text).text)
    assert "dropsreadablelanguage_consistency=1language_consistency=0.75" in text
    assert "keepsright" in text
    assert "droppedsumsv1" in text


def test_the_funnel_leads_to_the_traces_that_it_counts(client: TestClient) -> None:
    page = client.get(f"{BASE}/release/sums/v1").text
    hrefs = [v.partition("traces")[2] for t, n, v in Seen(page).attributes if n == "href"]
    counts = {h: len(keys(client, h)) for h in hrefs if h.startswith("?release")}
    assert counts["?release=sums%2Fv1&dropped=right"] == 10
    assert counts["?release=sums%2Fv1&dropped=right&only=1"] == 10
    assert counts["?release=sums%2Fv1&undefined=right"] == 1
    assert counts["?release=sums%2Fv1&kept=yes"] == 13
    assert counts["?release=sums%2Fv1&kept=no"] == 11


@pytest.mark.parametrize(
    ("query", "n"),
    [
        ("", 24), ("?status=fail", 8), ("?status=fail&status=pass", 22), ("?status=no+verdict", 1),
        ("?source=sums&status=pass", 6), ("?where=n_completion_tokens+%3E+5", 24),
        ("?reason=%E2%88%85", 15), ("?tokens=under+1k", 24), ("?one_language=no", 1),
        ("?status=pass&where=item+%3D+%276%27", 4), ("?model=nobody", 0),
    ],
)  # fmt: skip
def test_a_view_is_its_address(client: TestClient, query: str, n: int) -> None:
    assert len(keys(client, query)) == n


@pytest.mark.parametrize("sort", ["", "reward", "item", "seconds", "status", "n_completion_tokens"])
@pytest.mark.parametrize("down", ["", "1"])
def test_pages_by_keys_give_every_row_once_in_both_directions(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, sort: str, down: str
) -> None:
    everything = sorted(keys(client))
    monkeypatch.setattr("factory.browse.traces.PAGE_ROWS", 7)
    path: str = f"/traces?{urlencode({'sort': sort, 'down': down})}"
    pages = []
    while path:
        page = client.get(BASE + path).text
        pages.append(re.findall(r'data-key="([0-9a-f]{32})"', page))
        found = re.search(rf'rel="next" href="{BASE}([^"]+)"', page)
        last, path = path, found[1].replace("&amp;", "&") if found else ""
    assert sorted(key for page in pages for key in page) == everything
    assert [len(p) for p in pages] == [7, 7, 7, 3]
    back = []
    path = last
    while path:
        page = client.get(BASE + path).text
        back.append(re.findall(r'data-key="([0-9a-f]{32})"', page))
        found = re.search(rf'rel="prev" href="{BASE}([^"]+)"', page)
        path = found[1].replace("&amp;", "&") if found else ""
    assert back[::-1] == pages


def test_facets_count_the_view(client: TestClient) -> None:
    seen = Seen(client.get(f"{BASE}/facets?source=sums").text)
    assert "Verdict 4" in " ".join(seen.text.split())
    assert "Source 1 sums12" in " ".join(seen.text.split())


def searched(client: TestClient, path: str) -> Iterator[str]:
    """Yield the answers to a search, stretch by stretch: each ends after a third of a second."""
    while path:
        page = client.get(BASE + path).text
        yield page
        following = re.search(rf'hx-get="{BASE}([^"]+)"', page)
        path = following[1].replace("&amp;", "&") if following else ""


@pytest.mark.parametrize(
    ("query", "parts"),
    [
        ("q=must+be", ["thinking"] * 11), ("q=MUST+BE", ["thinking"] * 11),
        ("q=MUST+BE&case=1", []), ("q=boxed%7B8%7D", ["answer"] * 4),
        ("q=is+3+%2B+3", ["prompt"]), ("q=must+be&in=answers", []),
        ("q=boxed%7B8%7D&status=fail", ["answer"]),
    ],
)  # fmt: skip
def test_search_finds_in_the_view_and_says_where(
    client: TestClient, query: str, parts: list[str]
) -> None:
    page = "\n".join(searched(client, f"/search?{query}"))
    assert re.findall(r'class="chip">(\w+)<', page) == parts
    assert f"{len(parts)} hit" in page


def test_search_goes_on_where_it_stopped(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.browse.search.HITS", 5)
    pages = list(searched(client, "/search?q=the+sum"))
    found = re.findall(rf"{BASE}/trace/([0-9a-f]{{32}})", "\n".join(pages))
    assert len(found) == len(set(found)) == 24
    assert len(pages) >= 5


def test_two_releases_compared(client: TestClient, store: Store) -> None:
    page = Seen(client.get(f"{BASE}/compare?a=sums/v1&b=sums/v1").text).text
    assert "13" in page
    assert client.get(f"{BASE}/compare?a=sums/v1&b=nobody").status_code == 400


def test_the_sql_box_answers_with_the_command(client: TestClient) -> None:
    page = client.get(f"{BASE}/sql?query=SELECT+count(*)+AS+n+FROM+wide").text
    seen = " ".join(Seen(page).text.split())
    assert "factory sql 'SELECT count(*) AS n FROM wide'" in seen
    assert ">24<" in page


@pytest.mark.parametrize("path", ["/trace/zz", "/trace/" + "0" * 32, "/prompt/x", "/run/none",
                                  "/rl?run=x", "/traces?sort=x", "/traces?after=x",
                                  "/search?q=x&place=1-2", "/release/none/v1"])  # fmt: skip
def test_what_is_not_there_is_one_line(client: TestClient, path: str) -> None:
    answer = client.get(BASE + path)
    assert answer.status_code == 400
    assert "Traceback" not in answer.text


# ---- marks


@pytest.mark.parametrize(
    ("text", "row", "kind", "marked"),
    [
        ("<think>\nI 所以 add</think>4", {"mixed_spans": '[[3,5,"zh"]]'}, "mixed", ["所以"]),
        ("I 所以 add", {"mixed_spans": '[[2,4,"zh"]]'}, "mixed", ["所以"]),
        ("<think>go go go go", {"loop_start": 7, "loop_chars": 11}, "loop", ["go go go go"]),
        ("<think>a</think>b<|im_start|>c", {}, "tag", ["<|im_start|>"]),
        ("<think>a</think>4<|im_end|>", {}, "tag", []),
        ("<think>a</think><answer>4</answer>", {}, "tag", []),
        ("<think>a</think>so $x = \\boxed{4}$.", {"extracted": "4"}, "answer",
         ["$x = \\boxed{4}$"]),
        ("<think>\\boxed{4}</think>it is 4", {"extracted": "4"}, "answer", ["4"]),
        ("<think>a</think>\\boxed{\\frac{1}{2}}", {"extracted": "0.5"}, "answer",
         ["\\boxed{\\frac{1}{2}}"]),
        ("<think>a</think>", {"extracted": "4", "mixed_spans": "no json"}, "answer", []),
    ],
)  # fmt: skip
def test_what_is_marked(text: str, row: dict[str, Any], kind: str, marked: list[str]) -> None:
    found = [p.text for half in halves(text, row) for p in half.pieces if kind in p.kind.split()]
    assert found == marked


def test_a_huge_trace_is_cut_in_the_middle_and_says_so() -> None:
    thinking, _ = halves("<think>" + "x" * 1_000_000 + "</think>4", {})
    assert thinking.n_cut == 600_000
    assert "600,000 characters left out" in "".join(p.text for p in thinking.pieces)


# ---- review


def test_reviews_are_shown_at_once_and_in_filters(tmp_path: Path) -> None:
    store = made.make_store(tmp_path / "data")
    made.make_release(store)
    with client_of(store) as client:
        a, b, c, *rest = keys(client)
        for data in (
            {"trace_id": a, "review": "drop"}, {"trace_id": [b, c], "review": "keep"},
            {"trace_id": a, "note": "<i>bad</i>"}, {"trace_id": c, "review": "none"},
        ):  # fmt: skip
            answer = client.post(
                f"{BASE}/review", data=data, headers={**POST, "hx-request": "true"}
            )
            assert answer.status_code == 200
            assert "problem" not in answer.text
        # A form that htmx has not seen yet is sent as browsers do, and comes back to its page.
        answer = client.post(f"{BASE}/review", data={"trace_id": c, "note": ""}, headers=POST)
        assert (answer.status_code, answer.headers["location"]) == (303, f"{BASE}/trace/{c}")
        for _ in range(2):  # before and after the catalog is built anew
            assert keys(client, "?review=drop") == [a]
            assert keys(client, "?review=keep") == [b]
            assert set(keys(client, "?where=review+IS+DISTINCT+FROM+'drop'")) == {b, c, *rest}
            assert "&lt;i&gt;bad&lt;/i&gt;" in client.get(f"{BASE}/trace/{a}").text
            assert client.post(f"{BASE}/refresh", headers=POST).status_code == 303
        exported = client.get(f"{BASE}/reviews.jsonl").text
        assert len(exported.splitlines()) == 6
        assert {json.loads(line)["author"] for line in exported.splitlines()} == {"ada"}
    other = made.make_store(tmp_path / "other")
    with client_of(other) as client:
        files = {"file": ("reviews.jsonl", exported.encode())}
        answer = client.post(f"{BASE}/reviews/import", files=files, headers=POST)
        assert "6 new reviews" in answer.text
        assert keys(client, "?review=drop") == [a]


@pytest.mark.parametrize(
    "data",
    [{}, {"trace_id": "x", "review": "drop"}, {"trace_id": "0" * 32, "review": "drop"},
     {"review": "drop"}, {"trace_id": "KEY", "review": "maybe"}, {"trace_id": "KEY"},
     {"trace_id": "KEY", "note": "x" * 20_000}, {"trace_id": "' OR 1=1 --", "review": "drop"}],
)  # fmt: skip
def test_a_review_of_nothing_writes_nothing(
    client: TestClient, store: Store, data: dict[str, str]
) -> None:
    key = keys(client)[0]
    sent = {k: v.replace("KEY", key) for k, v in data.items()}
    answer = client.post(f"{BASE}/review", data=sent, headers=POST)
    assert answer.status_code == 400
    assert not store.has("reviews") or store.table("reviews").n_rows() == 0


# ---- files


def test_vendored_files_are_those_of_their_packages() -> None:
    vendor = HERE / "static" / "vendor"
    rows = json.loads((vendor / "files.json").read_text())
    listed = {row["file"] for row in rows}
    there = {str(p.relative_to(vendor)) for p in vendor.rglob("*") if p.is_file()}
    assert {t for t in there if not t.endswith(("LICENSE", "files.json"))} == listed
    for row in rows:
        digest = hashlib.sha256((vendor / row["file"]).read_bytes()).hexdigest()
        assert digest == row["sha256"], row["file"]
        licences = list((vendor / row["file"]).parents[0].glob("LICENSE*"))
        licences += list((vendor / row["file"]).parents[1].glob("LICENSE*"))
        assert licences, row["file"]


def test_a_page_weighs_less_than_a_megabyte_and_a_half() -> None:
    static = HERE / "static"
    own = sum((static / n).stat().st_size for n in ("app.js", "app.css", "charts.js", "icon.svg"))
    htmx = (static / "vendor/htmx/htmx.min.js").stat().st_size
    katex = sum(p.stat().st_size for p in (static / "vendor/katex").rglob("*") if p.is_file())
    vega = sum(p.stat().st_size for p in (static / "vendor/vega").iterdir())
    assert own + htmx + katex < 1_000_000
    assert own + htmx + vega < 1_500_000


def test_a_view_refuses_what_it_cannot_read() -> None:
    with pytest.raises(UsageError):
        View.read(QueryParams(f"where={'x' * 5000}"), {"trace_id": "VARCHAR"})
