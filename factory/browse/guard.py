"""What stands before every page: who may ask, and what a page may do in the browser.

A page of another site, open in the same browser, can send requests to a local port. So a request
must carry the token (a part of the path, which no other site knows), name this server as its host
(which a rebound DNS name does not), and, where the browser says so, come from a page of ours.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 8 << 20
_POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self' {scripts}", "style-src 'self'",
        # Widths of bars, and what KaTeX and Vega set on their own elements: no selector, no URL.
        "style-src-attr 'unsafe-inline'", "img-src 'self' data:", "font-src 'self'",
        "connect-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
    )
)  # fmt: skip
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # With "no-referrer" a browser sends the origin "null" with a form that no script submits.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """Lets in what may come in; everything else gets a status and one line.

    Args:
        app: what is behind it; sees paths without the token.
        token: of the address.
        hosts: values of ``Host`` that are this server, such as ``127.0.0.1:8765``.
        inline: the scripts that stand in pages themselves: they alone may.
    """

    def __init__(
        self, app: ASGIApp, *, token: str, hosts: Sequence[str], inline: Sequence[str] = ()
    ) -> None:
        self.app = app
        digests = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in inline)
        scripts = " ".join(f"'sha256-{d}'" for d in digests)
        self.headers = {**_HEADERS, "content-security-policy": _POLICY.format(scripts=scripts)}
        self.prefix = f"/t/{token}"
        self.hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no web socket is served
        objection = self._objection(scope)
        if objection is not None:
            await PlainTextResponse(objection[1], objection[0])(scope, receive, self._headed(send))
            return
        inner = {**scope, "path": scope["path"].removeprefix(self.prefix) or "/"}
        inner["raw_path"] = inner["path"].encode()
        await self.app(inner, receive, self._headed(send))

    def _objection(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        if headers.getlist("host") == [] or any(
            host not in self.hosts for host in headers.getlist("host")
        ):
            return 421, "not this host\n"
        path = scope["path"].encode("utf-8", "replace")
        own = self.prefix.encode()
        if not hmac.compare_digest(path[: len(own)], own) or path[len(own) :][:1] not in (
            b"",
            b"/",
        ):
            return 403, "open the address that `factory browse` printed: it holds the token\n"
        origins = {f"http://{host}" for host in self.hosts}
        if any(o not in origins for o in headers.getlist("origin")):
            return 403, "not from this page\n"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return 403, "not from another site\n"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "GET, HEAD and POST only\n"
        if scope["method"] == "POST":
            if "origin" not in headers:
                return 403, "a change comes from a page of this server\n"
            size = headers.get("content-length", "")
            if not size.isdecimal() or int(size) > MAX_BODY_BYTES:
                return 413, f"at most {MAX_BODY_BYTES:,} bytes, and their number first\n"
        return None

    def _headed(self, send: Send) -> Send:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        return with_headers
