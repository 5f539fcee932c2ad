r"""Choice: the option letter of an answer against a gold letter, for 2 to 26 options.

One letter is an answer; two different ones are none, nor is a letter with the text of another
option. The last box after the thinking decides (``\boxed{B}``, ``\boxed{\text{(B)}}``,
``\boxed{B. Paris}``); boxes in a row are a list. Mode ``auto`` also reads tags, JSON, ``####``,
"the answer is (B)", "option B is correct", a line that is nothing but an option, and, where the
option texts are known, an answer that repeats exactly one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.records import Item, Verdict
from factory.verifiers.choice import reading as read
from factory.verifiers.choice.said import answered, said_without_box

VERSION = 4
OPTIONS = ("mode", "options")
FILE_OPTIONS = {"mode": "auto"}


def fits_gold(gold: object) -> bool:
    """Tell whether a gold without a verifier is an option: one letter from A to J."""
    return isinstance(gold, str) and len(gold.strip()) == 1 and gold.strip() in "ABCDEFGHIJ"


def verify(item: Item, *, mode: str = "boxed", options: Any = None) -> Verdict:
    r"""Judge an option letter; case does not matter.

    Args:
        item: its gold is a letter, or the text of one of ``options``.
        mode: ``boxed`` or ``auto`` (see the module).
        options: texts of the options in order, or letter → text, or their number; None: A to J
            without texts.

    >>> verify(Item(text=r"so \boxed{\text{(B)}}", gold="B")).status
    'pass'
    >>> verify(Item(text=r"\boxed{A, B, C, D}", gold="B")).reason
    'several_options'
    """
    if mode not in ("boxed", "auto"):
        return Verdict.unscored(f"unknown_mode: {mode}")
    texts = read.option_texts(options)
    if texts is None:
        return Verdict.unscored("options_unreadable")
    gold = _gold(item.gold, texts)
    if gold is None:
        return Verdict.unscored("gold_unparsable" if item.gold else "gold_empty")
    if (twin := read.twin_of(gold, texts)) is not None:
        return Verdict.unscored(f"bad_gold: options {gold} and {twin} are the same")
    reading = answered(item.answer, texts, mode)
    shown = reading.piece.strip()[:200]
    if reading.letter is None:
        # a piece of nothing but marks is as empty as no piece at all
        reason = reading.reason if shown or reading.reason != "no_option" else "empty_box"
        return Verdict.failed(reason, decided_by="extract", extracted=shown or None)
    if reading.letter == gold:
        return Verdict.passed(decided_by="letter", extracted=reading.letter)
    return Verdict.failed("wrong", decided_by="letter", extracted=reading.letter)


quick = verify


def as_completion(gold: Any, *, mode: str = "boxed", options: Any = None) -> str:
    r"""Write the gold as a completion.

    >>> as_completion("C")
    'The answer is $\\boxed{C}$.'
    """
    del mode
    texts = read.option_texts(options)
    letter = _gold(gold, texts) if texts is not None else None
    return f"The answer is $\\boxed{{{letter or ''}}}$."


def _gold(gold: Any, texts: Mapping[str, str]) -> str | None:
    if not isinstance(gold, str):
        return None
    plain = gold.translate(read.FULL_WIDTH).strip()
    letter = read.option_of(plain, texts).letter
    if letter is None:
        letter = read.named_letter(plain, texts)
    if letter is None and (found := said_without_box(plain, texts)) is not None:
        letter = found.letter or read.named_letter(found.piece, texts)
    return letter
