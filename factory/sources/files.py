"""Source ``files``: prompts out of JSON Lines or Parquet files of one's own.

Columns: ``prompt`` (text or messages; also ``problem``, ``question`` …), and where known ``gold``,
``verifier``, ``options``, ``domain``, ``level``, ``language``, ``id``; others by ``mapping``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.errors import UsageError
from factory.records import Prompt, PromptSource
from factory.rows import files
from factory.sources import columns


def rows(
    paths: Sequence[str] | str, mapping: Mapping[str, str] | None = None
) -> Iterator[tuple[str, int, columns.Row]]:
    """Yield (path, row number, row); a malformed line is a row of ``MALFORMED`` and why.

    Raises:
        UsageError: a file is missing or of an unknown form.
    """
    for path in [paths] if isinstance(paths, str) else paths:
        files.check_input(path)
        for number, row in enumerate(files.read_rows(path)):
            if isinstance(row, dict):
                yield path, number, columns.clean_row(files.map_columns(row, mapping or {}))
            else:
                yield path, number, {columns.MALFORMED: row.why}


def prompts(
    paths: Sequence[str] | str,
    *,
    name: str | None = None,
    mapping: Mapping[str, str] | None = None,
    verifier: str | None = None,
    options: Mapping[str, Any] | None = None,
    split: str | None = None,
    language: str | None = None,
    limit: int | None = None,
) -> Iterator[tuple[Prompt, PromptSource]]:
    """Yield prompts with where they come from.

    Args:
        paths: files.
        name: name of the source; default: each file's name without endings.
        mapping: name that we read → column of the file.
        verifier: verifier of all golds; default: each row's, else one that fits the gold.
        options: options of that verifier.
        split: split of all rows.
        language: ISO 639-1 code of all prompts.
        limit: at most so many prompts.

    Raises:
        UsageError: a file is missing, or none of its rows has a prompt.
    """
    named = ((name or stem(path), number, row) for path, number, row in rows(paths, mapping))
    yield from columns.pairs_of(
        named,
        split=split,
        verifier=verifier,
        options=options,
        language=language,
        limit=limit,
        nothing=UsageError(
            f"no prompt in {paths if isinstance(paths, str) else ', '.join(paths)}",
            f"name its column with --map prompt=COLUMN (known: {', '.join(columns.PROMPT_NAMES)})",
        ),
    )


def stem(path: str) -> str:
    """Return a file's name without its endings.

    >>> stem("x/prompts_gsm8k.jsonl.gz")
    'prompts_gsm8k'
    """
    return Path(path).name.split(".")[0]
