"""Engines by name: open one, or say only how it would enter the keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from factory import models, plugins
from factory.errors import UsageError
from factory.requests import Engine


@dataclass(frozen=True)
class Identity:
    """What of an engine is part of keys; no model is loaded for it."""

    model: str
    revision: str
    template: str | None


def open_engine(kind: str, model: str, settings: Mapping[str, Any]) -> Engine:
    """Start an engine.

    Args:
        kind: ``vllm``, ``openai``, ``ray``, ``replay`` or a path to a ``.py`` file.
        model: name or local path.
        settings: the engine's own arguments.

    Raises:
        UsageError: an argument that it does not take.
    """
    module = plugins.load("engines", kind)
    try:
        return cast(Engine, module.Engine(model, **settings))
    except TypeError as error:
        raise UsageError(
            f"engine {kind!r}: {error}", "see its docstring for its arguments"
        ) from None


def identify(kind: str, model: str, settings: Mapping[str, Any]) -> Identity:
    """Return an engine's part of the keys; an engine module may have its own ``identify``."""
    module = plugins.load("engines", kind)
    own = getattr(module, "identify", None)
    if own is not None:
        return Identity(*own(model, **settings))
    if kind == "replay":
        return Identity(model, str(settings.get("revision", "recorded")), None)
    given = settings.get("chat_template")
    text = None if given == "plain" else given or models.chat_template(model)
    revision = models.revision_of(model, settings.get("revision"))
    return Identity(models.name_of(model), revision, models.template_hash(text))
