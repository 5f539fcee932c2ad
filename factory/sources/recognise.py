"""Which shape a file has: decided on a sample of its rows, or refused with what it holds."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from factory import dialects
from factory.errors import UsageError, listed
from factory.rows.files import SWITCHES
from factory.rows.paths import Columns, Value, columns_named, compiled, folded, opened
from factory.sources import golds, messages, shape
from factory.sources.shape import (
    CHATS,
    COMPLETIONS,
    MAYBE_THINKINGS,
    THINKINGS,
    Shape,
    alternatives,
)

Row = Mapping[str, Any]
SAMPLE_ROWS = 200
_MOST = 0.5
# A file of bare prompts is only taken for one where no other column may be a gold or an answer.
_TELLING = ("answer", "solution", "gold", "truth", "target", "label", "reference", "correct",
            "response", "completion", "output", "rationale", "explanation", "expected", "reply",
            "chosen", "rejected", "thought", "cot")  # fmt: skip
_TESTS = {"test", "tests", "testcases", "unittests", "asserts"}


class Unknown(UsageError):
    """No shape explains the rows."""


def filled(value: Any) -> bool:
    """Tell whether a value holds something."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, list):
        return any(v is not None and v != "" for v in value)
    return value is not None and value != {}


def is_thinking(value: Any) -> bool:
    """Tell thinking from a switch such as ``reasoning: "on"``."""
    if isinstance(value, list):
        return any(is_thinking(v) for v in value)
    return isinstance(value, str) and value.strip().lower() not in SWITCHES


class Sample:
    """The first rows of a file, as recognition looks at them."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        names = dict.fromkeys(c for row in rows for c in row)
        self.columns = tuple(names)
        self._names = Columns(names)
        self._values: dict[str, Value | None] = {}

    def value(self, text: str) -> Value | None:
        """Return the compiled path; None where its column is not there."""
        if text not in self._values:
            self._values[text] = compiled(text, self._names)
        return self._values[text]

    def holds(self, name: str) -> bool:
        """Tell whether some row has a column of this name that is not empty."""
        value = self.value(name)
        return value is not None and any(filled(value.of(r)) for r in self.rows)

    def values(self, name: str) -> list[Any]:
        """Return what the column holds, where it holds something."""
        value = self.value(name)
        found = [] if value is None else [value.of(r) for r in self.rows]
        return [v for v in found if filled(v)]

    def fits(self, one: Shape) -> bool:
        """Tell whether most rows hold all that the shape asks for."""
        if any(self._names.has_folded(c) and self.holds(c) for c in one.lacks):
            return False
        groups = [[v for p in h.split("|") if (v := self.value(p))] for h in one.has]
        if not all(groups):
            return False
        tests = [_test(one, h) for h in one.has]
        n = sum(
            all(any(t(v.of(r)) for v in g) for g, t in zip(groups, tests, strict=True))
            for r in self.rows
        )
        if n == 0 or n < _MOST * len(self.rows):
            return False
        if one.gold_form and not one.has_completions and not self._have_form(one):
            return False
        if not all(self.written(c) for c in one.written):
            return False
        return all(self.are_keys(c) for c in one.keys) and all(self.marked(c) for c in one.marked)

    def _have_form(self, one: Shape) -> bool:
        found = [v for n in alternatives(one.gold) for v in self.values(n)]
        n = sum(golds.gold_text(v, one.gold_form) is not None for v in found)
        return n > _MOST * len(found)

    def are_keys(self, name: str) -> bool:
        """Tell whether the column (the first there is of ``a|b``) holds answer keys alone."""
        found = next((v for n in name.split("|") if (v := self.values(n))), [])
        return bool(found) and all(golds.is_key(v) for v in found)

    def written(self, name: str) -> bool:
        """Tell whether most values of the column are more than an answer key."""
        found = self.values(name)
        return bool(found) and sum(golds.is_key(v) for v in found) < len(found) / 2

    def marked(self, name: str) -> bool:
        """Tell whether most texts of the column hold marked thinking."""
        found = (v[0] if isinstance(v, list) and v else v for v in self.values(name))
        texts = [v for v in found if isinstance(v, str)]
        n = sum(dialects.split(t).dialect is not None for t in texts)
        return bool(texts) and n >= _MOST * len(texts)


def _test(one: Shape, has: str) -> Any:
    names = has.split("|")
    if set(names) & set(alternatives(one.prompt)) & {*one.each, *CHATS}:
        return messages.is_messages  # chosen and rejected hold the prompt: only as messages
    if set(names) & set(alternatives(one.chat)):
        return messages.ends_with_reply
    if set(names) & set(alternatives(one.thinking)):
        return is_thinking
    if set(names) & set(alternatives(one.choices)):
        return lambda value: golds.option_list(value) is not None
    return filled


def recognised(
    rows: Sequence[Row],
    *,
    label: str,
    traces: bool | None = None,
    mapped: Collection[str] = (),
) -> Shape:
    """Return the shape that explains the rows.

    Args:
        rows: a sample of one file.
        label: of the file, for the message.
        traces: only shapes with completions; None means any.
        mapped: fields that the caller says himself, so that nothing can be unclear about them.

    Raises:
        Unknown: none does, or two columns claim to be the completion; the message names the
            columns that are there and the nearest shape.
    """
    sample = Sample(rows)
    fitting = [s for s in shape.known() if sample.fits(s)]
    fitting.sort(key=lambda s: (s.rank, len(s.has) + len(s.keys) + len(s.marked)), reverse=True)
    with_text = [s for s in fitting if s.has_completions]
    if traces and fitting and not with_text:
        raise Unknown(
            f"{label} holds prompts ({fitting[0].name}) and no completions: columns "
            f"{listed(sample.columns)}",
            "name them with --map completion=COLUMN, or make some: `factory generate`",
        )
    for one in with_text if traces else fitting:
        left = None if one.has_completions else _unread_reply(sample, one)
        if left and with_text:
            continue  # a shape of lower rank reads it
        if left and not {"completion", "prompt"} & set(mapped):
            raise Unknown(
                f"{label}: {left} holds what a model wrote, and {one.name} would leave it out",
                f"say it: --map completion={left}, or --map prompt=COLUMN for prompts alone",
            )
        if one.rank <= 0:
            _refuse_rivals(sample, one, label, mapped)
        return one
    raise Unknown(*_nothing_fits(sample, label))


def _refuse_rivals(sample: Sample, one: Shape, label: str, mapped: Collection[str]) -> None:
    """Refuse rows in which two columns could be the completion, or the bare prompt's gold."""
    names = [n for n in alternatives(one.completion) if sample.holds(n)]
    texts = {n: [str(v) for v in sample.values(n)] for n in names}
    rivals = [n for n in names if texts[n] != texts[names[0]]]
    if (
        rivals
        and "completion" not in mapped
        and not any(sample.holds(t) for t in alternatives(one.thinking))
    ):
        raise Unknown(
            f"{label}: {names[0]} and {rivals[0]} could both be the completion",
            f"say which: --map completion={names[0]}",
        )
    if "prompt" not in mapped:
        _refuse_context(sample, one, label)
    if "completion" not in mapped and names:
        _refuse_other_lists(sample, one, names[0], label)
        _refuse_thinking(sample, one, names[0], label)
    says_rest = "gold" in mapped or "completion" in mapped
    if says_rest:
        return
    if not one.has_completions and not one.gold and not one.key_gold:
        read = {folded(c) for h in one.has for c in h.split("|")}
        telling = [
            c for c in sample.columns
            if folded(c) not in read and sample.holds(c)
            and (any(t in folded(c) for t in _TELLING) or _TESTS & set(folded(c).split("_")))
        ]  # fmt: skip
        if telling:
            raise Unknown(
                f"{label}: no known shape says what {listed(telling)} is beside "
                f"{listed([c for c in sample.columns if folded(c) in read])}",
                f"say it: --map prompt=COLUMN and --map gold={telling[0]} or "
                f"completion={telling[0]}",
            )


def _unread_reply(sample: Sample, one: Shape) -> str | None:
    """Return a column that holds what a model wrote, and that a shape of prompts does not read."""
    read = {c for f in ("prompt", "gold", "copies") for n in alternatives(getattr(one, f))
            for c in columns_named(n)}  # fmt: skip
    names = {*map(folded, COMPLETIONS)}
    written = (
        c for c in sample.columns
        if c not in read and (sample.marked(c) or (folded(c) in names and sample.written(c)))
    )  # fmt: skip
    return next(written, None)


def _refuse_other_lists(sample: Sample, one: Shape, name: str, label: str) -> None:
    """Refuse outputs that belong to the inputs of tests, and the labelled steps of one reply."""
    lists = [v for v in map(opened, sample.values(name)) if isinstance(v, list)]
    beside = "inputs" if folded(name) == "outputs" else "labels"
    others = [v for v in map(opened, sample.values(beside)) if isinstance(v, list)]
    if lists and others and (beside == "inputs" or name == "completions"):
        what = "the outputs of tests" if beside == "inputs" else "the steps of one reply"
        raise Unknown(
            f"{label}: {name} beside {beside} may be {what} and no completions of {one.name}",
            f"say what they are: --map completion={name}, or --map prompt=COLUMN --map gold=COLUMN",
        )


def _refuse_thinking(sample: Sample, one: Shape, name: str, label: str) -> None:
    """Refuse rows whose thinking may stand in a column that is not read."""
    read = {folded(n) for n in (*alternatives(one.thinking), *alternatives(one.completion))}
    maybe = [
        c for c in (*MAYBE_THINKINGS, *THINKINGS)
        if folded(c) not in read and sample.holds(c) and is_thinking(sample.values(c))
    ]  # fmt: skip
    if maybe and not sample.marked(name):
        raise Unknown(
            f"{label}: {maybe[0]} may be the thinking of {name}, and {one.name} would leave it out",
            f"say it: --map thinking={maybe[0]} --map answer={name}, or --map completion={name}",
        )


def _refuse_context(sample: Sample, one: Shape, label: str) -> None:
    """Refuse rows with a text, a history or an image that belongs to the prompt and is not read."""
    read = {c for n in alternatives(one.prompt) for c in columns_named(n)}
    left = [c for c in shape.CONTEXTS if c not in read and sample.holds(c)]
    if left and not one.chat:
        prompt = next((n for n in alternatives(one.prompt) if sample.holds(n)), "prompt")
        raise Unknown(
            f"{label}: {left[0]} may belong to the prompt, and {one.name} would leave it out",
            f"say how: --map prompt='{{{left[0]}}}\\n\\n{{{prompt}}}', or --map prompt={prompt}",
        )


def _nothing_fits(sample: Sample, label: str) -> tuple[str, str]:
    if not sample.rows:
        return f"{label} holds no rows", "check the file"
    what = f"no known shape explains {label}: it has {listed(sample.columns)}"
    return what, nearest(sample)


def nearest(sample: Sample) -> str:
    """Return what to do: the shape that asks for the most that is there, and how to map."""
    best, score, missing = None, 0.0, ""
    for one in shape.known():
        found = [any(sample.holds(p) for p in h.split("|")) for h in one.has]
        texts = {*alternatives(one.prompt), *alternatives(one.chat), *alternatives(one.completion)}
        if not any(sample.holds(n) for n in texts):
            continue
        share = (sum(found) + 0.1 * (one.rank > 0)) / (len(found) + 0.5)
        if any(found) and share > score:
            lacking = [h for h, ok in zip(one.has, found, strict=True) if not ok]
            best, score, missing = one, share, lacking[0] if lacking else ""
    hint = ""
    if best is not None:
        lacks = f", which has {missing.replace('|', ' or ')}" if missing else ""
        hint = f"nearest: {best.name}{lacks}; "
    close = difflib.get_close_matches(
        "completion", [c for c in sample.columns if filled(sample.values(c))], 1, 0.6
    )
    column = close[0] if close else "COLUMN"
    return (
        f"{hint}name them: --map prompt=COLUMN --map completion={column} --map gold=COLUMN; "
        "thinking and reply in two columns: --map reasoning=COLUMN --map answer=COLUMN"
    )


def with_mapping(
    mapping: Mapping[str, str], rows: Sequence[Row], *, label: str, traces: bool | None,
    given: Shape | None = None,
) -> Shape:  # fmt: skip
    """Return the shape that a mapping makes of the rows' own shape, or of none.

    Raises:
        UsageError: an unknown name, or a column or path that no row has.
    """
    shape.check_mapping(dict(mapping))
    sample = Sample(rows)
    for name, text in mapping.items():
        _refuse_absent(sample, name, text, label)
    changes: dict[str, Any] = {shape.MAPPED[n]: text for n, text in mapping.items()}
    if {"completion", "thinking", "answer", "chat"} & set(changes):
        own = ("completion", "thinking", "answer", "chat", "each")
        changes = {**dict.fromkeys(own, ()), **changes}
    if "gold" in changes:
        changes |= {"gold_form": "", "key_gold": ()}
    base = given
    if base is None:
        try:
            base = recognised(rows, label=label, traces=None, mapped=changes)
        except Unknown:
            if "prompt" not in changes and "chat" not in changes:
                raise
            base = None
    if base is None or "prompt" in changes:
        own_fields = {"prompt": (), "key_gold": (), "gold": ()} if base is None else {}
        base = base or Shape(name="mapped", has=())
        changes = {**own_fields, **changes}
    return dataclasses.replace(base, name=f"{base.name} with --map", has=(), lacks=(), keys=(),
                               marked=(), written=(), **changes)  # fmt: skip


def _refuse_absent(sample: Sample, name: str, text: str, label: str) -> None:
    value = sample.value(text)
    if value is None:
        absent = [c for c in columns_named(text) if sample.value(c) is None]
        raise UsageError(
            f"--map {name}={text}: no column {', '.join(absent) or text} in {label}",
            f"it has {listed(sample.columns)}",
        )
    if not sample.holds(text) and value.columns and text not in sample.columns:
        first = value.columns[0]
        raise UsageError(
            f"--map {name}={text}: nothing stands there in the first {len(sample.rows)} rows of "
            f"{label}",
            f"{first} holds {_inside(sample, first)}",
        )


def _inside(sample: Sample, column: str) -> str:
    found = [opened(v) for v in sample.values(column)]
    keys = list(dict.fromkeys(k for v in found if isinstance(v, Mapping) for k in v))
    if keys:
        return listed([str(k) for k in keys])
    return f"values of the type {type(found[0]).__name__}" if found else "nothing"


__all__ = ["CHATS", "COMPLETIONS", "Sample", "Unknown", "recognised", "with_mapping"]
