"""A replica in a child process: ``python -m factory.engines.replica_process FD``.

The two speak over a socket that only they hold. A child whose parent is gone, killed or not, reads
an end of file and leaves.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from factory.engines.base import OnPartial, Request
from factory.engines.replica_worker import Worker
from factory.engines.replicas import Event


class ProcessReplica:
    """Runs an engine plug-in in a child process.

    Args:
        number: which replica; enters its events.
        events: where they go.
        kind: name or path of the engine plug-in.
        model: its model; ``options``: its options.
        env: further environment variables of the child, such as its devices.
    """

    def __init__(
        self,
        number: int,
        events: queue.SimpleQueue[Event],
        *,
        kind: str,
        model: str,
        options: Mapping[str, Any],
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._number, self._events = number, events
        self._spec = {"kind": kind, "model": model, "options": dict(options)}
        self._env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def start(self, life: int, on_partial: OnPartial | None) -> None:
        """Start the child; its events are read by a thread of their own."""
        self.kill()
        ours, theirs = socket.socketpair()
        env = {**os.environ, **self._env, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "factory.engines.replica_process", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=env,
            start_new_session=True,  # Ctrl-C is for the parent, which drains
        )
        theirs.close()
        self._connection = Connection(ours.detach())
        self._connection.send({**self._spec, "on_partial": on_partial})
        args = (life, self._connection, self._process)
        threading.Thread(target=self._read, args=args, daemon=True).start()

    def send(self, requests: list[Request]) -> None:
        """Ask; a child that is gone is found by the reading thread."""
        with contextlib.suppress(OSError):
            assert self._connection is not None
            self._connection.send(("ask", requests))

    def cancel(self, trace_ids: list[str]) -> None:
        """Forget requests."""
        with contextlib.suppress(OSError):
            assert self._connection is not None
            self._connection.send(("cancel", trace_ids))

    def drain(self) -> None:
        """Note that the run ends."""
        with contextlib.suppress(OSError):
            assert self._connection is not None
            self._connection.send(("drain", None))

    def kill(self) -> None:
        """End the child at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _read(self, life: int, connection: Connection, process: subprocess.Popen[bytes]) -> None:
        why = ""
        try:
            while True:
                what, value = connection.recv()
                if what == "dead":
                    why = value
                else:
                    self._events.put((self._number, life, what, value))
        except (EOFError, OSError):
            pass
        with contextlib.suppress(OSError):
            connection.close()
        status = process.wait()
        self._events.put((self._number, life, "dead", why or f"exit status {status}"))


def serve(connection: Connection) -> None:
    """Run an engine for the parent at the other end until that is gone."""
    spec = connection.recv()
    worker = Worker(connection.send)
    threading.Thread(target=_listen, args=(connection, worker), daemon=True).start()
    worker.run(spec["kind"], spec["model"], spec["options"], spec["on_partial"])


def _listen(connection: Connection, worker: Worker) -> None:
    try:
        while True:
            worker.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)  # the parent is gone


def _main() -> None:
    connection = Connection(int(sys.argv[1]))
    try:
        serve(connection)
    except BaseException as error:  # the parent is told, whatever it is
        with contextlib.suppress(OSError):
            connection.send(("dead", f"{type(error).__name__}: {error}"))
        raise


if __name__ == "__main__":
    _main()
