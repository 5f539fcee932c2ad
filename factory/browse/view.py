"""A view: which traces a page is about, as the address says it, and the SQL of that.

Everything that narrows a view stands in its address, so that a view can be kept, sent and gone
back to. The same words make the command that prints it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

import orjson
from starlette.datastructures import QueryParams

from factory.errors import UsageError
from factory.store.wide import literal, quoted

PAGE_ROWS = 50
MAX_WHERE = 4000
FACETS: Mapping[str, str] = {
    "status": "coalesce(status, 'no verdict')",
    "reason": "reason",
    "review": "coalesce(review, 'not yet')",
    "model": "model",
    "source": "source",
    "split": "split",
    "domain": "domain",
    "level": "level",
    "prompt_language": "prompt_language",
    "lang": "lang",
    "one_language": "CASE WHEN language_consistency = 1 THEN 'yes' WHEN language_consistency >= .9 "
    "THEN 'nearly' WHEN language_consistency IS NOT NULL THEN 'no' END",
    "has_loop": "CASE WHEN has_loop THEN 'yes' WHEN NOT has_loop THEN 'no' END",
    "tokens": "CASE WHEN n_completion_tokens < 1000 THEN 'under 1k' "
    "WHEN n_completion_tokens < 4000 THEN '1k to 4k' "
    "WHEN n_completion_tokens < 16000 THEN '4k to 16k' "
    "WHEN n_completion_tokens IS NOT NULL THEN '16k and more' END",
    "finish_reason": "finish_reason",
    "verifier": "verifier",
    "run_id": "run_id",
}
"""Facet → SQL of its value. One whose columns a store lacks is left out."""
TITLES = {
    "status": "Verdict", "reason": "Reason", "review": "Review", "model": "Model",
    "source": "Source", "split": "Split", "domain": "Domain", "level": "Level",
    "prompt_language": "Prompt language", "lang": "Language", "one_language": "One language",
    "has_loop": "Loop", "tokens": "Length", "finish_reason": "Ended by", "verifier": "Verifier",
    "run_id": "Run",
}  # fmt: skip
_NEEDS = {"lang": "lang", "one_language": "language_consistency", "has_loop": "has_loop"}
NULL = "∅"
"""Stands in addresses for a value that is not there."""


def facets_of(columns: Mapping[str, str]) -> dict[str, str]:
    """Return the facets whose columns are there."""
    return {n: sql for n, sql in FACETS.items() if _NEEDS.get(n, n) in columns or n == "tokens"}


@dataclass(frozen=True)
class View:
    """Which traces, in which order.

    Attributes:
        facets: facet → values, any of which a trace may have.
        release: ``name/version`` whose universe is looked at, or empty.
        kept: ``yes``: its rows; ``no``: what it dropped; empty: its whole universe.
        dropped: name of a filter of it that dropped the trace.
        only: whether no other filter dropped it.
        undefined: name of a filter that was undefined for it.
        also, lacks: another release that has, or has not, the trace.
        prompt: of one prompt alone.
        where: a predicate that a user wrote.
        sort: column; empty: by trace.
        down: whether from the largest.
    """

    facets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    release: str = ""
    kept: str = ""
    dropped: str = ""
    only: bool = False
    undefined: str = ""
    also: str = ""
    lacks: str = ""
    prompt: str = ""
    where: str = ""
    sort: str = ""
    down: bool = False

    # ---- addresses

    @classmethod
    def read(cls, query: QueryParams, columns: Mapping[str, str]) -> View:
        """Read an address; what it does not know is left out.

        Raises:
            UsageError: a column that is not there, or a predicate that is too long.
        """
        facets = {
            name: tuple(dict.fromkeys(query.getlist(name)))
            for name in facets_of(columns)
            if query.getlist(name)
        }
        sort = query.get("sort", "")
        if sort and sort not in columns:
            raise UsageError(
                f"no column {sort[:60]!r} to sort by", "`factory show wide` lists them"
            )
        where = query.get("where", "").strip()
        if len(where) > MAX_WHERE:
            raise UsageError("the predicate is too long", f"at most {MAX_WHERE:,} characters")
        return cls(
            facets,
            **{n: query.get(n, "") for n in ("release", "kept", "dropped", "undefined")},
            **{n: query.get(n, "") for n in ("also", "lacks", "prompt")},
            only=query.get("only") == "1",
            where=where,
            sort=sort,
            down=query.get("down") == "1",
        )

    def pairs(self) -> list[tuple[str, str]]:
        """Return the address as names and values."""
        out = [(name, value) for name, values in self.facets.items() for value in values]
        for name in ("release", "kept", "dropped", "undefined", "also", "lacks", "prompt", "where"):
            if getattr(self, name):
                out.append((name, getattr(self, name)))
        out += [("sort", self.sort)] if self.sort else []
        out += [(name, "1") for name in ("only", "down") if getattr(self, name)]
        return out

    def address(self, **extra: str) -> str:
        """Return the query of an address, with more behind it; begins with a question mark."""
        return "?" + urlencode([*self.pairs(), *((k, v) for k, v in extra.items() if v)])

    def toggled(self, facet: str, value: str) -> View:
        """Return the view with a facet's value added, or taken away where it is there."""
        old = self.facets.get(facet, ())
        new = tuple(v for v in old if v != value) if value in old else (*old, value)
        facets = {**self.facets, facet: new}
        return replace(self, facets={k: v for k, v in facets.items() if v})

    def sorted_by(self, column: str) -> View:
        """Return the view in the order of a column, turned around where it is so already."""
        down = not self.down if self.sort == column else True
        return replace(self, sort=column, down=down)

    def without(self, name: str) -> View:
        """Return the view without one of its bounds."""
        if name == "release":
            return replace(self, release="", kept="", dropped="", only=False, undefined="")
        changed: dict[str, Any] = {name: False if name in ("only", "down") else ""}
        return replace(self, **changed)

    @property
    def is_all(self) -> bool:
        """Whether nothing narrows it."""
        return not replace(self, sort="", down=False).pairs()

    # ---- SQL

    def condition(self, columns: Mapping[str, str], *, where: str | None = None) -> str:
        """Return the SQL condition over ``wide``: ``true`` where nothing narrows.

        Args:
            columns: of ``wide``.
            where: what to put in the place of the user's own predicate.
        """
        known = facets_of(columns)
        parts = []
        for name, values in self.facets.items():
            plain = ", ".join(literal(v) for v in values if v != NULL)
            either = [f"{known[name]} IN ({plain})"] if plain else []
            either += [f"{known[name]} IS NULL"] if NULL in values else []
            parts.append(either[0] if len(either) == 1 else f"({' OR '.join(either)})")
        parts += self._of_release()
        for name, word in (("also", "IN"), ("lacks", "NOT IN")):
            if getattr(self, name):
                rows = f"FROM release_rows WHERE {_named(getattr(self, name))}"
                parts.append(f"trace_id {word} (SELECT trace_id {rows})")
        if self.prompt:
            parts.append(f"prompt_id = {literal(self.prompt)}")
        if where is not None:
            parts.append(where)
        elif self.where:
            # The line break ends a comment that the predicate may end with.
            parts.append(f"({self.where}\n)")
        return " AND ".join(parts) or "true"

    def _of_release(self) -> list[str]:
        if not self.release:
            return []
        decided = [_named(self.release)]
        if self.dropped:
            decided.append(f"list_contains(dropped_by, {literal(self.dropped)})")
        if self.only:
            decided.append("len(dropped_by) = 1")
        if self.undefined:
            decided.append(f"list_contains(undefined_by, {literal(self.undefined)})")
        rows = f"SELECT trace_id FROM release_rows WHERE {_named(self.release)}"
        table = f"SELECT trace_id FROM release_decisions WHERE {' AND '.join(decided)}"
        if self.kept == "yes":
            return [f"trace_id IN ({rows})"]
        if self.kept == "no":
            return [f"trace_id IN ({table})", f"trace_id NOT IN ({rows})"]
        if len(decided) > 1:
            return [f"trace_id IN ({table})"]
        # A release without its decisions has its rows alone.
        return [f"trace_id IN ({table} UNION ALL {rows})"]

    def order(self, *, back: bool = False) -> str:
        """Return ``ORDER BY``'s columns; ``back``: the other way round."""
        turn = {False: "ASC", True: "DESC"}
        down, ids = self.down != back, turn[back]
        if not self.sort:
            return f"trace_id {ids}"
        nulls = "FIRST" if back else "LAST"
        return f"{quoted(self.sort)} {turn[down]} NULLS {nulls}, trace_id {ids}"

    def beyond(self, mark: str, kinds: Mapping[str, str], *, back: bool = False) -> str:
        """Return the condition of what comes after a row (or before it), for paging by keys.

        Args:
            mark: of ``mark_of`` that row.
            kinds: columns of ``wide`` with their types.
            back: what comes before it.

        Raises:
            UsageError: the mark is none.
        """
        value, key = _unmarked(mark, bool(self.sort))
        ids = f"trace_id {'<' if back else '>'} {literal(key)}"
        if not self.sort:
            return ids
        column = quoted(self.sort)
        if value is None:
            return f"({column} IS NULL AND {ids})" + (f" OR {column} IS NOT NULL" if back else "")
        there = f"CAST({literal(str(value))} AS {kinds[self.sort]})"
        sign = ">" if self.down == back else "<"
        beyond = f"{column} {sign} {there} OR ({column} = {there} AND {ids})"
        return f"{beyond}" if back else f"{beyond} OR {column} IS NULL"

    def mark_of(self, row: Mapping[str, Any]) -> str:
        """Return what stands in an address for the place of a row."""
        value = row.get(self.sort) if self.sort else None
        return orjson.dumps([value, row["trace_id"]], default=str).decode()

    def command(self, columns: Mapping[str, str]) -> str:
        """Return the command that prints the same rows."""
        text = (
            "SELECT trace_id, status, reason, model, source, item, extracted FROM wide WHERE "
            f"{' '.join(self.condition(columns).split())} ORDER BY {self.order()}"
        )
        return f"factory sql {shlex.quote(text)}"


def _named(release: str) -> str:
    name, _, version = release.partition("/")
    return f"release = {literal(name)} AND version = {literal(version)}"


def _unmarked(mark: str, has_value: bool) -> tuple[Any, str]:
    try:
        value, key = orjson.loads(mark)
    except (ValueError, TypeError):
        value, key = None, None
    if not isinstance(key, str) or isinstance(value, list | dict):
        raise UsageError("the address does not say where the page begins", "go to the first page")
    return (value if has_value else None), key


def facet_sql(names: Sequence[str], known: Mapping[str, str], condition: str) -> str:
    """Return SQL that counts all facets in one pass: facet's number, value, traces.

    Args:
        names: facets, in order.
        known: facet → SQL of its value.
        condition: over ``wide``.
    """
    inner = ", ".join(f"{known[n]} AS f{i}" for i, n in enumerate(names))
    sets = ", ".join(f"(f{i})" for i in range(len(names)))
    masks = {i: sum(1 << (len(names) - 1 - j) for j in range(len(names)) if j != i)
             for i in range(len(names))}  # fmt: skip
    number = "CASE g " + " ".join(f"WHEN {m} THEN {i}" for i, m in masks.items()) + " END"
    value = "CASE g " + " ".join(f"WHEN {m} THEN f{i}::VARCHAR" for i, m in masks.items()) + " END"
    columns = ", ".join(f"f{i}" for i in range(len(names)))
    return (
        f"SELECT {number} AS facet, {value} AS value, n FROM (SELECT {columns}, "
        f"grouping_id({columns}) AS g, count(*) AS n FROM (SELECT {inner} FROM wide "
        f"WHERE {condition}) GROUP BY GROUPING SETS ({sets})) "
        "QUALIFY row_number() OVER (PARTITION BY facet ORDER BY n DESC, value) <= 40 "
        "ORDER BY facet, n DESC, value"
    )
