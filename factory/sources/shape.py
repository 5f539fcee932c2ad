"""What a shape is: where a public data set keeps prompt, thinking, answer, gold and the rest.

A shape is a file that defines ``SHAPE = Shape(...)``: those of ``factory/sources/shapes/``, or one
of your own, given by its path. Fields hold paths, templates or constants (``factory.rows.paths``);
a tuple of them means: the first one that holds something.
"""

from __future__ import annotations

import functools
import importlib
import re
from dataclasses import dataclass, fields
from pathlib import Path

from factory import plugins
from factory.errors import PluginError, UsageError

Names = str | tuple[str, ...]

PROMPTS = ("prompt", "problem", "question", "instruction", "query")
"""Columns that hold a prompt in the families of shapes."""
COMPLETIONS = (
    "completion", "completions", "response", "responses", "output", "outputs", "generation",
    "generations", "generated_solution", "generated_text", "model_output", "model_response",
    "llm_response", "model_answer", "raw",
)  # fmt: skip
"""Columns that hold what a model wrote, and nothing else."""
THINKINGS = (
    "reasoning", "thinking", "reasoning_content", "thinking_trajectory", "reasoning_trace",
    "thinking_content", "think_content", "thought", "thoughts", "chain_of_thought", "cot",
    "model_reasoning",
)  # fmt: skip
MAYBE_THINKINGS = ("rationale", "analysis", "scratchpad", "thought_process", "inner_monologue")
"""Columns that may be a model's thinking, or a note of whoever made the data."""
GOLDS = (
    "gold", "ground_truth", "expected_answer", "reference_answer", "gold_answer", "correct_answer",
    "answer_number", "target_answer", "reward_model.ground_truth",
    "verification_info.ground_truth", "metadata.expected_answer",
)  # fmt: skip
CONTEXTS = (
    "context", "contexts", "passage", "passages", "document", "documents", "article", "background",
    "body", "premise", "story", "input", "history", "image", "images", "audio", "video",
)  # fmt: skip
"""Columns that belong to a prompt: where no shape says how, a row that has one is refused."""
CHATS = ("messages", "conversations", "conversation", "dialogue", "turns", "contents")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One layout of rows.

    Attributes:
        name: as it is shown; ``datasets``: public data sets that have it.
        has: paths that must hold something in most rows; ``a|b`` means either.
        lacks: columns that no row may have.
        keys: columns that must hold answer keys only (``golds.is_key``); ``marked``: columns whose
            texts must hold marked thinking; ``written``: columns that mostly hold more than an
            answer key. They decide by the rows looked at.
        rank: of two shapes that fit, the higher one is taken, then the one that asks for more.
        prompt: text, a message, or messages; ``system``: a system text beside it.
        starter: code that the program has to complete, shown below the prompt.
        choices: options of a multiple-choice question; ``choice_columns``: one column each.
        completion: what a model wrote, one or a list; ``each``: columns of one completion each;
            ``thinking`` and ``answer``: its halves, where they stand apart.
        chat: messages that end with the completion.
        gold_fields: (name, path) of each part of a gold that stands in several columns.
        gold: answer key or tests; ``gold_form``: ``boxed`` or ``hashes`` (``golds.gold_text``);
            ``key_gold``: columns that are golds where they hold keys only.
        verifier, options: of every gold; default: what fits each.
        model, finish_reason, n_tokens, split, language, domain, level, item: metadata.
        copies: columns that repeat what is read, left out of ``meta``.
    """

    name: str
    datasets: tuple[str, ...] = ()
    has: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    marked: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    rank: int = 1
    prompt: Names = ()
    system: Names = ("system", "system_prompt")
    starter: Names = ()
    choices: Names = ("options", "choices")
    choice_columns: tuple[str, ...] = ()
    completion: Names = ()
    each: tuple[str, ...] = ()
    thinking: Names = ()
    answer: Names = ()
    chat: Names = ()
    gold: Names = ()
    gold_form: str = ""
    gold_fields: tuple[tuple[str, str], ...] = ()
    key_gold: Names = ()
    verifier: str | None = None
    options: tuple[tuple[str, object], ...] = ()
    model: Names = ("model", "model_name", "generator", "generation_model", "response_model",
                    "teacher_model")  # fmt: skip
    finish_reason: Names = ("finish_reason", "finish_reasons", "stop_reason")
    n_tokens: Names = ("n_completion_tokens", "num_generated_tokens", "completion_tokens")
    split: Names = ("split", "extra_info.split")
    language: Names = ("language", "lang", "lang_prompt")
    domain: Names = ("domain", "category", "subject", "problem_type", "topic", "ability",
                     "task_type")  # fmt: skip
    level: Names = ("level", "difficulty")
    item: Names = ("item", "id", "uuid", "unique_id", "problem_id", "question_id", "task_id",
                   "custom_id", "_id", "trace_id", "extra_info.index")  # fmt: skip
    copies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.gold_form not in ("", "boxed", "hashes"):
            raise PluginError(
                f"shape {self.name!r}: gold_form {self.gold_form!r}", "use boxed or hashes"
            )

    @property
    def has_completions(self) -> bool:
        """Tell whether rows of this shape hold what a model wrote."""
        return bool(self.completion or self.each or self.answer or self.chat)


def alternatives(names: Names) -> tuple[str, ...]:
    """Return the paths of a field."""
    return (names,) if isinstance(names, str) else names


MAPPED = {
    "prompt": "prompt", "system": "system", "choices": "choices", "completion": "completion",
    "thinking": "thinking", "reasoning": "thinking", "answer": "answer", "messages": "chat",
    "gold": "gold", "model": "model", "finish_reason": "finish_reason", "n_tokens": "n_tokens",
    "split": "split", "language": "language", "domain": "domain", "level": "level",
    "difficulty": "level", "item": "item", "id": "item",
}  # fmt: skip
"""Names that ``--map`` takes → field of the shape."""
FIELDS = frozenset(f.name for f in fields(Shape))


@functools.cache
def known() -> tuple[Shape, ...]:
    """Return the shapes that come with the factory, by name of file."""
    folder = Path(__file__).parent / "shapes"
    names = sorted(p.stem for p in folder.glob("[!_]*.py"))
    return tuple(importlib.import_module(f"factory.sources.shapes.{n}").SHAPE for n in names)


def named(name: str) -> Shape:
    """Return a shape by the name of its file, or by a path that ends in ``.py``.

    Raises:
        PluginError: there is none, or the file defines no ``SHAPE``.
    """
    if name.endswith(".py"):
        found = getattr(plugins.load_file(Path(name)), "SHAPE", None)
        if not isinstance(found, Shape):
            raise PluginError(f"{name} defines no shape", "it needs SHAPE = Shape(...)")
        return found
    folder = Path(__file__).parent / "shapes"
    files = sorted(p.stem for p in folder.glob("[!_]*.py"))
    if not re.fullmatch(r"[a-z0-9_]+", name) or name not in files:
        raise PluginError(
            f"unknown shape {name!r}", f"known: {', '.join(files)}; or give a path to a .py file"
        )
    shape: Shape = importlib.import_module(f"factory.sources.shapes.{name}").SHAPE
    return shape


def check_mapping(mapping: dict[str, str]) -> None:
    """Refuse names that nothing reads.

    Raises:
        UsageError: an unknown name; the message lists the known ones.
    """
    unknown = sorted(set(mapping) - set(MAPPED))
    if unknown:
        raise UsageError(
            f"--map {unknown[0]}={mapping[unknown[0]]}: nothing reads {', '.join(unknown)}",
            f"names that are read: {', '.join(sorted(MAPPED))}",
        )
