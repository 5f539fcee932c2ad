"""GRPO runs: rewards, the record in the store, and (slow) real training with kills and NaNs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from distill.grpo import GrpoConfig, sample_indices, trl_values
from distill.grpo.dynamics import dynamics, plots
from distill.grpo.record import Recorder
from distill.grpo.reward import HackingMonitor, Payer, Rewarded, random_reward
from distill.grpo.rollout import Keys, Renderer, Sample, r1_zero_jinja
from distill.grpo.trainer import freeze, spent_before
from distill.templates import r1_zero
from factory.errors import ConfigError, UsageError
from factory.records import Prompt, PromptSource, Sampling
from factory.store import Store

RIGHT = "<think>\nI add two and two and I get four.\n</think>\n\nThe answer is \\boxed{4}."
WRONG = "<think>\nI add two and two and I get five.\n</think>\n\nThe answer is \\boxed{5}."
BARE = "The answer is \\boxed{4}."


def _pair(gold: str | None = "4", language: str = "en", text: str = "2+2?") -> Any:
    prompt = Prompt.of(text)
    return prompt, PromptSource(
        prompt_id=prompt.prompt_id, source="t", item=text, gold=gold, verifier="math",
        options={"mode": "boxed"}, language=language,
    )  # fmt: skip


def test_parts_are_added_with_their_weights() -> None:
    payer = Payer({"accuracy": 1.0, "format": 0.5}, n_workers=1)
    out = payer.rewards([_pair()] * 3, [RIGHT, WRONG, BARE])
    assert [r.total for r in out] == [1.5, 0.5, 1.0]
    assert [r.status for r in out] == ["pass", "fail", "pass"]
    # Language has no weight here and is measured all the same.
    assert out[0].parts["language"] == pytest.approx(1.0)


def test_the_language_reward_pays_for_the_prompts_language() -> None:
    payer = Payer({"accuracy": 1.0, "language": 1.0}, n_workers=1)
    own, other = payer.rewards([_pair(), _pair(language="zh")], [RIGHT, RIGHT])
    assert own.total == pytest.approx(2.0)
    assert other.total is not None
    assert other.total < 1.3


def test_what_we_cannot_judge_is_masked_and_never_zero() -> None:
    payer = Payer({"accuracy": 1.0, "format": 1.0}, n_workers=1)
    (out,) = payer.rewards([_pair(gold=None)], [RIGHT])
    assert out.total is None
    assert out.status == "unscored"


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown reward style"):
        Payer({"style": 1.0})


def test_the_coin_is_fair_and_depends_on_the_key_alone() -> None:
    tosses = [random_reward(f"trace-{i}", seed=0) for i in range(2000)]
    assert sum(tosses) / 2000 == pytest.approx(0.5, abs=0.04)
    assert tosses == [random_reward(f"trace-{i}", seed=0) for i in range(2000)]
    assert tosses != [random_reward(f"trace-{i}", seed=1) for i in range(2000)]


@pytest.mark.parametrize(
    ("reward", "accuracy", "alarms"),
    [
        ([i / 40 for i in range(40)], [0.5 - i / 100 for i in range(40)], True),
        ([i / 40 for i in range(40)], [i / 40 for i in range(40)], False),
        ([0.5] * 40, [0.5 - i / 100 for i in range(40)], False),
        ([1 - i / 40 for i in range(40)], [0.5 - i / 100 for i in range(40)], False),
    ],
)
def test_the_alarm_comes_when_reward_rises_and_accuracy_falls(
    reward: list[float], accuracy: list[float], alarms: bool
) -> None:
    monitor = HackingMonitor()
    alarms_seen = [monitor.add(r, a) for r, a in zip(reward, accuracy, strict=True)]
    assert any(alarms_seen) is alarms


def test_the_zero_template_is_the_papers_text() -> None:
    from jinja2 import Template

    question = "What is {2} + '2'?"
    rendered = Template(r1_zero_jinja()).render(messages=[{"role": "user", "content": question}])
    assert rendered == r1_zero(question)


def _config(**changes: Any) -> GrpoConfig:
    values = {
        "base": "b", "out": "o", "preset": "r1_zero", "per_device": 4, "outputs_per_update": 8,
        "outputs_per_rollout": 16, "trl": {"num_generations": 4, "learning_rate": 1e-3},
    }  # fmt: skip
    return GrpoConfig.make({**values, **changes})


def test_the_trl_block_wins_over_the_preset_and_ours_is_refused() -> None:
    values = trl_values(_config())
    assert (values["learning_rate"], values["beta"], values["num_generations"]) == (1e-3, 0.001, 4)
    assert (values["gradient_accumulation_steps"], values["steps_per_generation"]) == (2, 4)
    with pytest.raises(ConfigError, match="use_vllm in the trl block"):
        trl_values(_config(trl={"use_vllm": True}))
    with pytest.raises(ConfigError, match="unknown key 'gamma'"):
        _config(gamma=1)


def test_caps_come_from_the_preset_the_block_or_the_recipe() -> None:
    assert _config().caps == {0: 32_768, 8200: 65_536}
    assert _config(trl={"max_completion_length": 64}).caps == {0: 64}
    assert _config(length_caps={0: 32, 5: 64}).caps == {0: 32, 5: 64}


def test_samples_of_one_prompt_are_numbered() -> None:
    assert sample_indices(["1", "1", "2", "1", "2"]) == [0, 1, 0, 2, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "trained"),
    [(None, {"mlp.weight", "norm.weight"}), ("mlp", {"mlp.weight"}), (r"^norm\.", {"norm.weight"})],
)
def test_only_the_parameters_asked_for_are_trained(pattern: str | None, trained: set[str]) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.ModuleDict(
        {"mlp": torch.nn.Linear(3, 2, bias=False), "norm": torch.nn.RMSNorm(5)}
    )
    n_trained = freeze(model, pattern)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == trained
    assert n_trained == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("pattern", ["attention", "mlp("])
def test_a_pattern_that_trains_nothing_is_refused(pattern: str) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ConfigError, match="trainable: "):
        freeze(torch.nn.ModuleDict({"mlp": torch.nn.Linear(2, 2)}), pattern)


class _Tokenizer:
    eos_token_id, pad_token_id = 1, 0

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        assert not skip_special_tokens  # tags that are special tokens would vanish
        return " ".join(map(str, ids))


def test_the_end_is_cut_and_nothing_else() -> None:
    renderer = Renderer(_Tokenizer())
    assert renderer.text([5, 1, 6, 1, 0]) == "5 1 6"
    assert renderer.is_finished([5, 1])
    assert not renderer.is_finished([5, 6])
    assert not renderer.is_finished([])


def _recorder(store: Store, attempt: int = 1) -> Recorder:
    sampling = Sampling(temperature=1.0, max_tokens=16)
    return Recorder(store, Keys("zero-abc", attempt, "zero", sampling.sampling_id), sampling)


def _rollout(record: Recorder, step: int, texts: list[str], totals: list[float | None]) -> None:
    prompt_id = _pair()[0].prompt_id
    samples = [Sample(prompt_id, i, text, 100, True) for i, text in enumerate(texts)]
    rewarded = [Rewarded(t, {"accuracy": t, "format": 1.0, "language": 1.0}) for t in totals]
    record.rollouts(step, samples, rewarded, group_size=len(texts))


def test_rollouts_are_traces_whose_revision_names_run_step_and_attempt(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    record = _recorder(store)
    record.prompts([_pair()])
    _rollout(record, 0, [RIGHT, WRONG], [1.0, None])
    record.close({})
    traces = store.table("traces").read()
    assert traces["revision"].unique().to_list() == ["zero-abc@0#1"]
    rows = store.table("rollouts").read().sort("sample_index")
    assert rows["reward"].to_list() == [1.0, None]
    assert rows["status"].to_list() == ["pass", "unscored"]
    assert set(rows["trace_id"]) == set(traces["trace_id"])


def test_dynamics_count_planted_words_and_take_the_last_attempt(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    wait = "<think>\nWait, that is wrong. Wait, I check it: four.\n</think>\n\n\\boxed{4}"
    first = _recorder(store)
    first.prompts([_pair()])
    _rollout(first, 0, [RIGHT, RIGHT], [1.0, 1.0])
    _rollout(first, 1, [WRONG] * 2, [0.0, 0.0])
    first.close({})
    second = _recorder(store, attempt=2)
    _rollout(second, 1, [wait, WRONG], [1.0, 0.0])
    second.close({})
    frame = dynamics(store, "zero-abc")
    assert frame["step"].to_list() == [0, 1]
    assert frame["reward"].to_list() == [1.0, 0.5]
    assert frame["zero_variance_fraction"].to_list() == [1.0, 0.0]
    # wait, wrong, wait, check: four words in 200 tokens.
    assert frame["reflective_per_1k_tokens"].to_list() == [0.0, 20.0]
    assert frame["wait_per_1k_tokens"].to_list() == [0.0, 10.0]
    assert frame["aha_fraction"].to_list() == [0.0, 0.5]
    lines = plots({"zero": frame}, tmp_path / "plots")
    assert len(lines) == len(list((tmp_path / "plots").glob("*.svg"))) > 5


def test_a_run_without_rollouts_has_no_dynamics(tmp_path: Path) -> None:
    assert dynamics(Store(tmp_path / "data"), "none").height == 0


# ---- real training


_RUN = """
import sys
from pathlib import Path
from distill.grpo import GrpoConfig, grpo
from factory.store import Store
from factory.records import Prompt, PromptSource
from factory.errors import FactoryError
from factory.engines.vllm_start import prepare_environment
from distill.devices import world
prepare_environment()
base, out, store = sys.argv[1:4]
extra = dict(a.split("=") for a in sys.argv[4:])
n_devices = int(extra.get("devices", 1))
pairs = []
for i in range(12):
    p = Prompt.of(f"{i}+{i}?")
    pairs.append((p, PromptSource(prompt_id=p.prompt_id, source="s", item=str(i), gold=str(2*i),
        verifier="math", options={"mode": "boxed"}, language="en")))
group, rollout = int(extra.get("group", 4)), int(extra.get("rollout", 8))
trl = dict(max_steps=6, num_generations=group, learning_rate=float(extra.get("lr", "1e-3")),
    max_completion_length=12, save_steps=2, beta=0.01, ref_model_sync_steps=4)
config = GrpoConfig(base=base, out=Path(out), preset="r1_reasoning",
    per_device=8 // n_devices, n_devices=n_devices, outputs_per_update=8,
    outputs_per_rollout=rollout, length_caps={0: 8, 3: 12}, max_prompt_tokens=40,
    n_workers=1, trl=trl, trainable=extra.get("trainable"))
try:
    with world().main_process_first():  # as the command does
        opened = Store(store)
    grpo(config, pairs, opened, say=lambda line: print(line, flush=True))
except FactoryError as error:
    print("ERROR", error, flush=True)
    sys.exit(3)
print("DONE", flush=True)
"""


def _start(tmp_path: Path, base: str, *extra: str, ranks: int = 1) -> subprocess.Popen[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    script = tmp_path / "run.py"
    script.write_text(_RUN)
    launcher = [sys.executable, "-W", "ignore"]
    if ranks > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command = [*launcher, str(script), base, str(tmp_path / "out"), str(tmp_path / "data"), *extra]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
    )


@pytest.mark.slow
def test_a_killed_run_goes_on_and_a_finished_one_is_not_repeated(tmp_path: Path) -> None:
    from tests.tiny_model import make_tiny_model

    base, only = make_tiny_model(tmp_path / "base"), "trainable=mlp|lm_head"
    process = _start(tmp_path, base, only)
    deadline = time.monotonic() + 400
    checkpoints = tmp_path / "out" / "checkpoints"
    while not list(checkpoints.glob("checkpoint-*/whole")):
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    spent = max(spent_before(p) for p in checkpoints.glob("checkpoint-*"))
    assert spent > 0
    said = _start(tmp_path, base, only).communicate(timeout=400)[0]
    metrics = json.loads((tmp_path / "out" / "run.json").read_text())["metrics"]
    assert metrics["cpu_s"] > spent, "what was spent before the kill counts"
    assert "going on from checkpoint-" in said
    assert "DONE" in said
    store = Store(tmp_path / "data")
    rollouts = store.table("rollouts").read()
    assert rollouts["attempt"].unique().sort().to_list() == [1, 2]
    last = rollouts.filter(pl.col("attempt") == pl.col("attempt").max().over("step"))
    assert last.group_by("step").len()["len"].unique().to_list() == [8]
    # The length cap rises at step 3, as configured.
    assert last.filter(pl.col("step") < 3)["n_completion_tokens"].max() == 8
    assert last.filter(pl.col("step") >= 3)["n_completion_tokens"].max() == 12
    apart = store.table("rl_steps").read()["weights_apart_nats"].max()
    assert isinstance(apart, float)
    assert apart < 0.02
    # Every update has its row, the resumed ones too, each with its loss.
    steps = store.table("rl_steps").read()
    assert sorted(set(steps["step"])) == [1, 2, 3, 4, 5, 6]
    assert steps["loss"].null_count() == 0
    said = _start(tmp_path, base, only).communicate(timeout=400)[0]
    assert "step" not in said
    moved = moved_parameters(Path(base), tmp_path / "out")
    assert moved
    assert all("mlp" in name or "lm_head" in name for name in moved), moved


@pytest.mark.slow
def test_two_processes_train_one_model_and_leave_one_record(tmp_path: Path) -> None:
    from tests.tiny_model import make_tiny_model

    base = make_tiny_model(tmp_path / "base")
    # A group of 16 over two processes, and two updates a rollout.
    extra = ["group=16", "rollout=16", "devices=2"]
    process = _start(tmp_path, base, *extra, ranks=2)
    said = process.communicate(timeout=500)[0]
    assert process.returncode == 0, said
    assert said.count("step 6/6") == 1, said
    store = Store(tmp_path / "data")
    rollouts = store.table("rollouts").read()
    assert rollouts["trace_id"].n_unique() == rollouts.height == 3 * 16
    assert rollouts["attempt"].unique().to_list() == [1]
    per_group = rollouts.group_by("step", "group_index").agg(
        pl.len(), pl.col("prompt_id").n_unique().alias("prompts"), pl.col("reward").mean()
    )
    assert per_group["len"].unique().to_list() == [16]
    assert per_group["prompts"].unique().to_list() == [1]
    steps = store.table("rl_steps").read().sort("step")
    assert steps["step"].to_list() == [1, 2, 3, 4, 5, 6]
    # Rewards stand at the first update after a rollout, and are what TRL found over both.
    assert steps["reward"].is_null().to_list() == [False, True] * 3
    assert steps["loss"].null_count() == steps["kl"].null_count() == 0
    for row, own in zip(
        steps.filter(pl.col("reward").is_not_null()).iter_rows(named=True),
        per_group.sort("step")["reward"],
        strict=True,
    ):
        assert row["reward"] == pytest.approx(json.loads(row["logged"])["reward"], abs=1e-5)
        assert row["reward"] == pytest.approx(own)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["metrics"]["steps"] == 6
    assert json.loads((tmp_path / "out" / "attempts.json").read_text()) == {"attempts": 1}


@pytest.mark.slow
def test_more_processes_than_the_recipe_says_are_refused(tmp_path: Path) -> None:
    from tests.tiny_model import make_tiny_model

    process = _start(tmp_path, make_tiny_model(tmp_path / "base"), ranks=2)
    said = process.communicate(timeout=400)[0]
    assert process.returncode != 0
    assert "n_devices is 1, but 2 processes train" in said


def moved_parameters(before: Path, after: Path) -> list[str]:
    from safetensors.torch import load_file

    old, new = (load_file(folder / "model.safetensors") for folder in (before, after))
    assert old.keys() == new.keys()
    return [name for name in old if not old[name].equal(new[name])]


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_before_the_weights_move(tmp_path: Path) -> None:
    from tests.tiny_model import make_tiny_model

    base = make_tiny_model(tmp_path / "base")
    process = _start(tmp_path, base, "lr=1e30")
    said = process.communicate(timeout=400)[0]
    assert process.returncode == 3, said
    assert "ERROR" in said
    assert not (tmp_path / "out" / "run.json").exists()


def test_no_prompts_is_a_usage_error(tmp_path: Path) -> None:
    from distill.grpo import grpo

    with pytest.raises(UsageError, match="no prompts to train on"):
        grpo(_config(), [], Store(tmp_path / "data"))


def test_accuracy_by_level_over_a_run(tmp_path: Path) -> None:
    from distill.grpo.dynamics import accuracy_by_level

    store = Store(tmp_path / "data")
    assert accuracy_by_level(store, "none").height == 0
    record = _recorder(store)
    prompts = {}
    for level in ("1", "5", None):
        prompt = Prompt.of(f"level {level}")
        source = PromptSource(
            prompt_id=prompt.prompt_id, source="t", item="0", gold="4", level=level
        )
        prompts[level] = (prompt, source)
    record.prompts(list(prompts.values()))
    right = {"1": (0, 1), "5": (0, 0), None: (1, 1)}
    for step in range(4):
        samples, rewarded = [], []
        for level, (prompt, _) in prompts.items():
            for i in range(2):
                value = float(right[level][i] or (level == "5" and step >= 2))
                samples.append(Sample(prompt.prompt_id, i, RIGHT, 9, True))
                parts = {"accuracy": value, "format": 1.0, "language": None}
                rewarded.append(Rewarded(value, parts))
        record.rollouts(step, samples, rewarded, group_size=2)
    record.close({})
    found = accuracy_by_level(store, record.keys.rl_run, parts=2)
    assert found.rows() == [
        (0, "1", 4, 0.5), (0, "5", 4, 0.0), (2, "1", 4, 0.5), (2, "5", 4, 1.0),
    ]  # fmt: skip
