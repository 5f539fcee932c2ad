"""The little world: problems with right gold, disjoint splits, noisy crawl, lossless tokenizer."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from factory.errors import ConfigError, UsageError
from pipelines.miniature import corpus
from pipelines.miniature.problems import SPLITS, Problem, Step, draw, problems, prompts, split_of


@pytest.fixture(scope="module")
def crawl() -> list[corpus.Document]:
    return list(corpus.documents(n=3000, seed=7))


@pytest.fixture(scope="module")
def tokenizer(crawl: list[corpus.Document]) -> Any:
    from pipelines.miniature.tokenizer import train_tokenizer

    return train_tokenizer(f"{d.question}\n{d.completion}" for d in crawl[:1000])


@pytest.mark.parametrize(
    ("start", "steps", "gold", "text"),
    [
        (
            12,
            (Step("+", 5, 0), Step("*", 2, 0)),
            "34",
            "Tom has 12 apples, buys 5 more, then has 2 times as many. How many apples now?",
        ),
        (
            30,
            (Step("/", 3, 0), Step("-", 9, 2)),
            "1",
            "Tom has 30 apples, keeps one of 3 equal parts, sells 9. How many apples now?",
        ),
    ],
)
def test_gold_and_wording_follow_the_steps(
    start: int, steps: tuple[Step, ...], gold: str, text: str
) -> None:
    problem = Problem("en", 0, 0, start, steps)
    assert (problem.gold, problem.text) == (gold, text)


def test_gold_agrees_with_an_independent_reading_of_the_text() -> None:
    readings = {
        r"(?:buys|finds|gets) (\d+) more": lambda v, k: v + k,
        r"(?:gives away|loses|sells) (\d+)": lambda v, k: v - k,
        r"then has (\d+) times": lambda v, k: v * k,
        r"keeps one of (\d+) equal": lambda v, k: v / k,
        r"又(?:买了|找到|得到)(\d+)": lambda v, k: v + k,
        r"(?:送出|丢了|卖掉)(\d+)": lambda v, k: v - k,
        r"变成原来的(\d+)倍": lambda v, k: v * k,
        r"分成(\d+)份留一份": lambda v, k: v / k,
    }
    for problem in problems(n=300, seed=3, split="eval"):
        head, *parts = re.split(r", |,", re.split(r"\. |。", problem.text)[0])
        value: float = int(re.search(r"\d+", head).group())  # type: ignore[union-attr]
        for part in parts:
            matches = [
                (m, f)
                for p, f in readings.items()
                if (m := re.fullmatch(p, part.strip()) or re.match(p, part.strip()))
            ]
            assert len(matches) == 1, part
            match, apply = matches[0]
            value = apply(value, int(match[1]))
        assert value == int(problem.gold)


def test_splits_share_no_skeleton_whatever_the_seeds() -> None:
    seen = {
        split: {p.skeleton for seed in (0, 1) for p in problems(n=1500, seed=seed, split=split)}
        for split in SPLITS
    }
    for split, skeletons in seen.items():
        assert all(split_of(s) == split for s in skeletons)
        assert not any(skeletons & other for name, other in seen.items() if name != split)


def test_the_crawl_holds_no_evaluation_problem() -> None:
    evaluated = {p.text for p in problems(n=2000, seed=0, split="eval")}
    assert not any(d.question in evaluated for d in corpus.documents(n=3000, seed=0))


def test_a_smaller_call_is_the_head_of_a_larger_one() -> None:
    assert (
        list(problems(n=50, seed=0, split="dev")) == list(problems(n=80, seed=0, split="dev"))[:50]
    )


def test_seeds_give_other_problems() -> None:
    first = {p.text for p in problems(n=300, seed=0, split="train")}
    second = {p.text for p in problems(n=300, seed=1, split="train")}
    assert len(first & second) < 30


def test_prompts_are_unique_verified_in_a_box_and_in_both_languages() -> None:
    rows = list(prompts(n=400, seed=0, split="eval"))
    assert len({p.prompt_id for p, _ in rows}) == 400
    assert Counter(s.language for _, s in rows) == {"en": 200, "zh": 200}
    for prompt, source in rows:
        assert source.prompt_id == prompt.prompt_id
        assert (source.verifier, dict(source.options)) == ("math", {"mode": "boxed"})
        assert 1 <= int(source.gold or 0) <= 60


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n": 3, "split": "test"}, "known: crawl, train, dev, eval"),
        ({"n": 3, "language": "fr"}, "unknown language 'fr'"),
        ({"n": -1}, "n=-1"),
    ],
)
def test_wrong_parameters_are_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        next(prompts(**options))


def test_the_source_loads_as_a_plugin_by_path() -> None:
    from factory import plugins

    path = Path(corpus.__file__).with_name("problems.py")
    module = plugins.load("sources", str(path))
    assert next(module.prompts(n=1))[1].source == "miniature"


def test_the_crawl_is_as_noisy_as_it_says(crawl: list[corpus.Document]) -> None:
    asked = [d for d in crawl if d.question]
    assert len(asked) / len(crawl) == pytest.approx(1 - corpus.DRILL_FRACTION, abs=0.03)
    direct = [d for d in asked if re.fullmatch(r"(Answer: |答案:)\d+", d.completion)]
    assert len(direct) / len(asked) == pytest.approx(corpus.DIRECT_FRACTION, abs=0.03)
    tagged = sum(d.completion.startswith("<think>\n") for d in asked) / (len(asked) - len(direct))
    assert tagged == pytest.approx(corpus.TAGGED_FRACTION, abs=0.04)
    drills = [
        re.findall(r"(\d+)([-+×÷])(\d+)=(\d+)", d.completion) for d in crawl if not d.question
    ]
    flat = [line for lines in drills for line in lines]
    sign = {"+": "+", "-": "-", "×": "*", "÷": "/"}
    wrong = sum(Step(sign[s], int(b), 0).apply(int(a)) != int(c) for a, s, b, c in flat) / len(flat)
    assert 0.01 < wrong < 0.05


def test_careful_scratchpads_are_right_and_hasty_ones_slip() -> None:
    rng = random.Random(0)
    right = Counter[bool]()
    for _ in range(600):
        problem = draw(rng, split="crawl", language="en")
        _, careful = corpus.scratchpad(rng, problem, style="own", careful=True)
        assert str(careful) == problem.gold
        _, hasty = corpus.scratchpad(rng, problem, style="own", careful=False)
        right[str(hasty) == problem.gold] += 1
    assert 0.7 < right[True] / 600 < 0.95


def test_a_recipe_chooses_how_its_crawl_mixes_languages() -> None:
    def mixed(crawl: corpus.Crawl) -> float:
        asked = [d for d in corpus.documents(n=1500, seed=3, crawl=crawl) if d.question]
        pads = [d for d in asked if re.search(r"I start|我从", d.completion)]
        both = [d for d in pads if re.search("I get", d.completion) and "得到" in d.completion]
        return len(both) / len(pads)

    assert mixed(corpus.Crawl(own=1, mixed=0, foreign=0)) == 0
    # Two of three or more sentences: not every pad that may switch does.
    assert mixed(corpus.Crawl(own=0, mixed=1, foreign=0)) > 0.4
    styles = Counter(
        corpus.Crawl(own=1, mixed=2, foreign=1).style(random.Random(i)) for i in range(2000)
    )
    assert styles["mixed"] / 2000 == pytest.approx(0.5, abs=0.05)
    rng = random.Random(0)
    crawl = corpus.Crawl(careful_own=0.2, careful_other=0.8)
    for style, rate in (("own", 0.2), ("foreign", 0.8), ("mixed", 0.8)):
        n = sum(crawl.careful(rng, style) for _ in range(2000))  # type: ignore[arg-type]
        assert n / 2000 == pytest.approx(rate, abs=0.04)


@pytest.mark.parametrize(
    ("style", "language", "has_en", "has_zh"),
    [("own", "en", True, False), ("own", "zh", False, True), ("foreign", "en", False, True)],
)
def test_styles_write_in_their_language(
    style: corpus.Style, language: Any, has_en: bool, has_zh: bool
) -> None:
    rng = random.Random(1)
    problem = draw(rng, split="crawl", language=language)
    text, _ = corpus.scratchpad(rng, problem, style=style, careful=True)
    assert (bool(re.search("[a-z]", text)), bool(re.search("[一-鿿]", text))) == (has_en, has_zh)


def test_tokenizer_is_lossless_with_single_digits_and_visible_tags(
    tokenizer: Any, crawl: list[corpus.Document], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=False)
    for document in crawl[:200]:
        tokens = tokenizer(document.completion).input_ids
        assert loaded(document.completion).input_ids == tokens
        # What trainers do: the tags must survive skip_special_tokens.
        assert loaded.decode(tokens, skip_special_tokens=True) == document.completion
    assert len(tokenizer("37").input_ids) == 2
    assert len(tokenizer("<think>").input_ids) == 1


def test_a_prompt_has_the_same_tokens_whatever_follows(tokenizer: Any) -> None:
    for problem in problems(n=50, seed=0, split="dev"):
        prompt = tokenizer(f"{problem.text}\n").input_ids
        for completion in ("<think>\n1", "I start", "\n", "4"):
            assert tokenizer(f"{problem.text}\n{completion}").input_ids[: len(prompt)] == prompt


def test_muon_makes_half_orthogonal_updates() -> None:
    import torch

    from pipelines.miniature.muon import orthogonalise

    torch.manual_seed(0)
    for shape in ((2, 192, 64), (2, 64, 192)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert 0.5 < values.min() < values.max() < 1.4


def test_muon_takes_the_same_steps_as_torch() -> None:
    import torch

    from pipelines.miniature.muon import Muon

    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(48, 32)) for _ in range(2)]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    reference = torch.optim.Muon(
        theirs, lr=1e-2, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    muon = Muon(ours)
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        muon.step(lr=1e-2)
        reference.step()
    for a, b in zip(ours, theirs, strict=True):
        # torch orthogonalises in bfloat16, we in float32.
        assert torch.allclose(a, b, atol=3e-3)


def test_a_grown_model_is_an_ordinary_folder_and_is_grown_once(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from pipelines.miniature.grow import SHAPES, GrowConfig, grow

    said: list[str] = []
    config = GrowConfig(shape=SHAPES["qwen"], out=tmp_path / "m", n_documents=120, seed=0)
    grow(config, say=said.append)
    assert any("parameters" in line for line in said)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m", trust_remote_code=False)
    assert model.config.model_type == "qwen3"
    assert (tmp_path / "m" / "model.safetensors").is_file()
    said.clear()
    assert grow(config, say=said.append) == tmp_path / "m"
    assert said == []
    with pytest.raises(UsageError, match="other inputs"):
        grow(config.model_copy(update={"seed": 1}))


def test_every_family_reads_its_tokenizer_as_it_was_trained(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from pipelines.miniature.grow import SHAPES
    from pipelines.miniature.tokenizer import train_tokenizer

    texts = [d.completion for d in corpus.documents(n=100, seed=0)]
    tokenizer = train_tokenizer(texts)
    for name, shape in SHAPES.items():
        shape.hf_config(tokenizer).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        loaded = AutoTokenizer.from_pretrained(tmp_path / name, trust_remote_code=False)
        assert loaded(texts).input_ids == tokenizer(texts).input_ids


def test_the_same_seed_grows_the_same_weights(tmp_path: Path) -> None:
    from pipelines.miniature.grow import SHAPES, GrowConfig, grow

    weights = []
    for name in ("a", "b"):
        config = GrowConfig(shape=SHAPES["llama"], out=tmp_path / name, n_documents=60, seed=0)
        grow(config, say=lambda _: None)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_a_width_that_attention_cannot_split_is_refused() -> None:
    from types import SimpleNamespace

    from pipelines.miniature.grow import Shape

    with pytest.raises(ConfigError, match="multiple of 32"):
        Shape(family="llama", width=48, layers=1, mlp=64).hf_config(SimpleNamespace())
