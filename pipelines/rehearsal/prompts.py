"""Source of a rehearsal: prompts with their golds, as they were written down when it began."""

from __future__ import annotations

from collections.abc import Iterator

from distill.prompts import read_prompts
from factory.records import Prompt, PromptSource


def prompts(path: str) -> Iterator[tuple[Prompt, PromptSource]]:
    """Yield the prompts of a file of ``pipelines.common.write_pairs``."""
    yield from read_prompts(path)
