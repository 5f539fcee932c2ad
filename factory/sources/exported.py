"""Our own exports and releases, read back: the same prompts, texts, golds and metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

Row = Mapping[str, Any]
META = "_meta"
"""Column of a lifted row that holds the trace's metadata as it was."""
_FACTS = ("gold", "verifier", "options", "source", "item", "split", "domain", "level", "model",
          "finish_reason", "n_completion_tokens", "status")  # fmt: skip
_RELEASE = {"trace_id", "prompt_id", "text_hash", "completion"}
_TEXTS = (("messages",), ("conversations",), ("prompt", "completion"),
          ("prompt", "chosen", "rejected"))  # fmt: skip


def lifted(row: Row) -> Row:
    """Return a row of an export as prompt, text and facts; any other row as it is.

    >>> row = {"messages": [], "metadata": {"trace_id": "a", "gold": "4", "model": None}}
    >>> lifted(row)
    {'messages': [], 'gold': '4', '_meta': {}}
    """
    facts = row.get("metadata")
    is_release = row.keys() >= _RELEASE
    if not is_release and not (isinstance(facts, Mapping) and "trace_id" in facts):
        return row
    said: Mapping[str, Any] = row if is_release else facts or {}
    out: dict[str, Any] = {}
    if is_release:
        out = {"prompt": row.get("prompt") or row.get("messages"), "completion": row["completion"]}
    elif isinstance(row.get("extra_info"), Mapping) and "completion" in row["extra_info"]:
        out = {"prompt": row.get("prompt"), "completion": row["extra_info"]["completion"]}
    else:
        names = next((n for n in _TEXTS if all(x in row for x in n)), ())
        out = {name: row[name] for name in names}
    if not out:
        return row
    out |= {name: said[name] for name in _FACTS if said.get(name) is not None}
    if said.get("prompt_language" if is_release else "language") is not None:
        out["language"] = said["prompt_language" if is_release else "language"]
    return {**out, META: _opened(said.get("meta"))}


def _opened(meta: Any) -> dict[str, Any]:
    try:
        found = orjson.loads(meta) if isinstance(meta, str) else meta
    except ValueError:
        found = None
    return dict(found) if isinstance(found, Mapping) else {}
