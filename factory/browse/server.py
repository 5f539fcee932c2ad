"""Starts the server: one address with its token, on this machine alone."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import socket
from pathlib import Path

from factory.errors import UsageError
from factory.store import Store

HOST = "127.0.0.1"
TOKEN_VARIABLE = "FACTORY_BROWSE_TOKEN"


def serve(
    store: Store,
    *,
    port: int = 0,
    author: str | None = None,
    roots: list[Path] | None = None,
    on_ready: object = None,
) -> None:
    """Serve the pages until Ctrl-C.

    Args:
        store: what is looked at.
        port: 0 takes a free one.
        author: who reviews; default: the user's name on this machine.
        roots: folders of trainings, beside ``models`` in the store.
        on_ready: called with the address, once it answers.

    Raises:
        UsageError: the port is taken.
    """
    import uvicorn

    from factory.browse.app import make_app

    token = os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(24)
    if len(token) < 16 or not token.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"{TOKEN_VARIABLE} is too short", "16 letters, digits, - or _ at least")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise UsageError(f"port {port}: {error.strerror}", "give another --port") from None
        port = listener.getsockname()[1]
        app = make_app(
            store,
            token=token,
            hosts=[f"{HOST}:{port}", f"localhost:{port}"],
            author=author or _user(),
            roots=roots or [],
        )
        # From here on a visitor waits and is not refused.
        listener.listen()
        if callable(on_ready):
            on_ready(f"http://{HOST}:{port}/t/{token}/")
        config = uvicorn.Config(
            app, log_level="error", access_log=False, lifespan="on", server_header=False
        )
        with contextlib.suppress(KeyboardInterrupt):  # raised again once all is closed
            uvicorn.Server(config).run(sockets=[listener])


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in some containers
        return "unknown"
