"""Reinforcement learning with TRL's GRPOTrainer: R1-Zero and the reasoning stage.

The policy's rollouts are traces in the store; rewards and their parts are tables beside them. A
finished run writes ``run.json`` last, and the same call again returns at once; a killed run goes on
from its last whole checkpoint, its reference model included. A loss or gradient that is no number
stops the run before the weights move. Completions that we could not judge are masked.

The parts stand in a line, and each knows only those before it: ``config`` (what is asked for) →
``rollout`` (prompts into samples) → ``reward`` (samples into rewards) → ``record`` (both into the
store) → ``trainer`` (TRL, which calls a rollout and hands figures to the record). With several
processes each samples and rewards its own part; the first records what is gathered from all.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distill.devices import has_cuda, of_main, settle, world
from distill.grpo.config import (
    GrpoConfig,
    Pair,
    inputs_of,
    plain,
    settings_of,
    trl_arguments,
    trl_values,
)
from distill.grpo.difficulty import banded
from distill.grpo.evaluation import Evaluator, development_pairs
from distill.grpo.groups import Rollout
from distill.grpo.record import Recorder, StepLog
from distill.grpo.reward import Payer
from distill.grpo.rollout import (
    ColocatedSampler,
    CpuSampler,
    Keys,
    Renderer,
    Sampler,
    policy_tokenizer,
    sample_indices,
)
from distill.grpo.trainer import make_trainer, spent_before
from distill.launch import wrapper_of
from distill.presets import preset
from distill.rewards import route_of
from distill.runs import DeviceTime, Spent, device_time, finished, write_run
from distill.student import context_of, split_revision
from distill.training import (
    mark_of,
    quiet,
    remove_checkpoints,
    resumable,
    save_trained,
)
from factory import model_files
from factory.errors import ConfigError, UsageError
from factory.records import Sampling
from factory.store import Store
from factory.store.durable import replacing

__all__ = ["GrpoConfig", "grpo", "inputs_of_run", "sample_indices", "trl_values"]


def grpo(
    config: GrpoConfig,
    pairs: Sequence[Pair],
    store: Store,
    *,
    say: Callable[[str], None] = print,
    lend: Callable[[], Any] | None = None,
    restart: bool = False,
) -> Path:
    """Train, or return at once where this run is finished already.

    Args:
        config: what to train, and how.
        pairs: prompts with their golds.
        store: where rollouts go.
        say: takes short lines of progress.
        lend: gives an engine of the base's shape for a run on a CPU; None starts one.
        restart: remove the checkpoints that are there, and begin at the first step.

    Returns:
        ``config.out``: safetensors, tokenizer and template, loadable by path.

    Raises:
        ConfigError: the ``trl`` block does not fit, or ``n_devices`` is not what trains.
        UsageError: no prompts; checkpoints of other settings are there.
        FactoryError: loss or gradient is no number; the reward-hacking monitor stopped the run;
            no weights were written.
        EngineError: the sampler does not take the weights.
    """
    if not pairs:
        raise UsageError("there are no prompts to train on", "check the source")
    processes, say = world(), of_main(say)
    config = config.model_copy(update={"n_devices": config.n_devices or processes.num_processes})
    pairs, development, inputs = _asked(config, pairs, store, say=say)
    values = trl_values(config)
    if finished(config.out, inputs=inputs):
        return config.out
    if processes.num_processes != config.n_devices:
        raise ConfigError(
            f"n_devices is {config.n_devices}, but {processes.num_processes} processes train",
            f"set n_devices={processes.num_processes}, or start as many processes",
        )
    quiet()
    settle(cuda=has_cuda())
    mark = mark_of(inputs, settings_of(config, values, n_prompts=len(pairs)))
    resume = resumable(config.out, mark=mark, restart=restart)
    is_main = processes.is_main_process
    with device_time(config.out, processes.num_processes, writes=is_main) as devices:
        results = _train(
            config, pairs, development, store, inputs, mark=mark, resume=resume, say=say,
            lend=lend, devices=devices,
        )  # fmt: skip
    if processes.is_main_process:
        settings = {**config.model_dump(mode="json"), "values": plain(values)}
        write_run(config.out, kind="grpo", inputs=inputs, config=settings, metrics=results)
        remove_checkpoints(config.out)
    return config.out


def inputs_of_run(config: GrpoConfig, pairs: Sequence[Pair], store: Store) -> str:
    """Return the hash of everything that shapes what ``grpo`` trains; nothing is begun."""
    return _asked(config, pairs, store, say=lambda _: None)[2]


def _asked(
    config: GrpoConfig, pairs: Sequence[Pair], store: Store, *, say: Callable[[str], None]
) -> tuple[list[Pair], list[Pair], str]:
    """Return the prompts to train on, those of evaluation, and the key of the run."""
    development = list(development_pairs(config.evaluation)) if config.evaluation else []
    trained = _for_training(config, pairs, development, store, say=say)
    return trained, development, inputs_of(config, trained, trl_values(config))


def _for_training(
    config: GrpoConfig,
    pairs: Sequence[Pair],
    development: Sequence[Pair],
    store: Store,
    *,
    say: Callable[[str], None],
) -> list[Pair]:
    """Return the prompts without those of the development set, in the run's difficulty band."""
    asked = {prompt.prompt_id for prompt, _ in development}
    kept = [pair for pair in pairs if pair[0].prompt_id not in asked]
    if len(kept) < len(pairs):
        say(f"grpo {config.out.name}: {len(pairs) - len(kept)} prompts are those of evaluation")
    if not kept:
        raise UsageError("all prompts are those of evaluation", "name others to train on")
    _require_models(config, kept, say=say)
    # A band is of pass rates: it says nothing of prompts that nothing is passed by.
    others = [pair for pair in kept if config.is_routed and not pair[1].gold]
    rest = [pair for pair in kept if not (config.is_routed and not pair[1].gold)]
    return [*(banded(config, rest, store, say=say) if rest else []), *others]


def _require_models(
    config: GrpoConfig, pairs: Sequence[Pair], *, say: Callable[[str], None]
) -> None:  # fmt: skip
    """Refuse prompts that a reward model would have to judge which is not there."""
    if not config.is_routed:
        return
    counts = Counter(route_of(s.gold, s.domain) for _, s in pairs)
    folders = config.reward_models.folders if config.reward_models is not None else {}
    for kind, n in counts.items():
        if kind != "reasoning" and config.weights.get(kind) and folders.get(kind) is None:
            raise ConfigError(
                f"{n} prompts have no gold and need the {kind} model",
                f"give reward_models.{kind}, a folder of distill reward-model, or drop them",
            )
    said = ", ".join(f"{n} {kind}" for kind, n in counts.most_common())
    say(f"grpo {config.out.name}: prompts by their reward: {said}")


def _train(
    config: GrpoConfig,
    pairs: Sequence[Pair],
    development: Sequence[Pair],
    store: Store,
    inputs: str,
    *,
    mark: str,
    resume: Path | None,
    say: Callable[[str], None],
    lend: Callable[[], Any] | None,
    devices: DeviceTime,
) -> dict[str, Any]:
    """Train one attempt, leave the model in ``config.out``, and return its figures."""
    spent, cuda, values = Spent(), has_cuda(), trl_values(config)
    _require_context(config)
    arguments = trl_arguments(config, values, cuda=cuda)
    tokenizer = policy_tokenizer(config)
    renderer = Renderer(tokenizer, prefill=config.prefill)
    pairs = _short_enough(config, pairs, renderer, say=say)
    sampling = _sampling(config, values, tokenizer)
    keys = Keys(
        rl_run=f"{config.out.name}-{inputs[:12]}",
        attempt=_next_attempt(config.out),
        model=config.out.name,
        sampling_id=sampling.sampling_id,
    )
    with contextlib.ExitStack() as stack:
        results: dict[str, Any] = {}
        record = None
        if world().is_main_process:
            record = Recorder(store, keys, sampling)
            stack.callback(record.close, results)
            record.prompts([*pairs, *development])
        sampler = _sampler(config, lend, cuda=cuda)
        stack.callback(sampler.close)
        log = StepLog(
            config.out.name, record, spent, say=say, on_alarm=config.on_alarm,
            is_routed=config.is_routed,
        )  # fmt: skip
        payer = _payer(config)
        rollout = Rollout(
            pairs, keys, renderer=renderer, sampler=sampler, payer=payer, record=record,
            caps=config.caps, group_size=int(values["num_generations"]), seed=config.seed,
            control=config.control, rehearsed=_dialect(config) if config.rehearsal else None,
            resample=config.rounds,
        )  # fmt: skip
        evaluator = Evaluator(
            config, development, keys, renderer=renderer, sampler=sampler, payer=payer,
            record=record, say=say,
        )  # fmt: skip
        trainer = make_trainer(
            config, tokenizer=tokenizer, arguments=arguments, rollout=rollout, log=log, spent=spent,
            mark=mark, evaluator=evaluator,
        )  # fmt: skip
        if resume is not None:
            say(f"grpo {config.out.name}: going on from {resume.name}")
        # Starting an engine is no training: budgets and costs begin here.
        spent.begin(before=spent_before(resume) if resume else 0.0)
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        save_trained(trainer, tokenizer, config.out)
        results |= _results(trainer.state, keys, log, spent, nats=sampler.worst_nats)
        results["evaluations"] = evaluator.results
        results["device_s"] = devices.total_s
        results |= {name: round(s, 2) for name, s in rollout.seconds.items()}
        results |= {"wrapper": wrapper_of(trainer), "processes": world().num_processes}
        results |= {"resumed_from": resume.name if resume else None, "n_prompts": len(pairs)}
    return results


def _require_context(config: GrpoConfig) -> None:
    context = context_of(config.base)
    if 0 < context < config.longest:
        raise ConfigError(
            f"prompts of {config.max_prompt_tokens} tokens and completions of "
            f"{max(config.caps.values())} do not fit into the model's context of {context}",
            "lower length_caps or max_prompt_tokens, or take a base whose config.json allows more",
        )


def _short_enough(
    config: GrpoConfig, pairs: Sequence[Pair], renderer: Renderer, *, say: Callable[[str], None]
) -> list[Pair]:
    limit = config.max_prompt_tokens
    kept = [p for p in pairs if len(renderer.tokens(p[0].messages)) <= limit]
    if len(kept) < len(pairs):
        left = len(pairs) - len(kept)
        say(f"grpo {config.out.name}: {left} prompts over {limit} tokens left out")
    if not kept:
        raise UsageError(f"no prompt of at most {limit} tokens", "raise max_prompt_tokens")
    return kept


def _sampling(config: GrpoConfig, values: dict[str, Any], tokenizer: Any) -> Sampling:
    return Sampling(
        temperature=float(values["temperature"]),
        max_tokens=max(config.caps.values()),
        top_p=float(values.get("top_p", 1.0)),
        seed=config.seed,
        template=model_files.template_hash(tokenizer.chat_template),
        prefill=config.prefill,
    )


def _next_attempt(out: Path) -> int:
    """Return how many times the run was started, this time included; the first process counts."""
    from accelerate.utils import broadcast_object_list

    counted = [0]
    if world().is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        path = out / "attempts.json"
        before = json.loads(path.read_text())["attempts"] if path.is_file() else 0
        counted = [int(before) + 1]
        with replacing(path) as part:
            part.write_text(json.dumps({"attempts": counted[0]}))
    return int(broadcast_object_list(counted)[0])


def _dialect(config: GrpoConfig) -> str:
    return config.dialect or preset(config.preset).dialect


def _payer(config: GrpoConfig) -> Payer:
    # R1-Zero's template asks for <answer> tags and for no box: what it asked for is paid.
    template = config.template or preset(config.preset).template
    mode = "auto" if template == "r1_zero" else None
    return Payer(
        config.weights, dialect=_dialect(config), mode=mode, n_workers=config.n_workers,
        overlong_buffer=config.buffer,
        models=config.reward_models.folders if config.reward_models is not None else None,
    )  # fmt: skip


def _sampler(config: GrpoConfig, lend: Callable[[], Any] | None, *, cuda: bool) -> Sampler:
    if cuda:
        return ColocatedSampler()
    name, revision = split_revision(config.base)
    return CpuSampler(
        name,
        revision=revision,
        max_model_len=config.longest,
        max_num_seqs=256,
        engine=lend() if lend is not None else None,
    )


def _results(
    state: Any, keys: Keys, log: StepLog, spent: Spent, *, nats: float | None
) -> dict[str, Any]:
    steps = [e for e in state.log_history if "reward" in e]
    return {
        "steps": state.global_step,
        "attempts": keys.attempt,
        "rl_run": keys.rl_run,
        "first_reward": steps[0]["reward"] if steps else None,
        "last_reward": steps[-1]["reward"] if steps else None,
        "alarms": log.alarms,
        "weights_apart_nats": nats,
        "cpu_s": round(spent.cpu_s, 2),
        "setup_cpu_s": round(spent.setup_cpu_s, 2),
        "wall_s": round(spent.wall_s, 2),
    }
