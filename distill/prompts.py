"""Prompts with their golds, from a file."""

from __future__ import annotations

from collections.abc import Mapping

from factory.records import Prompt, PromptSource, message_list

Pair = tuple[Prompt, PromptSource]


def read_prompts(path: str) -> list[Pair]:
    """Read prompts with their golds: rows of our own form, or what the source ``files`` reads."""
    from factory import plugins
    from factory.rows import files

    files.check_input(path)
    rows = [r for r in files.read_rows(path) if isinstance(r, Mapping)]
    names = PromptSource.__dataclass_fields__
    if not rows or not {"messages", "source", "item"} <= rows[0].keys():
        return list(plugins.load("sources", "files").prompts(path))
    out = []
    for row in rows:
        prompt = Prompt(messages=tuple(message_list(row["messages"])))
        fields = {n: row[n] for n in names if row.get(n) is not None}
        out.append((prompt, PromptSource(**{**fields, "prompt_id": prompt.prompt_id})))
    return out
