"""Golds are checked before they pay: what is wrong with one, found by its own verifier.

A gold that passes nothing costs tokens for nothing, and one that passes everything pays for
everything. Both are ``bad_gold``: unscored wherever a verdict is given, and counted by ``inspect``,
``import`` and plans. Only cheap steps (``quick``) are asked, once for each gold; what a verifier
must run, such as a reference solution in its box, ``factory check --gold`` runs.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, cast

from factory import plugins
from factory.errors import FactoryError
from factory.records import Item, Message, Prompt, PromptSource, Verdict

MAX_KNOWN = 8192
_Quick = Callable[..., Verdict | None]


class GoldFaults:
    """What is wrong with the golds of one verifier; each is asked about once.

    Args:
        module: the verifier.

    >>> from factory.verifiers import math
    >>> faults = GoldFaults(math)
    >>> faults.of(Item(text="", gold="see figure"), {}), faults.of(Item(text="", gold="5"), {})
    ('gold_unparsable', None)
    """

    def __init__(self, module: ModuleType) -> None:
        self._quick: _Quick | None = getattr(module, "quick", None)
        self._make: Callable[..., str] | None = getattr(module, "as_completion", None)
        # A verifier that knows better wrong answers is asked by ``factory check --gold``.
        self._knows_better = hasattr(module, "gold_fault")
        self._known: dict[Any, str | None] = {}

    def of(self, item: Item, options: Mapping[str, Any], *, pays: bool = True) -> str | None:
        """Return the reason for leaving every answer to a gold unscored; None where there is none.

        Args:
            item: its gold and messages count.
            options: those of its verdict.
            pays: also try wrong answers, which matters only where an answer has passed.
        """
        if self._quick is None or item.gold is None:
            return None
        key = (str(item.gold), repr(options) if options else "", pays)
        if key in self._known:
            return self._known[key]
        asked = str(item.messages[-1].get("content")) if item.messages else ""
        if (*key, asked) in self._known:
            return self._known[(*key, asked)]
        question = _Question(item.messages)
        try:
            found = self._fault(_beside(item, question), options, pays=pays)
        except Exception:  # noqa: BLE001 - it may want a tuple and nothing else
            question.is_read = True
            try:
                found = self._fault(item, options, pays=pays)
            except Exception:  # noqa: BLE001 - a plug-in's bug shows in the verdicts themselves
                found = None
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[(*key, asked) if question.is_read else key] = found
        return found

    def _fault(self, item: Item, options: Mapping[str, Any], *, pays: bool) -> str | None:
        empty = self._judged("", item, options)
        if empty is not None and empty.status == "pass":
            return "bad_gold: it passes an empty answer"
        if empty is not None and (empty.reason or "").startswith(("bad_gold", "gold_")):
            return empty.reason
        own = self._make(item.gold, **options) if self._make else ""
        verdict = self._judged(own, item, options) if own else None
        if verdict is not None and verdict.status == "fail":
            return f"bad_gold: it does not pass itself ({verdict.reason})"
        if verdict is None or not pays or self._knows_better or self._make is None:
            return None
        made = (self._make(gold, **options) for gold in wrong_golds(str(item.gold)))
        others = [text for text in made if text and text != own]
        # One that does not pass says that the others need not be tried.
        found = (self._judged(text, item, options) for text in others)
        if len(others) > 1 and all(v is not None and v.status == "pass" for v in found):
            free = self._judged(own, Item(text="", messages=item.messages), options)
            if free is None or free.status != "pass":
                return f"bad_gold: it passes all {len(others)} wrong answers"
        return None

    def _judged(self, text: str, item: Item, options: Mapping[str, Any]) -> Verdict | None:
        assert self._quick is not None
        return self._quick(Item(text=text, gold=item.gold, messages=item.messages), **options)


class _Question(Sequence[Message]):
    """Messages that know whether they were looked at: most golds are judged without them."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages, self.is_read = messages, False

    def __len__(self) -> int:
        self.is_read = True
        return len(self._messages)

    def __getitem__(self, at: Any) -> Any:
        self.is_read = True
        return self._messages[at]


def _beside(item: Item, question: _Question) -> Item:
    return dataclasses.replace(item, messages=cast(tuple[Message, ...], question))


def wrong_golds(gold: str) -> list[str]:
    """Return other golds of the same form: every digit, or an option's letter, is another one.

    >>> wrong_golds("x = 15"), wrong_golds("B"), wrong_golds("yes")
    (['x = 48', 'x = 60'], ['E', 'G'], [])
    """
    if re.fullmatch("[A-J]", gold.strip()):
        at = ord(gold.strip()) - ord("A")
        return [chr(ord("A") + (at + step) % 10) for step in (3, 5)]
    if not re.search("[0-9]", gold):
        return []
    return [
        re.sub("[0-9]", lambda digit: str((int(digit[0]) + step) % 10), gold)  # noqa: B023
        for step in (3, 5)
    ]


class GoldCounter:
    """Counts bad golds by reason, whatever their verifiers; what cannot be asked is not counted."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._faults: dict[str, GoldFaults | None] = {}

    def note(self, prompt: Prompt, source: PromptSource) -> str | None:
        """Count the fault of a source's gold and return it; None where there is none.

        >>> counter = GoldCounter()
        >>> prompt = Prompt(messages=({"role": "user", "content": "2 + 2?"},))
        >>> source = PromptSource(prompt_id="p", source="s", item="1", gold="?", verifier="math")
        >>> counter.note(prompt, source), dict(counter.counts)
        ('gold_unparsable', {'gold_unparsable': 1})
        """
        if source.gold is None or source.verifier is None:
            return None
        name = source.verifier
        if name not in self._faults:
            try:
                self._faults[name] = GoldFaults(plugins.load("verifiers", name))
            except FactoryError:
                self._faults[name] = None
        faults = self._faults[name]
        if faults is None:
            return None
        known = plugins.option_names(name)
        options = {k: v for k, v in source.options.items() if k in known}
        item = Item(text="", gold=source.gold, messages=prompt.messages)
        reason = faults.of(item, plugins.bounded(name, options))
        if reason is not None:
            self.counts[reason] += 1
        return reason


def count_bad(pairs: Sequence[tuple[Prompt, PromptSource]]) -> Counter[str]:
    """Return reason → golds that could never pay rightly."""
    counter = GoldCounter()
    for prompt, source in pairs:
        counter.note(prompt, source)
    return counter.counts
