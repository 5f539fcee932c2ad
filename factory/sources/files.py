"""Source ``files``: prompts out of files of one's own, of any known shape.

JSON Lines, JSON arrays, CSV, Arrow and Parquet; files, folders and patterns. Where a file keeps
prompt, gold and the rest is its shape (``factory/sources/shapes/``), or is said by ``mapping``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.errors import UsageError
from factory.records import Prompt, PromptSource
from factory.rows import files
from factory.sources import columns
from factory.sources.shape import named


def rows(
    paths: Sequence[str] | str, *, limit: int | None = None
) -> Iterator[tuple[str, int, columns.Row]]:
    """Yield (name of the file, row number, row); a damaged line is a row of ``MALFORMED`` and why.

    Results of a batch API are joined with their requests by ``custom_id``, where those stand in the
    same file or in one that is given before.

    Args:
        paths: files, folders or patterns.
        limit: at most so many rows of each file.

    Raises:
        UsageError: a file is missing or of an unknown form.
    """
    found = files.expanded([paths] if isinstance(paths, str) else paths)
    requests: dict[str, Any] = {}
    for path in found:
        name = stem(path)
        for number, row in enumerate(itertools.islice(files.read_rows(path), limit)):
            if not isinstance(row, dict):
                yield name, number, {columns.MALFORMED: row.why}
                continue
            if "custom_id" in row:
                if "body" in row and "response" not in row:
                    requests[str(row["custom_id"])] = row
                    if len(found) > 1:
                        continue  # its result follows
                elif str(row["custom_id"]) in requests:
                    row = {**row, "request": requests.pop(str(row["custom_id"]))}
            yield name, number, row


def prompts(
    paths: Sequence[str] | str,
    *,
    name: str | None = None,
    shape: str | None = None,
    mapping: Mapping[str, str] | None = None,
    verifier: str | None = None,
    options: Mapping[str, Any] | None = None,
    split: str | None = None,
    language: str | None = None,
    limit: int | None = None,
) -> Iterator[tuple[Prompt, PromptSource]]:
    """Yield prompts with where they come from, exact copies once.

    Args:
        paths: files, folders or patterns.
        name: name of the source; default: each file's name without endings.
        shape: name of a shape, or path of one's own; default: the one that fits.
        mapping: name that we read → path, template or constant (``factory.rows.paths``).
        verifier: verifier of all golds; default: each row's, else one that fits the gold.
        options: options of that verifier.
        split: split of all rows.
        language: ISO 639-1 code of all prompts.
        limit: at most so many prompts.

    Raises:
        UsageError: a file is missing, no shape explains it, or none of its rows has a prompt.
    """
    wishes = columns.Wishes(
        source=name,
        shape=named(shape) if shape else None,
        mapping=mapping or {},
        verifier=verifier,
        options=options or {},
        split=split,
        language=language,
    )
    where = paths if isinstance(paths, str) else ", ".join(paths)
    yield from columns.pairs_of(
        rows(paths), wishes, limit=limit,
        nothing=UsageError(f"no prompt in {where}", "name its column with --map prompt=COLUMN"),
    )  # fmt: skip


def stem(path: str) -> str:
    """Return a file's name without its endings.

    >>> stem("x/prompts_gsm8k.jsonl.gz")
    'prompts_gsm8k'
    """
    return Path(path).name.split(".")[0]
