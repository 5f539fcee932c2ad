"""What an OpenAI-compatible server says instead of an answer, and how long it wants to be left.

Nothing here does I/O. A ``Fault`` is anything that is not exactly one whole answer.
"""

from __future__ import annotations

import datetime
import email.utils
import math
import re
import time
from collections.abc import Mapping
from typing import Any, Literal

import orjson

_CONGESTED = (408, 425, 429, 498, 503, 529)
_RETRIABLE = (*_CONGESTED, 409)
_STARTING = (502, 503, 504)
_TOO_LONG = re.compile(
    r"context[ _-]?(length|size|window)|maximum model length|(prompt|input) is too long"
    r"|too many tokens|max_new_tokens` must be|reduce the length"
)
_FILTERED = re.compile(
    r"content[ _]?filter|content management policy|responsibleaipolicy|data_inspection_failed"
    r"|moderation|flagged"
)
_UNPAID = re.compile(r"insufficient[ _]quota|insufficient[ _](user )?balance|billing_hard_limit")
MAX_WORDS = 300
"""Characters of a server's own words that are kept."""


class Fault(Exception):
    """An attempt that gave no answer.

    Attributes:
        kind: short snake_case word, as in ``Failure``.
        message: the server's own words, or ours.
        retriable: whether the next attempt could succeed.
        congested: the server has too much to do; ask less of it.
        is_down: nobody listens there; waiting for it uses up no attempt.
        is_limit: a rate limit; waiting for it uses up no attempt either.
        retry_after_s: what the server asked for.
        refuses: whom it refuses: ``all`` requests (a wrong key), ``this`` one; None: neither.
    """

    def __init__(
        self,
        kind: str,
        message: str = "",
        *,
        retriable: bool = True,
        congested: bool = False,
        is_down: bool = False,
        is_limit: bool = False,
        retry_after_s: float | None = None,
        refuses: Literal["all", "this"] | None = None,
    ) -> None:
        super().__init__(kind, message)
        self.kind, self.message, self.retriable = kind, message, retriable
        self.congested, self.is_down, self.is_limit = congested, is_down, is_limit
        self.retry_after_s, self.refuses = retry_after_s, refuses


def fault_of_status(
    status: int, headers: Mapping[str, str], body: bytes, *, has_answered: bool = True
) -> Fault:
    """Return what a status other than 200 means.

    Args:
        status: of the response.
        headers: of the response, names in lower case.
        body: what came with it.
        has_answered: whether this server has ever answered. Before that, a gateway's "nobody
            there" is what the start of the server behind it looks like.
    """
    text = " ".join(body[:20_000].decode("utf-8", "replace").split())
    words = words_of(body) or "without a word"
    if location := headers.get("location"):
        words = f"it points to {location}"
    lower = text.lower()
    kind = f"http_{status}"
    if status == 402 or (status in (403, 429) and _UNPAID.search(lower)):
        return Fault(kind, words, refuses="all")
    if status == 429:
        wait = wait_of(headers, text)
        return Fault(kind, words, congested=True, is_limit=True, retry_after_s=wait)
    if status in (400, 403, 413, 422) and _TOO_LONG.search(lower):
        return Fault("too_long", words, retriable=False, refuses="this")
    if status in (400, 403, 422, 451) and _FILTERED.search(lower):
        return Fault("content_filter", words, retriable=False)
    if status in (400, 413, 415, 422):
        return Fault(kind, words, retriable=False, refuses="this")
    if 300 <= status < 500 and status not in _RETRIABLE:
        # A wrong key or address; asked again all the same, since a gateway's hiccup looks alike.
        return Fault(kind, words, refuses="all")
    wait = wait_of(headers, text)
    return Fault(
        kind,
        words,
        congested=status in _CONGESTED,
        is_limit=status in (503, 529) and wait is not None,
        is_down=status in _STARTING and wait is None and not has_answered,
        retry_after_s=wait,
    )


def fault_of_error(error: object) -> Fault:
    """Return what an error object inside an answer with status 200 means."""
    fields = error if isinstance(error, Mapping) else {"message": str(error)}
    text = orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS)
    code = str(fields.get("code") or fields.get("status") or "")
    lower = text.decode("utf-8", "replace").lower()
    if not code.isdigit():
        named = {"rate_limit": "429", "too_many_requests": "429", "overloaded": "529"}
        code = next((number for name, number in named.items() if name in lower), "")
    if code.isascii() and code.isdigit() and 400 <= int(code[:4]) < 600:
        return fault_of_status(int(code[:4]), {}, orjson.dumps({"error": fields}, default=str))
    if _TOO_LONG.search(lower):
        return Fault("too_long", words_of(text), retriable=False, refuses="this")
    return Fault("error_in_answer", words_of(text))


def words_of(body: bytes) -> str:
    """Return a server's own words from what it sent instead of an answer.

    >>> words_of(b'{"error": {"message": "no  such model", "code": 404}}')
    'no such model'
    >>> words_of(b'{"detail": [{"loc": ["body", "top_k"], "msg": "not permitted"}]}')
    'not permitted (body.top_k)'
    """
    text = body[:20_000].decode("utf-8", "replace")
    try:
        text = _words_in(orjson.loads(body)) or text
    except orjson.JSONDecodeError:
        text = re.sub(r"<(style|script)\b.*?</\1>|<[^>]{0,500}>", " ", text, flags=re.DOTALL)
    return " ".join(text.split())[:MAX_WORDS]


def _words_in(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(filter(None, (_words_in(v) for v in value[:3])))
    if isinstance(value, Mapping):
        for name in ("error", "message", "detail", "msg", "error_message", "reason"):
            if words := _words_in(value.get(name)):
                place = value.get("loc")
                is_place = name == "msg" and isinstance(place, list)
                return f"{words} ({'.'.join(map(str, place))})" if is_place and place else words
    return ""


# ---- how long to wait


def wait_of(headers: Mapping[str, str], text: str, *, now: float | None = None) -> float | None:
    """Return for how many seconds a server wants to be left alone; None where it does not say.

    Args:
        headers: ``retry-after-ms``, ``retry-after`` (seconds or a date), and those in which
            rate limits say when they are reset.
        text: what it said in words ("try again in 1.5s"), in its body.
        now: for tests; seconds since 1970.

    >>> wait_of({"retry-after-ms": "250"}, ""), wait_of({"retry-after": "3"}, "")
    (0.25, 3.0)
    >>> wait_of({"x-ratelimit-reset-tokens": "6m0.5s"}, ""), wait_of({}, "try again in 1.5s.")
    (360.5, 1.5)
    """
    now = time.time() if now is None else now
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    given = headers.get("retry-after")
    if given is not None and (seconds := _seconds(given, now, is_reset=False)) is not None:
        return seconds
    if found := _IN_WORDS.search(text.lower()):
        seconds = _seconds(found[1], now, is_reset=False)
        if seconds is not None:
            return seconds
    resets = []
    for name, value in headers.items():
        lower = name.lower()
        if "ratelimit" in lower.replace("-", "") and "reset" in lower:
            left = headers.get(lower.replace("reset", "remaining"))
            if left is None or _number(left) == 0:
                resets.append(_seconds(value, now, is_reset=True))
    known = [r for r in resets if r is not None]
    return min(known) if known else None


_IN_WORDS = re.compile(
    r"(?:(?:try again|retry|wait)(?: after| in| for| at least)*|retry_?(?:delay|after)\"?:)"
    r"\s*\"?((?:\d+(?:\.\d+)?\s*(?:ms|milliseconds?|seconds?|secs?|s|minutes?|mins?|m|hours?|h)"
    r"\s*)+)"
)
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|milli|s|m|h|d)[a-z]*")
_UNITS = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NEAR_S = 40 * 86400.0


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _seconds(text: str, now: float, *, is_reset: bool) -> float | None:
    """Read a duration or a moment, in any of the forms that servers use."""
    text = text.strip()
    number = _number(text)
    if number is not None:
        if is_reset:  # seconds from now, seconds since 1970, or milliseconds since then
            for moment in (number, number / 1000):
                if abs(moment - now) < _NEAR_S:
                    return max(0.0, moment - now)
        return max(0.0, number)
    lower = text.lower()
    parts = _PART.findall(lower)
    if parts and not _PART.sub("", lower).strip():
        return sum(float(n) * _UNITS[unit] for n, unit in parts)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        try:
            when = datetime.datetime.fromisoformat(text)
        except ValueError:
            return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.UTC)
    return max(0.0, when.timestamp() - now)
