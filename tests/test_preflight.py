"""Preflight refuses, in one line, what would train something else than the data says."""

from __future__ import annotations

from typing import Any

import pytest

from distill.preflight import Row, preflight, read_row
from distill.templates import Template, template_for
from factory.errors import FactoryError, Refused

GOOD = "<think>\nI start with 2.\n</think>\n\nThe answer is \\boxed{4}."
_KEEPS = "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from pipelines.miniature.corpus import documents
    from pipelines.miniature.tokenizer import train_tokenizer

    return train_tokenizer(d.completion for d in documents(n=200, seed=0))


def row(completion: str) -> Row:
    return Row(({"role": "user", "content": "2+2?"},), completion)


def run(tokenizer: Any, completions: list[str], **options: Any) -> Any:
    options = {
        "template": template_for(tokenizer, "own"),
        "max_length": 256,
        "max_over_fraction": 0.0,
    } | options
    return preflight([row(c) for c in completions], tokenizer=tokenizer, **options)


@pytest.mark.parametrize(
    ("completion", "says"),
    [
        ("<think>\n<think>\nI add.\n</think>\n\n4", "<think> is prefilled twice"),
        ("<think>\nI start and never end", "</think> never comes"),
        ("", "the loss mask is empty"),
        ("  \n", "the loss mask is empty"),
    ],
)
def test_a_bad_row_is_refused_with_its_place(tokenizer: Any, completion: str, says: str) -> None:
    with pytest.raises(Refused) as caught:
        run(tokenizer, [GOOD, completion])
    assert str(caught.value).startswith(f"row 2: {says}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("jinja", "end", "says"),
    [
        (_KEEPS.replace("m.content", "m.content.split('</think>')[-1]")
         + "{% endif %}{% endfor %}", "<|endoftext|>", "drops the thinking"),
        (_KEEPS + "{% endif %}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}",
         "<|endoftext|>", "prefills <think>"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "<|endoftext|>",
         "no <|endoftext|> ends"),
        (_KEEPS.replace("eos_token", "'END'") + "{% endif %}{% endfor %}", "END", "EOS is cut"),
    ],
)  # fmt: skip
def test_a_bad_template_is_refused(tokenizer: Any, jinja: str, end: str, says: str) -> None:
    with pytest.raises(Refused, match=says.replace("|", r"\|")):
        run(tokenizer, [GOOD], template=Template("bad", jinja, end))


def test_tags_that_vanish_in_decoding_are_refused() -> None:
    from pipelines.miniature.corpus import documents
    from pipelines.miniature.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(d.completion for d in documents(n=50, seed=0))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    with pytest.raises(Refused, match="vanishes when text is decoded"):
        run(tokenizer, [GOOD])


def test_too_many_long_rows_are_refused_and_a_few_are_counted(tokenizer: Any) -> None:
    long = f"<think>\n{'7' * 400}\n</think>\n\n4"
    with pytest.raises(Refused, match="2 of 10 rows exceed max_length=256 tokens"):
        run(tokenizer, [GOOD] * 8 + [long] * 2, max_over_fraction=0.1)
    seen = run(tokenizer, [GOOD] * 8 + [long] * 2, max_over_fraction=0.2)
    assert (seen.n_rows, seen.n_over) == (10, 2)
    assert seen.tokens[-1][1] > 400 > seen.tokens[0][1]


def test_the_report_shows_length_quantiles(tokenizer: Any) -> None:
    lines = list(run(tokenizer, [GOOD] * 3).lines())
    assert lines[0] == "preflight: 3 rows, 0 over 256 tokens"
    assert "p50" in lines[1]
    assert "max" in lines[2]


def test_quantiles_are_the_ordered_values() -> None:
    from distill.preflight import quantiles

    assert quantiles(range(1, 101)) == ((0.5, 50), (0.9, 90), (0.99, 99), (1.0, 100))
    assert quantiles([5]) == ((0.5, 5), (0.9, 5), (0.99, 5), (1.0, 5))


def test_rows_are_spread_over_the_data(tokenizer: Any) -> None:
    # The last row is always looked at.
    with pytest.raises(Refused, match="row 900"):
        run(tokenizer, [GOOD] * 899 + [""], n=50)


def test_no_rows_at_all_is_said(tokenizer: Any) -> None:
    with pytest.raises(Refused, match="no rows to train on"):
        run(tokenizer, [])


@pytest.mark.parametrize(
    "values",
    [
        {"prompt": "2+2?", "completion": GOOD},
        {"prompt": [{"role": "user", "content": "2+2?"}], "completion": GOOD},
        {
            "prompt": [{"role": "user", "content": "2+2?"}],
            "completion": [{"role": "assistant", "content": GOOD}],
        },
    ],
)
def test_rows_are_read_from_text_and_messages(values: dict[str, Any]) -> None:
    assert read_row(values, where="row 1") == row(GOOD)


@pytest.mark.parametrize(
    "values",
    [{}, {"prompt": "x"}, {"prompt": 3, "completion": "y"}, {"prompt": "x", "completion": []},
     {"prompt": "x", "completion": [{"role": "user", "content": "y"}]}],
)  # fmt: skip
def test_rows_of_another_form_are_named(values: dict[str, Any]) -> None:
    with pytest.raises(FactoryError, match="row 4"):
        read_row(values, where="row 4")
