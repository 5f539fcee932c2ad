"""Tables of the store, declared once: key column, columns and their kinds. Fixed for ever.

What Arrow, Polars and SQL call a kind is declared here too, and nowhere else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
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
_FITS: Mapping[str, frozenset[type]] = {
    "text": frozenset({str, type(None)}),
    "int": frozenset({int, type(None)}),
    "float": frozenset({float, int, type(None)}),
    "bool": frozenset({bool, type(None)}),
}
_KEY = re.compile("[0-9a-f]{32}")
_INT_END = 1 << 63


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
    """The fixed form of a table: its key column, its columns with their kinds, what it holds."""

    key: str
    columns: Mapping[str, str]
    comment: str = ""

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

    def columns_of(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]] | None:
        """Return rows as columns, where all of them fit; ``misfit`` says why they do not.

        >>> form = TableForm("k", {"k": "text", "n": "int"})
        >>> form.columns_of([{"k": "0" * 32}]), form.columns_of([{"k": "0" * 32, "n": "1"}])
        ({'k': ['00000000000000000000000000000000'], 'n': [None]}, None)
        """
        names = self.columns.keys()
        if not all(row.keys() <= names for row in rows):
            return None
        found = {name: [row.get(name) for row in rows] for name in names}
        for name, kind in self.columns.items():
            if not set(map(type, found[name])) <= _FITS[kind]:
                return None
            if kind in ("int", "float") and not all(
                type(v) is not int or -_INT_END <= v < _INT_END for v in found[name]
            ):
                return None
        keys = found[self.key]
        return found if all(type(k) is str and _KEY.fullmatch(k) for k in keys) else None

    def misfit(self, rows: Iterable[Mapping[str, Any]]) -> str | None:
        """Say what is wrong with the first row that this table cannot hold; None: all fit.

        A column that a row leaves out is null. Exact types count, since a reader would take a
        number in the wrong form for damage: an ``int`` is no bool and no float, and fits 64 bits.

        >>> TableForm("k", {"k": "text", "n": "int"}).misfit([{"k": "0" * 32, "n": 12.0}])
        'n is 12.0, which is no int (row 00000000000000000000000000000000)'
        """
        columns, key = self.columns, self.key
        for row in rows:
            for name, value in row.items():
                kind = columns.get(name)
                if kind is None:
                    return f"there is no column {name!r}"
                if type(value) not in _FITS[kind] or (
                    kind in ("int", "float")
                    and type(value) is int
                    and not -_INT_END <= value < _INT_END
                ):
                    shown = repr(value)[:80]
                    return f"{name} is {shown}, which is no {kind} (row {row.get(key)})"
            found = row.get(key)
            if not isinstance(found, str) or not _KEY.fullmatch(found):
                return f"{key} is {repr(found)[:80]}, which is no key"
        return None

    def misfit_frame(self, frame: pl.DataFrame) -> str | None:
        """Say what is wrong with a frame of rows, as ``misfit`` does with mappings."""
        import polars as pl

        fits = {
            "text": lambda t: t == pl.String,
            "int": lambda t: t.is_integer(),
            "float": lambda t: t.is_numeric(),
            "bool": lambda t: t == pl.Boolean,
        }
        for name, kind in self.columns.items():
            found = frame.schema.get(name)
            if found is None:
                return f"there is no column {name!r}"
            if found != pl.Null and not fits[kind](found):
                return f"{name} is of type {found}, which is no {kind}"
            if kind == "int" and found == pl.UInt64 and (frame[name] >= _INT_END).any():
                return f"{name} holds a number beyond 64 bits with a sign"
        return self.misfit_keys(frame)

    def misfit_keys(self, frame: pl.DataFrame) -> str | None:
        """Say what is wrong with the keys of a frame, where it holds them."""
        import polars as pl

        if self.key not in frame.columns:
            return None
        fits = pl.col(self.key).cast(pl.String).str.contains("^[0-9a-f]{32}$").fill_null(False)
        bad = frame.lazy().filter(~fits).select(self.key).head(1).collect()
        return None if bad.is_empty() else f"{self.key} is {bad.item()!r}, which is no key"


def whole(value: object) -> int | None:
    """Return a count that somebody else reports as an ``int``; None where it says none.

    >>> whole(12), whole(12.0), whole("12"), whole(12.5), whole(True), whole(2**63), whole(-1)
    (12, 12, 12, None, None, None, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 <= value < _INT_END else None


def _form(key: str, columns: str, comment: str = "") -> TableForm:
    """Read ``name:kind`` pairs; kind defaults to text."""
    pairs = (word.partition(":") for word in columns.split())
    return TableForm(key, {name: kind or "text" for name, _, kind in pairs}, comment)


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
    "reviews": _form("review_id", "review_id trace_id review note author created_at run_id"),
    "forgotten": _form("forgotten_id", "forgotten_id kind created_at run_id"),
}
"""Tables by base name. ``verdicts`` is stored once per ``verifier@VERSION``; scores, whose
columns come from their plug-in, once per ``score@VERSION`` (``score_form``)."""


EVALUATIONS: Mapping[str, TableForm] = {
    "evaluations": _form(
        "evaluation_id",
        "evaluation_id benchmark model revision sampling_id k:int n_prompts:int n_samples:int "
        "n_unscored:int n_missing:int pass_at_1:float pass_at_1_low:float pass_at_1_high:float "
        "pass_at_1_seed_sd:float pass_at_k:float cons_at_k:float mean_reward:float "
        "truncated_fraction:float format_fraction:float language_consistency:float "
        "readability:float mean_completion_tokens:float mean_reasoning_chars:float "
        "n_prompt_tokens:int n_completion_tokens:int cost:float trained_on "
        "n_contaminated:int pass_at_1_clean:float prompts_hash created_at run_id",
        "results of distill evaluate; key evaluation_id",
    ),
    "evaluation_samples": _form(
        "sample_id",
        "sample_id evaluation_id prompt_id item sample_index:int trace_id status reason "
        "reward:float vote finish_reason n_prompt_tokens:int n_completion_tokens:int format:int "
        "language_consistency:float readability:float reasoning_chars:int "
        "is_contaminated:bool run_id",
        "every sample that an evaluation wanted; missing where there is none",
    ),
}
"""Tables of ``distill evaluate``: a row per evaluation, and one for each sample that it wanted;
where there is none, ``status`` is ``missing`` and ``reason`` says why."""


TRAININGS: Mapping[str, TableForm] = {
    "rollouts": _form(
        "trace_id",
        "trace_id rl_run prompt_id status step:int attempt:int group_index:int sample_index:int "
        "round:int reward:float accuracy:float format:float language:float other_parts "
        "n_completion_tokens:int is_truncated:bool is_used:bool run_id",
        "rewards of distill grpo and their parts, a row per rollout, beside its trace",
    ),
    "rl_steps": _form(
        "step_id",
        "step_id rl_run step:int attempt:int reward:float accuracy:float format:float "
        "language:float loss:float grad_norm:float kl:float entropy:float learning_rate:float "
        "zero_variance_fraction:float zero_variance_drawn:float truncated_fraction:float "
        "completion_tokens:float clip_fraction:float weights_apart_nats:float cpu_s:float "
        "wall_s:float is_alarm:bool logged run_id",
        "updates of the weights by distill grpo; logged: all that TRL said, JSON",
    ),
    "rl_evaluations": _form(
        "evaluation_id",
        "evaluation_id rl_run step:int attempt:int n_prompts:int k:int pass_rate:float low:float "
        "high:float completion_tokens:float truncated_fraction:float is_best:bool run_id",
        "a development set during distill grpo; low, high: 95 % interval over prompts",
    ),
}
"""Tables of ``distill grpo``.

``rollouts``: ``other_parts`` holds as JSON those that are not in every run; ``round`` is 0, or that
in which a group was drawn in place of one without variance, whose rows are not ``is_used``.
``rl_steps``: ``reward`` and its parts stand at the first update after a rollout and are null at the
others, as does ``zero_variance_drawn``, the share of groups without variance before any was drawn
again."""


def score_form(columns: Mapping[str, str]) -> TableForm:
    """Return the form of a score's table: ``trace_id``, the declared columns, ``run_id``.

    Args:
        columns: column name → ``text``, ``int``, ``float`` or ``bool``; a nested value (spans)
            is stored as JSON text.
    """
    return TableForm("trace_id", {"trace_id": "text", **columns, "run_id": "text"})
