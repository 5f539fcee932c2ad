"""Engine ``ray``: one actor per engine replica on a Ray cluster; the driver commits.

``ray start --head`` on one node and ``ray start --address=HEAD:6379`` on the others is all that a
cluster needs. Traces stream back to the driver as they finish; no shared file system is needed for
writing, only a model path that every node can read. A dead node takes its replica's requests with
it: they are asked again elsewhere, and the replica comes back where Ray finds room.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Mapping
from typing import Any

from factory.engines import base
from factory.engines.base import OnPartial, Request
from factory.engines.replica_worker import Worker, WorkerMessage
from factory.engines.replicas import Event, Replicas

POLL_S = 0.2


class Engine(Replicas):
    """Replicas of another engine, as Ray actors.

    Args:
        model: name, or a local path that every node has.
        replicas: actors.
        engine: engine of each replica.
        options: that engine's options.
        address: of the cluster; default: ``RAY_ADDRESS``, else a new local one.
        num_gpus, num_cpus: of each actor.
        hang_s: a silent replica with work is replaced after so long.
    """

    def __init__(
        self,
        model: str,
        *,
        replicas: int,
        engine: str = "vllm",
        options: Mapping[str, Any] | None = None,
        address: str | None = None,
        num_gpus: float = 0.0,
        num_cpus: float = 1.0,
        hang_s: float = 900.0,
        backoff_s: float = 1.0,
    ) -> None:
        import ray

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._started = not ray.is_initialized()
        if self._started:
            ray.init(address=address, logging_level="ERROR", log_to_driver=False)
        kind, settings = engine, dict(options or {})
        identity = base.identify(kind, model, settings)
        super().__init__(
            replicas=replicas,
            make=lambda number, events: RayReplica(
                number, events, kind=kind, model=model, options=settings, num_gpus=num_gpus,
                num_cpus=num_cpus,
            ),
            model=identity.model,
            revision=identity.revision,
            template=identity.template,
            n_devices=int(num_gpus * replicas),
            hang_s=hang_s,
            backoff_s=backoff_s,
        )  # fmt: skip

    def close(self) -> None:
        """End the actors, and the cluster where it was started here."""
        import ray

        super().close()
        if self._started:
            ray.shutdown()


def identify(
    model: str, *, engine: str = "vllm", options: Mapping[str, Any] | None = None, **_: Any
) -> base.Identity:
    """Return model, revision and template as they enter the keys: those of the inner engine."""
    return base.identify(engine, model, options or {})


class Actor:
    """What runs on a node: a worker on a thread, and an outbox that the driver empties."""

    def __init__(
        self, kind: str, model: str, options: dict[str, Any], on_partial: OnPartial | None
    ) -> None:
        self._outbox: queue.SimpleQueue[WorkerMessage] = queue.SimpleQueue()
        self._worker = Worker(self._outbox.put)
        args = (kind, model, options, on_partial)
        threading.Thread(target=self._run, args=args, daemon=True).start()

    def put(self, what: str, value: Any) -> None:
        """Take requests or cancellations."""
        self._worker.put((what, value))

    def take(self) -> list[WorkerMessage]:
        """Return what has come since; waits a little for the first."""
        out = []
        with contextlib.suppress(queue.Empty):
            out.append(self._outbox.get(timeout=POLL_S))
            while True:
                out.append(self._outbox.get_nowait())
        return out

    def _run(
        self, kind: str, model: str, options: dict[str, Any], on_partial: OnPartial | None
    ) -> None:
        try:
            self._worker.run(kind, model, options, on_partial)
        except BaseException as error:  # noqa: BLE001 - the driver is told, whatever it is
            self._outbox.put(("dead", f"{type(error).__name__}: {error}"))


class RayReplica:
    """One actor, seen from the driver."""

    def __init__(
        self,
        number: int,
        events: queue.SimpleQueue[Event],
        *,
        kind: str,
        model: str,
        options: dict[str, Any],
        num_gpus: float,
        num_cpus: float,
    ) -> None:
        self._number, self._events = number, events
        self._args = (kind, model, options)
        self._resources = {"num_gpus": num_gpus, "num_cpus": num_cpus}
        self._actor: Any = None

    def start(self, life: int, on_partial: OnPartial | None) -> None:
        """Start an actor on whatever node has room, spread out."""
        import ray

        self.kill()
        remote = ray.remote(Actor).options(
            **self._resources, max_concurrency=4, max_restarts=0, scheduling_strategy="SPREAD"
        )
        self._actor = remote.remote(*self._args, on_partial)
        threading.Thread(target=self._read, args=(life, self._actor), daemon=True).start()

    def send(self, requests: list[Request]) -> None:
        """Ask; an actor that is gone is found by the reading thread."""
        self._actor.put.remote("ask", requests)

    def cancel(self, trace_ids: list[str]) -> None:
        """Forget requests."""
        self._actor.put.remote("cancel", trace_ids)

    def drain(self) -> None:
        """Note that the run ends."""
        self._actor.put.remote("drain", None)

    def kill(self) -> None:
        """End the actor at once."""
        import ray

        if self._actor is not None:
            with contextlib.suppress(Exception):  # it may be gone, and Ray with it
                ray.kill(self._actor)
            self._actor = None

    def _read(self, life: int, actor: Any) -> None:
        import ray

        why = "the actor is gone"
        try:
            while True:
                for what, value in ray.get(actor.take.remote()):
                    if what == "dead":
                        self._events.put((self._number, life, "dead", value))
                        return
                    self._events.put((self._number, life, what, value))
        except Exception as error:  # noqa: BLE001 - Ray has many names for a dead node
            why = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        self._events.put((self._number, life, "dead", why))
