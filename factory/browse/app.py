"""The application: addresses, what each answers, and the one thing that can be written."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.datastructures import FormData, UploadFile
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from factory.browse import traces
from factory.browse.database import Database, Word
from factory.browse.guard import Guard
from factory.browse.pages import Pages
from factory.browse.render import HERE, environment, importmap
from factory.errors import FactoryError, UsageError
from factory.stages.review import WORDS, Reviewer, export_reviews, import_reviews
from factory.store import Store

MAX_MARKED = 5000


def make_app(
    store: Store, *, token: str, hosts: list[str], author: str, roots: list[Path]
) -> Guard:
    """Return the guarded application.

    Args:
        store: what is looked at.
        token: of the address.
        hosts: values of ``Host`` that are this server.
        author: who reviews.
        roots: folders under which trainings lie, beside the store's own.
    """
    browser = Browser(store, base=f"/t/{token}", author=author, roots=roots)
    app = GZipMiddleware(browser.app, minimum_size=1000)
    return Guard(app, token=token, hosts=hosts, inline=[importmap(browser.base)])


class Browser:
    """The pages of a store and what they share."""

    def __init__(self, store: Store, *, base: str, author: str, roots: list[Path]) -> None:
        self.store, self.base = store, base
        self.db = Database(store)
        self.reviewer = Reviewer(store, author=author)
        self.templates = environment(base)
        pages = Pages(self.db, [store.root / "models", *roots])
        show = self._page
        self.app = Starlette(
            routes=[
                Route("/", show("overview.html.j2", pages.overview)),
                Route("/traces", show("traces.html.j2", pages.traces)),
                Route("/facets", show("facets.html.j2", pages.facets)),
                Route("/search", show("hits.html.j2", pages.search)),
                Route("/trace/{key}", show("trace.html.j2", pages.trace)),
                Route("/trace/{key}/verdicts", show("verdicts.html.j2", pages.verdicts)),
                Route("/trace/{key}/raw", self._raw),
                Route("/prompt/{key}", show("prompt.html.j2", pages.prompt)),
                Route("/releases", show("releases.html.j2", pages.releases)),
                Route("/release/{name}/{version}", show("release.html.j2", pages.release)),
                Route("/compare", show("compare.html.j2", pages.compare)),
                Route("/sql", show("sql.html.j2", pages.sql)),
                Route("/runs", show("runs.html.j2", pages.runs)),
                Route("/run/{key}", show("run.html.j2", pages.run)),
                Route("/rl", show("rl.html.j2", pages.rl)),
                Route("/rollouts", show("rollouts.html.j2", pages.rollouts)),
                Route("/training", show("training.html.j2", pages.training)),
                Route("/review", self._review, methods=["POST"]),
                Route("/reviews", show("reviews.html.j2", pages.reviews)),
                Route("/reviews.jsonl", self._export),
                Route("/reviews/import", self._import, methods=["POST"]),
                Route("/refresh", self._refresh, methods=["POST"]),
                Mount("/static", _Static(directory=HERE / "static")),
            ],
            exception_handlers={404: self._nowhere},
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """End the run of reviews and close the catalog."""
        self.reviewer.close()
        self.db.close()

    # ---- answers

    def _page(self, template: str, page: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
        def answer(request: Request) -> Response:
            return self.answer(request, template, lambda: page(request))

        return answer

    def answer(
        self, request: Request, template: str, make: Callable[[], dict[str, Any]]
    ) -> Response:
        """Return a page, or a page that says in one line why there is none."""
        status = 200
        try:
            context = make()
        except FactoryError as error:
            status = 400 if isinstance(error, UsageError) else 500
            is_part = request.headers.get("hx-request") == "true"
            template = "problem.html.j2" if is_part else "error.html.j2"
            # htmx puts nothing into the page whose status is not 200.
            status = 200 if is_part else status
            context = {"problem": str(error)}
        shared = {
            "path": request.url.path, "author": self.reviewer.author, "words": WORDS,
            "store_name": str(self.store.root), "is_stale": self.db.look(),
            "built_at": self.db.built_at, "n_newer": len(self.db.words),
        }  # fmt: skip
        return HTMLResponse(
            self.templates.get_template(template).render(**shared, **context), status
        )

    def _nowhere(self, request: Request, _: Exception) -> Response:
        return PlainTextResponse("nothing is here\n", 404)

    def _raw(self, request: Request) -> Response:
        """A trace's text as it is, as plain text that no browser takes for anything else."""
        found = traces.text_of(self.db, request.path_params["key"])
        text = (found["prefill"] or "") + (found["completion"] or "")
        return PlainTextResponse(text)

    # ---- what is written

    async def _review(self, request: Request) -> Response:
        form = await request.form(max_files=0, max_fields=MAX_MARKED + 10)
        return await anyio.to_thread.run_sync(self._reviewed, request, form)

    def _reviewed(self, request: Request, form: FormData) -> Response:
        keys = [str(k) for k in form.getlist("trace_id")]
        review, note = form.get("review"), form.get("note")

        def make() -> dict[str, Any]:
            if not keys or len(keys) > MAX_MARKED:
                raise UsageError(f"{len(keys)} traces are marked", f"mark 1 to {MAX_MARKED:,}")
            found = traces.known_keys(self.db, keys)
            if found != set(keys):
                raise UsageError("a trace is not in this store", "bring the catalog up to date")
            word = str(review) if review else None
            text = str(note) if isinstance(note, str) and (note or not word) else None
            self.reviewer.add(keys, review=word, note=text)
            self.db.said(keys, Word(word, text, self.reviewer.author, "now"))
            if len(keys) > 1 or form.get("in_list"):
                return {"keys": keys, "review": word}
            row = traces.wide_rows(self.db, f"trace_id = '{keys[0]}'")[0]
            return {"row": row, "reviews": traces.reviews(self.db, keys[0]), "oob": False}

        many = len(keys) != 1 or form.get("in_list")
        answer = self.answer(request, "marked.html.j2" if many else "review.html.j2", make)
        if not many and answer.status_code == 200 and "hx-request" not in request.headers:
            # A key pressed before htmx has seen a new form sends the form as browsers do.
            return RedirectResponse(f"{self.base}/trace/{keys[0]}", 303)
        return answer

    def _export(self, request: Request) -> Response:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "reviews.jsonl"
            export_reviews(self.store, str(path))
            body = path.read_bytes()
        return Response(
            body,
            media_type="application/x-ndjson",
            headers={"content-disposition": 'attachment; filename="reviews.jsonl"'},
        )

    async def _import(self, request: Request) -> Response:
        form = await request.form(max_files=1, max_fields=4)
        upload = form.get("file")
        body = await upload.read() if isinstance(upload, UploadFile) else b""
        return await anyio.to_thread.run_sync(self._imported, request, body)

    def _imported(self, request: Request, body: bytes) -> Response:
        def make() -> dict[str, Any]:
            if not body:
                raise UsageError("no file came", "choose one that `factory reviews --out` wrote")
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "reviews.jsonl"
                path.write_bytes(body)
                new, known = import_reviews(self.store, str(path))
            self.db.refresh()
            return {"new": new, "known": known}

        return self.answer(request, "imported.html.j2", make)

    def _refresh(self, request: Request) -> Response:
        try:
            self.db.refresh()
        except FactoryError as error:
            return PlainTextResponse(f"{error}\n", 500)
        return RedirectResponse(f"{self.base}/", 303)


class _Static(StaticFiles):
    """Our own files; those of a version never change while the server runs."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "private, max-age=3600"
        return response
