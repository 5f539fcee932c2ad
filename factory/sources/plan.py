"""A shape compiled for the columns of one file: what each row of it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from factory import dialects, plugins
from factory.errors import UsageError
from factory.records import Prompt, PromptSource, ids
from factory.rows.paths import folded, opened
from factory.sources import golds, messages
from factory.sources.exported import META
from factory.sources.languages import language_code
from factory.sources.messages import Unreadable
from factory.sources.recognise import Sample, filled, is_thinking
from factory.sources.replies import Reply, item_at, number_at, plain_of, reply_of, text_of
from factory.sources.shape import Names, Shape, alternatives

Row = Mapping[str, Any]
# A list under one of these names is several completions, also where it is JSON text.
_PLURAL = {"completions", "responses", "generations", "outputs", "choices"}


@dataclass(slots=True)
class Found:
    """What a row holds.

    Attributes:
        prompt: None where it has none; ``why`` says so in a word.
        source: where the prompt comes from, with its gold.
        replies: its completions.
    """

    prompt: Prompt | None = None
    source: PromptSource | None = None
    replies: list[Reply] = field(default_factory=list)
    why: str | None = None


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the caller says of all rows; it wins over their own columns.

    Attributes:
        mapping: name that we read → path, template or constant.
        shape: shape of all files; default: each file's own.
        traces: True refuses files without completions; None takes either.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    shape: Shape | None = None
    source: str | None = None
    split: str | None = None
    verifier: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    language: str | None = None
    traces: bool | None = None

    def __post_init__(self) -> None:
        plugins.allow(self.verifier)
        if not self.options:
            return
        # They are stored beside the gold, so they have the bounds of everything that is.
        for name in [self.verifier] if self.verifier else plugins.names("verifiers"):
            within = plugins.bounded(name, self.options)
            for option, value in self.options.items():
                if within[option] != value:
                    raise UsageError(
                        f"{option}={value} of {name} is out of bounds", f"most: {within[option]}"
                    )


class Plan:
    """A shape's fields, compiled for the columns of a file."""

    def __init__(self, shape: Shape, sample: Sample, wishes: Wishes) -> None:
        self._shape, self._sample, self._wishes = shape, sample, wishes
        self.reads: dict[str, tuple[str, ...]] = {}
        self._verifiers = set(plugins.names("verifiers"))
        self._prompt = self._getter("prompt", shape.prompt)
        self._chat = self._getter("chat", shape.chat)
        self._system = self._getter("system", shape.system)
        self._completion = self._getter("completion", shape.completion)
        self._thinking = self._getter("thinking", shape.thinking, is_thinking)
        self._answer = self._getter("answer", shape.answer)
        self._each = [(n, self._getter(n, n)) for n in shape.each]
        self._choices = self._choices_of(shape)
        self._starter = self._getter("starter", shape.starter)
        texts = set(self._columns_read) | set(shape.copies)
        keyed = tuple(n for n in alternatives(shape.key_gold) if sample.are_keys(n))
        if shape.gold_form:
            self._gold = self._getter("gold", shape.gold)
        else:
            self._gold = self._getter("gold", (*alternatives(shape.gold), *keyed))
        self._gold_fields = [(n, self._getter("gold", p)) for n, p in shape.gold_fields]
        # A bare key beside a completion may also stand boxed in a written solution.
        self._facts = {
            name: self._getter(name, getattr(shape, name))
            for name in ("model", "finish_reason", "n_tokens", "split", "language", "domain",
                         "level", "item")
        }  # fmt: skip
        self._no_meta = texts | {c for n in self.reads.get("gold", ()) for c in self._first(n)}

    @property
    def _columns_read(self) -> list[str]:
        return [c for names in self.reads.values() for n in names for c in self._first(n)]

    def _first(self, path: str) -> tuple[str, ...]:
        """Return the columns that a path takes whole; one that reads inside leaves the rest."""
        value = self._sample.value(path)
        return value.columns if value and ("." not in path or path in value.columns) else ()

    def _getter(
        self, name: str, names: Names, test: Callable[[Any], bool] = filled
    ) -> Callable[[Row], Any]:
        """Return a function from a row to the first alternative that holds something."""
        values = [v for n in alternatives(names) if (v := self._sample.value(n)) is not None]
        present = tuple(v.text for v in values if self._sample.holds(v.text) or not v.columns)
        if present:
            self.reads[name] = (*self.reads.get(name, ()), *present)
        getters = [v.of for v in values]
        if not getters:
            return lambda row: None
        if len(getters) == 1:
            only = getters[0]
            return lambda row: v if test(v := only(row)) else None

        def first(row: Row) -> Any:
            return next((v for get in getters if test(v := get(row))), None)

        return first

    def _choices_of(self, shape: Shape) -> Callable[[Row], Any]:
        if not shape.choice_columns:
            return self._getter("choices", shape.choices)
        columns = [self._getter(f"choice {n}", n) for n in shape.choice_columns]
        # Where the right one has a column of its own, the order must not give it away.
        is_shuffled = bool(set(alternatives(shape.gold)) & set(shape.choice_columns))

        def options(row: Row) -> list[Any] | None:
            found = [v for get in columns if (v := get(row)) is not None]
            return (
                sorted(found, key=lambda v: ids.text_hash(str(v))) if is_shuffled else found
            ) or None

        return options

    # ---- reading

    def read(self, label: str, number: int, row: Row) -> Found:
        """Return what a row holds; one that cannot be read says why."""
        try:
            return self._read(label, number, row)
        except Unreadable as error:
            return Found(why=str(error))

    def _read(self, label: str, number: int, row: Row) -> Found:
        turns, last = self._turns(row)
        if not turns:
            return Found(why="no_prompt")
        options = golds.option_list(self._choices(row))
        if options:
            turns[-1] = _asked(turns[-1], golds.with_options(turns[-1].text, options))
        starter = str(self._starter(row) or "").strip()
        if starter and starter not in turns[-1].text:
            turns[-1] = _asked(turns[-1], golds.with_starter(turns[-1].text, starter))
        if not any(c.isalnum() for c in turns[-1].text) and turns[-1].role != "tool":
            return Found(why="empty_prompt")
        system = self._system(row)
        sent = [messages.without_thinking(t) for t in turns]
        if isinstance(system, str) and system.strip() and sent[0]["role"] != "system":
            sent.insert(0, {"role": "system", "content": system})
        prompt = Prompt(messages=tuple(sent))
        replies = list(self._replies(row, last)) if self._shape.has_completions else []
        source = self._source(row, prompt, label=label, number=number, options=options)
        return Found(prompt, source, replies, None)

    def _turns(self, row: Row) -> tuple[list[messages.Turn], messages.Turn | None]:
        """Return the turns of the prompt, and the assistant's last turn where it is the reply."""
        value = self._prompt(row)
        is_chat = value is None
        if is_chat:
            value = self._chat(row)
        if isinstance(value, str) and not (
            value.lstrip()[:1] in "[{" and messages.is_messages(value)
        ):
            return messages.turns_of_text(value), None
        if value is None or not messages.is_messages(value):
            return [], None
        turns = messages.turns_of(value)
        while is_chat and turns and turns[-1].role in ("system",):
            turns.pop()
        if turns and turns[-1].role == "assistant":
            return turns[:-1], turns[-1]
        return turns, None

    def _replies(self, row: Row, last: messages.Turn | None) -> Iterator[Reply]:
        for position, (text, thinking, own) in enumerate(self._written(row, last)):
            if text is None or not (text.strip() or thinking.strip()):
                continue
            ended = dialects.strip_end(text)
            stored, dialect = messages.whole(ended.text, thinking)
            n = own.pop("_n", 1)
            yield Reply(
                text=stored,
                position=position,
                model=item_at(own.get("model") or self._facts["model"](row), position),
                finish_reason=item_at(
                    own.get("finish_reason") or self._facts["finish_reason"](row), position
                ),
                n_tokens=number_at(self._facts["n_tokens"](row), position),
                dialect=dialect if dialect != "think" else None,
                ending=ended.tokens,
                meta={**self._meta(row, position, n), **own.get("meta", {})},
            )

    def _written(
        self, row: Row, last: messages.Turn | None
    ) -> Iterator[tuple[str | None, str, dict[str, Any]]]:
        """Yield (text, thinking beside it, what else is said of it)."""
        if self._shape.each:
            for name, get in self._each:
                text, thinking, own = reply_of(get(row))
                yield text, thinking, {**own, "meta": {"column": name}}
            return
        value, answer, thinking = self._completion(row), self._answer(row), self._thinking(row)
        if isinstance(value, str) and self._is_plural and value.lstrip()[:1] == "[":
            value = opened(value)
        if isinstance(value, list) and not (
            messages.is_messages(value) or messages.is_items(value)
        ):
            thoughts = thinking if isinstance(thinking, list) else []
            for i, item in enumerate(value):
                text, beside, own = reply_of(item)
                beside = beside or (str(thoughts[i]) if i < len(thoughts) and thoughts[i] else "")
                yield text, beside, {**own, "_n": len(value)}
            return
        text, beside, own = reply_of(value)
        if text is None and last is not None and answer is None:
            text, beside = last.text, last.thinking
        thought = beside or text_of(thinking)
        whole, half = text, text_of(answer)
        if whole is None or (thought and half and dialects.split(whole).dialect is None):
            whole = half or whole
        yield whole if whole or not thought else "", thought, own

    @property
    def _is_plural(self) -> bool:
        return any(folded(n) in _PLURAL for n in self.reads.get("completion", ()))

    def _meta(self, row: Row, position: int, n: int) -> dict[str, Any]:
        """Return all that is not text of prompt, completion or gold.

        Lists along the completions give the item that belongs to this one.
        """
        if META in row:  # of an export of ours: as it was
            return dict(row[META])
        meta = {}
        for name, value in row.items():
            if name in self._no_meta or value is None or value == "" or value == []:
                continue
            is_list = isinstance(value, list) and len(value) == n
            meta[name] = value[position] if is_list else value
        return meta

    def _source(
        self, row: Row, prompt: Prompt, *, label: str, number: int,
        options: list[tuple[str, str]] | None,
    ) -> PromptSource:  # fmt: skip
        wishes = self._wishes
        gold, verifier = self._gold_of(row, options)
        verifier = wishes.verifier or verifier
        merged = self._options_of(row, verifier, options) | dict(wishes.options)
        item = self._facts["item"](row)
        level = self._facts["level"](row)
        return PromptSource(
            prompt_id=prompt.prompt_id,
            source=wishes.source or label,
            item=str(number if not isinstance(item, str | int) else item),
            split=wishes.split or plain_of(self._facts["split"](row)),
            gold=gold,
            verifier=verifier if gold is not None else None,
            options=merged if gold is not None else {},
            domain=plain_of(self._facts["domain"](row)),
            level=None if not isinstance(level, str | int | float) else str(level),
            language=wishes.language or language_code(self._facts["language"](row)),
            # An import keeps this with each trace.
            meta={} if wishes.traces else self._meta(row, 0, -1),
        )

    def _options_of(
        self, row: Row, verifier: str | None, texts: list[tuple[str, str]] | None
    ) -> dict[str, Any]:
        """Return the verifier's options for foreign rows, with the shape's and the row's own."""
        # A row may name a verifier that is not here; a file that it names is not run for an import.
        if verifier is None or verifier not in {*self._verifiers, self._wishes.verifier}:
            return dict(self._shape.options)
        known = plugins.option_names(verifier)
        merged = plugins.file_options("verifiers", verifier) | dict(self._shape.options)
        takes_texts = "options" in known
        if texts and takes_texts:
            in_order = all(ord(letter) == 65 + i for i, (letter, _) in enumerate(texts))
            merged["options"] = [text for _, text in texts] if in_order else dict(texts)
        own = opened(row.get("options"))
        is_named = row.get("verifier") in self._verifiers
        has_options = isinstance(own, Mapping) and (is_named or bool(set(own) & set(known)))
        has_texts = isinstance(own, list | Mapping) and takes_texts and not texts
        if has_options or has_texts:
            merged |= plugins.bounded(verifier, plugins.row_options(verifier, own))
        return merged

    def _gold_of(
        self, row: Row, options: list[tuple[str, str]] | None
    ) -> tuple[str | None, str | None]:
        """Return the gold and the verifier that fits it."""
        value = self._gold(row)
        if self._gold_fields:
            value = {n: v for n, get in self._gold_fields if (v := get(row)) is not None}
        if isinstance(value, list) and any(
            isinstance(v, str | Mapping) or v is None for v in value
        ):
            held = [v for v in value if v is not None and v != ""]
            value = held[0] if len(held) == 1 else held or None
        named = row.get("verifier")
        is_name = isinstance(named, str) and (named.isidentifier() or named.endswith(".py"))
        verifier = str(named) if is_name else self._shape.verifier
        if options:
            letter = golds.chosen_letter(value, self._choices(row))
            if letter is not None:
                return letter, verifier or "choice"
        gold = golds.gold_text(value, self._shape.gold_form)
        return gold, verifier or golds.default_verifier(gold)


def _asked(turn: messages.Turn, text: str) -> messages.Turn:
    return messages.Turn({**turn.message, "content": text}, turn.thinking)
