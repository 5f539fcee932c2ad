"""The loss of a run, a GPU's too, is the stated one: sampler and trainer may differ per token.

TRL computes the loss that we check here only where it believes to sample with vLLM; on a CPU our
trainer makes it believe so, so that this is the path of a GPU as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from distill.grpo import GrpoConfig
from distill.grpo.reward import Payer
from distill.grpo.rollout import Drawn
from distill.presets import PRESETS, preset
from factory.errors import ConfigError
from tests.grpo_objective import loss

COMPLETIONS = ([9, 30, 41, 7, 22], [12, 55, 8], [40, 41, 42, 43, 17, 6, 29, 31])
OFF_BY_NATS = 0.3
ADVANTAGES = [1.3, -0.7, 0.4]


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_names_the_correction(name: str) -> None:
    values = preset(name).trl
    assert values["vllm_importance_sampling_mode"] == "token_truncate"
    assert values["vllm_importance_sampling_clip_max"] == 3.0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_masters_are_refused_and_adapters_beside_them_are_not(dtype: str) -> None:
    values = {"base": "b", "out": "o", "preset": "r1_zero", "per_device": 1, "dtype": dtype}
    with pytest.raises(ConfigError, match="updates are lost in rounding"):
        GrpoConfig.make(values)
    assert GrpoConfig.make({**values, "lora": {"r": 8, "alpha": 16}}).dtype == dtype


class Recorded:
    """A sampler that gives recorded completions, and is off by .3 nats at every token."""

    worst_nats = None

    def __init__(self) -> None:
        self.trainer: Any = None
        self.n_taken = 0

    def follow(self, trainer: Any) -> None:
        self.trainer = trainer

    def sync_weights(self) -> None:
        self.n_taken += 1

    def sample(
        self, trainer: Any, prompts: Sequence[list[int]], *, seeds: Sequence[int], max_tokens: int
    ) -> Drawn:
        del seeds, max_tokens
        own = [logprobs_of(trainer.model, p, c).tolist()
               for p, c in zip(prompts, COMPLETIONS, strict=True)]  # fmt: skip
        # One sample was likelier to the sampler, one less likely, the last by turns.
        signs = (lambda i: 1, lambda i: -1, lambda i: (-1) ** i)
        said = [[v + sign(i) * OFF_BY_NATS for i, v in enumerate(row)]
                for row, sign in zip(own, signs, strict=True)]  # fmt: skip
        return Drawn([list(c) for c in COMPLETIONS], said)

    def close(self) -> None:
        pass


def logprobs_of(model: Any, prompt: list[int], completion: Sequence[int]) -> Any:
    """Return the log probability of each token of a completion, by nothing but a forward pass."""
    import torch

    tokens = torch.tensor([[*prompt, *completion]])
    logits = model(tokens).logits[0, len(prompt) - 1 : -1].float()
    return torch.log_softmax(logits, -1)[range(len(completion)), list(completion)]


def made(tmp_path: Path, **trl: Any) -> tuple[Any, Recorded]:
    """Return our trainer of preset ``r1_reasoning`` over a sampler that is off."""
    from distill.grpo.config import trl_arguments, trl_values
    from distill.grpo.evaluation import Evaluator
    from distill.grpo.groups import Rollout
    from distill.grpo.record import StepLog
    from distill.grpo.rollout import Keys, Renderer, policy_tokenizer
    from distill.grpo.trainer import make_trainer
    from distill.runs import Spent
    from factory.records import Prompt, PromptSource
    from tests.tiny_model import make_tiny_model

    values = {"num_generations": 3, "max_completion_length": 8, "temperature": 1.0, **trl}
    config = GrpoConfig(
        base=make_tiny_model(tmp_path / "m"), out=tmp_path / "o", preset="r1_reasoning",
        per_device=3, n_devices=1, outputs_per_update=3, outputs_per_rollout=3,
        max_prompt_tokens=40, n_workers=1, trl=values,
    )  # fmt: skip
    tokenizer, spent, sampler = policy_tokenizer(config), Spent(), Recorded()
    prompt = Prompt.of("2+2?")
    source = PromptSource(
        prompt_id=prompt.prompt_id, source="t", item="0", gold="4", verifier="math", language="en"
    )
    common: dict[str, Any] = {
        "renderer": Renderer(tokenizer), "sampler": sampler, "record": None,
        "payer": Payer(config.weights, n_workers=1),
    }  # fmt: skip
    keys = Keys("r", 1, "m", "s")
    rollout = Rollout(
        [(prompt, source)], keys, **common, caps={0: 8}, group_size=3, seed=0, control="none",
    )  # fmt: skip
    trainer = make_trainer(
        config, tokenizer=tokenizer, rollout=rollout, spent=spent, mark="m",
        arguments=trl_arguments(config, trl_values(config), cuda=False),
        log=StepLog("o", None, spent, say=lambda _: None, on_alarm="warn"),
        evaluator=Evaluator(config, [], keys, **common, say=lambda _: None),
    )  # fmt: skip
    return trainer, sampler


def computed(trainer: Any) -> tuple[float, Any, dict[str, Any]]:
    """Return TRL's loss of the recorded rollout, its gradient at the head, and its inputs."""
    import torch

    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    inputs = trainer._generate_and_score_completions([{"prompt": "0"}] * 3)
    inputs["advantages"] = torch.tensor(ADVANTAGES)
    trainer.model.zero_grad()
    found = trainer._compute_loss(trainer.model, inputs)
    found.backward()
    return float(found), head_gradient(trainer), inputs


def head_gradient(trainer: Any) -> Any:
    return trainer.model.get_input_embeddings().weight.grad.clone()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_loss_and_gradient_weigh_each_token_by_trainer_over_sampler(tmp_path: Path) -> None:
    import torch

    trainer, sampler = made(tmp_path)
    assert trainer.args.use_vllm is False, "vLLM itself must not start here"
    found, gradient, inputs = computed(trainer)
    assert sampler.n_taken == 1
    prompt = inputs["prompt_ids"][0][inputs["prompt_mask"][0].bool()].tolist()
    new = [logprobs_of(trainer.model, prompt, c) for c in COMPLETIONS]
    with torch.no_grad():
        reference = [logprobs_of(trainer.ref_model, prompt, c).tolist() for c in COMPLETIONS]
    said = sampler.sample(trainer, [prompt] * 3, seeds=[], max_tokens=8).logprobs
    rows = [n.tolist() for n in new]
    stated = loss(
        rows, rows, reference, ADVANTAGES, low=10, high=10, beta=0.001, aggregation="grpo",
        sampler=said,
    )  # fmt: skip
    assert found == pytest.approx(stated, abs=1e-5)
    uncorrected = loss(
        rows, rows, reference, ADVANTAGES, low=10, high=10, beta=0.001, aggregation="grpo"
    )
    assert abs(found - uncorrected) > 0.05
    # The gradient: at ratio 1 it is that of weight times advantage times the log probability.
    trainer.model.zero_grad()
    total = torch.zeros(())
    for own, drawn, ref, advantage in zip(new, said, reference, ADVANTAGES, strict=True):
        weight = (own.detach() - torch.tensor(drawn)).exp().clamp(max=3.0)
        log_r = torch.tensor(ref) - own
        per_token = -weight * advantage * (own - own.detach()).exp()
        total = total + (per_token + 0.001 * (log_r.exp() - log_r - 1)).mean()
    (total / 3).backward()
    assert torch.allclose(gradient, head_gradient(trainer), atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trls_own_correction_would_be_another_loss(tmp_path: Path) -> None:
    right, _, _ = computed(made(tmp_path / "a")[0])
    other = made(tmp_path / "b", vllm_importance_sampling_mode="sequence_mask")[0]
    wrong, _, inputs = computed(other)
    assert inputs["importance_sampling_ratio"].shape == (3, 1)
    assert abs(right - wrong) > 0.05
