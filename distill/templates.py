r"""Chat templates for training: thinking is never dropped, and the loss covers the answer exactly.

The templates that models come with are made for chatting: several drop the thinking of assistant
turns, add a system prompt nobody asked for, or prefill ``<think>``. Ours render messages as they
are, mark what the assistant wrote with ``{% generation %}`` (which TRL's ``assistant_only_loss``
reads), and end it with the family's end-of-turn token. Prefilling ``<think>\n`` is a matter of
sampling (``Sampling.prefill``), never of a template, so that it cannot happen twice.

A template is saved with the trained model, so that vLLM and transformers serve what was trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.dialects import THINK_CLOSE, THINK_OPEN, split_reasoning
from factory.errors import ConfigError, FactoryError
from factory.model_files import DataText
from factory.records import ids

# DeepSeek-R1, arXiv:2501.12948v1, Table 1, letter by letter; for base models, as plain text.
R1_ZERO = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant "
    "solves it. The assistant first thinks about the reasoning process in the mind and then "
    "provides the user with the answer. The reasoning process and answer are enclosed within "
    "<think> </think> and <answer> </answer> tags, respectively, i.e., <think> reasoning process "
    "here </think> <answer> answer here </answer>. User: {prompt}. Assistant:"
)

_QWEN = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{ '<|im_start|>assistant\\n' }}"
    "{%- generation -%}{{ message['content'] + '<|im_end|>' }}{%- endgeneration -%}{{ '\\n' }}"
    "{%- else -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)

_LLAMA = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{ message['content'] + '<|eot_id|>' }}{%- endgeneration -%}"
    "{%- else -%}{{ message['content'] + '<|eot_id|>' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
    "{%- endif -%}"
)


@dataclass(frozen=True, slots=True)
class Template:
    """A training template.

    Attributes:
        name: ``qwen``, ``llama``, or ``own`` (what the tokenizer came with).
        jinja: the text; renders ``messages``, with ``add_generation_prompt``.
        end_of_turn: the token that ends an assistant turn, and so a generation.
    """

    name: str
    jinja: str
    end_of_turn: str

    @property
    def digest(self) -> str:
        """Content hash, 32 characters: what ``Sampling.template`` holds."""
        return ids.text_hash(self.jinja)


_FAMILIES = {"qwen": (_QWEN, "<|im_end|>"), "llama": (_LLAMA, "<|eot_id|>")}


def template_for(tokenizer: Any, name: str) -> Template:
    """Return the template ``name`` for a tokenizer.

    Args:
        tokenizer: a transformers tokenizer.
        name: ``qwen`` (ChatML), ``llama`` (Llama 3 headers), or ``own``, for a tokenizer whose
            template keeps thinking and ends turns with ``eos_token``, as the miniature's does.

    Raises:
        ConfigError: an unknown name, or the tokenizer lacks the template or its tokens.
    """
    if name == "own":
        if not isinstance(tokenizer.chat_template, str):
            raise ConfigError(
                "template 'own', but the tokenizer has no chat template",
                "choose template: qwen or llama",
            )
        return Template("own", tokenizer.chat_template, str(tokenizer.eos_token))
    if name not in _FAMILIES:
        raise ConfigError(f"unknown template {name!r}", f"known: {', '.join(_FAMILIES)}, own")
    jinja, end_of_turn = _FAMILIES[name]
    if end_of_turn not in tokenizer.get_vocab():
        raise ConfigError(
            f"template {name!r} ends turns with {end_of_turn}, which the tokenizer does not have",
            "choose the template of the model's family",
        )
    return Template(name, jinja, end_of_turn)


def adopt(tokenizer: Any, template: Template) -> None:
    """Make the tokenizer render by ``template`` and end with its end-of-turn token (in place)."""
    tokenizer.chat_template = template.jinja
    tokenizer.eos_token = template.end_of_turn
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token


@dataclass(frozen=True, slots=True)
class Rendered:
    """A row as a model will read it.

    Attributes:
        prompt: text up to where the assistant begins, prefill not included.
        completion: text that the assistant is trained on, its end-of-turn token included.
        input_ids: tokens of both, tokenised apart as at inference, shape (T,).
        n_prompt_tokens: the first tokens, which carry no loss.
    """

    prompt: str
    completion: str
    input_ids: list[int]
    n_prompt_tokens: int

    @property
    def labels(self) -> list[int]:
        """Targets, shape (T,): -100 on the prompt, the tokens themselves on the completion."""
        return [-100] * self.n_prompt_tokens + self.input_ids[self.n_prompt_tokens :]


class RenderError(FactoryError):
    """A row cannot be rendered by the template; ``what`` says why."""


@dataclass(frozen=True, slots=True)
class Texts:
    """A row rendered and not tokenised yet; what reads like a control token in it is hidden.

    Attributes:
        prompt: up to where the assistant begins.
        target: the completion and its end-of-turn token.
        data: shows and tokenises both.
    """

    prompt: str
    target: str
    data: DataText


def render(
    tokenizer: Any, template: Template, *, messages: Sequence[Mapping[str, Any]], completion: str
) -> Rendered:
    """Render a prompt and the completion to train on; see ``texts``.

    Raises:
        RenderError: of ``texts``.
    """
    out = texts(tokenizer, template, messages=messages, completion=completion)
    prompt, target = out.data.encode(out.prompt), out.data.encode(out.target)
    return Rendered(
        out.data.show(out.prompt), out.data.show(out.target), [*prompt, *target], len(prompt)
    )


def texts(
    tokenizer: Any, template: Template, *, messages: Sequence[Mapping[str, Any]], completion: str
) -> Texts:
    """Render a prompt and the completion to train on, as text.

    Args:
        tokenizer: the student's.
        template: of ``template_for``.
        messages: the prompt.
        completion: prefill and completion of the trace, as one text.

    Raises:
        RenderError: the template prefills ``<think>``, rewrites the prompt once an answer follows,
            changes the answer (drops its thinking, strips it), or never ends the turn.
    """
    # What reads like a control token in the data is text: see ``model_files.DataText``.
    data = DataText(tokenizer, [*(str(m["content"]) for m in messages), completion])
    history = [{**m, "content": data.hide(str(m["content"]))} for m in messages]
    completion = data.hide(completion)
    prompt = _rendered(tokenizer, template, history, generation_prompt=True)
    answer = {"role": "assistant", "content": completion}
    full = _rendered(tokenizer, template, [*history, answer], generation_prompt=False)
    if prompt.rstrip().endswith(THINK_OPEN):
        raise RenderError(f"the chat template prefills {THINK_OPEN}: it would stand twice")
    if not full.startswith(prompt):
        raise RenderError(_rewritten(prompt, full))
    tail = full[len(prompt) :]
    if not tail.startswith(completion):
        lost = _lost_thinking(completion, tail)
        raise RenderError(
            "the chat template drops the thinking"
            if lost
            else "the chat template changes the text of the completion"
        )
    if not tail.startswith(template.end_of_turn, len(completion)):
        raise RenderError(f"no {template.end_of_turn} ends the completion")
    return Texts(prompt, completion + template.end_of_turn, data)


def _rendered(
    tokenizer: Any, template: Template, messages: list[dict[str, Any]], *, generation_prompt: bool
) -> str:
    text: str = tokenizer.apply_chat_template(
        messages,
        chat_template=template.jinja,
        add_generation_prompt=generation_prompt,
        tokenize=False,
    )
    return text


def _rewritten(prompt: str, full: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(prompt, full, strict=False)) if a != b), len(full))
    return f"the chat template rewrites the prompt once an answer follows (from character {at})"


def _lost_thinking(completion: str, tail: str) -> bool:
    reasoning = split_reasoning(completion).reasoning.strip()
    return bool(reasoning) and (reasoning not in tail or THINK_CLOSE not in tail)


def r1_zero(question: str) -> str:
    """Return the R1-Zero training prompt for a base model.

    >>> r1_zero("1+1=?").endswith("User: 1+1=?. Assistant:")
    True
    """
    # Not str.format: questions hold braces of their own.
    return R1_ZERO.replace("{prompt}", question)
