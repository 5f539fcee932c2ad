"""What a stage asks of an engine, and what it may get back instead of a trace.

An engine plug-in is a file with a class ``Engine``, made as ``Engine(model, **options)``: ``model``
is a name or a local path, the options are the engine's own. The class ``Engine`` below is the whole
contract. A plug-in may inherit from it, and then has the defaults of what it leaves out; one that
does not inherit gets the same defaults from ``with_defaults``.

Beside the class, the file may define ``identify(model, **options)``, which returns model, revision
and template as they enter the keys, without loading a model (see ``identify`` below).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from factory import model_files, plugins
from factory.errors import PluginError
from factory.records import Message, Sampling, Trace, ids

OnPartial = Callable[[str, str], str | None]
"""(trace_id, text so far) → name of the rule that ends it, or None to go on."""

STOPPED = "stopped"
"""Kind of the failure by which ``Engine.drain`` gives back a request; nothing is stored of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One completion to be sampled; its key is the key of the trace that it will be."""

    trace_id: str
    prompt_id: str
    messages: tuple[Message, ...]
    model: str
    revision: str
    sampling: Sampling
    sampling_id: str
    sample_index: int
    part: Literal["whole", "thinking", "answer"] = "whole"
    """``thinking`` and ``answer``: the two parts of a completion with a thinking budget."""

    @property
    def seed(self) -> int:
        """Seed of this very sample, from the sampling's base and the key."""
        of_part = f"{self.trace_id}:answer" if self.part == "answer" else self.trace_id
        return ids.seed_of(base=self.sampling.seed, trace_id=of_part)

    def trace(
        self,
        completion: str,
        *,
        finish_reason: str | None,
        stop_reason: str | None = None,
        n_prompt_tokens: int | None = None,
        n_completion_tokens: int | None = None,
        seconds: float | None = None,
        cumulative_logprob: float | None = None,
        meta: str | None = None,
    ) -> Trace:
        """Return the trace that answers this request."""
        return Trace(
            trace_id=self.trace_id,
            prompt_id=self.prompt_id,
            model=self.model,
            revision=self.revision,
            sampling_id=self.sampling_id,
            sample_index=self.sample_index,
            completion=completion,
            prefill=self.sampling.prefill,
            finish_reason=finish_reason,
            stop_reason=stop_reason,
            n_prompt_tokens=n_prompt_tokens,
            n_completion_tokens=n_completion_tokens,
            seconds=seconds,
            cumulative_logprob=cumulative_logprob,
            meta=meta,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A request that ended without a trace. No fact: its key stays missing.

    Attributes:
        kind: short snake_case word (``too_long``, ``http_500``, ``engine_dead`` …).
        retriable: whether trying again could help.
    """

    trace_id: str
    kind: str
    message: str
    retriable: bool = True


@runtime_checkable
class Engine(Protocol):
    """The form that every engine has; what has a value or a body here may be left out.

    ``requests`` yields a ``Request``, or None for "nothing at the moment"; the engine pulls as
    slots free (``Incoming`` does it). Each request ends exactly once, as a trace, a failure or
    cancelled; one bad row never stops the rest.

    Attributes:
        model: as it enters the keys; likewise ``revision``.
        template: hash of the chat template in force, as it enters the keys; None for plain text,
            or where it is not known.
        slots: requests that it takes at once, when it runs as a replica.
        n_devices: accelerators in use; they are what ``price`` may count.
        can_continue: whether it honours ``Sampling.prefill``; a thinking budget needs it.
        knows_template: whether ``rendered_text`` is exactly what the model sees.
    """

    model: str
    revision: str
    template: str | None = None
    slots: int = 64
    n_devices: int = 0
    can_continue: bool = True
    knows_template: bool = False

    def run(
        self, requests: Iterator[Request | None], on_partial: OnPartial | None = None
    ) -> Iterator[Trace | Failure | None]:
        """Answer requests as slots free; yield None when idle, so that the driver can act."""
        ...

    def cancel(self, trace_ids: Iterable[str]) -> None:
        """Forget requests that are under way; they end without a trace."""
        ...

    def drain(self) -> None:
        """Note that the run ends: what is being answered is finished, what waits is given back.

        A request that is given back ends as a failure of the kind ``STOPPED``. An engine whose
        requests never wait for something outside of it need not do anything.
        """
        return

    def rendered_text(self, request: Request) -> str | None:
        """Return the prompt as the model sees it; None where the engine cannot tell."""
        return None

    def waits_for(self) -> str | None:
        """Say what the run waits for at the moment, such as a server that starts; mostly None."""
        return None

    def close(self) -> None:
        """Free what the engine holds."""
        return


_REQUIRED = ("model", "revision", "run", "cancel")
_OPTIONAL = ("template", "slots", "n_devices", "can_continue", "knows_template", "drain",
             "rendered_text", "waits_for", "close")  # fmt: skip


def with_defaults(engine: Any) -> Engine:
    """Return an engine that has every part of the contract.

    Args:
        engine: an object of a plug-in's class ``Engine``; one that has all parts is returned as
            it is.

    Raises:
        PluginError: it lacks a part that has no default.
    """
    if isinstance(engine, Engine):
        return engine
    lacking = [name for name in _REQUIRED if not hasattr(engine, name)]
    if lacking:
        raise PluginError(
            f"the engine {type(engine).__name__} does not define {', '.join(lacking)}",
            f"an engine defines {', '.join(_REQUIRED)}",
        )
    return _WithDefaults(engine)


class _WithDefaults(Engine):
    """An engine of a plug-in that leaves out parts of the contract."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.model, self.revision = engine.model, engine.revision
        vars(self).update({n: getattr(engine, n) for n in _OPTIONAL if hasattr(engine, n)})

    def run(
        self, requests: Iterator[Request | None], on_partial: OnPartial | None = None
    ) -> Iterator[Trace | Failure | None]:
        """Answer requests as slots free; yield None when idle."""
        answers: Iterator[Trace | Failure | None] = self._engine.run(requests, on_partial)
        return answers

    def cancel(self, trace_ids: Iterable[str]) -> None:
        """Forget requests that are under way."""
        self._engine.cancel(trace_ids)


class Incoming:
    """The requests of a run, pulled by an engine as its slots free.

    Args:
        requests: as ``Engine.run`` gets them.

    Attributes:
        more: whether there may be further requests.

    >>> incoming, taken = Incoming(iter([1, 2, None, 3])), []
    >>> for request in incoming.take(lambda: len(taken) < 2):
    ...     taken.append(request)
    >>> taken, list(incoming.take(lambda: True)), list(incoming.take(lambda: True)), incoming.more
    ([1, 2], [], [3], False)
    """

    def __init__(self, requests: Iterator[Request | None]) -> None:
        self._requests = requests
        self.more = True

    def take(self, has_room: Callable[[], bool]) -> Iterator[Request]:
        """Yield requests until there is no room, nothing at the moment, or nothing any more.

        Args:
            has_room: asked before each request is pulled, after the last was dealt with: what is
                pulled must be answered.
        """
        while self.more and has_room():
            try:
                request = next(self._requests)
            except StopIteration:
                self.more = False
                return
            if request is None:
                return
            yield request


class Identity(NamedTuple):
    """What of an engine is part of keys; no model is loaded for it."""

    model: str
    revision: str
    template: str | None


def identify(kind: str, model: str, settings: Mapping[str, Any]) -> Identity:
    """Return an engine's part of the keys, without starting it.

    An engine's file may have its own ``identify(model, **settings)``. Without one, ``model`` is a
    folder or a hub name, with its own chat template or the one in ``settings["chat_template"]``,
    and its own revision or the one in ``settings["revision"]``.

    Args:
        kind: name or path of the engine plug-in.
        model: name or local path.
        settings: the engine's own arguments.
    """
    own = getattr(plugins.load("engines", kind), "identify", None)
    if own is not None:
        return Identity(*own(model, **settings))
    given = settings.get("chat_template")
    text = None if given == "plain" else given or model_files.chat_template(model)
    revision = model_files.revision_of(model, settings.get("revision"))
    return Identity(model_files.name_of(model), revision, model_files.template_hash(text))
