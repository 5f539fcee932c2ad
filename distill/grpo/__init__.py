"""Reinforcement learning with TRL's GRPOTrainer: R1-Zero and the reasoning stage.

The policy's rollouts are traces in the store; rewards and their parts are tables beside them. A
finished run writes ``run.json`` last, and the same call again returns at once; a killed run goes on
from its last whole checkpoint, its reference model included. A loss or gradient that is no number
stops the run before the weights move. Completions that we could not judge are masked.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.devices import has_cuda, settle, trl_settings
from distill.grpo.config import GrpoConfig, trl_values
from distill.grpo.record import Recorder
from distill.grpo.reward import HackingMonitor, Payer, Rewarded, means, random_reward
from distill.grpo.rollout import CpuSampler, Renderer, r1_zero_jinja, rollout_function
from distill.presets import cap_at, preset
from distill.runs import cpu_s, finished, write_run
from distill.student import split_revision
from distill.templates import adopt, template_for
from distill.training import last_checkpoint, quiet
from factory import model_files
from factory.errors import ConfigError, FactoryError, UsageError
from factory.records import Prompt, PromptSource, Sampling, ids
from factory.store import Store

__all__ = ["GrpoConfig", "grpo", "trl_values"]

Pair = tuple[Prompt, PromptSource]
_VERSION = 1


def grpo(
    config: GrpoConfig,
    pairs: Sequence[Pair],
    store: Store,
    *,
    say: Callable[[str], None] = print,
    lend: Callable[[], Any] | None = None,
) -> Path:
    """Train, or return at once where this run is finished already.

    Args:
        config: what to train, and how.
        pairs: prompts with their golds.
        store: where rollouts go.
        say: takes short lines of progress.
        lend: gives an engine of the base's shape for a run on a CPU; None starts one.

    Returns:
        ``config.out``: safetensors, tokenizer and template, loadable by path.

    Raises:
        ConfigError: the ``trl`` block does not fit.
        UsageError: no prompts.
        FactoryError: loss or gradient is no number; the reward-hacking monitor stopped the run.
        EngineError: the sampler does not take the weights.
    """
    if not pairs:
        raise UsageError("there are no prompts to train on", "check the source")
    name, revision = split_revision(config.base)
    values = trl_values(config)
    inputs = ids.key_of(
        {
            **config.model_dump(mode="json", exclude={"out", "base", "n_workers", "trainable"}),
            "length_caps": sorted(config.caps.items()),
            "values": {k: str(v) for k, v in values.items()},
            "base": model_files.revision_of(name, revision),
            "prompts": [[p.prompt_id, s.gold or ""] for p, s in pairs],
            "version": _VERSION,
            # Runs that train all parameters keep the inputs that they had before this choice.
            **({} if config.trainable is None else {"trainable": config.trainable}),
        }
    )
    if finished(config.out, inputs=inputs):
        return config.out
    config.out.mkdir(parents=True, exist_ok=True)
    run = _Run(config, list(pairs), store, values, inputs, say)
    run.lend = lend
    try:
        run.train()
    finally:
        run.close()
    return config.out


class _Run:
    """State of one attempt."""

    def __init__(
        self,
        config: GrpoConfig,
        pairs: list[Pair],
        store: Store,
        values: dict[str, Any],
        inputs: str,
        say: Callable[[str], None],
    ) -> None:
        quiet()
        self.config, self.inputs, self.say = config, inputs, say
        self.cuda = has_cuda()
        settle(cuda=self.cuda)
        self.began, self.cpu = time.monotonic(), cpu_s()
        self.caps = config.caps
        self.values = values
        self.base, self.base_revision = split_revision(config.base)
        self.tokenizer = self._tokenizer()
        self.renderer = Renderer(self.tokenizer, prefill=config.prefill)
        self.pairs = self._short_enough(pairs)
        self.attempt = self._next_attempt()
        self.rl_run = f"{config.out.name}-{inputs[:12]}"
        sampling = Sampling(
            temperature=float(values["temperature"]),
            max_tokens=max(self.caps.values()),
            top_p=float(values.get("top_p", 1.0)),
            seed=config.seed,
            template=model_files.template_hash(self.tokenizer.chat_template),
            prefill=config.prefill,
        )
        self.record = Recorder(store, self.rl_run, self.attempt, sampling, config.out.name)
        self.record.prompts(self.pairs)
        chosen = preset(config.preset)
        self.reward = Payer(
            config.weights, dialect=config.dialect or chosen.dialect, n_workers=config.n_workers
        )
        self.monitor = HackingMonitor()
        self.alarms: list[int] = []
        self.latest: dict[str, Any] = {}
        self.sampler: CpuSampler | None = None
        self.results: dict[str, Any] = {}
        self.trainer: Any = None
        self.lend: Callable[[], Any] | None = None

    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(
            self.base, revision=self.base_revision, trust_remote_code=False
        )
        wanted = self.config.template or preset(self.config.preset).template
        if wanted == "r1_zero":
            tokenizer.chat_template = r1_zero_jinja()
            if tokenizer.pad_token is None:
                tokenizer.pad_token = tokenizer.eos_token
        else:
            adopt(tokenizer, template_for(tokenizer, wanted))
        return tokenizer

    def _short_enough(self, pairs: list[Pair]) -> list[Pair]:
        limit = self.config.max_prompt_tokens
        kept = [p for p in pairs if len(self.renderer.tokens(p[0].messages)) <= limit]
        if len(kept) < len(pairs):
            left = len(pairs) - len(kept)
            self.say(f"grpo {self.config.out.name}: {left} prompts over {limit} tokens left out")
        if not kept:
            raise UsageError(f"no prompt of at most {limit} tokens", "raise max_prompt_tokens")
        return kept

    def _next_attempt(self) -> int:
        path = self.config.out / "attempts.json"
        before = json.loads(path.read_text())["attempts"] if path.is_file() else 0
        path.write_text(json.dumps({"attempts": before + 1}))
        return int(before) + 1

    # ---- what TRL calls

    def pays(
        self, prompts: Sequence[str], completion_ids: Sequence[Sequence[int]], step: int
    ) -> list[float | None]:
        """Reward completions, and record them; called by TRL once per rollout."""
        pairs = [self.pairs[int(p)] for p in prompts]
        texts = [self.renderer.text(c) for c in completion_ids]
        ended = [self.renderer.is_finished(c) for c in completion_ids]
        rewarded = self.reward.rewards(pairs, [self.config.prefill + t for t in texts])
        size = int(self.values["num_generations"])
        indices = sample_indices(prompts)
        if self.config.control == "random":
            rewarded = [
                Rewarded(
                    random_reward(
                        self.record.trace_id(
                            prompt_id=pair[0].prompt_id, step=step, sample_index=index
                        ),
                        seed=self.config.seed,
                    ),
                    r.parts,
                )
                for pair, index, r in zip(pairs, indices, rewarded, strict=True)
            ]
        self.record.rollouts(
            step=step,
            pairs=pairs,
            sample_indices=indices,
            groups=[i // size for i in range(len(pairs))],
            texts=texts,
            n_tokens=[len(c) for c in completion_ids],
            finished=ended,
            rewarded=rewarded,
        )
        self.latest = dict(means(rewarded))
        return [r.total for r in rewarded]

    def seeds(self, step: int, prompts: Sequence[str]) -> list[int]:
        """Return each completion's own sampling seed."""
        out = []
        for prompt, index in zip(prompts, sample_indices(prompts), strict=True):
            key = self.record.trace_id(
                prompt_id=self.pairs[int(prompt)][0].prompt_id, step=step, sample_index=index
            )
            out.append(ids.seed_of(base=self.config.seed, trace_id=key))
        return out

    def logged(self, step: int, max_steps: int, logs: Mapping[str, Any]) -> None:
        """Record and say one step's figures."""
        alarm = self.monitor.add(self.latest.get("reward"), self.latest.get("accuracy"))
        spent = cpu_s() - self.cpu
        row = {
            **self.latest,
            "loss": logs.get("loss"),
            "grad_norm": logs.get("grad_norm"),
            "kl": logs.get("kl"),
            "entropy": logs.get("entropy"),
            "learning_rate": logs.get("learning_rate"),
            "zero_variance_fraction": logs.get("frac_reward_zero_std"),
            "truncated_fraction": logs.get("completions/clipped_ratio"),
            "completion_tokens": logs.get("completions/mean_length"),
            "clip_fraction": logs.get("clip_ratio/region_mean"),
            "weights_apart_nats": self.sampler.worst_nats if self.sampler else None,
            "cpu_s": round(spent, 2),
            "wall_s": round(time.monotonic() - self.began, 2),
            "is_alarm": alarm,
        }
        self.record.step(step, row, logged=logs)
        every = max(1, max_steps // 10)
        if step % every == 0 or step == 1 or step == max_steps:
            self.say(f"grpo {self.config.out.name}: {progress_line(step, max_steps, row)}")
        if alarm:
            self.alarms.append(step)
            self.say(
                f"grpo {self.config.out.name}: ALARM at step {step}: the reward rises while the "
                "rule's accuracy falls"
            )
            if self.config.on_alarm == "stop":
                raise FactoryError(
                    f"the reward-hacking monitor stopped the run at step {step}",
                    "look at its rollouts; earlier checkpoints are kept",
                )

    # ---- the run

    def train(self) -> None:
        """Train from the last whole checkpoint, or from the start."""
        from distill.grpo.trainer import make_trainer, spent_before

        config = self.config
        if not self.cuda:
            self.sampler = CpuSampler(
                self.base,
                revision=self.base_revision,
                max_model_len=config.max_prompt_tokens + max(self.caps.values()),
                max_num_seqs=256,
                engine=self.lend() if self.lend is not None else None,
            )
        rollout = rollout_function(
            self.renderer,
            sampler=self.sampler,
            messages_of=lambda p: self.pairs[int(p)][0].messages,
            seeds_of=self.seeds,
            cap_of=lambda step: cap_at(self.caps, step),
        )
        self.trainer = make_trainer(
            self, arguments=self._arguments(), rollout=rollout, n_pairs=len(self.pairs)
        )
        resume = last_checkpoint(config.out / "checkpoints", inputs=self.inputs)
        if resume is not None:
            self.say(f"grpo {config.out.name}: going on from {resume.name}")
        # Starting an engine is no training: budgets and costs begin here.
        setup, self.cpu = cpu_s() - self.cpu, cpu_s()
        if resume is not None:
            self.cpu -= spent_before(resume)
        self.trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        self.trainer.save_model(str(config.out))
        self.tokenizer.save_pretrained(str(config.out))
        (config.out / "training_args.bin").unlink(missing_ok=True)
        steps = [e for e in self.trainer.state.log_history if "reward" in e]
        self.results = {
            "steps": self.trainer.state.global_step,
            "attempts": self.attempt,
            "rl_run": self.rl_run,
            "first_reward": steps[0]["reward"] if steps else None,
            "last_reward": steps[-1]["reward"] if steps else None,
            "alarms": self.alarms,
            "weights_apart_nats": self.sampler.worst_nats if self.sampler else None,
            "cpu_s": round(cpu_s() - self.cpu, 2),
            "setup_cpu_s": round(setup, 2),
            "wall_s": round(time.monotonic() - self.began, 2),
        }
        write_run(
            config.out,
            kind="grpo",
            inputs=self.inputs,
            config={**config.model_dump(mode="json"), "values": _plain(self.values)},
            metrics=self.results,
        )
        shutil.rmtree(config.out / "checkpoints", ignore_errors=True)

    def close(self) -> None:
        """Free the engine and seal what was written."""
        if self.sampler is not None:
            self.sampler.close()
        self.record.close(self.results)

    def _arguments(self) -> Any:
        import dataclasses

        from trl import GRPOConfig

        known = {f.name for f in dataclasses.fields(GRPOConfig)}
        unknown = sorted(self.values.keys() - known)
        if unknown:
            raise ConfigError(
                f"trl block: unknown key {', '.join(map(repr, unknown))}",
                "keys are those of trl.GRPOConfig",
            )
        try:
            return GRPOConfig(
                **{**trl_settings(cuda=self.cuda), **self.values},
                output_dir=str(self.config.out / "checkpoints"),
                seed=self.config.seed,
                use_vllm=self.cuda,
                remove_unused_columns=False,
                report_to="none",
                disable_tqdm=True,
                logging_nan_inf_filter=False,
            )
        except (TypeError, ValueError) as error:
            detail = " ".join(str(error).split())
            raise ConfigError(f"trl block: {detail}", "correct the recipe") from None


def sample_indices(prompts: Sequence[str]) -> list[int]:
    """Return each prompt's how-manieth occurrence it is, from 0.

    >>> sample_indices(["7", "7", "3", "7"])
    [0, 1, 0, 2]
    """
    seen: dict[str, int] = {}
    out = []
    for prompt in prompts:
        out.append(seen.get(prompt, 0))
        seen[prompt] = out[-1] + 1
    return out


def progress_line(step: int, max_steps: int, row: Mapping[str, Any]) -> str:
    """Return one step as a short line.

    >>> progress_line(1, 10, {"reward": 0.5, "accuracy": 0.25, "cpu_s": 1.5})
    'step 1/10, reward 0.500, accuracy 0.250, 1.5 CPU-s'
    """
    names = {
        "reward": "reward", "accuracy": "accuracy", "format": "format", "language": "language",
        "completion_tokens": "tokens", "truncated_fraction": "truncated",
        "zero_variance_fraction": "without variance", "kl": "kl",
    }  # fmt: skip
    parts = [f"step {step}/{max_steps}"]
    for key, word in names.items():
        value = row.get(key)
        if isinstance(value, int | float) and math.isfinite(value):
            parts.append(f"{word} {value:.1f}" if key.endswith("tokens") else f"{word} {value:.3f}")
    if row.get("cpu_s") is not None:
        parts.append(f"{row['cpu_s']:.1f} CPU-s")
    return ", ".join(parts)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v if isinstance(v, int | float | str | bool | None) else str(v)
            for k, v in values.items()}  # fmt: skip
