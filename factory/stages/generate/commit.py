"""Group commit beside the loop: traces become durable on a thread of their own.

An fsync takes 5-10 ms; on the loop's thread the engine would stand still for that long.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

from factory.records import Trace
from factory.store.log import SegmentWriter

COMMIT_ROWS = 64
"""Most finished traces that are not on disk at any moment: waiting and being written together."""
COMMIT_S = 0.5

Committed = list[tuple[Trace, dict[str, Any]]]


class Committer:
    """Writes finished traces and failures; hands traces back once they are on disk.

    Args:
        traces: segment of the traces.
        failures: segment of the failures.
        run_id: of the run that makes them.
    """

    def __init__(self, traces: SegmentWriter, failures: SegmentWriter, run_id: str) -> None:
        self._traces, self._failures, self._run_id = traces, failures, run_id
        self._buffer: list[Trace] = []
        self._rows: list[dict[str, Any]] = []
        self._since = 0.0
        self._writing = 0
        self._busy = False
        self._work: queue.SimpleQueue[tuple[list[Trace], list[dict[str, Any]]] | None]
        self._work = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Committed | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)
        self._thread.start()
        self._broken = False

    def put(self, trace: Trace) -> None:
        """Take one finished trace."""
        if not self._buffer:
            self._since = time.monotonic()
        self._buffer.append(trace)

    def put_failure(self, row: dict[str, Any]) -> None:
        """Take one failure's row; it is written with the next commit."""
        self._rows.append(row)

    @property
    def n_waiting(self) -> int:
        """Traces that are finished but not on disk."""
        return len(self._buffer) + self._writing

    def take(self, *, all_of_them: bool = False) -> Iterator[Committed]:
        """Start a commit where one is due, and yield what has become durable.

        Blocks while as many traces wait as may be lost; with ``all_of_them``, until none waits.

        Raises:
            StoreError: the disk is full or gone; what was committed before is kept.
        """
        while True:
            full = self.n_waiting >= COMMIT_ROWS
            if not self._busy and self._is_due(full or all_of_them):
                self._flush()
            try:
                done = self._done.get(block=self._busy and (full or all_of_them))
            except queue.Empty:
                return
            self._busy, self._writing = False, 0
            if isinstance(done, BaseException):
                self._broken = True
                raise done
            yield done
            if not (self.n_waiting >= COMMIT_ROWS or (all_of_them and self._has_more())):
                return

    def close(self) -> None:
        """End the thread; what was not taken is written first, unless the disk has failed."""
        if not self._broken and self._has_more():
            self._flush()
        self._work.put(None)
        self._thread.join()

    def _has_more(self) -> bool:
        return bool(self._buffer or self._rows)

    def _is_due(self, now: bool) -> bool:
        if not self._buffer:
            return now and bool(self._rows)
        return (
            now
            or len(self._buffer) >= COMMIT_ROWS // 2
            or time.monotonic() - self._since >= COMMIT_S
        )

    def _flush(self) -> None:
        self._work.put((self._buffer, self._rows))
        self._writing, self._busy = len(self._buffer), True
        self._buffer, self._rows = [], []

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            traces, failures = work
            try:
                self._failures.append(failures)
                rows = [t.row(self._run_id) for t in traces]
                self._traces.append(rows)
                self._done.put(list(zip(traces, rows, strict=True)))
            except BaseException as error:  # noqa: BLE001 - raised again on the loop's thread
                self._done.put(error)
