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
import time
from collections.abc import Iterator, Mapping
from typing import Any

from factory import plugins
from factory.engines.base import OnPartial, Request
from factory.engines.replicas import Event, Fleet

POLL_S = 0.2


class Engine(Fleet):
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
        named = identify(model, engine=engine, options=settings)
        super().__init__(
            replicas=replicas,
            make=lambda number, events: RayReplica(
                number, events, kind=kind, model=model, options=settings, num_gpus=num_gpus,
                num_cpus=num_cpus,
            ),
            model=named[0],
            revision=named[1],
            template=named[2],
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
) -> tuple[str, str, str | None]:
    """Return model, revision and template as they enter the keys: those of the inner engine."""
    from factory import model_files

    settings = dict(options or {})
    own = getattr(plugins.load("engines", engine), "identify", None)
    if own is not None:
        found: tuple[str, str, str | None] = own(model, **settings)
        return found
    if engine == "replay":
        return model, str(settings.get("revision", "recorded")), None
    given = settings.get("chat_template")
    text = None if given == "plain" else given or model_files.chat_template(model)
    revision = model_files.revision_of(model, settings.get("revision"))
    return model_files.name_of(model), revision, model_files.template_hash(text)


class Actor:
    """What runs on a node: an engine on a thread, an inbox, an outbox."""

    def __init__(
        self, kind: str, model: str, options: dict[str, Any], on_partial: OnPartial | None
    ) -> None:
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        args = (kind, model, options, on_partial)
        threading.Thread(target=self._run, args=args, daemon=True).start()

    def put(self, what: str, value: Any) -> None:
        """Take requests or cancellations."""
        self._inbox.put((what, value))

    def take(self) -> list[tuple[str, Any]]:
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
            engine = plugins.load("engines", kind).Engine(model, **options)
            told = {n: getattr(engine, n) for n in ("model", "revision", "template")}
            self._outbox.put(("ready", {**told, "slots": getattr(engine, "slots", 64)}))
            self._n_open = 0
            for answer in engine.run(self._requests(engine), on_partial):
                if answer is not None:
                    self._n_open -= 1
                    self._outbox.put(("answer", answer))
        except BaseException as error:  # noqa: BLE001 - the driver is told, whatever it is
            self._outbox.put(("dead", f"{type(error).__name__}: {error}"))

    def _requests(self, engine: Any) -> Iterator[Request | None]:
        waiting: list[Request] = []
        beat_at = 0.0
        while True:
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + 1.0
                self._outbox.put(("beat", None))
            with contextlib.suppress(queue.Empty):
                is_idle = self._n_open == 0 and not waiting
                what, value = self._inbox.get(block=is_idle, timeout=1.0)
                if what == "ask":
                    self._n_open += len(value)
                    waiting += reversed(value)
                else:
                    self._n_open -= len(value)
                    engine.cancel(value)
                    waiting = [r for r in waiting if r.trace_id not in value]
            yield waiting.pop() if waiting else None


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
