"""The rows: Prompt, PromptSource, Sampling, Trace, Verdict (tables: ``factory.records.schemas``).

A *fact* has a key that is computable before the work is done (``factory.records.ids``) and never
changes. Each table has exactly one key column, 32 hexadecimal characters, named in ``TABLES``.

Text rules. ``prefill`` (such as ``<think>\\n``) is a column of the trace and not part of
``completion``; verifiers and scores see prefill + completion, as ``Item.text`` and as the
``completion`` column of a score's frame. The columns ``reasoning`` and ``answer`` are the halves
around the last ``</think>``, by offset (``factory.dialects.split_reasoning``); what a verifier
sees as ``Item.reasoning`` and ``Item.answer`` knows every dialect (``split_final``).
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from factory.dialects import THINK_CLOSE, split_final
from factory.records import ids
from factory.records.schemas import EVALUATIONS as EVALUATIONS
from factory.records.schemas import SQL_TYPES as SQL_TYPES
from factory.records.schemas import STORE_FORMAT as STORE_FORMAT
from factory.records.schemas import TABLES as TABLES
from factory.records.schemas import TRAININGS as TRAININGS
from factory.records.schemas import TableForm as TableForm
from factory.records.schemas import polars_schema as polars_schema
from factory.records.schemas import score_form as score_form
from factory.records.schemas import whole as whole

Status = Literal["pass", "fail", "unscored"]
Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Messages given to a model.

    >>> Prompt.of("2+2?").messages
    ({'role': 'user', 'content': '2+2?'},)
    """

    messages: tuple[Message, ...]

    @classmethod
    def of(cls, text: str, *, system: str | None = None) -> Prompt:
        """Make a prompt of one user message, after an optional system message."""
        head = ({"role": "system", "content": system},) if system else ()
        return cls(messages=(*head, {"role": "user", "content": text}))

    @property
    def prompt_id(self) -> str:
        """Key: of the messages alone."""
        return ids.prompt_id(self.messages)

    @property
    def text(self) -> str:
        """The last user message, as plain text."""
        for message in reversed(self.messages):
            if message.get("role") == "user":
                return str(message.get("content") or "")
        return ""

    def row(self, run_id: str) -> dict[str, object]:
        """Return the stored form."""
        messages = ids.canonical_json(list(self.messages))
        return {
            "prompt_id": ids.key_of_json(messages), "messages": messages, "text": self.text,
            "run_id": run_id,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSource:
    """Where a prompt comes from, and how its completions are checked.

    Attributes:
        gold: answer key. Text as it is; a structured gold (code tests) as a JSON object in text.
        verifier: name of the verifier that reads ``gold``, or None where nothing can be checked.
        options: options of that verifier.
        language: ISO 639-1 code of the prompt, where known.
        meta: all that its row says besides.
        correction: how often what is said of this prompt, source and item was corrected before.
    """

    prompt_id: str
    source: str
    item: str
    split: str | None = None
    gold: str | None = None
    verifier: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    domain: str | None = None
    level: str | None = None
    language: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    correction: int = 0

    @property
    def source_id(self) -> str:
        """Key: prompt, source and item, and which correction it is."""
        return ids.source_id(
            prompt_id=self.prompt_id, source=self.source, item=self.item, correction=self.correction
        )

    def row(self, run_id: str) -> dict[str, object]:
        """Return the stored form."""
        return {
            "source_id": self.source_id,
            "prompt_id": self.prompt_id,
            "source": self.source,
            "item": self.item,
            "split": self.split,
            "gold": self.gold,
            "gold_hash": ids.text_hash(self.gold) if self.gold is not None else None,
            "verifier": self.verifier,
            "options": ids.canonical_json(self.options),
            "domain": self.domain,
            "level": self.level,
            "language": self.language,
            "meta": _json_text(self.meta),
            "correction": self.correction,
            "run_id": run_id,
        }


def _json_text(meta: Mapping[str, Any]) -> str | None:
    import orjson

    # What a row says is no key: its values may be of any type, and stay as they are.
    option = orjson.OPT_NON_STR_KEYS
    return orjson.dumps(dict(meta), default=str, option=option).decode() if meta else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Everything that shapes the sampled text. Fields at their default do not enter the key.

    Attributes:
        temperature: softmax temperature; 0 is greedy.
        max_tokens: largest number of completion tokens.
        top_p: nucleus mass, 1 switches it off.
        top_k: candidates kept, 0 switches it off.
        min_p: least probability of a candidate, as a share of the likeliest one's; 0: off.
        min_tokens: completion tokens before which nothing may end it.
        repetition_penalty: divides the logits of tokens that were there; 1 switches it off.
        presence_penalty: taken off the logits of tokens that were there; 0 switches it off.
        frequency_penalty: the same, times how often they were there.
        seed: base of the per-trace seeds (``ids.seed_of``).
        template: content hash of the chat template, or of the rendered form used.
        prefill: text that the completion is made to begin with.
        stop: strings that end the completion.
        thinking_budget: tokens after which the thinking is closed, or None.
        thinking_end: text that closes it then.
        abort: name of the rule that ended loops early (``ended`` traces are facts all the same).
        adapter: name and digest of a LoRA adapter.
        quantization: quantisation of the weights, where the engine changed it.
    """

    temperature: float
    max_tokens: int
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    min_tokens: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    template: str | None = None
    prefill: str = ""
    stop: tuple[str, ...] = ()
    thinking_budget: int | None = None
    thinking_end: str = f"\n{THINK_CLOSE}\n\n"
    abort: str | None = None
    adapter: str | None = None
    quantization: str | None = None

    def __post_init__(self) -> None:
        # YAML gives 1 where 1.0 is meant; one setting must have one key.
        for name in _FLOATS:
            object.__setattr__(self, name, float(getattr(self, name)))
        object.__setattr__(self, "stop", tuple(self.stop))

    def key_fields(self) -> dict[str, object]:
        """Return the fields that differ from their default (the required ones always)."""
        out: dict[str, object] = {}
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if f.default is dataclasses.MISSING or value != f.default:
                out[f.name] = value
        return out

    @property
    def sampling_id(self) -> str:
        """Key of everything that shapes the sampled text; fields at their default are left out."""
        return ids.key_of(self.key_fields())

    def row(self, run_id: str) -> dict[str, object]:
        """Return the stored form: the whole of it, as canonical JSON, and the common knobs."""
        return {
            "sampling_id": self.sampling_id,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "prefill": self.prefill,
            "fields": ids.canonical_json(self.key_fields()),
            "run_id": run_id,
        }


_FLOATS = (
    "temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One completion and how it was made; a stored fact.

    Attributes:
        completion: raw model text after the prompt and the prefill.
        finish_reason: ``stop``, ``length``, ``abort`` (ended by our rule), ``imported``.
        stop_reason: detail of the finish, such as the stop string or the abort rule.
        seconds: wall seconds from the request's start to its end, where known.
        meta: further facts as JSON text (an RL step, earlier verdicts of an import).
    """

    trace_id: str
    prompt_id: str
    model: str
    revision: str
    sampling_id: str
    sample_index: int
    completion: str
    prefill: str = ""
    finish_reason: str | None = None
    stop_reason: str | None = None
    n_prompt_tokens: int | None = None
    n_completion_tokens: int | None = None
    seconds: float | None = None
    cumulative_logprob: float | None = None
    meta: str | None = None

    def row(self, run_id: str) -> dict[str, object]:
        """Return the stored form."""
        row = dict(zip(_OF_TRACE, _values_of_trace(self), strict=True))
        row["text_hash"] = ids.text_hash(self.prefill + self.completion)
        row["run_id"] = run_id
        return row


_OF_TRACE = tuple(n for n in TABLES["traces"].columns if n not in ("text_hash", "run_id"))
_values_of_trace = operator.attrgetter(*_OF_TRACE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Result of a verifier.

    The candidate's own doing (no answer, wrong, unparsable, its code over its limits) is ``fail``
    with reward 0. Our doing (bad gold, dead worker) is ``unscored`` with reward None, never 0.

    Attributes:
        reward: in [0, 1]; None exactly where the status is ``unscored``.
        reason: short snake_case word; None for a plain pass.
        extracted: what was taken out of the answer.
        decided_by: the step that decided, cheapest first.
    """

    status: Status
    reward: float | None
    reason: str | None = None
    extracted: str | None = None
    decided_by: str | None = None

    @classmethod
    def passed(
        cls, *, decided_by: str, extracted: str | None = None, reward: float = 1.0
    ) -> Verdict:
        """Make a pass.

        >>> Verdict.passed(decided_by="text").reward
        1.0
        """
        return cls(status="pass", reward=reward, extracted=extracted, decided_by=decided_by)

    @classmethod
    def failed(
        cls, reason: str, *, decided_by: str, extracted: str | None = None, reward: float = 0.0
    ) -> Verdict:
        """Make a fail: the candidate's own doing.

        >>> Verdict.failed("wrong", decided_by="number", extracted="5").status
        'fail'
        """
        return cls(
            status="fail", reward=reward, reason=reason, extracted=extracted, decided_by=decided_by
        )

    @classmethod
    def unscored(
        cls, reason: str, *, decided_by: str | None = None, extracted: str | None = None
    ) -> Verdict:
        """Make a verdict of nothing: our own doing, masked in training and out of pass rates.

        >>> Verdict.unscored("gold_unparsable").reward is None
        True
        """
        return cls(
            status="unscored",
            reward=None,
            reason=reason,
            extracted=extracted,
            decided_by=decided_by,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the five fields, in their order."""
        return {name: getattr(self, name) for name in VERDICT_FIELDS}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Verdict:
        """Read what ``to_dict`` wrote."""
        return cls(
            status=fields["status"],
            reward=fields.get("reward"),
            reason=fields.get("reason"),
            extracted=fields.get("extracted"),
            decided_by=fields.get("decided_by"),
        )


VERDICT_FIELDS = tuple(f.name for f in dataclasses.fields(Verdict))


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What a verifier sees.

    Attributes:
        text: prefill + completion.
        gold: text, or a structure (a dict for ``code``); None where there is none.
        messages: the prompt's messages; may be empty.
        finish_reason: of the trace, where known.
        prefill: the part of ``text`` that the model did not write.
    """

    text: str
    gold: Any = None
    messages: tuple[Message, ...] = ()
    finish_reason: str | None = None
    prefill: str = ""

    @property
    def reasoning(self) -> str:
        """The thinking, in whichever dialect it is marked (``factory.dialects.split_final``)."""
        return split_final(self.text).reasoning

    @property
    def answer(self) -> str:
        """The final answer: what follows the thinking, up to the end of the completion."""
        return split_final(self.text).answer

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return {
            "text": self.text,
            "gold": self.gold,
            "messages": list(self.messages),
            "finish_reason": self.finish_reason,
            "prefill": self.prefill,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Item:
        """Read what ``to_dict`` wrote."""
        return cls(
            text=fields["text"],
            gold=fields.get("gold"),
            messages=tuple(fields.get("messages") or ()),
            finish_reason=fields.get("finish_reason"),
            prefill=fields.get("prefill") or "",
        )


def message_list(value: object) -> list[Message]:
    """Read a prompt given as text, as one message or as a list of messages.

    Raises:
        ValueError: it is none of the three.

    >>> message_list("hi")
    [{'role': 'user', 'content': 'hi'}]
    """
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if isinstance(value, Mapping) and "content" in value:
        return [cast(Message, value)]
    if (
        isinstance(value, Sequence)
        and value
        and all(isinstance(m, Mapping) and "content" in m and "role" in m for m in value)
    ):
        return [cast(Message, m) for m in value]
    raise ValueError("a prompt is text, a message, or a list of messages with role and content")
