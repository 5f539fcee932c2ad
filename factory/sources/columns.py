"""Reading prompts, golds and completions out of rows of any of the field's usual layouts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from factory.dialects import DIALECTS, THINK_CLOSE, THINK_OPEN, join_reasoning
from factory.errors import UsageError
from factory.records import Message, Prompt, PromptSource, Trace, ids, message_list

Row = Mapping[str, Any]

MALFORMED = "_malformed"
"""Column of a row that could not be read: why."""
PROMPT_NAMES = ("prompt", "messages", "problem", "question", "instruction", "query", "input")
GOLD_NAMES = ("gold", "ground_truth", "expected_answer", "reference_answer")
COMPLETION_NAMES = (
    "completion", "raw", "output", "response", "generation", "generated_solution", "generations",
)  # fmt: skip
ITEM_NAMES = ("item", "id", "uuid", "unique_id", "problem_id", "task_id")
VERDICT_NAMES = (
    "label", "label_kind", "score", "correctness", "correctness_math_verify",
    "correctness_llama", "is_correct", "audit_label",
)  # fmt: skip


def first(row: Row, names: tuple[str, ...]) -> Any:
    """Return the first of the named columns that holds something."""
    return next((row[n] for n in names if row.get(n) not in (None, "", [])), None)


def default_verifier(gold: Any) -> str:
    """Return the verifier that fits a gold where nobody names one.

    >>> default_verifier("1/2"), default_verifier("C"), default_verifier({"test_cases": []})
    ('math', 'choice', 'code')
    """
    if isinstance(gold, dict) or (isinstance(gold, str) and '"test_cases"' in gold[:2000]):
        return "code"
    if isinstance(gold, str) and len(gold.strip()) == 1 and gold.strip() in "ABCDEFGHIJ":
        return "choice"
    return "math"


def prompt_of(row: Row) -> Prompt | None:
    """Return the row's prompt; None where there is none.

    A system text beside a plain prompt becomes its system message. A conversation that ends with
    the assistant (ShareGPT, chat data) is cut before its last assistant turn.
    """
    value = first(row, PROMPT_NAMES)
    if value is None and isinstance(row.get("conversations"), list):
        value = [_turn(t) for t in row["conversations"] if isinstance(t, dict)]
    try:
        messages: list[Message] = message_list(value)
    except ValueError:
        return None
    if messages and messages[-1].get("role") == "assistant":
        messages = messages[:-1]
    system = row.get("system")
    if isinstance(system, str) and system and messages and messages[0].get("role") != "system":
        messages = [{"role": "system", "content": system}, *messages]
    return Prompt(messages=tuple(messages)) if messages else None


def _turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    roles = {"human": "user", "gpt": "assistant", "model": "assistant"}
    role = str(turn.get("role") or turn.get("from") or "user")
    return {
        "role": roles.get(role, role),
        "content": turn.get("content") or turn.get("value") or "",
    }


def gold_of(row: Row) -> str | None:
    """Return the row's gold as text (a structure as JSON); None where there is none."""
    value = first(row, GOLD_NAMES)
    if value is None and "answer" in row and "reasoning" not in row and _is_known_problem(row):
        value = row["answer"]
    if value is None:
        return None
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _is_known_problem(row: Row) -> bool:
    """Tell whether ``answer`` is an answer key: it stands beside a problem."""
    return any(name in row for name in ("problem", "question", "prompt"))


def source_of(
    row: Row, prompt: Prompt, *, source: str, number: int, split: str | None, verifier: str | None,
    options: Mapping[str, Any], language: str | None,
) -> PromptSource:  # fmt: skip
    """Return where a prompt comes from; what the caller gives wins over the row's columns."""
    gold = gold_of(row)
    own = row.get("options")
    if isinstance(own, str) and own.startswith("{"):
        own = orjson.loads(own)
    chosen = verifier or row.get("verifier") or (default_verifier(gold) if gold else None)
    merged = {**(own if isinstance(own, dict) else {}), **options}
    if chosen == "math":
        # Traces of others answer in many forms; our own recipes ask for a box and say so.
        merged.setdefault("mode", "auto")
    if isinstance(own, list) and chosen == "choice":
        merged.setdefault("options", own)
    item = first(row, ITEM_NAMES)
    level = row.get("level")
    return PromptSource(
        prompt_id=prompt.prompt_id,
        source=source,
        item=str(number if item is None else item),
        split=split or _text(row.get("split")),
        gold=gold,
        verifier=chosen if gold is not None else None,
        options=merged,
        domain=_text(row.get("domain")) or _text(row.get("problem_type")),
        level=None if level is None else str(level),
        language=language or _text(first(row, ("language", "lang", "lang_prompt"))),
    )


def pairs_of(
    rows: Iterable[tuple[str, int, Row]],
    *,
    split: str | None,
    verifier: str | None,
    options: Mapping[str, Any] | None,
    language: str | None,
    limit: int | None,
    nothing: UsageError,
) -> Iterator[tuple[Prompt, PromptSource]]:
    """Yield the prompts of (source, row number, row) with where they come from.

    Args:
        rows: of one or more sources; those without a prompt are left out.
        split: of all rows; like the next three it wins over a row's own column.
        verifier: of all golds.
        options: of that verifier.
        language: of all prompts.
        limit: at most so many prompts.
        nothing: raised where no row has a prompt.
    """
    n = 0
    for source, number, row in rows:
        prompt = prompt_of(row)
        if prompt is None:
            continue
        if limit is not None and n >= limit:
            return
        n += 1
        yield (
            prompt,
            source_of(
                row, prompt, source=source, number=number, split=split, verifier=verifier,
                options=options or {}, language=language,
            ),
        )  # fmt: skip
    if n == 0:
        raise nothing


def completions_of(row: Row) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every completion of the row with its earlier verdicts.

    Known layouts: one text column; ``reasoning`` with ``answer`` (joined by the one rule); a list
    of ``generations`` with parallel verdict lists (OpenR1-Math-220k); ``deepseek_reasoning`` with
    ``deepseek_solution`` (OpenThoughts); a conversation whose last turn is the assistant's.
    """
    verdicts = {n: row[n] for n in VERDICT_NAMES if row.get(n) is not None}
    value = first(row, COMPLETION_NAMES)
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        for i, text in enumerate(value):
            yield (
                text,
                {n: v[i] if isinstance(v, list) and i < len(v) else v for n, v in verdicts.items()},
            )
        return
    if isinstance(value, list):  # conversational completion
        value = next((str(m.get("content")) for m in reversed(value) if isinstance(m, dict)), None)
    if value is None and isinstance(row.get("deepseek_solution"), str):
        value = join_reasoning(str(row.get("deepseek_reasoning") or ""), row["deepseek_solution"])
    if value is None and (
        isinstance(row.get("reasoning"), str) or isinstance(row.get("answer"), str)
    ):
        reasoning, answer = row.get("reasoning") or "", row.get("answer") or ""
        value = join_reasoning(reasoning, answer) if reasoning else answer
    if value is None:
        value = _last_assistant(row)
    if isinstance(value, str) and value:
        yield _known_tags(value), verdicts


def _last_assistant(row: Row) -> str | None:
    turns = row.get("conversations") or row.get("messages")
    if isinstance(turns, list) and turns and isinstance(turns[-1], dict):
        last = _turn(turns[-1])
        if last["role"] == "assistant":
            return str(last["content"])
    return None


def _known_tags(text: str) -> str:
    """Rewrite OpenThoughts' thought markers as ``<think>``; other dialects stay as they are."""
    if DIALECTS["solution"].think[0] not in text:
        return text
    marks = DIALECTS["solution"]
    assert marks.answer is not None
    for old, new in zip(
        (*marks.think, *marks.answer), (THINK_OPEN, THINK_CLOSE, "", ""), strict=True
    ):
        text = text.replace(old, new)
    return text.strip()


def trace_of(
    prompt: Prompt, completion: str, *, model: str, meta: Mapping[str, Any], n_tokens: Any = None
) -> Trace:
    """Return an imported trace: a content hash stands for its sampling."""
    return Trace(
        trace_id=ids.imported_trace_id(
            prompt_id=prompt.prompt_id, model=model, completion=completion
        ),
        prompt_id=prompt.prompt_id,
        model=model,
        revision="imported",
        sampling_id=ids.key_of("imported"),
        sample_index=0,
        completion=completion,
        finish_reason="imported",
        n_completion_tokens=n_tokens if isinstance(n_tokens, int) else None,
        meta=orjson.dumps(meta).decode() if meta else None,
    )


def clean_row(row: Row) -> Row:
    """Replace lone surrogates in the row's texts: keys and tables cannot hold them."""
    return {k: _clean(v) for k, v in row.items()}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_clean(v) for v in value]
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items()}
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
