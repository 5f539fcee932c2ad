r"""Personal data and secrets in texts: e-mail addresses, keys, phone numbers, cards, accounts, ids.

What has a form is found by its form, and by its check digits where it has some. Names, street
addresses and what only a reader recognises are not found: a count of zero is no proof.

Numbers of mathematics look much like phone numbers, so a phone number needs a country code with
separators, the North American grouping, or a word beside it that says what it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

_KEY_FORMS = (
    r"\bsk-(?:proj-|svcacct-|ant-[a-z0-9]{2,8}-|or-v1-)?[A-Za-z0-9_-]{20,}",
    r"\bhf_[A-Za-z0-9]{30,}",
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    r"\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_[A-Za-z0-9_]{40,}|\bglpat-[A-Za-z0-9_-]{20,}",
    r"\bAIza[0-9A-Za-z_-]{35}",
    r"\bxox[abeprs]-[A-Za-z0-9-]{10,}",
    r"\b[rs]k_live_[0-9A-Za-z]{20,}",
    r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]{0,8000}?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    r"(?i:\b(?:api[_-]?key|secret[_-]?key|access[_-]?token|auth[_-]?token|password|passwd))"
    r"[\"']?\s*[=:]\s*[\"']?(?=[^\s\"']*\d)[A-Za-z0-9_/+.-]{12,}",
)
_SAYS_PHONE = "(?i:phone|tel|telephone|telefon|mobile|whatsapp|fax|teléfono|téléphone)"
_SAYS_PHONE_HAN = "(?:电话|手机|電話)"
_NUMBER = r"(?:[^0-9\n+(]{0,12})\+?\(?[0-9][0-9 ().-]{6,17}[0-9]"


def _luhn(text: str) -> bool:
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(digits[::-1])]
    return 13 <= len(digits) <= 19 and sum(doubled) % 10 == 0 and len(set(digits)) > 1


def _iban(text: str) -> bool:
    packed = text.replace(" ", "")
    turned = packed[4:] + packed[:4]
    return 15 <= len(packed) <= 34 and int("".join(str(int(c, 36)) for c in turned)) % 97 == 1


def _chinese_id(text: str) -> bool:
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(w * int(c) for w, c in zip(weights, text[:17], strict=True))
    return "10X98765432"[total % 11] == text[17].upper()


def _social_security(text: str) -> bool:
    area, group, serial = text.split("-")
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _always(text: str) -> bool:
    return True


class _Kind(NamedTuple):
    """How a kind is found.

    Attributes:
        hint: pattern of ``re`` and of Polars that every text with such a thing matches. Without
            word boundaries and looks around, with which Polars' regular expressions are 20 times
            slower or impossible.
        form: what it looks like.
        check: tells whether its check digits are right.
    """

    hint: str
    form: re.Pattern[str]
    check: Callable[[str], bool] = _always


_KINDS: dict[str, _Kind] = {
    "key": _Kind(
        r"sk-[A-Za-z0-9_-]{20}|hf_[A-Za-z0-9]{30}|(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|"
        r"github_pat_|glpat-|AIza[0-9A-Za-z_-]{35}|xox[abeprs]-[A-Za-z0-9-]{10}|k_live_|"
        r"eyJ[A-Za-z0-9_-]{10}|PRIVATE KEY-|"
        r"(?i:key|token|passw(?:or)?d)[\"']?\s*[=:]\s*[\"']?[A-Za-z0-9_/+.-]{12}",
        re.compile("|".join(_KEY_FORMS)),
    ),
    "email": _Kind(
        r"[\w.%+-]@[A-Za-z0-9-]{1,63}\.[A-Za-z0-9-]",
        re.compile(
            r"(?<![\w.+-])[A-Za-z0-9_][\w.%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b"
        ),
    ),
    "iban": _Kind(
        "[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4} ?[A-Z0-9]{4}",
        re.compile(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"),
        _iban,
    ),
    "card": _Kind(
        "[3-6][0-9]{3}[ -][0-9]{4}(?:[ -][0-9]{4}|[0-9]{2}[ -])",
        re.compile(
            r"(?<![0-9.])[3-6][0-9]{3}(?:[ -][0-9]{4}){3}(?![0-9.][0-9])"
            r"|(?<![0-9.])3[47][0-9]{2}[ -][0-9]{6}[ -][0-9]{5}\b"
        ),
        _luhn,
    ),
    "national_id": _Kind(
        "[0-9]{3}-[0-9]{2}-[0-9]{4}|[0-9]{17}",
        re.compile(
            r"(?<![0-9-])[0-9]{3}-[0-9]{2}-[0-9]{4}(?![0-9-])"
            r"|(?<![0-9])[1-8][0-9]{5}(?:19|20)[0-9]{2}[01][0-9][0-3][0-9]{4}[0-9Xx](?![0-9Xx])"
        ),
        lambda text: _social_security(text) if "-" in text else _chinese_id(text),
    ),
    "phone": _Kind(
        r"\+[1-9][0-9]{0,2}[ .-]?\(?[0-9]{1,4}\)?[ .-][0-9]{2,4}[ .-][0-9]{2}|\+[1-9][0-9]{9}|"
        r"[2-9][0-9]{2}(?:\) ?|[-.])[0-9]{3}[-.][0-9]{4}|"
        rf"(?:{_SAYS_PHONE}|{_SAYS_PHONE_HAN}){_NUMBER}",
        re.compile(
            r"(?<![\w)\]}.+*/=^-])\+[1-9][0-9]{0,2}[ .-]?\(?[0-9]{1,4}\)?(?:[ .-][0-9]{2,4}){2,4}\b"
            r"|(?<![\w.+*/=^-])(?:1[-. ])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[-.])"
            r"[0-9]{3}[-.][0-9]{4}(?![\w-])"
            r"|(?<![\w)\]}.+*/=^-])\+[1-9][0-9]{9,14}(?![0-9])"
            rf"|(?:\b{_SAYS_PHONE}\b|{_SAYS_PHONE_HAN}){_NUMBER}"
        ),
    ),
}
# The order matters: what an earlier kind takes, no later one sees.
KINDS = tuple(_KINDS)
"""Kinds of personal data, in the order in which they are looked for."""
HINTS = {name: kind.hint for name, kind in _KINDS.items()}
"""Kind → what every text that holds it matches, in ``re`` and in Polars: a quick first look."""


def find(text: str, kinds: Collection[str] = KINDS) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, start, end) of what is found; no two overlap, kind by kind.

    Args:
        text: to look at.
        kinds: only these, where a look by ``HINTS`` has ruled out the others.

    >>> list(find("Write to ann@site.org."))
    [('email', 9, 21)]
    """
    taken: list[tuple[int, int]] = []
    for kind, (_, form, check) in _KINDS.items():
        if kind not in kinds:
            continue
        for match in form.finditer(text):
            begin, end = match.span()
            if check(match[0]) and not any(b < end and begin < e for b, e in taken):
                taken.append((begin, end))
                yield kind, begin, end


def count(text: str, kinds: Collection[str] = KINDS) -> Counter[str]:
    """Return how often each kind is found; arguments as in ``find``.

    >>> count("ann@site.org, bob@site.org")
    Counter({'email': 2})
    """
    return Counter(kind for kind, _, _ in find(text, kinds))


def redact(text: str) -> str:
    """Put ``[KIND]`` in the place of everything that is found.

    >>> redact("Write to ann@site.org.")
    'Write to [EMAIL].'
    """
    for kind, begin, end in sorted(find(text), key=lambda f: -f[1]):
        text = f"{text[:begin]}[{kind.upper()}]{text[end:]}"
    return text
