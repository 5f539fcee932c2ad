"""Evaluation during a run: a development set every so many updates, and the models that are kept.

The run's own sampler answers with the policy's present weights, so that nothing is loaded twice.
The best model by pass rate is kept as ``OUT/best``, and one every so many updates as
``OUT/steps/step-N`` where that is asked for; both load like any other model.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distill.devices import world
from distill.grpo.config import Evaluation, GrpoConfig, Pair
from distill.grpo.record import Recorder
from distill.grpo.reward import Payer, Rewarded
from distill.grpo.rollout import Keys, Renderer, Sample, Sampler, gathered, whole_weights
from distill.prompts import read_prompts
from factory import plugins
from factory.errors import UsageError
from factory.metrics import mean_interval, pass_rate
from factory.model_files import template_hash
from factory.records import Sampling, ids
from factory.sets.splits import is_evaluation
from factory.store.durable import write_json

BEST = "best"
_RESULT = "evaluation.json"


def development_pairs(config: Evaluation) -> list[Pair]:
    """Return the prompts of an evaluation, in a split that selections leave out of training sets.

    Raises:
        UsageError: there are none, or they cannot be read.
    """
    if config.benchmark is not None:
        source = plugins.load("sources", "benchmark")
        found = list(source.prompts(config.benchmark, path=config.prompts, limit=config.limit))
    elif config.prompts is not None:
        found = read_prompts(str(config.prompts))[: config.limit]
    else:
        raise UsageError("evaluation: which prompts?", "give benchmark or prompts")
    if not found:
        raise UsageError("evaluation: there are no prompts", "check the file")
    unique = {}
    for prompt, source in found:
        if not is_evaluation(source.split):
            source = dataclasses.replace(source, split="dev")
        unique[prompt.prompt_id] = (prompt, source)
    return list(unique.values())


class Evaluator:
    """Measures the policy on a development set, and keeps models.

    Every process has one and answers its part of the prompts; the first one records and says.

    Args:
        config: of the run.
        pairs: of ``development_pairs``; empty where the run has no evaluation.
        keys: names of the run's rollouts.
        renderer: of the policy.
        sampler: of the policy.
        payer: judges answers; their accuracy counts, whatever the run pays for.
        record: None in all processes but the first.
        say: takes lines.
    """

    def __init__(
        self,
        config: GrpoConfig,
        pairs: Sequence[Pair],
        keys: Keys,
        *,
        renderer: Renderer,
        sampler: Sampler,
        payer: Payer,
        record: Recorder | None,
        say: Callable[[str], None],
    ) -> None:
        self.config, self.pairs, self.keys, self.payer = config, list(pairs), keys, payer
        self.renderer, self.sampler, self.record, self.say = renderer, sampler, record, say
        own = config.evaluation
        self.every = own.every if own is not None and self.pairs else None
        self.last: int | None = None
        self.results: list[dict[str, Any]] = []

    def after(
        self, trainer: Any, step: int, *, is_last: bool = False
    ) -> dict[str, Any] | None:  # fmt: skip
        """Evaluate and keep the model after an update where the run asks for it (0: before).

        Returns:
            The figures; None where nothing was evaluated.
        """
        keep = self.config.keep_every
        if keep and step and step % keep == 0 and not is_last:
            save_weights(trainer, self.config.out / "steps" / f"step-{step}")
        if self.every is None or self.last == step or not (is_last or step % self.every == 0):
            return None
        self.last = step
        values = self._measure(trainer, step)
        before = self._best()
        values["is_best"] = values["pass_rate"] is not None and (
            before is None or values["pass_rate"] > before
        )
        if values["is_best"]:
            save_weights(trainer, self.config.out / BEST, result={"step": step, **values})
        self.results.append({"step": step, **values})
        if self.record is not None:
            self.record.evaluation(step, self._samples, self._sampling, values)
        if values["pass_rate"] is not None:
            best = ", the best so far" if values["is_best"] else ""
            self.say(
                f"grpo {self.config.out.name}: step {step}, pass rate {values['pass_rate']:.3f} "
                f"on {values['n_prompts']} prompts of development{best}"
            )
        return values

    def _best(self) -> float | None:
        """Return the best pass rate so far, that of stopped attempts included."""
        path = self.config.out / BEST / _RESULT
        values = [r["pass_rate"] for r in self.results if r["is_best"]]
        if path.is_file():
            values.append(json.loads(path.read_text())["pass_rate"])
        return max((v for v in values if v is not None), default=None)

    def _measure(self, trainer: Any, step: int) -> dict[str, Any]:
        own = self.config.evaluation
        assert own is not None
        # TRL takes the weights over at a rollout alone; the next one need not do it again.
        trainer.vllm_generation.sync_weights()
        trainer._last_loaded_step = step
        self._sampling = self.sampling()
        keys = dataclasses.replace(self.keys, sampling_id=self._sampling.sampling_id)
        part = self.pairs[world().process_index :: world().num_processes]
        work = [(pair, i) for pair in part for i in range(own.k)]
        seeds = [
            ids.seed_of(
                base=self.config.seed,
                trace_id=keys.trace_id(prompt_id=p.prompt_id, step=0, sample_index=i),
            )
            for (p, _), i in work
        ]
        drawn = self.sampler.sample(
            trainer,
            [self.renderer.tokens(p.messages) for (p, _), _ in work],
            seeds=seeds,
            max_tokens=self._sampling.max_tokens,
            other=self._sampling,
        )
        samples = [
            Sample(p.prompt_id, i, self.renderer.text(c), len(c), self.renderer.is_finished(c))
            for ((p, _), i), c in zip(work, drawn.completion_ids, strict=True)
        ]
        texts = [self.renderer.prefill + s.text for s in samples]
        cap = self._sampling.max_tokens
        paid = self.payer.rewards(
            [pair for pair, _ in work], texts, n_tokens=[s.n_tokens for s in samples], cap=cap
        )
        self._samples = gathered(list(zip(samples, paid, strict=True)))
        return summary(self._samples, k=own.k)

    def sampling(self) -> Sampling:
        """Return the sampling of an evaluation: the paper's, unless the run says otherwise."""
        own = self.config.evaluation
        assert own is not None
        return Sampling(
            temperature=own.temperature,
            top_p=own.top_p,
            max_tokens=own.max_tokens or max(self.config.caps.values()),
            seed=self.config.seed,
            template=template_hash(self.renderer.tokenizer.chat_template),
            prefill=self.config.prefill,
        )


def summary(samples: Sequence[tuple[Sample, Rewarded]], *, k: int) -> dict[str, Any]:
    """Return an evaluation's figures: pass rate with its 95 % interval over prompts, lengths."""
    by_prompt: dict[str, list[str]] = {}
    for sample, paid in samples:
        by_prompt.setdefault(sample.prompt_id, []).append(paid.status)
    rates = [
        pass_rate(n=sum(s != "unscored" for s in found), c=found.count("pass"))
        for found in by_prompt.values()
    ]
    interval = mean_interval(rates)
    n = max(1, len(samples))
    return {
        "n_prompts": len(by_prompt),
        "k": k,
        "pass_rate": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "completion_tokens": sum(s.n_tokens for s, _ in samples) / n,
        "truncated_fraction": sum(not s.is_finished for s, _ in samples) / n,
    }


def save_weights(trainer: Any, folder: Path, *, result: dict[str, Any] | None = None) -> None:
    """Write a policy in training as a model that loads by path; every process calls this.

    Args:
        trainer: whose model it is; adapters are added to the weights that they adapt.
        folder: replaced as a whole.
        result: of the evaluation that it was kept for.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    weights = {name: value.cpu() for name, value in whole_weights(model)}
    if not world().is_main_process:
        return
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    inner.save_pretrained(part, state_dict=weights)
    trainer.processing_class.save_pretrained(part)
    if result is not None:
        write_json(part / _RESULT, result)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
