"""What a GRPO run may be asked for: difficulty, own rewards, resampling, evaluation, trackers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from distill.grpo import GrpoConfig, grpo, trl_values
from distill.grpo.config import Evaluation
from distill.grpo.difficulty import banded
from distill.grpo.evaluation import development_pairs
from distill.grpo.groups import Rollout
from distill.grpo.record import Recorder
from distill.grpo.reward import Payer, soft_overlong
from distill.grpo.rollout import Drawn, Keys, Renderer
from factory import plugins
from factory.errors import ConfigError, FactoryError, PluginError, UsageError
from factory.records import Prompt, PromptSource, Sampling, Trace, Verdict
from factory.records.ids import trace_id
from factory.stages.checker import Checker, verdict_row
from factory.store import Store
from tests.tiny_model import make_tiny_model

LETTER = str(Path(__file__).parent / "letter_verifier.py")


def pairs(n: int, *, verifier: str = "math", gold: str | None = None) -> list[Any]:
    plugins.allow(verifier)
    out = []
    for i in range(n):
        prompt = Prompt.of(f"{i}+{i}?")
        source = PromptSource(
            prompt_id=prompt.prompt_id, source="s", item=str(i), gold=gold or str(2 * i),
            verifier=verifier, language="en",
        )  # fmt: skip
        out.append((prompt, source))
    return out


def config(**changes: Any) -> GrpoConfig:
    values = {
        "base": "b", "out": "o", "preset": "r1_reasoning", "per_device": 8,
        "outputs_per_update": 8, "outputs_per_rollout": 8, "length_caps": {0: 12},
        "trl": {"num_generations": 4},
    }  # fmt: skip
    return GrpoConfig.make({**values, **changes})


# ---- rewards


@pytest.mark.parametrize(
    ("n", "value"), [(0, 0.0), (16_384, 0.0), (18_432, -0.5), (20_480, -1.0), (30_000, -1.0)]
)
def test_soft_overlong_is_dapos_equation_13(n: int, value: float) -> None:
    assert soft_overlong(n, 20_480, 4096) == value


def test_overlong_and_repetition_are_added_with_their_weights() -> None:
    payer = Payer({"accuracy": 1.0, "overlong": 1.0, "repetition": 0.5}, n_workers=1,
                  overlong_buffer=20)  # fmt: skip
    loop = "so I go on and on with it " * 30 + "\\boxed{2}"
    plain, looped, empty = payer.rewards(
        [(p, s) for p, s in pairs(2)[1:] * 3], ["It is \\boxed{2}", loop, ""],
        n_tokens=[10, 90, 100], cap=100,
    )  # fmt: skip
    assert plain.total == 1.0
    assert (plain.parts["overlong"], looped.parts["overlong"]) == (0.0, -0.5)
    assert looped.parts["repetition"] is not None
    assert looped.parts["repetition"] < -0.5
    assert looped.total == pytest.approx(0.5 + 0.5 * looped.parts["repetition"])
    # Writing nothing repeats nothing, and is not masked.
    assert (empty.parts["repetition"], empty.total) == (0.0, -1.0)


OWN = """
def reward(prompts, completions, **columns):
    assert prompts[0][-1]["role"] == "user" and columns["gold"] == ["0", "2"]
    return [len(c) / 10 if c else None for c in completions]
"""


def test_a_users_own_reward_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    payer = Payer({"accuracy": 1.0, str(path): 2.0}, n_workers=1)
    paid = payer.rewards(pairs(2), ["\\boxed{0}", ""])
    assert [r.total for r in paid] == [pytest.approx(1.0 + 2 * 0.9), None]
    assert paid[0].parts[str(path)] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("x = 1", ConfigError, "defines no reward"),
        ("def reward(**_): return [1.0]", FactoryError, "1 rewards for 2 completions"),
        ("def reward(**_): return 1 / 0", FactoryError, "ZeroDivisionError"),
        ("def reward(**_): return ['a', 'b']", FactoryError, "ValueError"),
        ("def reward(", PluginError, "SyntaxError"),
    ],
)
def test_a_wrong_reward_file_is_named_in_one_line(
    tmp_path: Path, text: str, error: type[Exception], says: str
) -> None:
    path = tmp_path / f"{says.split()[0]}.py"
    path.write_text(text)
    with pytest.raises(error, match=says) as caught:
        Payer({str(path): 1.0}, n_workers=1).rewards(pairs(2), ["a", "b"])
    assert str(path) in str(caught.value)


def test_overlong_needs_a_buffer_and_dapo_has_one() -> None:
    with pytest.raises(ConfigError, match="set overlong_buffer"):
        Payer({"overlong": 1.0})
    assert config(preset="dapo").buffer == 4096
    assert config(preset="dapo").rounds == 3
    assert config().rounds == 0


# ---- difficulty


def sampled(store: Store, rates: Sequence[tuple[int, int]], *, revision: str) -> list[Any]:
    """Record for prompt i ``rates[i]`` = (passes, samples) of the model ``base``."""
    found, checker = pairs(len(rates)), Checker("math")
    run = store.start_run("test", {})
    traces, verdicts = [], []
    for (prompt, source), (n_pass, n) in zip(found, rates, strict=True):
        for i in range(n):
            key = trace_id(prompt_id=prompt.prompt_id, model="base", revision=revision,
                           sampling_id="x", sample_index=i)  # fmt: skip
            trace = Trace(
                trace_id=key, prompt_id=prompt.prompt_id, model="base", revision=revision,
                sampling_id="x", sample_index=i, completion="c",
            )  # fmt: skip
            traces.append(trace.row(run))
            verdict = (
                Verdict.passed(decided_by="t")
                if i < n_pass
                else Verdict.failed("wrong", decided_by="t")
            )
            verdicts.append(verdict_row(trace.trace_id, source, checker, verdict, run))
    store.table("traces").add(pl.DataFrame(traces, infer_schema_length=None))
    table = store.table(f"verdicts.{checker.label}")
    table.add(pl.DataFrame(verdicts, infer_schema_length=None))
    return found


@pytest.mark.slow
def test_prompts_are_taken_by_the_bases_own_pass_rate(tmp_path: Path) -> None:
    from factory import model_files

    base = make_tiny_model(tmp_path / "base")
    store = Store(tmp_path / "data")
    rates = [(0, 8), (1, 8), (4, 8), (7, 8), (8, 8), (1, 2)]
    found = sampled(store, rates, revision=model_files.revision_of(base))
    said: list[str] = []

    def kept(**changes: Any) -> list[str]:
        run = config(**{"base": base, "pass_rate": [0.1, 0.9], **changes})
        return [s.item for _, s in banded(run, found + pairs(8)[6:], store, say=said.append)]

    assert kept() == ["1", "2", "3", "5"]
    assert "4 of 8 prompts have a pass rate of 0.1 to 0.9 under base" in said[0]
    assert "(2 without enough samples)" in said[0]
    assert kept(pass_rate_samples=4) == ["1", "2", "3"]
    assert kept(pass_rate=None) == [str(i) for i in range(8)]
    with pytest.raises(UsageError, match="no prompt lies in the band"):
        kept(pass_rate=[0.6, 0.7])
    with pytest.raises(UsageError, match="no prompt of the run was sampled from other"):
        kept(pass_rate_of="other")
    # Samples of other weights under the same name say nothing of these.
    with pytest.raises(UsageError, match="no prompt of the run was sampled from base"):
        kept(base=make_tiny_model(tmp_path / "again" / "base", seed=1))
    with pytest.raises(ConfigError, match="pass_rate"):
        kept(pass_rate=[0.9, 0.1])


# ---- drawing groups again


class _Coins:
    """A policy that answers by the seed's parity to even prompts, and never right to odd ones."""

    worst_nats = None

    def __init__(self, tokenizer: Any, found: Sequence[Any]) -> None:
        self.tokenizer, self.n_calls = tokenizer, 0
        self.gold = {tuple(self.render(p.messages)): s.gold for p, s in found}

    def render(self, messages: Any) -> list[int]:
        return Renderer(self.tokenizer).tokens(messages)

    def sample(self, trainer: Any, prompts: Any, *, seeds: Any, **_: Any) -> Drawn:
        self.n_calls += bool(prompts)
        out = []
        for ids, seed in zip(prompts, seeds, strict=True):
            gold = int(self.gold[tuple(ids)])
            right = gold % 4 == 0 and seed % 2
            text = f"\\boxed{{{gold if right else gold + 1}}}<|end|>"
            out.append(self.tokenizer(text, add_special_tokens=False).input_ids)
        return Drawn(out, [[0.0] * len(ids) for ids in out])


def rollout(tmp_path: Path, *, resample: int, n: int = 24) -> tuple[Rollout, Store, _Coins]:
    from transformers import AutoTokenizer

    base = make_tiny_model(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    found = pairs(n)
    store = Store(tmp_path / f"data{resample}")
    sampling = Sampling(temperature=1.0, max_tokens=20)
    keys = Keys("run", 1, "policy", sampling.sampling_id)
    coins = _Coins(tokenizer, found)
    made = Rollout(
        found, keys, renderer=Renderer(tokenizer), sampler=coins,  # type: ignore[arg-type]
        payer=Payer({"accuracy": 1.0}, n_workers=1), record=Recorder(store, keys, sampling),
        caps={0: 20}, group_size=4, seed=0, control="none", resample=resample,
    )  # fmt: skip
    return made, store, coins


def test_groups_without_variance_are_drawn_again_with_other_prompts(tmp_path: Path) -> None:
    prompts = [str(i) for i in (0, 1, 2, 3, 5, 7) for _ in range(4)]
    trainer = SimpleNamespace(state=SimpleNamespace(global_step=3))
    shares = {}
    for rounds in (0, 3):
        made, store, coins = rollout(tmp_path, resample=rounds)
        out = made(prompts, trainer)
        taken = made.take_means()
        assert made.record is not None
        made.record.close({})
        rows = store.table("rollouts").read()
        used = rows.filter(pl.col("is_used"))
        flat = used.group_by("group_index").agg((pl.col("reward").n_unique() == 1).alias("flat"))
        shares[rounds] = flat["flat"].mean()
        # What TRL gets is what was recorded as used, in order, a prompt per group.
        assert used.sort("group_index", "sample_index")["reward"].to_list() == out["paid"]
        assert used.group_by("group_index").agg(pl.col("prompt_id").n_unique())[
            "prompt_id"
        ].unique().to_list() == [1]
        assert rows["trace_id"].n_unique() == rows.height == store.table("traces").read().height
        if rounds:
            assert taken["zero_variance_drawn"] == pytest.approx(shares[0])
            assert coins.n_calls == 1 + rows["round"].max()  # type: ignore[operator]
            assert rows.height > used.height == 24
            assert set(rows.filter(~pl.col("is_used"))["reward"]) <= {0.0, 1.0}
    assert shares[0] > 0.5
    assert shares[3] < shares[0] / 2


def test_prompts_that_run_out_end_the_rounds(tmp_path: Path) -> None:
    made, store, _ = rollout(tmp_path, resample=3, n=8)
    prompts = [str(i) for i in (1, 3, 5, 7) for _ in range(4)]
    out = made(prompts, SimpleNamespace(state=SimpleNamespace(global_step=0)))
    assert made.record is not None
    made.record.close({})
    rows = store.table("rollouts").read()
    assert len(out["paid"]) == 16
    assert rows["prompt_id"].n_unique() == 8
    assert rows["trace_id"].n_unique() == rows.height


def test_groups_that_devices_share_are_not_drawn_again() -> None:
    shared = {"per_device": 2, "n_devices": 4, "outputs_per_update": 8, "outputs_per_rollout": 8}
    with pytest.raises(ConfigError, match="no whole groups of 4"):
        trl_values(config(resample=1, **shared))
    assert trl_values(config(**shared))["num_generations"] == 4
    with pytest.raises(ConfigError, match="vllm_mode: server"):
        trl_values(config(resample=1, trl={"num_generations": 4, "vllm_mode": "server"}))
    with pytest.raises(ConfigError, match="resample"):
        config(resample=4)


# ---- evaluation


def test_prompts_of_development_are_marked_and_left_out_of_training(tmp_path: Path) -> None:
    path = tmp_path / "dev.jsonl"
    lines = [{"prompt": f"{i}+{i}?", "answer": str(2 * i)} for i in (0, 1, 1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = development_pairs(Evaluation(every=1, prompts=path))
    assert [(p.messages[-1]["content"], s.split) for p, s in found] == [
        ("0+0?", "dev"), ("1+1?", "dev")
    ]  # fmt: skip
    with pytest.raises(UsageError, match="all prompts are those of evaluation"):
        grpo(
            config(evaluation={"every": 1, "prompts": str(path)}), pairs(2), Store(tmp_path / "d"),
            say=lambda _: None,
        )  # fmt: skip
    with pytest.raises(UsageError, match="give benchmark or prompts"):
        development_pairs(Evaluation(every=1))


# ---- all of it in one run


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of vLLM's own imports
def test_one_run_with_everything_reads_back_what_it_wrote(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from factory.engines.vllm_start import prepare_environment

    prepare_environment()
    base = make_tiny_model(tmp_path / "base")
    own = tmp_path / "vowels.py"
    own.write_text(
        "def reward(prompts, completions, **columns):\n"
        "    return [sum(c.count(v) for v in 'aeiou') / 4 for c in completions]\n"
    )
    dev = tmp_path / "dev.jsonl"
    rows = [{"prompt": f"{i}-{i}?", "answer": "e", "verifier": LETTER} for i in range(12)]
    dev.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plugins.allow(LETTER)
    run = config(
        base=base, out=tmp_path / "out", per_device=8, outputs_per_update=8, outputs_per_rollout=16,
        rewards={"accuracy": 1.0, str(own): 0.0001, "overlong": 0.5, "repetition": 0.1},
        overlong_buffer=4, resample=3, max_prompt_tokens=40, n_workers=1, keep_every=3,
        evaluation={"every": 2, "prompts": str(dev), "k": 2, "temperature": 1.0},
        lora={"r": 8, "alpha": 16},
        trl={"max_steps": 6, "num_generations": 4, "learning_rate": 3e-2, "beta": 0.0,
             "save_steps": 3, "report_to": "tensorboard"},
    )  # fmt: skip
    store = Store(tmp_path / "data")
    said: list[str] = []
    grpo(run, pairs(40, verifier=LETTER, gold="e"), store, say=said.append)
    rollouts = store.table("rollouts").read()
    parts = json.loads(rollouts["other_parts"][0])
    assert set(parts) == {str(own), "overlong", "repetition"}
    assert rollouts["trace_id"].n_unique() == rollouts.height
    steps = store.table("rl_steps").read().sort("step")
    first = steps.filter(pl.col("reward").is_not_null())
    assert first["zero_variance_drawn"].null_count() == 0
    assert f"parts/{own}" in json.loads(first["logged"][0])
    found = store.table("rl_evaluations").read().sort("step")
    assert found["step"].to_list() == [0, 2, 4, 6]
    assert found["n_prompts"].unique().to_list() == [12]
    metrics = json.loads((tmp_path / "out" / "run.json").read_text())["metrics"]
    assert [e["pass_rate"] for e in metrics["evaluations"]] == found["pass_rate"].to_list()
    best = json.loads((tmp_path / "out" / "best" / "evaluation.json").read_text())
    top = found.filter(pl.col("pass_rate") == found["pass_rate"].max())
    assert best["step"] == top["step"].min()
    assert best["pass_rate"] == pytest.approx(top["pass_rate"][0])
    traces = store.table("traces").read()
    evaluated = traces.filter(pl.col("meta").str.contains("evaluation"))
    assert evaluated.height == 4 * 12 * 2
    # Kept models load by path, with the adapters in them; they differ from step to step.
    weights = []
    for name in ("best", "steps/step-3", "."):
        AutoTokenizer.from_pretrained(tmp_path / "out" / name)
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / name)
        weights.append(model.state_dict()["model.layers.0.mlp.up_proj.weight"])
    assert not weights[1].equal(weights[2])
    assert [p.name for p in (tmp_path / "out" / "steps").iterdir()] == ["step-3"]
    # The tracker got every update.
    assert _scalars(tmp_path / "out")["train/loss"] == [1, 2, 3, 4, 5, 6]


def _scalars(folder: Path) -> dict[str, list[int]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = list(folder.rglob("events.out.tfevents*"))
    read = EventAccumulator(str(files[0].parent))
    read.Reload()
    return {tag: [e.step for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
