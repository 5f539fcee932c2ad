r"""A Modelfile for Ollama: the model's own chat template in Go's words, and R1's sampling advice.

A chat template is a program, but what chat models need of it is simple: a text before and after
each role's message, and one that begins the answer. These are found by rendering messages that are
known, and the whole is held against the tokenizer on conversations of several turns. A template
that is more than that (tools, thinking that is dropped from history) is refused, never guessed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.errors import UsageError

ROLES = ("system", "user", "assistant")
ADVICE = {"temperature": 0.6, "top_p": 0.95}
"""What DeepSeek-R1's model card recommends for sampling, beside no system prompt."""
_CONTENT = "\ue000"


@dataclass(frozen=True, slots=True)
class Turns:
    """A chat template as texts.

    Attributes:
        begin: before the first message.
        default: behind it where the first message is no system prompt.
        before: role → text before its content.
        after: role → text behind its content.
        answer: what begins the assistant's answer.
    """

    begin: str
    default: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    answer: str

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the prompt of messages, up to where the assistant begins."""
        turns = (self.before[m["role"]] + m["content"] + self.after[m["role"]] for m in messages)
        default = "" if messages[0]["role"] == "system" else self.default
        return self.begin + default + "".join(turns) + self.answer


def turns_of(tokenizer: Any) -> Turns:
    """Return a tokenizer's chat template as texts.

    Args:
        tokenizer: of transformers, with a chat template.

    Raises:
        UsageError: it has none, or its template is more than texts around messages.
    """
    if not isinstance(tokenizer.chat_template, str):
        raise UsageError("the tokenizer has no chat template", "a Modelfile needs one")
    before, after, begins = {}, {}, {}
    for role in ROLES:
        # The second of two equal messages has nothing of the template's beginning in it.
        once, twice = (_plain(tokenizer, [(role, _CONTENT)] * n) for n in (1, 2))
        try:
            begin_and_before, behind = once.split(_CONTENT)
            _, middle, _ = twice.split(_CONTENT)
        except ValueError:
            raise _refused() from None
        if not middle.startswith(behind):
            raise _refused()
        before[role], after[role] = middle[len(behind) :], behind
        begins[role] = begin_and_before.removesuffix(before[role])
    answer = _plain(tokenizer, [("user", _CONTENT)], answer=True)
    answer = answer.rpartition(_CONTENT)[2].removeprefix(after["user"])
    default = begins["user"].removeprefix(begins["system"])
    found = Turns(begins["system"], default, before, after, answer)
    for roles in _CONVERSATIONS:
        messages = [{"role": role, "content": f"<{i}> {{{{ x }}}}"} for i, role in enumerate(roles)]
        if found.render(messages) != _rendered(tokenizer, messages, answer=True):
            raise _refused()
    return found


_CONVERSATIONS = [
    ("user",), ("system", "user"), ("user", "assistant", "user"),
    ("system", "user", "assistant", "user", "assistant", "user"),
]  # fmt: skip


def _refused() -> UsageError:
    return UsageError(
        "the chat template is more than texts around messages",
        "write its Modelfile by hand, or train with template: qwen or llama",
    )


def _plain(tokenizer: Any, turns: Sequence[tuple[str, str]], *, answer: bool = False) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    return _rendered(tokenizer, messages, answer=answer)


def _rendered(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, answer: bool) -> str:
    try:
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=answer
        )
    except Exception as error:  # a template may raise what it likes
        raise _refused() from error
    return text


def modelfile(tokenizer: Any, *, context: int) -> str:
    """Return the text of a Modelfile that stands in the model's folder.

    BOS is left out of the template where the tokenizer begins with it: the engine adds it itself.

    Args:
        tokenizer: the model's.
        context: tokens of prompt and answer together.

    Raises:
        UsageError: the chat template cannot be said in Go's words.
    """
    turns = turns_of(tokenizer)
    lines = [
        "# Sampling as DeepSeek-R1 advises: temperature 0.6, top-p 0.95, no system prompt; ask for",
        "# the answer in a box where it is to be checked, and judge by several samples.",
        "FROM .",
        f'TEMPLATE """{go_template(turns, bos=tokenizer.bos_token)}"""',
        *(f"PARAMETER {name} {value}" for name, value in ADVICE.items()),
        f"PARAMETER num_ctx {context}",
        f'PARAMETER stop "{tokenizer.eos_token}"',
    ]
    return "\n".join(lines) + "\n"


def go_template(turns: Turns, *, bos: str | None) -> str:
    """Return the template in the language of Go's ``text/template``.

    >>> go_template(Turns("", "", {"user": "U:"}, {"user": ";"}, "A:"), bos=None)
    '{{ range .Messages }}{{ if eq .Role "user" }}U:{{ .Content }};{{ end }}{{ end }}A:'
    """
    words = itertools.chain(["if"], itertools.repeat("else if"))
    cases = "".join(
        f'{{{{ {word} eq .Role "{role}" }}}}'
        f"{_go(turns.before[role])}{{{{ .Content }}}}{_go(turns.after[role])}"
        for word, role in zip(words, turns.before, strict=False)
    )
    begin = _go(turns.begin.removeprefix(bos or ""))
    if turns.default:
        is_first = '{{ if ne (index .Messages 0).Role "system" }}'
        begin += f"{is_first}{_go(turns.default)}{{{{ end }}}}"
    ends = "{{ end }}{{ end }}"
    return f"{begin}{{{{ range .Messages }}}}{cases}{ends}{_go(turns.answer)}"


def _go(text: str) -> str:
    """Return a text as it stands in a template; one with braces or quotes as a Go string."""
    if not {"{", "}", '"'} & {*text}:
        return text
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "{": "\\u007b", "}": "\\u007d"}
    escaped = "".join(escapes.get(char, char) for char in text)
    return f'{{{{ "{escaped}" }}}}'
