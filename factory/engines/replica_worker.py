"""The working half of a replica: an engine in a child process or a Ray actor, and its inbox."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from factory import plugins
from factory.engines.base import Engine, OnPartial, Request, with_defaults

BEAT_S = 1.0
"""Seconds between two signs of life."""

WorkerMessage = tuple[str, Any]
"""(what, value). To a worker: ``ask`` with requests, ``cancel`` with keys, ``drain``. From one:
``ready`` with what its engine is, ``answer`` with a trace or a failure, ``beat``, ``dead`` with
the reason."""


class Worker:
    """Runs an engine on requests that others put into its inbox.

    Args:
        tell: sends a message to the driver.
    """

    def __init__(self, tell: Callable[[WorkerMessage], None]) -> None:
        self._inbox: queue.SimpleQueue[WorkerMessage] = queue.SimpleQueue()
        self._tell = tell
        self._n_open = 0
        self._must_drain = False

    def put(self, message: WorkerMessage) -> None:
        """Take a message of the driver; any thread may."""
        # An engine whose server is gone pulls no request, and would not see it in the inbox.
        if message[0] == "drain":
            self._must_drain = True
        else:
            self._inbox.put(message)

    def run(
        self, kind: str, model: str, options: Mapping[str, Any], on_partial: OnPartial | None
    ) -> None:
        """Start an engine and answer; does not return unless the engine does.

        Raises:
            Exception: whatever ends the engine; the driver has to be told by the caller.
        """
        engine = with_defaults(plugins.load("engines", kind).Engine(model, **options))
        told = {"model": engine.model, "revision": engine.revision, "template": engine.template}
        self._tell(("ready", {**told, "slots": engine.slots}))
        for answer in engine.run(self._requests(engine), on_partial):
            if self._must_drain:
                self._must_drain = False
                engine.drain()
            if answer is not None:
                self._n_open -= 1
                self._tell(("answer", answer))

    def _requests(self, engine: Engine) -> Iterator[Request | None]:
        waiting: list[Request] = []
        beat_at = 0.0
        while True:
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + BEAT_S
                self._tell(("beat", None))
            with contextlib.suppress(queue.Empty):
                # Idle: sleep until there is something; busy: only look.
                is_idle = self._n_open == 0 and not waiting
                what, value = self._inbox.get(block=is_idle, timeout=BEAT_S)
                if what == "ask":
                    self._n_open += len(value)
                    waiting += reversed(value)
                else:
                    self._n_open -= len(value)
                    engine.cancel(value)
                    waiting = [r for r in waiting if r.trace_id not in value]
            yield waiting.pop() if waiting else None
