"""Dialects: how models mark thinking and answers, and what stands at the end of a completion."""

from __future__ import annotations

import pytest

from factory.dialects import (
    DIALECTS,
    END_TOKENS,
    Split,
    split,
    split_final,
    split_reasoning,
    strip_end,
)
from factory.records import Item
from factory.verifiers import format as form

HARMONY = "<|channel|>analysis<|message|>add<|end|><|start|>assistant"
SPLITS = [
    # (text, reasoning, answer, dialect)
    ("4", "", "4", None),
    ("", "", "", None),
    ("<think>a</think>4", "a", "4", "think"),
    ("\n <think>a</think>4", "a", "4", "think"),
    ("a</think>4", "a", "4", "think"),
    ("<think>a</think>b</think>4", "a</think>b", "4", "think"),
    ("<think>\\boxed{42}", "\\boxed{42}", "", "think"),
    ("Okay. <think>\\boxed{42}", "\\boxed{42}", "", "think"),
    ("<think>a</think>\n<answer> 4 </answer><|im_end|>", "a", " 4 ", "think_answer"),
    ("<think>a</think>So <answer>4</answer>", "a", "So <answer>4</answer>", "think"),
    ("<think>a</think><answer>4", "a", "<answer>4", "think"),
    ("<answer>4</answer>", "", "<answer>4</answer>", None),
    ("[THINK]\\boxed{6}[/THINK] done", "\\boxed{6}", " done", "mistral"),
    ("[THINK]\\boxed{6}", "\\boxed{6}", "", "mistral"),
    ("◁think▷a◁/think▷4", "a", "4", "kimi"),
    ("<seed:think>a</seed:think>4", "a", "4", "seed"),
    ("<thinking>a</thinking>4", "a", "4", "thinking"),
    ("<thought>a</thought>4", "a", "4", "thought"),
    ("<reasoning>\\boxed{42}</reasoning><answer>41</answer>", "\\boxed{42}", "41", "reasoning"),
    ("<Thought>a</Thought>\n<Output>4</Output>", "a", "4", "thought_output"),
    ("<Thought>a</Thought>\n4", "a", "\n4", "thought_output"),
    ("<|begin_of_thought|>a<|end_of_thought|>\n<|begin_of_solution|>4<|end_of_solution|>",
     "a", "4", "solution"),
    ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>4<|END_RESPONSE|>", "a", "4", "cohere"),
    (HARMONY + "<|channel|>final<|message|>4<|return|>", "add", "4", "harmony"),
    (HARMONY + "<|channel|>final<|message|>4", "add", "4", "harmony"),
    ("<|start|>assistant" + HARMONY + "<|channel|>final<|message|>4<|end|>", "add", "4", "harmony"),
    (HARMONY + "<|channel|>analysis<|message|>so<|end|><|start|>assistant"
     "<|channel|>final<|message|>4", "add<|end|><|start|>assistant<|channel|>analysis<|message|>so",
     "4", "harmony"),
    ("<|channel|>analysis<|message|>\\boxed{42}", "\\boxed{42}", "", "harmony"),
    # Another dialect's marks inside the thinking or the answer are text.
    ("<think>shall I write [THINK]?</think>4", "shall I write [THINK]?", "4", "think"),
    ("<think>a</think>The mark is [/THINK].", "a", "The mark is [/THINK].", "think"),
    ("shall I write <reasoning>x</reasoning>?</think>4", "shall I write <reasoning>x</reasoning>?",
     "4", "think"),
    ("The tag `<think>` opens it: 4", "", "The tag `<think>` opens it: 4", None),
    ("It ends so: 4<|end|>", "", "It ends so: 4<|end|>", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reasoning", "answer", "dialect"), SPLITS)
def test_split(text: str, reasoning: str, answer: str, dialect: str | None) -> None:
    assert split(text) == Split(reasoning, answer, dialect)


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_of_the_table_is_split_and_passes_the_format(name: str) -> None:
    text = form.as_completion("42", dialect=name)
    found = split(text)
    assert (found.reasoning.strip(), found.answer.strip()) == ("This is known.", "42")
    assert found.dialect == name
    assert form.verify(Item(text=text), dialect=name).status == "pass"
    cut = text[: text.index("known")]
    assert split(cut) == Split("\nThis is ", "", name.removesuffix("_answer"))
    assert form.verify(Item(text=cut), dialect=name).reason == "unfinished_thinking"


@pytest.mark.parametrize("text", [
    "4", "<think>a</think>4", "a</think>4", "<think>a", "<think>a</think>b</think>4", "</think>",
])  # fmt: skip
def test_both_ways_of_splitting_agree_on_think(text: str) -> None:
    assert split(text)[:2] == split_reasoning(text)


def test_the_final_channel_alone_is_no_thinking() -> None:
    text = "<|channel|>final<|message|>4<|return|>"
    assert split(text) == Split("", text, None)
    assert form.verify(Item(text=text), dialect="harmony").reason == "no_thinking"


FINALS = [
    # (text, thinking, answer): what a verifier reads
    ("4", "", "4"),
    ("<think>a</think>4<|im_end|>", "a", "4"),
    ("<think>a</think>4<|im_end|>\n<|im_start|>user\nAnd 3+4?<|im_end|>\n7", "a", "4"),
    ("<think>a</think>4<|eot_id|>more</think>7", "a", "4"),
    ("<think>never closed<|im_end|></think>7", "never closed", ""),
    ("The token `<|im_end|>` ends it: 4", "", "The token `<|im_end|>` ends it: 4"),
    ("<s>41</s> 42", "", "41"),
    ("not <s>41</s> but 42", "", "not <s>41</s> but 42"),
    ("<pad><pad><s>4</s>", "", "4"),
    ("<|im_start|>assistant\n<think>\\boxed{42}", "\\boxed{42}", ""),
    ("Okay. <think>\\boxed{42}", "\\boxed{42}", ""),
    ("<think>a</think>4<think>or 5", "aor 5", "4"),
    ("<think>a</think>4 <reasoning>or 5</reasoning>.", "aor 5", "4 ."),
    ("<think>a</think>Write `<think>` first: 4", "a", "Write `<think>` first: 4"),
    ("<think>a</think>The mark is [/THINK].", "a", "The mark is [/THINK]."),
    ("[THINK]\\boxed{6}[/THINK] done", "\\boxed{6}", " done"),
    ("<thinking>\\boxed{42}", "\\boxed{42}", ""),
    ("<reasoning>42</reasoning><answer>41</answer></s>", "42", "41"),
    (HARMONY + "<|channel|>final<|message|>4<|return|><|start|>user<|message|>5", "add", "4"),
    ("<|channel|>final<|message|>4<|return|>", "", "4"),
    ("<|channel|>analysis<|message|>42<|end|>", "42", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reasoning", "answer"), FINALS)
def test_what_a_verifier_reads(text: str, reasoning: str, answer: str) -> None:
    assert split_final(text) == (reasoning, answer)
    item = Item(text=text)
    assert (item.reasoning, item.answer) == (reasoning, answer)


ENDINGS = [
    # (text, what is kept, tokens)
    ("4", "4", ()),
    ("4 \n", "4 \n", ()),
    ("", "", ()),
    ("4\n<|im_end|>\n<|endoftext|>\n", "4\n", ("<|im_end|>", "<|endoftext|>")),
    ("<|im_end|>4", "<|im_end|>4", ()),
    ("<|im_end|>", "", ("<|im_end|>",)),
    ("4<|eot_id|> and more", "4<|eot_id|> and more", ()),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kept", "tokens"), ENDINGS)
def test_special_tokens_at_the_end(text: str, kept: str, tokens: tuple[str, ...]) -> None:
    assert strip_end(text) == (kept, tokens)


@pytest.mark.parametrize("token", END_TOKENS)
def test_every_special_token_is_taken_off_and_counted(token: str) -> None:
    assert strip_end(f"4{token}{token}") == ("4", (token, token))


def test_thousands_of_pads_cost_no_time() -> None:
    found = strip_end("4" * 1_000_000 + "<pad>" * 100_000)
    assert (len(found.text), len(found.tokens)) == (1_000_000, 100_000)
