"""Verification: the one runner behind ``factory verify``, the closed loop and the rewards.

The same verifier with the same options gives the same verdict everywhere. Cheap steps (``quick``)
are settled in the caller's process; the rest goes to a pool whose clock the parent owns.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from factory import plugins
from factory.errors import UsageError
from factory.records import Item, Prompt, PromptSource, Verdict, ids
from factory.records.text import clean_text, trace_text
from factory.stages.gold_faults import GoldFaults
from factory.workers import Outcome, Pool

_TARGET = "factory.stages.checker:verify_in_worker"


class Checker:
    """A verifier with its options; thread-safe and picklable.

    Args:
        name: verifier's name or path to a ``.py`` file.
        options: the verifier's own options, such as ``mode`` for ``math``.
        n_workers: processes for what is not cheap; default: the machine's cores.

    Raises:
        PluginError: no such verifier.
        UsageError: an option that it does not know.
        Refused: it cannot work safely on this machine (the code verifier without a sandbox).

    >>> checker = Checker("math", {"mode": "boxed"})
    >>> checker.check([Item(text="so \\\\boxed{4}", gold="4")])[0].status
    'pass'
    """

    def __init__(
        self, name: str, options: Mapping[str, Any] | None = None, *, n_workers: int | None = None
    ) -> None:
        self.name = name
        # Workers stand in the folder that they were started in, and a caller may go elsewhere.
        self._where = str(Path(name).resolve()) if name.endswith(".py") else name
        self.options = dict(options or {})
        self.module = plugins.load("verifiers", name)
        self.label = plugins.label("verifiers", name)
        self.n_workers = n_workers or os.cpu_count() or 1
        self.known = plugins.option_names(name)
        self._quick = getattr(self.module, "quick", None)
        self._faults = GoldFaults(self.module)
        unknown = sorted(set(self.options) - set(self.known))
        if unknown:
            raise UsageError(
                f"verifier {name!r} has no option {', '.join(unknown)}",
                f"it takes: {', '.join(self.known) or 'none'}",
            )
        ready = getattr(self.module, "ready", None)
        if ready is not None:
            ready(**self.options)

    @property
    def options_hash(self) -> str:
        """Key of the options, part of every verdict's key."""
        return ids.key_of(self.options)

    def check(
        self, items: Sequence[Item], options: Sequence[Mapping[str, Any]] | None = None
    ) -> list[Verdict]:
        """Return one verdict per item, in order; never raises for what an item holds.

        Args:
            items: shape (N,).
            options: shape (N,), each item's own options over those of the checker; unknown names
                give an ``unscored`` verdict that says so.
        """
        own = options or [{}] * len(items)
        verdicts = [self.check_cheap(item, o) for item, o in zip(items, own, strict=True)]
        hard = [i for i, verdict in enumerate(verdicts) if verdict is None]
        if hard:
            settled = self.check_hard([items[i] for i in hard], [own[i] for i in hard])
            for i, verdict in zip(hard, settled, strict=True):
                verdicts[i] = verdict
        return [v for v in verdicts if v is not None]

    def check_cheap(self, item: Item, options: Mapping[str, Any]) -> Verdict | None:
        """Return the verdict that needs no deadline, in this process; None where there is none.

        A gold that its own verifier finds bad leaves every answer unscored (``gold_faults``).
        """
        merged = self._merged(options)
        verdict = self._cheap(item, merged)
        if verdict is not None and verdict.status == "unscored":
            return verdict
        pays = verdict is None or verdict.status == "pass"
        fault = self._faults.of(item, merged, pays=pays)
        return verdict if fault is None else Verdict.unscored(fault, decided_by="gold")

    def check_hard(
        self, items: Sequence[Item], options: Sequence[Mapping[str, Any]]
    ) -> list[Verdict]:
        """Return the verdicts of items that ``check_cheap`` left open, from the pool."""
        merged = [self._merged(o) for o in options]
        return self._in_pool(list(zip(items, merged, strict=True)))

    def _merged(self, own: Mapping[str, Any]) -> dict[str, Any]:
        if not own:
            return self.options
        return {**self.options, **plugins.bounded(self._where, own, self.options)}

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self._where, "options": self.options, "n_workers": self.n_workers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        plugins.allow(state["name"])  # the checker that was pickled has been allowed
        self.__init__(state["name"], state["options"], n_workers=state["n_workers"])  # type: ignore[misc]

    def _cheap(self, item: Item, options: Mapping[str, Any]) -> Verdict | None:
        unknown = sorted(set(options) - set(self.known))
        if unknown:
            return Verdict.unscored(f"unknown_option: {', '.join(unknown)}")
        if self._quick is None:
            return None
        try:
            verdict: Verdict | None = self._quick(item, **options)
        except Exception as error:  # noqa: BLE001 - a plug-in's bug must not end a run
            return Verdict.unscored(f"verifier_error: {type(error).__name__}: {error}"[:300])
        return verdict

    def _in_pool(self, work: Sequence[tuple[Item, Mapping[str, Any]]]) -> list[Verdict]:
        pool = shared_pool(self.n_workers, getattr(self.module, "MEMORY_BYTES", 1 << 30))
        outcomes = pool.map(
            _TARGET,
            [[self._where, _plain(item), dict(options)] for item, options in work],
            deadline_s=float(getattr(self.module, "DEADLINE_S", 10.0)),
        )
        return [verdict_of(outcome) for outcome in outcomes]


@functools.lru_cache(maxsize=16)
def _pool(n_workers: int, memory_bytes: int, pid: int) -> Pool:
    del pid  # a fork must not share its parent's workers
    return Pool(n_workers=n_workers, memory_bytes=memory_bytes)


def shared_pool(n_workers: int, memory_bytes: int) -> Pool:
    """Return this process's pool of that size; closed when the process ends."""
    return _pool(n_workers, memory_bytes, os.getpid())


def verdict_of(outcome: Outcome) -> Verdict:
    """Turn what became of an item in the pool into a verdict, by whose fault it is."""
    if outcome.fate == "done":
        return Verdict.from_dict(outcome.value)
    if outcome.fate in ("timeout", "memory"):
        return Verdict.failed(f"checker_{outcome.fate}", decided_by="pool")
    if outcome.fate == "crashed":
        # It killed two workers, the second time alone: hanging or crashing must earn nothing.
        return Verdict.failed("checker_crashed", decided_by="pool")
    reason = "verifier_error" if outcome.fate == "error" else "dead_worker"
    return Verdict.unscored(f"{reason}: {outcome.detail}" if outcome.detail else reason)


def verify_in_worker(payload: tuple[str, dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    """Run one item in a pool worker; the pool reports what escapes."""
    name, item, options = payload
    plugins.allow(name)  # by the checker that sent it
    verdict: Verdict = plugins.load("verifiers", name).verify(Item.from_dict(item), **options)
    return verdict.to_dict()


def _plain(item: Item) -> dict[str, Any]:
    fields = item.to_dict()
    fields["text"] = clean_text(fields["text"])
    return fields


# ---- items and verdicts of stored traces


def is_no_fact(reason: str | None) -> bool:
    """Tell whether a verdict is our own fault for now: not stored, so the next run tries again."""
    return (reason or "").startswith("dead_worker")


def item_of(prompt: Prompt, source: PromptSource, row: dict[str, Any]) -> Item:
    """Return what a verifier sees of a stored trace."""
    return Item(
        text=trace_text(row.get("prefill"), row.get("completion")),
        gold=source.gold,
        messages=prompt.messages,
        finish_reason=row.get("finish_reason"),
        prefill=row.get("prefill") or "",
    )


def verdict_hashes(source: PromptSource, checker: Checker) -> tuple[str, str]:
    """Return the hashes of gold and options, the parts of a verdict's key that traces share."""
    options = {**checker.options, **source.options}
    return ids.text_hash(source.gold or ""), ids.key_of(options)


def verdict_key(trace_id: str, source: PromptSource, checker: Checker) -> str:
    """Return the key of the verdict on a trace by this source's gold and options."""
    return ids.verdict_id_of(trace_id, verdict_hashes(source, checker))


def verdict_row(
    trace_id: str,
    source: PromptSource,
    checker: Checker,
    verdict: Any,
    run_id: str,
    *,
    hashes: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """Return the stored form of a verdict; ``hashes``: those of its source, where known."""
    hashes = hashes or verdict_hashes(source, checker)
    return {
        "verdict_id": ids.verdict_id_of(trace_id, hashes),
        "trace_id": trace_id,
        "gold_hash": hashes[0],
        "options_hash": hashes[1],
        **verdict.to_dict(),
        "seconds": None,
        "run_id": run_id,
    }
