"""Verdicts of stored traces: what is wanted and missing is computed, and appended.

Verdicts can be computed again at any time, so an interrupted run loses at most one batch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from factory import plugins
from factory.errors import FactoryError, UsageError
from factory.records import Item, Prompt, PromptSource, Verdict
from factory.stages.checker import Checker, is_no_fact, item_of, verdict_key, verdict_row
from factory.stages.reading import (
    OnCount,
    batches_of_texts,
    prompt_messages,
    read_pairs,
    read_sources,
)
from factory.store import Store, Table


@dataclass
class VerifyCounts:
    """What a verify run did, by ``verifier@VERSION``.

    Attributes:
        present: verdicts that were there before; new: verdicts appended.
        by_status: verdict status → new verdicts.
        unready: verifier → why it could not work here (unknown, no sandbox); its verdicts stay
            missing.
    """

    run_id: str
    present: Counter[str] = field(default_factory=Counter)
    new: Counter[str] = field(default_factory=Counter)
    by_status: Counter[str] = field(default_factory=Counter)
    unready: dict[str, str] = field(default_factory=dict)


def verify(
    store: Store,
    *,
    trace_ids: pl.Series | None = None,
    verifier: str | None = None,
    n_workers: int | None = None,
    on_count: OnCount | None = None,
    skip_unready: bool = False,
) -> VerifyCounts:
    """Give every stored trace the verdicts that its prompt's sources ask for and that it lacks.

    Args:
        store: where traces are and verdicts go.
        trace_ids: only these; None means all.
        verifier: only sources of this verifier (a path stands in for the verifier of its stem).
        n_workers: processes; default: the machine's cores.
        on_count: called after every batch.
        skip_unready: go on with the others where a verifier cannot work here.

    Raises:
        FactoryError: a verifier is unknown or cannot work here, unless that is skipped.
    """
    plugins.allow(verifier)
    counts = VerifyCounts(store.start_run("verify", {"verifier": verifier}))
    by_prompt: dict[str, list[PromptSource]] = {}
    for source in read_sources(store):
        by_prompt.setdefault(source.prompt_id, []).append(source)
    prompts = prompt_messages(store)
    names = sorted({s.verifier for v in by_prompt.values() for s in v if s.verifier})
    for name in names if verifier is None else [verifier]:
        stem = verifier_stem(name)
        try:
            checker = Checker(name, n_workers=n_workers)
        except FactoryError as error:
            if not skip_unready:
                raise
            counts.unready[name] = str(error).splitlines()[0]
            continue
        table = store.table(f"verdicts.{checker.label}")
        work = _verdict_work(store, table, by_prompt, stem, checker, trace_ids, counts)
        done = 0
        if on_count is not None:
            on_count(checker.label, done, len(work))
        with table.writer(counts.run_id) as writer:
            for rows in batches_of_texts(store, list(work), batch=1024):
                pairs = [(row, source) for row in rows for source in work[row["trace_id"]]]
                verdicts = checker.check(
                    [
                        item_of(Prompt(messages=prompts(source.prompt_id)), source, row)
                        for row, source in pairs
                    ],
                    [source.options for _, source in pairs],
                )
                out = [
                    verdict_row(row["trace_id"], source, checker, verdict, counts.run_id)
                    for (row, source), verdict in zip(pairs, verdicts, strict=True)
                ]
                kept = [r for r in out if not is_no_fact(r["reason"])]
                writer.append(kept)
                counts.new[checker.label] += len(kept)
                counts.by_status.update(r["status"] for r in kept)
                done += len(rows)
                if on_count is not None:
                    on_count(checker.label, done, len(work))
        table.seal()
    store.end_run(counts.run_id, {"new": dict(counts.new), "by_status": dict(counts.by_status)})
    return counts


def verify_shape(
    store: Store,
    verifier: str = "format",
    *,
    options: Mapping[str, Any] | None = None,
    trace_ids: pl.Series | None = None,
) -> VerifyCounts:
    """Run a verifier that needs no gold over stored traces (``<verifier>_status`` in wide).

    Args:
        store: where traces are and verdicts go.
        verifier: such as ``format``.
        options: its options.
        trace_ids: only these; None means all.
    """
    plugins.allow(verifier)
    counts = VerifyCounts(store.start_run("verify", {"verifier": verifier}))
    checker = Checker(verifier, options)
    table = store.table(f"verdicts.{checker.label}")
    present = store.table("traces").keys()
    if trace_ids is not None:
        present = present.filter(present.is_in(trace_ids.implode()))
    nobody = PromptSource(prompt_id="", source="", item="")
    keys = {verdict_key(t, nobody, checker): t for t in present}
    missing = table.missing(list(keys))
    counts.present[checker.label] += len(keys) - len(missing)
    with table.writer(counts.run_id) as writer:
        for rows in batches_of_texts(store, [keys[k] for k in missing], batch=2048):
            verdicts = checker.check([item_of(Prompt(messages=()), nobody, r) for r in rows])
            writer.append(
                [
                    verdict_row(row["trace_id"], nobody, checker, verdict, counts.run_id)
                    for row, verdict in zip(rows, verdicts, strict=True)
                ]
            )
            counts.new[checker.label] += len(rows)
            counts.by_status.update(v.status for v in verdicts)
    table.seal()
    store.end_run(counts.run_id, {"new": dict(counts.new)})
    return counts


def verifier_stem(name: str) -> str:
    """Return the verifier name that stored sources use for ``name``: a path's stem.

    >>> verifier_stem("my/math.py"), verifier_stem("math")
    ('math', 'math')
    """
    return name.rpartition("/")[2].removesuffix(".py")


def _verdict_work(
    store: Store,
    table: Table,
    by_prompt: Mapping[str, Sequence[PromptSource]],
    stem: str,
    checker: Checker,
    trace_ids: pl.Series | None,
    counts: VerifyCounts,
) -> dict[str, list[PromptSource]]:
    """Return, for each trace that lacks verdicts, the sources that ask for them."""
    keys: list[str] = []
    owners: list[tuple[str, PromptSource]] = []
    for frame in store.table("traces").batches(["trace_id", "prompt_id"]):
        wanted = (
            frame
            if trace_ids is None
            else frame.filter(pl.col("trace_id").is_in(trace_ids.implode()))
        )
        for trace_id, prompt_id in wanted.iter_rows():
            for source in by_prompt.get(prompt_id, ()):
                if source.gold is not None and verifier_stem(source.verifier or "") == stem:
                    keys.append(verdict_key(trace_id, source, checker))
                    owners.append((trace_id, source))
    missing = set(table.missing(keys).to_list())
    # Several sources with one gold ask for one verdict.
    counts.present[checker.label] += len(set(keys)) - len(missing)
    work: dict[str, list[PromptSource]] = {}
    for key, (trace_id, source) in zip(keys, owners, strict=True):
        if key in missing:
            missing.discard(key)
            work.setdefault(trace_id, []).append(source)
    return work


def diff_verdicts(store: Store, verifier: str) -> tuple[str, list[dict[str, Any]], int]:
    """Compare the verifier's present version with the newest stored one; nothing is written.

    Returns:
        Label of the present version, the changed rows (trace_id, before, after, extracted), and
        the number of verdicts that are the same.
    """
    plugins.allow(verifier)
    checker = Checker(verifier)
    stem = verifier_stem(verifier)
    tables = [t for t in store.tables() if t.startswith(f"verdicts.{stem}@")]
    if not tables:
        raise UsageError(
            f"no stored verdicts of {stem!r}", "run `factory verify --store DIR` first"
        )
    newest = max(tables, key=lambda t: int(t.rpartition("@")[2].partition("+")[0]))
    before = {row["verdict_id"]: row for row in store.table(newest).read().iter_rows(named=True)}
    sources: dict[str, list[tuple[Prompt, PromptSource]]] = {}
    for prompt, source in read_pairs(store):
        if source.gold is not None and verifier_stem(source.verifier or "") == stem:
            sources.setdefault(source.prompt_id, []).append((prompt, source))
    changed: list[dict[str, Any]] = []
    n_same = 0
    wanted = [row["trace_id"] for row in before.values()]
    for rows in batches_of_texts(store, wanted, batch=1024):
        work = [(r, p, s) for r in rows for p, s in sources.get(r["prompt_id"], ())]
        verdicts = checker.check(
            [item_of(p, s, r) for r, p, s in work], [s.options for _, _, s in work]
        )
        for (row, _, source), verdict in zip(work, verdicts, strict=True):
            old = before.get(verdict_key(row["trace_id"], source, checker))
            if old is None:
                continue
            if old["status"] == verdict.status:
                n_same += 1
                continue
            changed.append(
                {
                    "trace_id": row["trace_id"],
                    "before": old["status"],
                    "after": verdict.status,
                    "extracted": verdict.extracted,
                }
            )
    return f"{newest.removeprefix('verdicts.')} -> {checker.label}", changed, n_same


def check_golds(store: Store) -> tuple[int, list[dict[str, Any]]]:
    """Demand that every gold can be read, and, written as a completion, passes its own verifier.

    Those that pass themselves must not pass everything: the empty answer, and every one of a few
    wrong ones (``_passes_too_much``). A verifier that defines ``gold_fault(gold, **options)`` is
    asked as well: ``code`` names tests that most mutants of their reference pass, too.

    Returns:
        Number of golds checked, and those that do not pass: source, item, verifier, reason.
    """
    groups: dict[str, list[tuple[Prompt, PromptSource]]] = {}
    for prompt, source in read_pairs(store):
        if source.gold is not None and source.verifier is not None:
            groups.setdefault(source.verifier, []).append((prompt, source))
    n = 0
    failing: list[dict[str, Any]] = []
    for name, members in groups.items():
        try:
            checker = Checker(name)
        except FactoryError as error:
            n += len(members)
            failing += [_failing(source, str(error).splitlines()[0]) for _, source in members]
            continue
        make = getattr(checker.module, "as_completion", None)
        known = set(checker.known)
        sources, items, options, can_pass = [], [], [], []
        for prompt, source in members:
            own = {k: v for k, v in source.options.items() if k in known}
            try:
                completion = make(source.gold, **own) if make else ""
            except Exception as error:  # noqa: BLE001 - a plug-in's bug must not hide other golds
                n += 1
                failing.append(_failing(source, f"{type(error).__name__}: {error}"[:200]))
                continue
            # what cannot be written as a completion (tests without a reference solution) can
            # still be unreadable
            can_pass.append(bool(completion))
            sources.append(source)
            items.append(item_of(prompt, source, {"completion": completion or "x", "prefill": ""}))
            options.append(own)
        verdicts = checker.check(items, options)
        n += len(sources)
        failing += _passes_too_much(checker, sources, options, verdicts, make)
        passed = []
        for source, own, verdict, is_own in zip(sources, options, verdicts, can_pass, strict=True):
            if verdict.status == "unscored" or (is_own and verdict.status != "pass"):
                failing.append(_failing(source, verdict.reason or verdict.status))
            elif is_own:
                passed.append((source, own))
        failing += _faults(checker, passed)
    return n, failing


def _passes_too_much(
    checker: Checker,
    sources: Sequence[PromptSource],
    options: Sequence[Mapping[str, Any]],
    verdicts: Sequence[Verdict],
    make: Callable[..., str] | None,
) -> list[dict[str, Any]]:
    """Name golds that pass an empty answer, or every wrong one that is tried.

    Wrong ones are written from the gold with its last digit or letter changed, and from two other
    golds of the verifier. A verifier that defines ``gold_fault`` knows better ones, and one that
    passes without any gold, such as ``format``, has no wrong answers.
    """
    golds = list(dict.fromkeys(str(s.gold) for s in sources))
    tries: list[tuple[int, str, Item, Mapping[str, Any]]] = []
    for at, (source, own, verdict) in enumerate(zip(sources, options, verdicts, strict=True)):
        if verdict.status == "unscored":
            continue
        tries.append((at, "empty", Item(text="", gold=source.gold), own))
        if make is None or hasattr(checker.module, "gold_fault"):
            continue
        right = make(source.gold, **own)
        tries.append((at, "free", Item(text=right), own))
        others = [_changed(str(source.gold)), *[g for g in golds[:3] if g != str(source.gold)][:2]]
        wrong = {_made(make, other, own) for other in others if other} - {right, ""}
        tries += [(at, "wrong", Item(text=text, gold=source.gold), own) for text in wrong]
    found = checker.check([t[2] for t in tries], [t[3] for t in tries])
    passes: dict[tuple[int, str], list[bool]] = {}
    for (at, kind, _, _), verdict in zip(tries, found, strict=True):
        passes.setdefault((at, kind), []).append(verdict.status == "pass")
    faults = []
    for at, source in enumerate(sources):
        wrongs = passes.get((at, "wrong"), [])
        if any(passes.get((at, "empty"), [])):
            faults.append(_failing(source, "bad_gold: it passes an empty answer"))
        elif wrongs and all(wrongs) and not any(passes[at, "free"]):
            faults.append(_failing(source, f"bad_gold: it passes all {len(wrongs)} wrong answers"))
    return faults


def _made(make: Callable[..., str], gold: str, own: Mapping[str, Any]) -> str:
    try:
        return make(gold, **own)
    except Exception:  # noqa: BLE001 - the gold is one that we made up
        return ""


def _changed(gold: str) -> str:
    """Return another gold: the last digit, or an option's letter, is the next but two.

    >>> _changed("x = 15"), _changed("B"), _changed("yes")
    ('x = 18', 'E', '')
    """
    if re.fullmatch("[A-J]", gold.strip()):
        return chr(ord("A") + (ord(gold.strip()) - ord("A") + 3) % 10)
    digits = list(re.finditer("[0-9]", gold))
    if not digits:
        return ""
    at = digits[-1].start()
    return f"{gold[:at]}{(int(gold[at]) + 3) % 10}{gold[at + 1 :]}"


def _faults(
    checker: Checker, passed: list[tuple[PromptSource, dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Ask the verifier what else is wrong with golds that pass themselves, where it can tell."""
    fault_of = getattr(checker.module, "gold_fault", None)
    if fault_of is None:
        return []

    def ask(one: tuple[PromptSource, dict[str, Any]]) -> str | None:
        try:
            fault: str | None = fault_of(one[0].gold, **one[1])
        except Exception as error:  # noqa: BLE001 - a plug-in's bug must not hide other golds
            return f"{type(error).__name__}: {error}"[:200]
        return fault

    # Threads, since the programs run in boxes of their own.
    with ThreadPoolExecutor(checker.n_workers) as threads:
        faults = list(threads.map(ask, passed))
    return [_failing(source, f) for (source, _), f in zip(passed, faults, strict=True) if f]


def _failing(source: PromptSource, reason: str) -> dict[str, Any]:
    return {
        "source": source.source,
        "item": source.item,
        "verifier": source.verifier,
        "reason": reason,
    }
