"""Forget: a record and everything that was made from it leaves the store, and stays out.

In this order, so that a kill at any moment leaves something that the next call finishes: the
hashes of what goes are stored (from then on no writer takes it in again), tables are rewritten,
releases that hold any of it are replaced by a version without it, the judge's own store likewise,
catalog and reports are removed. Every call applies all hashes that were ever stored again.

What left the store (exports, pushed data sets, trained models) is named, not reached.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from factory.errors import StoreError, UsageError
from factory.records.ids import text_hash
from factory.stages import exported
from factory.stages.contents import Contents
from factory.stages.release import Release, manifests, open_release, publish, version_of, write_part
from factory.store import Store, now
from factory.store.durable import TMP_PREFIX, locked, sha256_file
from factory.store.forgotten import TABLE, Forgotten, prompt_text_key, trace_text_key
from factory.store.repair import DAMAGED
from factory.store.rewrite import count_rows, raw_batches, remove_rows

KIND = "forget"
_JUDGE = "judge"


@dataclass
class Forgetting:
    """What was forgotten, or would be.

    Attributes:
        prompts: keys of the prompts; traces: keys of the traces, those of the prompts included.
        rows: table → rows; judge tables as ``judge/…``.
        releases: ``name/version`` → the version in its place, None where nothing is left of it.
        beyond: what may still hold a copy and is not reached, a line each.
    """

    prompts: set[str] = field(default_factory=set)
    traces: set[str] = field(default_factory=set)
    rows: Counter[str] = field(default_factory=Counter)
    releases: dict[str, str | None] = field(default_factory=dict)
    beyond: list[str] = field(default_factory=list)


def forget(
    store: Store,
    keys: Iterable[str] = (),
    *,
    reason: str = "",
    dry_run: bool = False,
) -> Forgetting:
    """Remove prompts or traces and all made from them; without keys, finish what was begun.

    Args:
        store: the store.
        keys: of prompts (with all their traces) or of traces.
        reason: for the record of the run.
        dry_run: say what would go, and change nothing.

    Raises:
        UsageError: a key that the store does not have and did not forget.
        StoreError: a run is still writing; what is named stays out from now on, and the next call
            removes what is there.
        CorruptError: a file is damaged; nothing of it is changed.
    """
    before = store.forgotten()
    wanted = [k for k in dict.fromkeys(keys) if not before.has(k)]
    found = _closure(store, wanted)
    missing = [k for k in wanted if k not in found.prompts | found.traces]
    if missing:
        raise UsageError(
            f"nothing is stored under {missing[0][:80]!r}", "give the key of a prompt or a trace"
        )
    if dry_run:
        gone = Forgotten(before.hashes | found.prompts | found.traces)
        return _planned(store, found, gone)
    run_id = store.start_run(KIND, {"prompts": len(found.prompts), "traces": len(found.traces),
                                    "reason": reason})  # fmt: skip
    _store_hashes(store, found, run_id)
    _refuse_running(store)
    store.seal()
    _apply(store, found, store.forgotten())
    for record in unfinished(store):
        store.end_run(record, {"rows": dict(found.rows), "releases": found.releases})
    return found


def unfinished(store: Store) -> list[str]:
    """Return the runs of ``forget`` that were begun and did not end."""
    return [r["run_id"] for r in store.runs() if r.get("kind") == KIND and "ended_at" not in r]


# ---- what goes


def _closure(store: Store, keys: Sequence[str]) -> Forgetting:
    """Return the prompts and traces that the keys name, with all that hangs on them."""
    found = Forgetting()
    if not keys:
        return found
    wanted = set(keys)
    for frame in _stored(store, "prompts", ["prompt_id"]):
        found.prompts |= wanted & set(frame["prompt_id"])
    traces = [*_stored(store, "traces", ["trace_id", "prompt_id"])]
    owner = {t: p for f in traces for t, p in f.select("trace_id", "prompt_id").iter_rows()}
    found.traces = {t for t, p in owner.items() if t in wanted or p in found.prompts}
    # An import that read a prompt better wrote the same completion anew: it is one record.
    pairs = [
        pair
        for frame in _stored(store, "trace_updates", ["trace_id", "superseded_by"])
        for pair in frame.drop_nulls().iter_rows()
    ]
    grown = True
    while grown:
        linked = {t for a, b in pairs for t in (a, b) if {a, b} & found.traces}
        grown = not linked <= found.traces
        found.traces |= linked
    return found


def _stored(store: Store, name: str, columns: list[str]) -> Iterator[pl.DataFrame]:
    """Yield rows of a table, those of revoked runs and of open segments too."""
    if store.has(name):
        yield from store.table(name).batches(columns, with_revoked=True)


def _planned(store: Store, found: Forgetting, gone: Forgotten) -> Forgetting:
    store.seal()
    for name in store.tables():
        found.rows[name] = count_rows(store.table(name), gone)
    for release in _holding(store, gone):
        found.releases[f"{release.name}/{release.version}"] = None
        found.beyond += exported.of(store, release)
    return found


def _store_hashes(store: Store, found: Forgetting, run_id: str) -> None:
    """Store the keys, and the keys of the texts by which an import would know them again."""
    kinds = dict.fromkeys(found.prompts, "prompt") | dict.fromkeys(found.traces, "trace")
    texts: dict[str, str] = {}
    for frame in _stored(store, "prompts", ["prompt_id", "text"]):
        texts |= dict(frame.iter_rows())
    for key in found.prompts:
        kinds[prompt_text_key(texts.get(key) or "")] = "prompt text"
    hashes = ["trace_id", "prompt_id", "text_hash", "completion"]
    for frame in _stored(store, "traces", hashes):
        mine = frame.filter(pl.col("trace_id").is_in(sorted(found.traces)))
        for _, prompt_id, digest, text in mine.iter_rows():
            digest = digest or text_hash(text or "")
            kinds[trace_text_key(texts.get(prompt_id) or "", digest)] = "trace text"
    if kinds:
        at = now()
        rows = [(key, kind, at, run_id) for key, kind in kinds.items()]
        names = list(store.table(TABLE).form.columns)
        store.table(TABLE).add(pl.DataFrame(rows, schema=names, orient="row"))


def _refuse_running(store: Store) -> None:
    living = store.living_runs()
    if living:
        raise StoreError(
            f"run {living[0]} is still writing",
            "what is named is taken in no more; `factory forget` removes it once the run has ended",
        )


# ---- how it goes


def _apply(store: Store, found: Forgetting, gone: Forgotten) -> None:
    for name in store.tables():
        found.rows[name], unread = remove_rows(store.table(name), gone)
        found.beyond += [f"{path} is damaged and may hold some of it" for path in unread]
    names = {r.name for r in _holding(store, gone)}
    for name in sorted(names):
        _forget_releases(store, name, found, gone)
    for path in store.root.glob(f"releases/*/{TMP_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)  # of a killed release; a living one says so
    _forget_judge(store, found, gone)
    with locked(store.root / ".catalog.lock", timeout_s=600):
        for path in [
            *store.root.glob("catalog.duckdb*"),
            *store.root.glob(f"{TMP_PREFIX}*duckdb*"),
        ]:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if (store.root / DAMAGED).is_dir():
        found.beyond.append(f"{store.root / DAMAGED} holds what a repair set aside")


def _holding(store: Store, gone: Forgotten) -> Iterator[Release]:
    """Yield the releases that hold a forgotten record, oldest first."""
    for folder in sorted((store.root / "releases").glob("*")):
        if not folder.is_dir():
            continue
        for path, _ in manifests(store, folder.name):
            release = open_release(store, folder.name, path.parent.name)
            if any(gone.mask(f).any() for f in release.parts(["trace_id", "prompt_id"])):
                yield release


def _forget_releases(store: Store, name: str, found: Forgetting, gone: Forgotten) -> None:
    for path, _ in manifests(store, name):
        release = open_release(store, name, path.parent.name)
        if not any(gone.mask(f).any() for f in release.parts(["trace_id", "prompt_id"])):
            continue
        label = f"{name}/{release.version}"
        found.beyond += exported.of(store, release)
        found.releases[label] = _replaced(store, release, gone)
        store.ledger.note([path], there=False)
        shutil.rmtree(release.folder)
        for report in (store.root / "reports").glob(f"{name}-{release.version}.*"):
            report.unlink()


def _replaced(store: Store, release: Release, gone: Forgotten) -> str | None:
    """Write the version without the forgotten rows; return it, None where nothing is left."""
    work = release.folder.parent / f"{TMP_PREFIX}without-{release.version}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    contents, n_gone = Contents(), 0
    parts: list[dict[str, Any]] = []
    kept: list[pl.DataFrame] = []
    for frame in release.parts():
        rest = frame.filter(~gone.mask(frame))
        n_gone += frame.height - rest.height
        if rest.height:
            contents.add(rest)
            parts.append(write_part(work, len(parts), rest))
            kept.append(rest.drop("messages", "completion", "reasoning", "answer", strict=False))
    if not kept:
        shutil.rmtree(work)
        return None
    keys = pl.concat(kept, how="diagonal_relaxed")
    decisions = release.decisions()
    decisions = decisions.filter(~gone.mask(decisions))
    decisions.write_parquet(work / "decisions.parquet", compression="zstd")
    made: dict[str, Any] = {
        **release.manifest,
        "version": version_of(keys),
        "created_at": now(),
        "rows": keys.height,
        "prompts": keys["prompt_id"].n_unique(),
        "n_universe": decisions.height,
        **contents.row(),
        "parts": parts,
        "decisions_sha256": sha256_file(work / "decisions.parquet"),
        "replaces": [*release.manifest.get("replaces", []), release.version],
        "n_forgotten": release.manifest.get("n_forgotten", 0) + n_gone,
    }
    publish(store, made, work)
    shutil.rmtree(work, ignore_errors=True)
    return str(made["version"])


def _forget_judge(store: Store, found: Forgetting, gone: Forgotten) -> None:
    """Forget what the judge was asked about these traces: its prompts quote them."""
    folder = store.root / _JUDGE
    if not (folder / "store.json").exists():
        return
    own = Store(folder, create=False)
    asked: set[str] = set()
    for frame in raw_batches(own.table("prompt_sources"), ["prompt_id", "item"]):
        asked |= {p for p, item in frame.iter_rows() if item and gone.has(item)}
    made = forget(own, asked)
    found.rows.update({f"{_JUDGE}/{name}": n for name, n in made.rows.items()})
    found.beyond += made.beyond
