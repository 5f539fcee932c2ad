"""Training templates: exact text, nothing lost, loss on the assistant's turn and nowhere else."""

from __future__ import annotations

import random
from typing import Any

import pytest

from distill.templates import (
    R1_ZERO,
    RenderError,
    Template,
    adopt,
    r1_zero,
    render,
    template_for,
)
from factory import model_files
from factory.errors import ConfigError

PAPER = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves "
    "it. The assistant first thinks about the reasoning process in the mind and then provides the "
    "user with the answer. The reasoning process and answer are enclosed within <think> </think> "
    "and <answer> </answer> tags, respectively, i.e., <think> reasoning process here </think> "
    "<answer> answer here </answer>. User: What is 2+2?. Assistant:"
)
MESSAGES = [{"role": "user", "content": "2+2?"}]
COMPLETION = "<think>\nI add.\n</think>\n\n\\boxed{4}"


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    """One small tokenizer for each family, with the family's own tokens."""
    from pipelines.miniature.corpus import documents
    from pipelines.miniature.tokenizer import train_tokenizer

    out = {}
    for name, special in {
        "own": [],
        "qwen": ["<|im_start|>", "<|im_end|>"],
        "llama": ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    }.items():
        tokenizer = train_tokenizer(d.completion for d in documents(n=200, seed=0))
        if special:
            tokenizer.chat_template = None
            tokenizer.add_special_tokens({"additional_special_tokens": special})
        if name == "llama":
            tokenizer.bos_token = "<|begin_of_text|>"
        adopt(tokenizer, template_for(tokenizer, name))
        out[name] = tokenizer
    return out


EXPECTED = {
    "own": ("2+2?\n", f"{COMPLETION}<|endoftext|>"),
    "qwen": (
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n",
        f"{COMPLETION}<|im_end|>",
    ),
    "llama": (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        f"{COMPLETION}<|eot_id|>",
    ),
}


@pytest.mark.parametrize("name", ["own", "qwen", "llama"])
def test_rendered_text_is_exact(tokenizers: dict[str, Any], name: str) -> None:
    tokenizer = tokenizers[name]
    out = render(
        tokenizer, template_for(tokenizer, "own"), messages=MESSAGES, completion=COMPLETION
    )
    assert (out.prompt, out.completion) == EXPECTED[name]
    assert tokenizer.decode(out.input_ids) == "".join(EXPECTED[name])


@pytest.mark.parametrize("name", ["own", "qwen", "llama"])
def test_the_loss_covers_thinking_summary_and_end_and_nothing_else(
    tokenizers: dict[str, Any], name: str
) -> None:
    tokenizer = tokenizers[name]
    out = render(
        tokenizer, template_for(tokenizer, "own"), messages=MESSAGES, completion=COMPLETION
    )
    learnt = [t for t, label in zip(out.input_ids, out.labels, strict=True) if label != -100]
    assert tokenizer.decode(learnt) == EXPECTED[name][1]
    assert learnt[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("name", ["own", "qwen", "llama"])
def test_generation_marks_agree_with_our_labels(tokenizers: dict[str, Any], name: str) -> None:
    tokenizer = tokenizers[name]
    out = render(
        tokenizer, template_for(tokenizer, "own"), messages=MESSAGES, completion=COMPLETION
    )
    marked = tokenizer.apply_chat_template(
        [*MESSAGES, {"role": "assistant", "content": COMPLETION}],
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    chosen = [t for t, m in zip(marked["input_ids"], marked["assistant_masks"], strict=True) if m]
    assert chosen == out.input_ids[out.n_prompt_tokens :]


@pytest.mark.parametrize("name", ["own", "qwen", "llama"])
def test_thinking_of_earlier_turns_is_kept(tokenizers: dict[str, Any], name: str) -> None:
    tokenizer = tokenizers[name]
    history = [*MESSAGES, {"role": "assistant", "content": COMPLETION}, *MESSAGES]
    out = render(tokenizer, template_for(tokenizer, "own"), messages=history, completion=COMPLETION)
    assert COMPLETION in out.prompt


@pytest.mark.parametrize("name", ["own", "qwen", "llama"])
def test_any_completion_comes_back_as_it_was(tokenizers: dict[str, Any], name: str) -> None:
    tokenizer = tokenizers[name]
    template = template_for(tokenizer, "own")
    rng = random.Random(0)
    pieces = [
        "<think>",
        "</think>",
        " the <think> tag ",
        "\n",
        " ",
        "答案",
        "{{ x }}",
        "{%",
        "7",
        "é",
    ]
    for _ in range(300):
        completion = "<think>\n" + "".join(rng.choices(pieces, k=rng.randint(1, 12))) + "\n</think>"
        out = render(tokenizer, template, messages=MESSAGES, completion=completion)
        assert out.completion == completion + template.end_of_turn
        assert tokenizer.decode(out.input_ids[out.n_prompt_tokens :]) == out.completion


@pytest.mark.parametrize(
    ("jinja", "says"),
    [
        (
            "{% for m in messages %}{% if m.role == 'assistant' %}"
            "{{ m.content.split('</think>')[-1] + eos_token }}"
            "{% else %}{{ m.content }}{% endif %}{% endfor %}",
            "drops the thinking",
        ),
        (
            "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}"
            "{% endif %}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}",
            "prefills <think>",
        ),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "ends the completion"),
        (
            "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
            "rewrites the prompt",
        ),
        (
            "{% for m in messages %}{{ m.content | upper }}{% endfor %}{{ eos_token }}",
            "rewrites the prompt",
        ),
    ],
)
def test_templates_that_change_a_row_are_found(
    tokenizers: dict[str, Any], jinja: str, says: str
) -> None:
    template = Template("bad", jinja, "<|endoftext|>")
    with pytest.raises(RenderError, match=says):
        render(tokenizers["own"], template, messages=MESSAGES, completion=COMPLETION)


def test_a_template_of_another_family_is_refused(tokenizers: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="does not have"):
        template_for(tokenizers["own"], "llama")
    with pytest.raises(ConfigError, match="known: qwen, llama, own"):
        template_for(tokenizers["own"], "mistral")


def test_r1_zero_prompt_is_the_papers() -> None:
    assert r1_zero("What is 2+2?") == PAPER
    assert r1_zero("{prompt}{x}").count("{x}") == 1
    assert R1_ZERO.count("{prompt}") == 1


@pytest.mark.parametrize(("name", "control"), [("qwen", "<|im_end|>"), ("llama", "<|eot_id|>")])
def test_a_control_token_inside_data_is_text(
    tokenizers: dict[str, Any], name: str, control: str
) -> None:
    tokenizer = tokenizers[name]
    template = template_for(tokenizer, name)
    question = [{"role": "user", "content": f"What does {control} do?{control}"}]
    answer = f"<think>\nIt ends {control} turns.\n</think>\n\n{control} ends a turn."
    out = render(tokenizer, template, messages=question, completion=answer)
    plain = render(tokenizer, template, messages=MESSAGES, completion=COMPLETION)
    one = tokenizer.convert_tokens_to_ids(control)
    # One end in the target, the turn's own; as many in the prompt as without the quotation.
    assert out.input_ids[out.n_prompt_tokens :].count(one) == 1
    assert out.input_ids[-1] == one
    n_prompt = out.input_ids[: out.n_prompt_tokens].count(one)
    assert n_prompt == plain.input_ids[: plain.n_prompt_tokens].count(one)
    assert out.completion == answer + control
    assert tokenizer.decode(out.input_ids) == out.prompt + out.completion
    # Engines and rollouts read prompts in the same way.
    asked = model_files.render(tokenizer, question, template=template.jinja, prefill="")
    assert asked == out.input_ids[: out.n_prompt_tokens]
    plain_text = model_files.render(tokenizer, question, template=None, prefill="")
    assert one not in plain_text


@pytest.mark.parametrize("family", ["llama", "qwen"])
def test_a_base_that_begins_with_bos_reads_it_before_r1_zeros_prompt(
    tokenizers: dict[str, Any], family: str
) -> None:
    import copy

    from tokenizers import processors

    from distill.grpo.rollout import Renderer, begins_with_bos, r1_zero_jinja

    tokenizer = copy.deepcopy(tokenizers[family])
    if family == "llama":  # as Llama 3's own tokenizer does
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokenizer.bos_token} $A",
            special_tokens=[(tokenizer.bos_token, tokenizer.bos_token_id)],
        )
    tokenizer.chat_template = r1_zero_jinja(bos=begins_with_bos(tokenizer))
    ids = Renderer(tokenizer).tokens([{"role": "user", "content": "1+1=?"}])
    bos = [tokenizer.bos_token_id] if family == "llama" else []
    assert ids == bos + tokenizer(r1_zero("1+1=?"), add_special_tokens=False).input_ids
