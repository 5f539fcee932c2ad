"""Preflight: what a training run would really see, checked before its first step.

Rows are rendered through the student's tokenizer and training template. The run is refused where
the thinking is dropped or never closed, ``</think>`` or the end of the turn would be lost, the loss
mask is empty, ``<think>`` stands twice, or too many rows exceed ``max_length``.

Rows over ``max_length`` are left out by training, never cut: a cut row teaches to think without
end and to stop nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.templates import Rendered, RenderError, Template, render
from factory.dialects import THINK_CLOSE, THINK_OPEN
from factory.errors import Refused
from factory.records import message_list

QUANTILES = (0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Row:
    """One row to train on: ``messages`` of the prompt, and the whole completion as text."""

    messages: tuple[Mapping[str, Any], ...]
    completion: str


def read_row(row: Mapping[str, Any], *, where: str) -> Row:
    """Read a prompt–completion row; both sides may be text or messages.

    Raises:
        Refused: a side is missing or has another form; the message says where.

    >>> read_row({"prompt": "1+1?", "completion": "2"}, where="row 1").completion
    '2'
    """
    try:
        messages = tuple(message_list(row.get("prompt")))
        completion = row.get("completion")
        if not isinstance(completion, str):
            parts = message_list(completion)
            if len(parts) != 1 or parts[0]["role"] != "assistant":
                raise ValueError("a completion is text or one assistant message")
            completion = str(parts[0]["content"])
    except (TypeError, ValueError) as error:
        raise Refused(f"{where}: {error}", "rows need a prompt and a completion") from None
    return Row(messages, completion)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What was seen.

    Attributes:
        n_rows: rows looked at.
        n_over: those among them longer than ``max_length`` tokens.
        tokens: (quantile, tokens of the whole row) pairs.
        loss_tokens: the same for the tokens that carry loss.
        example: the first row as the model reads it.
    """

    n_rows: int
    n_over: int
    max_length: int
    tokens: tuple[tuple[float, int], ...]
    loss_tokens: tuple[tuple[float, int], ...]
    example: Rendered

    def lines(self) -> Iterator[str]:
        """Yield the report, as plain short lines."""

        def row(pairs: Sequence[tuple[float, int]]) -> str:
            return "  ".join(f"{'max' if q == 1 else f'p{q * 100:g}'} {n}" for q, n in pairs)

        yield f"preflight: {self.n_rows} rows, {self.n_over} over {self.max_length} tokens"
        yield f"  tokens       {row(self.tokens)}"
        yield f"  with loss    {row(self.loss_tokens)}"


def check_row(row: Row, *, tokenizer: Any, template: Template, where: str) -> Rendered:
    """Render one row and refuse what would train something else than the row says.

    Raises:
        Refused: with the reason and ``where``.
    """
    try:
        out = render(tokenizer, template, messages=row.messages, completion=row.completion)
    except RenderError as error:
        raise Refused(f"{where}: {error.what}", f"template {template.name!r}") from None
    target = out.input_ids[out.n_prompt_tokens :]
    problem = text_problem(row.completion) or token_problem(target, tokenizer)
    if problem:
        raise Refused(f"{where}: {problem[0]}", problem[1])
    if THINK_CLOSE in row.completion and THINK_CLOSE not in tokenizer.decode(
        target, skip_special_tokens=True
    ):
        raise Refused(f"{where}: {VANISHES[0]}", VANISHES[1])
    return out


# Trainers and engines decode without special tokens: rewards would never see the tag.
VANISHES = (
    f"{THINK_CLOSE} is a special token and vanishes when text is decoded",
    "add the tags with AddedToken(special=False)",
)


def text_problem(text: str) -> tuple[str, str] | None:
    """Return what is wrong with a completion's text and what to do; None: nothing.

    >>> text_problem("<think> no end")[0]
    '</think> never comes'
    """
    head = text.lstrip()
    opens = head.startswith(THINK_OPEN)
    if opens and head[len(THINK_OPEN) :].lstrip().startswith(THINK_OPEN):
        return f"{THINK_OPEN} is prefilled twice", "prefill + completion must hold it once"
    if opens and THINK_CLOSE not in text:
        return f"{THINK_CLOSE} never comes", "select finished traces only"
    if not head:
        return "the loss mask is empty", "the completion has no text"
    return None


def token_problem(target: Sequence[int], tokenizer: Any) -> tuple[str, str] | None:
    """Return what is wrong with a completion's tokens, its end included; None: nothing."""
    if len(target) <= 1:
        return "the loss mask is empty", "the completion has no text"
    if target[-1] != tokenizer.eos_token_id:
        return "EOS is cut", f"{tokenizer.eos_token!r} is no single token at the end of the row"
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in target[:-1]:
        return "the tokenizer has no tokens for some of the text", "choose another base model"
    return None


def preflight(
    rows: Sequence[Row],
    *,
    tokenizer: Any,
    template: Template,
    max_length: int,
    max_over_fraction: float,
    n: int = 512,
) -> Preflight:
    """Check up to ``n`` rows, spread evenly over the data.

    Args:
        rows: the data.
        tokenizer: the student's, after ``templates.adopt``.
        template: the training template.
        max_length: tokens of the longest row that training keeps.
        max_over_fraction: of the rows looked at, how many may be longer.
        n: rows to look at.

    Raises:
        Refused: one line, the first reason found.
    """
    if not rows:
        raise Refused("there are no rows to train on", "release or export some traces first")
    chosen = _spread(len(rows), n)
    seen = [
        check_row(rows[i], tokenizer=tokenizer, template=template, where=f"row {i + 1}")
        for i in chosen
    ]
    lengths = [len(r.input_ids) for r in seen]
    n_over = sum(length > max_length for length in lengths)
    if n_over > max_over_fraction * len(seen):
        raise Refused(
            f"{n_over} of {len(seen)} rows exceed max_length={max_length} tokens"
            f" (longest {max(lengths)}; allowed {max_over_fraction:.1%})",
            "raise max_length, filter by length, or raise max_over_fraction",
        )
    return Preflight(
        n_rows=len(seen),
        n_over=n_over,
        max_length=max_length,
        tokens=quantiles(lengths),
        loss_tokens=quantiles([len(r.input_ids) - r.n_prompt_tokens for r in seen]),
        example=seen[0],
    )


def _spread(n_rows: int, n: int) -> list[int]:
    """Return at most ``n`` indices, first and last row included.

    >>> _spread(10, 4)
    [0, 3, 6, 9]
    """
    if n_rows <= n:
        return list(range(n_rows))
    return sorted({round(i * (n_rows - 1) / (n - 1)) for i in range(n)}) if n > 1 else [0]


def quantiles(values: Iterable[int]) -> tuple[tuple[float, int], ...]:
    """Return (quantile, value) pairs for ``QUANTILES``: the least value that so many do not exceed.

    >>> quantiles([3, 1, 2, 4])
    ((0.5, 2), (0.9, 4), (0.99, 4), (1.0, 4))
    """
    ordered = sorted(values)
    return tuple((q, ordered[max(0, -(-len(ordered) * q // 1).__int__() - 1)]) for q in QUANTILES)
