"""Forms of the store's tables: key column, columns and their Arrow types. Fixed for ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

STORE_FORMAT = 1


@dataclass(frozen=True, slots=True)
class TableForm:
    """The fixed form of a table: its key column and its columns with their Arrow types."""

    key: str
    columns: Mapping[str, str]

    def arrow_schema(self) -> pa.Schema:
        """Return the Arrow schema; every column but the key may be null."""
        import pyarrow as pa

        kinds = {
            "text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(),
        }  # fmt: skip
        return pa.schema(
            [
                pa.field(name, kinds[kind], nullable=name != self.key)
                for name, kind in self.columns.items()
            ]
        )


def _form(key: str, columns: str) -> TableForm:
    """Read ``name:kind`` pairs; kind defaults to text."""
    pairs = (word.partition(":") for word in columns.split())
    return TableForm(key, {name: kind or "text" for name, _, kind in pairs})


TABLES: Mapping[str, TableForm] = {
    "prompts": _form("prompt_id", "prompt_id messages text run_id"),
    "prompt_sources": _form(
        "source_id",
        "source_id prompt_id source item split gold gold_hash verifier options domain level "
        "language run_id",
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
