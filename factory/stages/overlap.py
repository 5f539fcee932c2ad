"""Overlap with benchmarks in rows of any form: what is read of both sides, and what is set aside.

Of a row every text counts, wherever it stands: columns, messages, parts of messages, lists of
generations, JSON in text. Of a benchmark the prompts and reference solutions count, not who is told
what to be (system messages), and not the instructions that both sides share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from factory.errors import UsageError, listed
from factory.records.text import clean_text
from factory.rows import files
from factory.rows.files import Malformed, Row
from factory.rows.paths import Columns, compiled, folded, opened
from factory.rows.texts import strings
from factory.sets.decontaminate import COLUMNS, PROMPT_FIELDS, SOLUTION_FIELDS, Decontaminator
from factory.sets.instructions import KNOWN, Instructions, WordList, shared, word_lists
from factory.sources import benchmark

HEAD_ROWS = 2000
"""Rows of the input on which shared instructions are looked for."""
PROMPT_NAMES = (
    *PROMPT_FIELDS, "messages", "conversations", "conversation", "instruction", "query", "input",
    "problem_statement", "original_question", "question_content", "turns",
)  # fmt: skip
SOLUTION_NAMES = (*SOLUTION_FIELDS, "solutions", "generated_solution", "reference_answer")
_ASIDE = ("system", "developer", "tool")
_ANSWERS = ("assistant", "gpt", "model", "chatgpt", "bing")


def texts_of_row(row: Row, columns: Sequence[str] | None = None) -> list[str]:
    """Return the texts of a row: of the named columns (names, paths, templates), or all of them.

    >>> texts_of_row({"id": 1, "messages": [{"role": "user", "content": "2+2?"}]})
    ['2+2?']
    """
    if columns is None:
        found = [text for value in row.values() for text in strings(opened(value))]
    else:
        have = Columns(row.keys())
        values = [compiled(name, have) for name in columns]
        found = [t for value in values if value for t in strings(opened(value.of(row)))]
    return [clean_text(text) or "" for text in found]


def benchmark_items(
    path: str, mapping: Mapping[str, str] | None = None, *, ngram: int = 10
) -> list[str]:
    """Return the prompts and reference solutions of a benchmark.

    Args:
        path: JSON Lines, a JSON array, CSV, Arrow or Parquet; or a known benchmark, as
            ``benchmark:NAME`` or, from a local copy, ``benchmark:NAME=PATH``.
        mapping: ``prompt`` and ``solution`` → column, path or template of the file.
        ngram: a solution (or a turn of the assistant) of fewer words says nothing: it is left out.

    Raises:
        UsageError: a row that cannot be read or holds no prompt; its line is named.
    """
    if path.startswith(benchmark.PREFIX):
        pairs = list(benchmark.texts(path))
        return _unique([q for q, _ in pairs], [s for _, also in pairs for s in also], ngram)
    files.check_input(path)
    texts: list[str] = []
    for number, row in enumerate(files.read_rows(path), start=1):
        if isinstance(row, Malformed):
            raise UsageError(
                f"benchmark {path!r} line {row.line}: {row.why}",
                "mend or remove it: an item that is not read is not looked for",
            )
        found = _of_benchmark(
            row, mapping or {}, where=f"benchmark {path!r} row {number}", ngram=ngram
        )
        if not found:
            raise UsageError(
                f"benchmark {path!r} row {number} has no prompt (columns: {listed(map(str, row))})",
                "name its column: --against-map prompt=COLUMN",
            )
        texts += found
    if not texts:
        raise UsageError(f"no prompt in benchmark {path!r}", "the file has no rows")
    return texts


def _of_benchmark(row: Row, mapping: Mapping[str, str], *, where: str, ngram: int) -> list[str]:
    prompts: list[str] = []
    solutions: list[str] = []
    for name, value in _values(row, mapping, where).items():
        whole = opened(value)
        for part in whole if isinstance(whole, list) else [whole]:
            role = (part.get("role") or part.get("from")) if isinstance(part, Mapping) else None
            if role in _ASIDE:
                continue
            is_answer = name in SOLUTION_NAMES or role in _ANSWERS
            (solutions if is_answer else prompts).extend(strings(part))
    return _unique(prompts, solutions, ngram) if prompts else []


def _unique(prompts: Sequence[str], solutions: Sequence[str], ngram: int) -> list[str]:
    long = [t for t, w in zip(solutions, word_lists(solutions), strict=True) if len(w) >= ngram]
    return list(dict.fromkeys(clean_text(t) or "" for t in [*prompts, *long]))


def _values(row: Row, mapping: Mapping[str, str], where: str) -> dict[str, Any]:
    if not mapping:
        by_name = {folded(name): value for name, value in row.items()}
        return {n: by_name[n] for n in (*PROMPT_NAMES, *SOLUTION_NAMES) if n in by_name}
    values, have = {}, Columns(row.keys())
    for name, column in mapping.items():
        value = compiled(column, have)
        if value is None:
            raise UsageError(
                f"{where} has no column {column!r} (for {name})", f"it has {listed(row)}"
            )
        values[name] = value.of(row)
    return values


def ignored_texts(path: str) -> list[str]:
    """Read instructions to ignore: paragraphs of a text file, with blank lines between them.

    Raises:
        UsageError: the file cannot be read or holds none.
    """
    try:
        with open(path, encoding="utf-8") as handle:  # noqa: PTH123 - a path as it was given
            found = [part.strip() for part in handle.read().split("\n\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path!r} cannot be read ({error})", "give a text file") from None
    if not any(found):
        raise UsageError(f"{path!r} holds no text", "one instruction a paragraph")
    return [part for part in found if part]


class OverlapCheck:
    """Looks for benchmarks in the texts of rows, several texts a row.

    Args:
        benchmarks: name → its items (``benchmark_items``).
        head: texts of the first rows to be checked, one list a row: shared instructions are looked
            for in them.
        ngram: words that must run alike.
        ignore: instructions that are set aside, beside the known and the shared ones.

    Attributes:
        shared: words of the instructions that both sides were found to share.
    """

    def __init__(
        self,
        benchmarks: Mapping[str, Sequence[str]],
        head: Sequence[Sequence[str]],
        *,
        ngram: int = 10,
        ignore: Sequence[str] = (),
    ) -> None:
        ours = word_lists([text for texts in head for text in texts])
        found: set[WordList] = set()
        for items in benchmarks.values():
            found.update(shared(ours, word_lists(list(items)), n_rows=len(head)))
        self.shared = sorted(found, key=len, reverse=True)
        self._ngram = ngram
        self._instructions = Instructions(self.shared, [*KNOWN, *ignore])
        # What only one side repeats is cut as well, but for the comparison of short texts alone.
        self._ours = Instructions(
            [*self.shared, *shared(ours, ours, n_rows=len(head))], [*KNOWN, *ignore]
        )
        self._checker = Decontaminator(
            {name: self._instructions.items(items) for name, items in benchmarks.items()},
            ngram=ngram,
        )

    def check(self, rows: Sequence[Sequence[str]]) -> pl.DataFrame:
        """Return ``COLUMNS`` for each row; null where it has no text."""
        texts = [text for row in rows for text in row]
        owner = [number for number, row in enumerate(rows) for _ in row]
        for at, bare in list(self._ours.bare(texts, below=self._ngram)):
            texts.append(bare)
            owner.append(owner[at])
        flat = pl.DataFrame(
            {"row": owner, "text": texts}, schema={"row": pl.Int64, "text": pl.String}
        )
        found = self._checker.check(flat).filter("is_contaminated")
        by_row = found.group_by("row", maintain_order=True).agg(
            pl.lit(True).alias("is_contaminated"),
            pl.col("contaminated_by").explode().unique(maintain_order=True),
            pl.col("contaminated_item").first(),
            pl.col("matched_ngram").first(),
        )
        every = pl.DataFrame(
            {"row": range(len(rows)), "known": [bool(row) for row in rows]},
            schema={"row": pl.Int64, "known": pl.Boolean},
        )
        joined = every.join(by_row, on="row", how="left", maintain_order="left")
        flag = pl.when("known").then(pl.col("is_contaminated").fill_null(False))
        return joined.with_columns(flag.alias("is_contaminated")).select(COLUMNS)

    def notes(self) -> Iterator[str]:
        """Yield a line for each instruction that both sides were found to share."""
        for run in self.shared:
            text = " ".join(run)
            shown = text if len(text) < 120 else f"{text[:117]}…"
            yield f"set aside as an instruction that both sides share: {shown!r}"
