"""``factory verify`` and ``factory score`` on plain files, without a store.

One output row per input row, in input order, the input's columns kept.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from factory import plugins
from factory.errors import FactoryError, PluginError, UsageError
from factory.records import VERDICT_FIELDS, Item, Verdict, message_list
from factory.rows import files
from factory.rows.files import Malformed, Row

A = TypeVar("A")
B = TypeVar("B")
Batch = list[Row | Malformed]
_NOTES = 3


@dataclass
class Tally:
    """What happened to the rows; decides the exit status.

    Attributes:
        rows: rows read.
        counts: outcome → rows.
        reasons: why rows have no verdict → rows.
        unhandled: malformed rows, and those that failed through our own fault.
        notes: why the first malformed lines could not be read.
    """

    rows: int = 0
    unhandled: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, outcome: str, *, unhandled: bool, reason: str | None = None) -> None:
        """Count one row; batches are handled by several threads."""
        with self._lock:
            self.rows += 1
            self.counts[outcome] += 1
            self.unhandled += unhandled
            if reason is not None:
                self.reasons[reason.partition(":")[0]] += 1

    def add_malformed(self, row: Malformed, outcome: str = "malformed") -> None:
        """Count a row that could not be read; why is noted for the first few."""
        self.add(outcome, unhandled=True)
        with self._lock:
            if len(self.notes) < _NOTES:
                self.notes.append(f"line {row.line}: {row.why}")

    @property
    def exit_code(self) -> int:
        """0 when every row was handled, else 1."""
        return 1 if self.unhandled else 0

    def line(self) -> str:
        """Return one line for the user."""
        parts = ", ".join(f"{n} {name}" for name, n in self.counts.most_common())
        if self.reasons:
            parts += "; unscored for " + ", ".join(
                f"{reason} ({n})" for reason, n in self.reasons.most_common(_NOTES)
            )
        why = f" ({'; '.join(self.notes)})" if self.notes else ""
        return f"{self.rows} rows: {parts or 'nothing to do'}{why}"


def verify_file(
    source: str,
    out: str,
    *,
    verifier: str | None,
    options: Mapping[str, Any],
    mapping: Mapping[str, str],
    prefix: str = "",
    n_workers: int | None = None,
) -> Tally:
    """Write ``status, reward, reason, extracted, decided_by`` beside every row of ``source``.

    Args:
        source: path or ``-``.
        out: path or ``-``.
        verifier: name for all rows; None reads each row's ``verifier`` (default ``math``).
        options: options for all rows; each row's own columns of those names fill in the rest.
        mapping: name that we read → column of the input.
        prefix: put before the written columns.
        n_workers: processes for what is not cheap.

    Raises:
        UsageError: wrong paths, unknown verifier or option, colliding columns.
    """
    check_paths(source, out)
    if verifier is not None:
        known = set(_checker(verifier, options, n_workers).known)
    else:
        known = _known_options()
        if unknown := sorted(set(options) - known):
            raise UsageError(
                f"no verifier has option {', '.join(unknown)}", f"known: {', '.join(sorted(known))}"
            )
    refuse_unread(mapping, {*_VERIFY_READS, *known})
    tally = Tally()
    columns = [prefix + name for name in VERDICT_FIELDS]

    def handle(batch: Batch) -> list[Row]:
        refuse_collision(batch, columns)
        return _verify_batch(batch, verifier, options, mapping, prefix, n_workers, tally)

    batches = _need_completion(files.read_batches(source), mapping)
    files.write_rows(out, ordered(batches, handle, depth=3))
    return tally


def _verify_batch(
    batch: Batch,
    verifier: str | None,
    options: Mapping[str, Any],
    mapping: Mapping[str, str],
    prefix: str,
    n_workers: int | None,
    tally: Tally,
) -> list[Row]:
    verdicts: list[Verdict | None] = [None] * len(batch)
    groups: dict[str, list[tuple[int, Item, dict[str, Any]]]] = {}
    for position, row in enumerate(batch):
        if isinstance(row, Malformed):
            verdicts[position] = Verdict.unscored("malformed_row")
            continue
        view = files.map_columns(row, mapping)
        name = verifier or view.get("verifier") or "math"
        item = _item(view)
        if item is None:
            verdicts[position] = Verdict.unscored("no_completion")
            continue
        try:
            checker = _checker(str(name), options if verifier else {}, n_workers)
        except FactoryError as error:
            kind = "unknown_verifier" if isinstance(error, PluginError) else "refused"
            verdicts[position] = Verdict.unscored(f"{kind}: {error}"[:300])
            continue
        # Plain files hold answers in any form; then the row's own options, then the caller's.
        own: dict[str, Any] = {"mode": "auto"} if name in _HAVE_AUTO else {}
        nested = view.get("options")
        for values in (nested if isinstance(nested, dict) else {}, view, options):
            own |= {o: values[o] for o in checker.known if values.get(o) is not None}
        groups.setdefault(str(name), []).append((position, item, own))
    for name, members in groups.items():
        checker = _checker(name, options if verifier else {}, n_workers)
        settled = checker.check([m[1] for m in members], [m[2] for m in members])
        for member, verdict in zip(members, settled, strict=True):
            verdicts[member[0]] = verdict
    out = []
    for row, verdict in zip(batch, verdicts, strict=True):
        assert verdict is not None
        if isinstance(row, Malformed):
            tally.add_malformed(row, verdict.status)
        else:
            reason = verdict.reason if verdict.status == "unscored" else None
            tally.add(verdict.status, unhandled=_is_unhandled(verdict), reason=reason)
        fields = {prefix + key: value for key, value in verdict.to_dict().items()}
        out.append(fields | {"line": row.line} if isinstance(row, Malformed) else {**row, **fields})
    return out


_VERIFY_READS = ("completion", "reasoning", "answer", "prefill", "prompt", "gold", "verifier",
                 "options", "finish_reason")  # fmt: skip
_HAVE_AUTO = ("math", "choice")
_CHECKERS: dict[tuple[str, str], Any] = {}


def _checker(name: str, options: Mapping[str, Any], n_workers: int | None) -> Any:
    from factory.records.ids import canonical_json
    from factory.stages.checker import Checker

    key = (name, canonical_json(dict(options)))
    if key not in _CHECKERS:
        _CHECKERS[key] = Checker(name, options, n_workers=n_workers)
    return _CHECKERS[key]


def _known_options() -> set[str]:
    """Return the options of all verifiers; rows may name any of them."""
    from factory.stages.checker import known_options

    return {
        o for n in plugins.names("verifiers") for o in known_options(plugins.load("verifiers", n))
    }


def _item(view: Row) -> Item | None:
    text = files.completion_of(view)
    if text is None:
        return None
    prefill = view.get("prefill")
    prefill = prefill if isinstance(prefill, str) else ""
    try:
        messages = tuple(message_list(view.get("prompt")))
    except ValueError:
        messages = ()
    gold = view.get("gold")
    return Item(
        text=prefill + text,
        gold=gold if gold is None or isinstance(gold, str | dict | list) else str(gold),
        messages=messages,
        finish_reason=view.get("finish_reason"),
        prefill=prefill,
    )


_OUR_FAULT = ("malformed_row", "no_completion", "unknown_verifier", "refused", "unknown_option",
              "verifier_error", "dead_worker")  # fmt: skip


def _is_unhandled(verdict: Verdict) -> bool:
    return verdict.status == "unscored" and (verdict.reason or "").startswith(_OUR_FAULT)


def score_file(
    source: str,
    out: str,
    *,
    scores: Sequence[str] | None,
    params: Mapping[str, Mapping[str, Any]],
    mapping: Mapping[str, str],
    prefix: str = "",
) -> Tally:
    """Write each score's columns beside every row of ``source``.

    Args:
        source: path or ``-``.
        out: path or ``-``.
        scores: names or paths; None means all that come with the factory.
        params: score → its parameters.
        mapping: name that we read → column of the input.
        prefix: put before the written columns.
    """
    from factory.stages.scorer import INPUTS, Scorer

    check_paths(source, out)
    refuse_unread(mapping, {*INPUTS, "text", "prefill"})
    scorer = Scorer(list(scores) if scores is not None else plugins.names("scores"), params)
    # A score may write what it also reads (target_language): there the input's own value stays.
    columns = [prefix + c for c in scorer.columns if prefix + c not in INPUTS]
    tally = Tally()

    def handle(batch: Batch) -> list[Row]:
        refuse_collision(batch, columns)
        return _score_batch(batch, scorer, mapping, prefix, tally)

    batches = _need_completion(files.read_batches(source), mapping, also="text")
    files.write_rows(out, ordered(batches, handle, depth=2))
    for name, detail in scorer.failures.items():
        sys.stderr.write(f"factory: score {name} failed on some rows ({detail}); they hold nulls\n")
        tally.unhandled += 1
    return tally


def _score_batch(
    batch: Batch, scorer: Any, mapping: Mapping[str, str], prefix: str, tally: Tally
) -> list[Row]:
    from factory.stages.scorer import frame_of, too_long

    views: list[Row] = [
        {} if isinstance(r, Malformed) else files.map_columns(r, mapping) for r in batch
    ]
    texts = []
    for view in views:
        text = files.completion_of(view)
        text = text if text is not None else _text(view.get("text"))
        prefill = _text(view.get("prefill")) or ""
        texts.append(None if text is None else clean(prefill + text))
    frame = frame_of(
        texts,
        prompts=[clean(_prompt(v.get("prompt"))) for v in views],
        target_languages=[clean(_text(v.get("target_language"))) for v in views],
        extracted=[clean(_text(v.get("extracted"))) for v in views],
    )
    rows = scorer.score(frame).to_dicts()
    over = too_long(frame).to_list()
    out = []
    for row, text, values, is_over in zip(batch, texts, rows, over, strict=True):
        fields = {prefix + key: value for key, value in values.items()}
        if isinstance(row, Malformed):
            tally.add_malformed(row)
            line = {"status": "unscored", "reason": "malformed_row", "line": row.line}
            out.append(line | fields)
        else:
            outcome = "no_text" if text is None else "too_long" if is_over else "scored"
            tally.add(outcome, unhandled=is_over)
            given = {c: row[c] for c in fields if row.get(c) is not None}
            out.append({**row, **fields, **given})
    return out


def clean(text: str | None) -> str | None:
    """Replace lone surrogates, which Arrow text cannot hold."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "replace").decode()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _prompt(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return "\n\n".join(str(m["content"]) for m in message_list(value))
    except ValueError:
        return None


# ---- shared by all file verbs


def check_paths(source: str, out: str) -> None:
    """Refuse paths that cannot be read or written, before any work."""
    files.check_input(source)
    files.check_output(out)
    if source == out and source != "-":
        raise UsageError(f"{source!r} is both input and output", "give another --out")


def refuse_unread(mapping: Mapping[str, str], reads: Iterable[str]) -> None:
    """Refuse a mapped name that nothing reads: a slip of the pen would change nothing, silently."""
    if unread := sorted(set(mapping) - set(reads)):
        raise UsageError(
            f"--map {unread[0]}={mapping[unread[0]]}: nothing reads {', '.join(unread)}",
            f"names that are read: {', '.join(sorted(reads))}",
        )


def refuse_collision(batch: Batch, columns: Sequence[str]) -> None:
    """Refuse an input that already has a column that would be written."""
    for row in batch:
        if isinstance(row, dict):
            taken = [c for c in columns if c in row]
            if taken:
                raise UsageError(
                    f"the input already has {', '.join(taken)}",
                    "give --prefix P for the new columns",
                )


def _need_completion(
    batches: Iterator[Batch], mapping: Mapping[str, str], also: str | None = None
) -> Iterator[Batch]:
    """Refuse a file whose first rows have nothing to read: the mapping is missing or wrong."""
    for number, batch in enumerate(batches):
        rows = [r for r in batch if isinstance(r, dict)]
        if number == 0 and rows:
            names = {"completion", "reasoning", "answer", *([also] if also else [])}
            have = {name for row in rows for name in files.map_columns(row, mapping)}
            absent = sorted({c for c in mapping.values() if all(c not in row for row in rows)})
            if absent or not names & have:
                raise UsageError(
                    f"no column {', '.join(absent) or 'completion'!r} in the input",
                    f"it has {', '.join(sorted(rows[0]))[:300]}: use --map completion=COLUMN",
                )
        yield batch


def ordered(batches: Iterable[A], handle: Callable[[A], B], *, depth: int) -> Iterator[B]:
    """Yield ``handle(batch)`` in order, with up to ``depth`` batches under way at once.

    So that one slow item at the end of a batch leaves no worker idle.
    """
    pending: deque[Future[B]] = deque()
    with ThreadPoolExecutor(depth) as executor:
        try:
            for batch in batches:
                pending.append(executor.submit(handle, batch))
                if len(pending) >= depth:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
