"""An engine from outside the package: the replay engine, with prompts that kill or hang it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from factory.engines import replay
from factory.engines.base import Failure, OnPartial, Request


def identify(model: str, **options: Any) -> tuple[str, str, None]:
    return model, "recorded", None


class Engine(replay.Engine):
    """``poison``: prompts that kill the process; ``hang``: that stop it; ``once``: a file that,
    while absent, makes the process die at its first request."""

    def __init__(
        self, model: str, *, poison: list[str], hang: list[str] | None = None,
        once: str | None = None, never: bool = False, **options: Any,
    ) -> None:  # fmt: skip
        if never:
            raise RuntimeError("no weights")
        super().__init__(model, **options)
        self._poison, self._hang, self._once = set(poison), set(hang or []), once

    def run(
        self, requests: Iterator[Request | None], on_partial: OnPartial | None = None
    ) -> Iterator[Any]:
        return super().run(self._watched(requests), on_partial)

    def _watched(self, requests: Iterator[Request | None]) -> Iterator[Request | None]:
        for request in requests:
            if request is not None:
                if self._once and not Path(self._once).exists():
                    Path(self._once).touch()
                    os._exit(9)
                if request.prompt_id in self._hang:
                    time.sleep(60)
                if request.prompt_id in self._poison:
                    os._exit(11)
            yield request


__all__ = ["Engine", "Failure"]
