"""Addresses of servers and their secrets: what is asked, and what may be said of it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from factory.errors import UsageError

_USER = re.compile(r"(?<=://)[^/\s@'\"]+@")
_QUERY = re.compile(r"(?i)([?&][\w-]*(?:key|token|secret|password|sig|code)=)[^&\s'\",;]+")
SHORTEST_SECRET = 4
"""Characters below which a part of a URL is not looked for in other texts: it is in every word."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """One base URL.

    Attributes:
        name: the URL as messages say it: without user, password and query.
        url: without user and password.
        headers: what the URL's user and password become.
        secrets: texts that nobody may read.
    """

    name: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, url: object) -> Address:
        """Read a base URL.

        Raises:
            UsageError: it is none; without its secrets in the message.

        >>> Address.of("https://me:hidden@host/v1?key=abcd").at("/models")
        'https://host/v1/models?key=abcd'
        >>> Address.of("https://me:hidden@host/v1?key=abcd")
        Address(name='https://host/v1')
        """
        text = str(url).strip()
        try:
            parts = urlsplit(text)
            host, _ = parts.hostname, parts.port
            if parts.scheme not in ("http", "https") or not host:
                raise ValueError("neither http:// nor https:// with a host")
        except ValueError:
            raise UsageError(f"base_url {hidden(text)!r}", "give http(s)://host:port/v1") from None
        user, at, where = parts.netloc.rpartition("@")
        bare = urlunsplit((parts.scheme, where, parts.path.rstrip("/"), parts.query, ""))
        secrets = {v for _, v in parse_qsl(parts.query)} | {unquote(parts.query)}
        headers = {}
        if at:
            login = unquote(user)
            token = base64.b64encode(login.encode()).decode()
            headers["Authorization"] = f"Basic {token}"
            secrets |= {user, login, token, login.partition(":")[2], user.partition(":")[2]}
        return cls(
            name=urlunsplit((parts.scheme, where, parts.path.rstrip("/"), "", "")),
            url=bare,
            headers=headers,
            secrets=tuple(s for s in secrets if len(s) >= SHORTEST_SECRET),
        )

    @property
    def is_https(self) -> bool:
        """Whether what is sent there is encrypted."""
        return self.url.startswith("https://")

    def at(self, path: str) -> str:
        """Return the URL of a path below the address, with the address's own query."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc, parts.path + path, parts.query, ""))

    def root(self, path: str) -> str:
        """Return the URL of a path beside ``/v1``."""
        parts = urlsplit(self.url)
        below = parts.path.removesuffix("/v1")
        return urlunsplit((parts.scheme, parts.netloc, below + path, parts.query, ""))


def hidden(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text without secrets: those that are given, and all that stand in URLs.

    >>> hidden("asked http://me:pw@host/v1?key=abc, with sk-1234", ["sk-1234"])
    'asked http://host/v1?key=***, with ***'
    """
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _QUERY.sub(r"\1***", _USER.sub("", text))
