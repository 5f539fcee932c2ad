"""What each address shows: the request read, the store asked, the template's values returned."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path
from typing import Any

from starlette.requests import Request

from catalogs.query import MAX_ROWS, named_queries, text_of
from factory.browse import releases, runs, traces
from factory.browse.database import Database
from factory.browse.search import Place, search
from factory.browse.view import TITLES, View, facets_of
from factory.errors import UsageError

SQL_S = 30.0
MAX_CELL = 400
_TRACE = re.compile("[0-9a-f]{32}")
NAMES = {
    "release": "release", "kept": "kept", "dropped": "dropped by", "only": "by it alone",
    "undefined": "undefined", "also": "also in", "lacks": "not in", "prompt": "prompt",
    "where": "where",
}  # fmt: skip


class Pages:
    """The pages of a store.

    Args:
        db: its catalog.
        roots: folders under which trainings lie.
    """

    def __init__(self, db: Database, roots: list[Path]) -> None:
        self.db, self.roots = db, roots
        self._overview: tuple[tuple[int, int], dict[str, Any]] | None = None

    # ---- traces

    def overview(self, request: Request) -> dict[str, Any]:
        """Return what the store holds: counts, facets, releases, what runs."""
        stamp = (self.db.generation, len(self.db.words))
        if self._overview is None or self._overview[0] != stamp:
            counted = self.db.ask(
                "SELECT count(*) AS n_traces, count(DISTINCT prompt_id) AS n_prompts, "
                "count(DISTINCT model) AS n_models, count(*) FILTER (status = 'pass') AS n_pass, "
                "count(*) FILTER (status IN ('pass', 'fail')) AS n_scored, "
                "count(*) FILTER (status IS NULL) AS n_unverified, "
                "sum(n_completion_tokens) AS n_tokens, "
                "count(*) FILTER (finish_reason = 'length') AS n_truncated FROM catalog.wide"
            ).dicts()[0]
            facets = traces.facets(self.db, View())
            self._overview = (stamp, {"counts": counted, "facets": facets})
        return {
            **self._overview[1],
            "view": View(),
            "shelf": releases.shelf(self.db)[:8],
            "running": [r for r in runs.executions(self.db) if r["state"] == "running"],
            "rl": runs.rl_runs(self.db.store)[:5],
        }

    def traces(self, request: Request) -> dict[str, Any]:
        """Return a page of traces."""
        query = request.query_params
        view = View.read(query, self.db.columns)
        context: dict[str, Any] = {
            "view": view, "q": query.get("q", ""), "where_only": query.get("in", "all"),
            "case": query.get("case", ""), "pieces": self._pieces(view),
            "columns": list(self.db.columns), "command": view.command(self.db.columns),
            "n_facets": len(facets_of(self.db.columns)),
        }  # fmt: skip
        if context["q"]:
            return {**context, "rows": [], "after": "", "before": "", "n": None}
        page = traces.page_of(
            self.db, view, after=query.get("after", ""), before=query.get("before", "")
        )
        return {**context, **page, "n": traces.count(self.db, view)}

    def _pieces(self, view: View) -> list[dict[str, str]]:
        """What narrows the view, each with the address of the view without it."""
        out = [
            {"name": TITLES[facet], "value": value, "href": view.toggled(facet, value).address()}
            for facet, values in view.facets.items()
            for value in values
        ]
        for name, title in NAMES.items():
            value = getattr(view, name)
            if value:
                shown = "yes" if value is True else str(value)
                out.append({"name": title, "value": shown, "href": view.without(name).address()})
        return out

    def facets(self, request: Request) -> dict[str, Any]:
        """Return the facets of a view, for the side of its list."""
        view = View.read(request.query_params, self.db.columns)
        return {"facets": traces.facets(self.db, view), "view": view}

    def search(self, request: Request) -> dict[str, Any]:
        """Return what a stretch of a search found."""
        query = request.query_params
        view = View.read(query, self.db.columns)
        options = {name: query.get(name, "") for name in ("q", "in", "case")}
        found = search(
            self.db,
            view,
            options["q"],
            place=Place.read(query.get("place", "")),
            where="answers" if options["in"] == "answers" else "all",
            any_case=not options["case"],
        )
        n_before = int(query.get("n", "0")) if query.get("n", "0").isdecimal() else 0
        n = n_before + len(found.hits)
        options = {k: v for k, v in options.items() if v}
        following = ""
        if found.place is not None:
            following = view.address(place=str(found.place), n=str(n), **options)
        # On its own until a page is full; then the reader asks.
        is_full = n // 50 > n_before // 50
        return {"found": found, "n": n, "following": following, "is_full": is_full, "view": view}

    def trace(self, request: Request) -> dict[str, Any]:
        """Return one trace with its why and its place in the view that it was found in."""
        begun = time.perf_counter()
        view = View.read(request.query_params, self.db.columns)
        page = traces.trace_page(self.db, request.path_params["key"])
        around = {"previous": "", "next": ""}
        if view.sort in page["row"] or not view.sort:
            around = traces.neighbours(self.db, view, page["row"])
        students = releases.lineage(releases.trainings(self.roots), page["decisions"])
        return {
            **page, "view": view, **around, "students": students,
            "command": f"factory show {page['row']['trace_id'][:12]}",
            "rollout": self._rollout(page["row"]),
            "seconds": time.perf_counter() - begun,
            "others": _others(page["row"]), "oob": False,
        }  # fmt: skip

    def _rollout(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """Return run and step of a trace that a policy made while it learned."""
        run, _, rest = str(row.get("revision") or "").partition("@")
        step = rest.partition("#")[0]
        if not rest or not step.isdecimal() or not self.db.store.has("rollouts"):
            return None
        return {"run": run, "step": int(step) + 1}

    def verdicts(self, request: Request) -> dict[str, Any]:
        """Return all verdicts on a trace."""
        return {"verdicts": traces.verdicts(self.db, request.path_params["key"])}

    def prompt(self, request: Request) -> dict[str, Any]:
        """Return a prompt's traces side by side."""
        return traces.side_by_side(self.db, request.path_params["key"])

    # ---- releases

    def releases(self, request: Request) -> dict[str, Any]:
        """Return all releases."""
        return {"shelf": releases.shelf(self.db)}

    def release(self, request: Request) -> dict[str, Any]:
        """Return a release as its report says it, with the ways into its traces."""
        name, version = releases.named(
            self.db, f"{request.path_params['name']}/{request.path_params['version']}"
        )
        students = [
            t for t in releases.trainings(self.roots) if releases.learned_from(t, name, version)
        ]
        return {
            "data": releases.measured(self.db, name, version),
            "full": f"{name}/{version}",
            "others": [s for s in releases.shelf(self.db) if s["version"] != version],
            "students": students,
        }

    def compare(self, request: Request) -> dict[str, Any]:
        """Return what changed between two releases."""
        names = [request.query_params.get(side, "") for side in ("a", "b")]
        shelf = releases.shelf(self.db)
        if not all(names):
            return {"shelf": shelf, "a": names[0], "b": names[1], "sections": []}
        a, b = (releases.named(self.db, n) for n in names)
        return {
            "shelf": shelf, "a": "/".join(a), "b": "/".join(b),
            "sections": releases.compared(self.db, a, b),
        }  # fmt: skip

    # ---- SQL

    def sql(self, request: Request) -> dict[str, Any]:
        """Return the box, and the answer where something is asked."""
        text = request.query_params.get("query", "").strip()
        context: dict[str, Any] = {
            "text": text, "named": named_queries(), "answer": None, "problem": "",
            "command": f"factory sql {shlex.quote(text)}" if text else "", "limit": MAX_ROWS,
        }  # fmt: skip
        if text:
            try:
                if "review" in text and self.db.words:
                    self.db.refresh()
                context["expanded"] = text_of(text)
                context["answer"] = self.db.ask_user(text, max_rows=MAX_ROWS, timeout_s=SQL_S)
            except UsageError as error:
                context["problem"] = str(error)
        return context

    # ---- runs

    def runs(self, request: Request) -> dict[str, Any]:
        """Return executions, RL runs, trainings and evaluations."""
        return {
            "executions": runs.executions(self.db)[:200],
            "rl": runs.rl_runs(self.db.store),
            "trainings": releases.trainings(self.roots),
            "evaluations": runs.evaluations(self.db.store)[:200],
        }

    def run(self, request: Request) -> dict[str, Any]:
        """Return one execution."""
        return runs.execution(self.db, request.path_params["key"])

    def rl(self, request: Request) -> dict[str, Any]:
        """Return the curves of one RL run, or of several on the same axes."""
        names = request.query_params.getlist("run")
        smooth = _smooth(request)
        curves = runs.rl_curves(self.db.store, names)
        rewards = next((c for c in curves if c["name"] == "reward"), None)
        known = {r["rl_run"]: r for r in runs.rl_runs(self.db.store)}
        return {
            "names": names, "smooth": smooth, "known": known,
            "charts": [(c["name"], runs.chart(c, smooth=smooth)) for c in curves],
            "drops": runs.drops(rewards["points"]) if rewards else [],
            "is_running": any(known[n]["state"] == "running" for n in names if n in known),
        }  # fmt: skip

    def rollouts(self, request: Request) -> dict[str, Any]:
        """Return the groups behind a step."""
        name, step = request.query_params.get("run", ""), request.query_params.get("step", "")
        if not step.isdecimal():
            raise UsageError("the address names no step", "choose a point of a curve")
        found = runs.groups(self.db.store, name, int(step))
        prompts = traces.prompt_texts(self.db, {g["prompt_id"] for g in found}, limit=300)
        return {"run": name, "step": int(step), "groups": found, "prompts": prompts}

    def training(self, request: Request) -> dict[str, Any]:
        """Return the curves of trainings, named by their folders."""
        wanted = request.query_params.getlist("folder")
        found = [t for t in releases.trainings(self.roots) if str(t["folder"]) in wanted]
        if not found:
            raise UsageError("no such training", "the page of runs lists them")
        smooth = _smooth(request)
        curves = runs.sft_curves(found)
        return {
            "trainings": found, "smooth": smooth, "names": wanted,
            "charts": [(c["name"], runs.chart(c, smooth=smooth)) for c in curves],
            "others": [t for t in releases.trainings(self.roots) if t not in found],
            "evaluations": [
                e for e in runs.evaluations(self.db.store)
                if any(t["folder"].name in str(e.get("model")) for t in found)
            ],
        }  # fmt: skip

    # ---- reviews

    def reviews(self, request: Request) -> dict[str, Any]:
        """Return the last reviews."""
        if not self.db.store.has("reviews"):
            return {"rows": [], "n": 0}
        frame = self.db.store.table("reviews").read()
        rows = frame.sort("created_at", "review_id", descending=True).head(300).to_dicts()
        return {"rows": rows, "n": frame.height}


def _smooth(request: Request) -> int:
    text = request.query_params.get("smooth", "2")
    return min(int(text), 50) if text.isdecimal() else 2


_SHOWN_ELSEWHERE = {
    "trace_id", "prompt_id", "status", "reason", "reward", "extracted", "decided_by", "review",
    "review_note", "reviewed_by", "reviewed_at", "mixed_spans",
}  # fmt: skip


def _others(row: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(k, v) for k, v in row.items() if k not in _SHOWN_ELSEWHERE and v is not None]
