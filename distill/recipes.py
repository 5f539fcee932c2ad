"""The recipes of the ``distill`` command, printed from the classes that read them."""

from __future__ import annotations

from argparse import Namespace

from factory.cli.recipe import Kind, show


def kinds() -> dict[str, Kind]:
    """Return the recipes of the ``distill`` command.

    >>> list(kinds())
    ['grpo', 'student', 'preferences', 'reward-model']
    """
    from distill.grpo.config import GrpoConfig
    from distill.preferences import PreferencesConfig
    from distill.reward_model import RewardModelConfig
    from distill.student import Student

    return {
        "grpo": Kind(
            "Reinforcement learning on rule rewards: `distill grpo FILE`",
            GrpoConfig,
            {"base": "models/base", "out": "models/policy", "preset": "r1_zero", "per_device": 1},
        ),
        "student": Kind(
            "How a student is trained: `distill sft FILE DATA --out DIR`",
            Student,
            {
                "base": "Qwen/Qwen2.5-1.5B@COMMIT",
                "template": "qwen",
                "max_length": 32768,
                "batch_size": 64,
                "trl": {"learning_rate": 1e-4, "num_train_epochs": 2, "packing": True},
            },
        ),
        "preferences": Kind(
            "Pairs that a judge prefers in both orders: `distill preferences FILE`",
            PreferencesConfig,
            {
                "data": "answers.jsonl",
                "out": "pairs.jsonl",
                "engine": {"kind": "vllm", "model": "models/judge"},
                "sampling": {"temperature": 0.7, "max_tokens": 4096},
            },
        ),
        "reward-model": Kind(
            "A helpful or a safety reward model: `distill reward-model FILE`",
            RewardModelConfig,
            {
                "kind": "helpful",
                "base": "Qwen/Qwen2.5-7B@COMMIT",
                "data": "pairs.jsonl",
                "out": "models/helpful",
                "template": "qwen",
            },
        ),
    }


def recipe(args: Namespace) -> int:
    """``distill recipe KIND``: print a commented example of a recipe."""
    return show(kinds()[args.kind])
