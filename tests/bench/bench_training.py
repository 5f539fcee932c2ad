"""Our SFT and GRPO beside plain TRL's on one model, in one process each, alternating.

    python -m tests.bench.bench_training --model FOLDER [--what sft grpo] [--steps 8] [--rounds 3]

SFT: tokens per second of an update, the same packs. GRPO: seconds of a step (sampling, rewards,
loss, update) with the same sampler: TRL's own ``rollout_func`` hook over the same vLLM engine and
its plain loop around it, a reward that costs nothing on both sides. Both leave the first step out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

N_ROWS, LENGTH = 96, 256


def rows(path: Path) -> Path:
    """Write rows of about a hundred tokens."""
    text = "I start with {i} and add one, so that I get {j}. " * 4
    lines = (
        {"prompt": f"What is {i} + 1?",
         "completion": f"<think>\n{text.format(i=i, j=i + 1)}\n</think>\n\n\\boxed{{{i + 1}}}"}
        for i in range(N_ROWS)
    )  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def clock() -> Any:
    """Return a callback that notes the time at the end of each update."""
    from transformers import TrainerCallback

    class _Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.at: list[float] = []

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.at.append(time.monotonic())

    return _Clock()


def seconds(at: list[float]) -> float:
    """Return the median seconds of an update, the first left out."""
    return statistics.median(b - a for a, b in itertools.pairwise(at))


def sft(model: str, work: Path, steps: int, *, ours: bool) -> float:
    """Return seconds of an update of SFT."""
    from distill import sft as module
    from distill.prepare import prepare
    from distill.sft import SftConfig, trl_arguments
    from distill.student import Student, load_tokenizer
    from distill.training_rows import TokenRows

    student = Student.make(
        {"base": model, "template": "own", "max_length": LENGTH,
         "trl": {"max_steps": steps, "per_device_train_batch_size": 1, "packing": True,
                 "save_strategy": "no", "bf16": True, "logging_steps": 1}}
    )  # fmt: skip
    config = SftConfig(student="x", data=rows(work / "rows.jsonl"), out=work / "out")
    watch = clock()
    if ours:
        progress = module.Progress.callback

        def with_clock(**options: Any) -> Any:
            made = progress(**options)
            made.on_step_end = watch.on_step_end
            return made

        module.Progress.callback = staticmethod(with_clock)  # type: ignore[method-assign]
        file = work / "student.yaml"
        file.write_text(json.dumps(student.model_dump(mode="json")))
        module.sft(config.model_copy(update={"student": str(file)}), say=lambda _: None)
        return seconds(watch.at)
    from transformers import AutoModelForCausalLM
    from trl import SFTTrainer

    prepare(student, config.data, work / "tokens", say=lambda _: None)
    tokenizer, template = load_tokenizer(student)
    arguments = trl_arguments(config, student, cuda=False)
    arguments.eos_token = template.end_of_turn
    # Plain TRL packs the rows itself; both see the same packs here, as lists in memory.
    from datasets import Dataset

    packs = TokenRows(work / "tokens", packed=True)
    data = Dataset.from_list([packs[i] for i in range(len(packs))])
    plain = AutoModelForCausalLM.from_pretrained(model, dtype="float32")
    trainer = SFTTrainer(
        model=plain, args=arguments, train_dataset=data, processing_class=tokenizer,
        callbacks=[watch],
    )  # fmt: skip
    trainer.train()
    return seconds(watch.at)


def grpo(model: str, work: Path, steps: int, *, ours: bool) -> float:
    """Return seconds of a step of GRPO with one sampler."""
    from distill.grpo import GrpoConfig, trl_values
    from distill.grpo import grpo as train
    from distill.grpo.config import trl_arguments
    from distill.grpo.rollout import CpuSampler, Renderer, policy_tokenizer
    from factory.engines.vllm_start import prepare_environment
    from factory.records import Prompt, PromptSource
    from factory.store import Store

    prepare_environment()
    pairs = []
    for i in range(64):
        prompt = Prompt.of(f"What is {i} + 1?")
        pairs.append((prompt, PromptSource(prompt_id=prompt.prompt_id, source="s", item=str(i),
                                           gold=str(i + 1), verifier="math")))  # fmt: skip
    config = GrpoConfig.make(
        {"base": model, "out": str(work / "out"), "preset": "r1_reasoning", "template": "own",
         "per_device": 8, "outputs_per_update": 8, "outputs_per_rollout": 8,
         "length_caps": {0: 48}, "max_prompt_tokens": 64, "n_workers": 1, "n_devices": 1,
         "rewards": {"accuracy": 1.0, "format": 1.0},
         "trl": {"max_steps": steps, "num_generations": 4, "beta": 0.0, "sync_ref_model": False,
                 "save_strategy": "no", "bf16": True}}
    )  # fmt: skip
    if ours:
        store = Store(work / "data")
        train(config, pairs, store, say=lambda _: None)
        found = store.table("rl_steps").read().sort("step")["wall_s"].to_list()
        return seconds(found)
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import GRPOTrainer

    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    torch.set_num_threads(1)
    tokenizer = policy_tokenizer(config)
    renderer = Renderer(tokenizer)
    sampler = CpuSampler(model, max_model_len=config.longest, max_num_seqs=256)
    seen = {"step": -1}

    def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
        if trainer.state.global_step != seen["step"]:
            weights = trainer.accelerator.unwrap_model(trainer.model).state_dict()
            sampler.engine.reload(list(weights.items()))
            seen["step"] = trainer.state.global_step
        ids = [renderer.tokens(pairs[int(p)][0].messages) for p in prompts]
        drawn = sampler.sample(trainer, ids, seeds=list(range(len(ids))), max_tokens=48)
        return {
            "prompt_ids": ids,
            "completion_ids": drawn.completion_ids,
            "logprobs": drawn.logprobs,
        }

    watch = clock()
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        reward_funcs=[lambda completions, **_: [float(len(c) % 3) for c in completions]],
        args=trl_arguments(config, trl_values(config), cuda=False),
        train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(len(pairs))]}),
        processing_class=tokenizer, rollout_func=rollout, callbacks=[watch],
    )  # fmt: skip
    trainer.train()
    return seconds(watch.at)


def main() -> None:
    """Alternate ours and plain TRL's, each in a process of its own; say the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--what", nargs="+", default=["sft", "grpo"])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if args.one:
        what, who = args.one
        with tempfile.TemporaryDirectory() as folder:
            run = {"sft": sft, "grpo": grpo}[what]
            print(json.dumps(run(args.model, Path(folder), args.steps, ours=who == "ours")))
        return
    for what in args.what:
        found: dict[str, list[float]] = {"ours": [], "trl": []}
        for _ in range(args.rounds):
            for who in found:
                words = [sys.executable, "-m", "tests.bench.bench_training", "--model", args.model,
                         "--steps", str(args.steps), "--one", what, who]  # fmt: skip
                done = subprocess.run(words, check=True, capture_output=True, text=True)
                found[who].append(json.loads(done.stdout.splitlines()[-1]))
                print(what, who, found[who][-1], "load", os.getloadavg()[0], flush=True)
        ours, theirs = min(found["ours"]), min(found["trl"])
        print(f"{what}: ours {ours:.2f} s, plain TRL {theirs:.2f} s an update; "
              f"speed {theirs / ours:.3f}, time {ours / theirs:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
