"""Tables of the store, declared once: key column, columns and their kinds. Fixed for ever.

What Arrow, Polars and SQL call a kind is declared here too, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

STORE_FORMAT = 2


class Kind(NamedTuple):
    """What others call a kind of column; of Arrow and Polars the names, since both load slowly."""

    arrow: str
    polars: str
    sql: str


KINDS: Mapping[str, Kind] = {
    "text": Kind("string", "String", "VARCHAR"),
    "int": Kind("int64", "Int64", "BIGINT"),
    "float": Kind("float64", "Float64", "DOUBLE"),
    "bool": Kind("bool_", "Boolean", "BOOLEAN"),
}
"""The kinds of columns that a table or a plug-in may declare."""
SQL_TYPES: Mapping[str, str] = {name: kind.sql for name, kind in KINDS.items()}


def arrow_type(kind: str) -> pa.DataType:
    """Return the Arrow type of a kind.

    >>> str(arrow_type("float"))
    'double'
    """
    import pyarrow as pa

    made: Any = getattr(pa, KINDS[kind].arrow)
    return made()


def polars_schema(columns: Mapping[str, str]) -> pl.Schema:
    """Return columns with their Polars types.

    Args:
        columns: name → kind.

    >>> dict(polars_schema({"n": "int"}))
    {'n': Int64}
    """
    import polars as pl

    return pl.Schema({name: getattr(pl, KINDS[kind].polars) for name, kind in columns.items()})


@dataclass(frozen=True, slots=True)
class TableForm:
    """The fixed form of a table: its key column and its columns with their kinds."""

    key: str
    columns: Mapping[str, str]

    def arrow_schema(self) -> pa.Schema:
        """Return the Arrow schema; every column but the key may be null."""
        import pyarrow as pa

        return pa.schema(
            [
                pa.field(name, arrow_type(kind), nullable=name != self.key)
                for name, kind in self.columns.items()
            ]
        )

    def polars_schema(self) -> pl.Schema:
        """Return the columns with their Polars types."""
        return polars_schema(self.columns)


def _form(key: str, columns: str) -> TableForm:
    """Read ``name:kind`` pairs; kind defaults to text."""
    pairs = (word.partition(":") for word in columns.split())
    return TableForm(key, {name: kind or "text" for name, _, kind in pairs})


TABLES: Mapping[str, TableForm] = {
    "prompts": _form("prompt_id", "prompt_id messages text run_id"),
    "prompt_sources": _form(
        "source_id",
        "source_id prompt_id source item split gold gold_hash verifier options domain level "
        "language meta correction:int run_id",
    ),
    "samplings": _form(
        "sampling_id",
        "sampling_id temperature:float top_p:float max_tokens:int prefill fields run_id",
    ),
    "traces": _form(
        "trace_id",
        "trace_id prompt_id model revision sampling_id sample_index:int completion prefill "
        "finish_reason stop_reason n_prompt_tokens:int n_completion_tokens:int seconds:float "
        "cumulative_logprob:float meta text_hash run_id",
    ),
    "trace_updates": _form(
        "update_id",
        "update_id trace_id model finish_reason n_completion_tokens:int meta superseded_by "
        "correction:int run_id",
    ),
    "verdicts": _form(
        "verdict_id",
        "verdict_id trace_id gold_hash options_hash status reward:float reason extracted "
        "decided_by seconds:float run_id",
    ),
    "failures": _form(
        "failure_id", "failure_id trace_id attempt:int kind message created_at run_id"
    ),
    "exclusions": _form("exclusion_id", "exclusion_id excluded_run_id reason created_at run_id"),
}
"""Tables by base name. ``verdicts`` is stored once per ``verifier@VERSION``; scores, whose
columns come from their plug-in, once per ``score@VERSION`` (``score_form``)."""


def score_form(columns: Mapping[str, str]) -> TableForm:
    """Return the form of a score's table: ``trace_id``, the declared columns, ``run_id``.

    Args:
        columns: column name → ``text``, ``int``, ``float`` or ``bool``; a nested value (spans)
            is stored as JSON text.
    """
    return TableForm("trace_id", {"trace_id": "text", **columns, "run_id": "text"})
