"""Inspect: what an import, or a source, would make of a file's rows; nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from factory import dialects
from factory.records import Prompt, PromptSource, ids
from factory.sources import columns
from factory.sources.columns import Reader, Reply, Wishes
from factory.stages.gold_faults import GoldCounter

LANGUAGE_TEXTS = 100
LANGUAGE_CHARS = 3000


@dataclass
class Inspection:
    """What was found in the rows looked at.

    Attributes:
        files: file → its shape, and where each field is read from; ``unread``: columns that hold
            neither text nor gold and are kept as ``meta``.
        kind: ``traces`` or ``prompts``.
        n_rows: rows looked at; ``n_found``: distinct traces or prompts in them.
        copies: exact repeats; ``refused``: reason → rows; ``thinking``: traces with thinking.
        bad_golds: reason → golds whose answers would all be unscored.
        verifiers: verifier → golds; ``no_verifier`` for golds that no rule can score.
        finish_reasons, models, dialects, languages: value → traces (languages of a sample).
        cut_tokens: completions whose special tokens at the end would be cut off.
        rows: one object per trace or prompt, in the words of the verbs.
    """

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    kind: str = "prompts"
    n_rows: int = 0
    n_found: int = 0
    copies: int = 0
    thinking: int = 0
    cut_tokens: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    bad_golds: Counter[str] = field(default_factory=Counter)
    verifiers: Counter[str] = field(default_factory=Counter)
    finish_reasons: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    dialects: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    rows: list[dict[str, Any]] = field(default_factory=list)


def inspect_rows(
    rows: Iterable[tuple[str, int, columns.Row]],
    *,
    wishes: Wishes | None = None,
    keep: int | None = None,
    languages: bool = True,
) -> Inspection:
    """Read rows as an import would, and count.

    Args:
        rows: (label, row number, row), as the sources ``files`` and ``hub`` yield them.
        wishes: mapping, shape and the rest.
        keep: at most so many objects in ``rows``; None keeps all.
        languages: also name the language of some texts.

    Raises:
        UsageError: no shape and no mapping explains a file.
    """
    found = Inspection()
    golds = GoldCounter()
    seen: set[str] = set()
    texts: list[str] = []
    for reader, _, row, one in columns.reading(rows, wishes or Wishes()):
        found.n_rows += 1
        _note_file(found, reader, row)
        if one.prompt is None or one.source is None:
            found.refused[one.why or "no_prompt"] += 1
            continue
        is_traces = reader.shape.has_completions
        found.kind = "traces" if is_traces else found.kind
        if is_traces and not one.replies:
            found.refused["no_completion"] += 1
            continue
        replies: list[Reply | None] = [*one.replies] or [None]
        for reply in replies:
            key = ids.key_of([one.source.prompt_id, one.source.gold, reply and reply.text])
            if key in seen:
                found.copies += 1
                continue
            seen.add(key)
            shown = _shown(one.prompt, one.source, reply, row)
            _count(found, shown, one.source, reply)
            golds.note(one.prompt, one.source)
            if keep is None or len(found.rows) < keep:
                found.rows.append(shown)
            if len(texts) < LANGUAGE_TEXTS:
                texts.append((shown["completion"] or shown["user"])[:LANGUAGE_CHARS])
    found.bad_golds = golds.counts
    if languages and texts:
        found.languages.update(_languages(texts))
    return found


def _note_file(found: Inspection, reader: Reader, row: Mapping[str, Any]) -> None:
    about = found.files.get(reader.label)
    if about is None:
        reads = {name: list(paths) for name, paths in reader.reads.items()}
        about = {"shape": reader.shape.name, "reads": reads, "columns": []}
        found.files[reader.label] = about
    if columns.MALFORMED not in row:
        about["columns"] += [c for c in row if c not in about["columns"]]


def _shown(
    prompt: Prompt, source: PromptSource, reply: Reply | None, row: Mapping[str, Any]
) -> dict[str, Any]:
    halves = dialects.split_reasoning(reply.text) if reply else dialects.Halves("", "")
    messages = [dict(m) for m in prompt.messages]
    return {
        "system": next((m["content"] for m in messages if m["role"] == "system"), None),
        "user": prompt.text,
        "thinking": halves.reasoning.strip() or None,
        "answer": halves.answer.strip() or None,
        "completion": reply.text if reply else None,
        "gold": source.gold,
        "verifier": source.verifier,
        "model": reply.model if reply else None,
        "finish_reason": reply.finish_reason if reply else None,
        "domain": source.domain,
        "level": source.level,
        "language": source.language,
        "split": source.split,
        "source": source.source,
        "item": source.item,
        "options": dict(source.options),
        "messages": messages,
        "meta": dict(reply.meta) if reply else dict(source.meta),
    }


def _count(
    found: Inspection, shown: Mapping[str, Any], source: PromptSource, reply: Reply | None
) -> None:
    found.n_found += 1
    if source.gold is not None:
        found.verifiers[source.verifier or "no_verifier"] += 1
    if reply is not None:
        found.thinking += shown["thinking"] is not None
        found.cut_tokens += bool(reply.ending)
        found.finish_reasons[reply.finish_reason or "unknown"] += 1
        found.models[reply.model or "unknown"] += 1
        if reply.dialect:
            found.dialects[reply.dialect] += 1


def _languages(texts: list[str]) -> list[str]:
    from factory.stages.scorer import Scorer, frame_of

    frame = Scorer(["language"]).score(frame_of(texts))
    return [lang or "undecided" for lang in frame["lang"].to_list()]
