"""``factory score`` on a plain file: the columns of scores beside every row, without a store.

One output row per input row, in input order, the input's columns kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from factory import plugins
from factory.cli.common import note
from factory.cli.file_rows import (
    Batch,
    Tally,
    check_paths,
    need_completion,
    ordered,
    refuse_collision,
    refuse_unread,
)
from factory.records import message_list
from factory.rows import files
from factory.rows.files import Malformed, Row


def score_file(
    source: str,
    out: str,
    *,
    scores: Sequence[str] | None,
    params: Mapping[str, Mapping[str, Any]],
    mapping: Mapping[str, str],
    prefix: str = "",
) -> Tally:
    """Write each score's columns beside every row of ``source``.

    Args:
        source: path or ``-``.
        out: path or ``-``.
        scores: names or paths; None means all that need nothing.
        params: score → its parameters.
        mapping: name that we read → column of the input.
        prefix: put before the written columns.
    """
    from factory.stages.scorer import INPUTS, Scorer

    check_paths(source, out)
    refuse_unread(mapping, {*INPUTS, "text", "prefill"})
    scorer = Scorer(list(scores) if scores is not None else plugins.default_scores(), params)
    # A score may write what it also reads (target_language): there the input's own value stays.
    columns = [prefix + c for c in scorer.columns if prefix + c not in INPUTS]
    tally = Tally()

    def handle(batch: Batch) -> list[Row]:
        refuse_collision(batch, columns)
        return _score_batch(batch, scorer, mapping, prefix, tally)

    batches = need_completion(files.read_batches(source), mapping, also="text")
    files.write_rows(out, ordered(batches, handle, depth=2))
    for name, detail in scorer.failures.items():
        note(f"factory: score {name} failed on some rows ({detail}); they hold nulls")
        tally.unhandled += 1
    return tally


def _score_batch(
    batch: Batch, scorer: Any, mapping: Mapping[str, str], prefix: str, tally: Tally
) -> list[Row]:
    from factory.stages.scorer import frame_of, too_long

    views: list[Row] = [
        {} if isinstance(r, Malformed) else files.map_columns(r, mapping) for r in batch
    ]
    texts = []
    for view in views:
        text = files.completion_of(view)
        text = text if text is not None else _text(view.get("text"))
        prefill = _text(view.get("prefill")) or ""
        texts.append(None if text is None else prefill + text)
    frame = frame_of(
        texts,
        prompts=[_prompt(v.get("prompt")) for v in views],
        target_languages=[_text(v.get("target_language")) for v in views],
        extracted=[_text(v.get("extracted")) for v in views],
    )
    rows = scorer.score(frame).to_dicts()
    over = too_long(frame).to_list()
    out = []
    for row, text, values, is_over in zip(batch, texts, rows, over, strict=True):
        fields = {prefix + key: value for key, value in values.items()}
        if isinstance(row, Malformed):
            tally.add_malformed(row)
            line = {"status": "unscored", "reason": "malformed_row", "line": row.line}
            out.append(line | fields)
        else:
            outcome = "no_text" if text is None else "too_long" if is_over else "scored"
            tally.add(outcome, unhandled=is_over)
            given = {c: row[c] for c in fields if row.get(c) is not None}
            out.append({**row, **fields, **given})
    return out


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _prompt(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return "\n\n".join(str(m["content"]) for m in message_list(value))
    except ValueError:
        return None
