"""``factory verify`` on a plain file: a verdict beside every row, without a store.

One output row per input row, in input order, the input's columns kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory import plugins
from factory.cli.file_rows import (
    Batch,
    Tally,
    check_paths,
    need_completion,
    ordered,
    refuse_collision,
    refuse_unread,
)
from factory.errors import FactoryError, PluginError, UsageError
from factory.records import VERDICT_FIELDS, Item, Verdict, message_list
from factory.rows import files
from factory.rows.files import Malformed, Row


def verify_file(
    source: str,
    out: str,
    *,
    verifier: str | None,
    options: Mapping[str, Any],
    mapping: Mapping[str, str],
    prefix: str = "",
    n_workers: int | None = None,
    disagree: str | None = None,
) -> Tally:
    """Write ``status, reward, reason, extracted, decided_by`` beside every row of ``source``.

    Args:
        source: path or ``-``.
        out: path or ``-``.
        verifier: name for all rows; None reads each row's ``verifier``, else what fits its gold.
        options: options for all rows; each row's own columns of those names fill in the rest.
        mapping: name that we read → column of the input.
        prefix: put before the written columns.
        n_workers: processes for what is not cheap.
        disagree: path of a report for a person to read: the rows about which a verifier's second
            opinion differs, with ``second_opinion`` (``pass`` or ``fail``) beside our verdict.

    Raises:
        UsageError: wrong paths, unknown verifier or option, colliding columns.
    """
    check_paths(source, out)
    plugins.allow(verifier)
    if verifier is not None:
        known = set(_checker(verifier, options, n_workers).known)
    else:
        known = set(plugins.all_option_names())
        if unknown := sorted(set(options) - known):
            raise UsageError(
                f"no verifier has option {', '.join(unknown)}", f"known: {', '.join(sorted(known))}"
            )
    _refuse_mode(verifier, options)
    refuse_unread(mapping, {*_VERIFY_READS, *known})
    tally = Tally()
    differing: list[Row] = []
    columns = [prefix + name for name in VERDICT_FIELDS]

    def handle(batch: Batch) -> list[Row]:
        refuse_collision(batch, columns)
        report = differing if disagree is not None else None
        return _verify_batch(batch, verifier, options, mapping, prefix, n_workers, tally, report)

    batches = need_completion(files.read_batches(source), mapping)
    files.write_rows(out, ordered(batches, handle, depth=3))
    if disagree is not None:
        files.write_rows(disagree, [differing])
        tally.notes.append(f"second opinion differs on {len(differing)} rows: {disagree}")
    return tally


def _refuse_mode(verifier: str | None, options: Mapping[str, Any]) -> None:
    """Refuse a mode that no verifier knows, before every row comes out unscored for it."""
    names = [verifier] if verifier else plugins.names("verifiers")
    names = [n for n in names if "mode" in plugins.option_names(n)]
    if "mode" not in options or not names:
        return
    item = Item(text="</think>4", gold="4")
    said = [plugins.load("verifiers", n).verify(item, mode=options["mode"]).reason for n in names]
    if all((reason or "").startswith("unknown_mode") for reason in said):
        whom = f"verifier {verifier!r} does not know" if verifier else "no verifier knows"
        raise UsageError(f"{whom} mode {options['mode']!r}", "boxed and auto are known")


_ASKED = {"pass": ("agree", "fail"), "fail": ("lift", "pass")}
"""Our status → the option that asks again, and what the second opinion says where it differs."""


def _disagreements(
    checker: Any, members: list[tuple[int, Item, dict[str, Any]]], settled: list[Verdict]
) -> dict[int, str]:
    """Ask a verifier that knows ``second_opinion`` again; return position → its other status.

    Only what the verifier's own grammar decided by value is asked about, never a plain number.
    """
    if "second_opinion" not in checker.known:
        return {}
    asked = [
        (position, item, own | {"second_opinion": _ASKED[verdict.status][0]}, verdict.status)
        for (position, item, own), verdict in zip(members, settled, strict=True)
        if verdict.status in _ASKED
    ]
    again = checker.check([a[1] for a in asked], [a[2] for a in asked])
    return {
        position: _ASKED[status][1]
        for (position, _, _, status), verdict in zip(asked, again, strict=True)
        if verdict.decided_by == "second_opinion"
    }


def _verify_batch(
    batch: Batch,
    verifier: str | None,
    options: Mapping[str, Any],
    mapping: Mapping[str, str],
    prefix: str,
    n_workers: int | None,
    tally: Tally,
    differing: list[Row] | None,
) -> list[Row]:
    others: dict[int, str] = {}
    verdicts: list[Verdict | None] = [None] * len(batch)
    groups: dict[str, list[tuple[int, Item, dict[str, Any]]]] = {}
    for position, row in enumerate(batch):
        if isinstance(row, Malformed):
            verdicts[position] = Verdict.unscored("malformed_row")
            continue
        view = files.map_columns(row, mapping)
        name = verifier or view.get("verifier") or plugins.verifier_of_gold(view.get("gold"))
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
        own = plugins.file_options("verifiers", str(name))
        columns = {k: v for k, v in view.items() if k != "options"}
        for values in (plugins.row_options(str(name), view.get("options")), columns, options):
            own |= {o: values[o] for o in checker.known if values.get(o) is not None}
        groups.setdefault(str(name), []).append((position, item, own))
    for name, members in groups.items():
        checker = _checker(name, options if verifier else {}, n_workers)
        settled = checker.check([m[1] for m in members], [m[2] for m in members])
        for member, verdict in zip(members, settled, strict=True):
            verdicts[member[0]] = verdict
        if differing is not None:
            others |= _disagreements(checker, members, settled)
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
    if differing is not None:
        differing += [{**out[at], "second_opinion": said} for at, said in sorted(others.items())]
    return out


_VERIFY_READS = ("completion", "reasoning", "answer", "prefill", "prompt", "gold", "verifier",
                 "options", "finish_reason")  # fmt: skip
_CHECKERS: dict[tuple[str, str], Any] = {}


def _checker(name: str, options: Mapping[str, Any], n_workers: int | None) -> Any:
    from factory.records.ids import canonical_json
    from factory.stages.checker import Checker

    key = (name, canonical_json(dict(options)))
    if key not in _CHECKERS:
        _CHECKERS[key] = Checker(name, options, n_workers=n_workers)
    return _CHECKERS[key]


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
