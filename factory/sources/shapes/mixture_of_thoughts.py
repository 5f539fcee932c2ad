"""Mixture-of-Thoughts and SYNTHETIC-1-SFT: messages with a count or a score."""

from factory.sources.shape import GOLDS, Shape

SHAPE = Shape(
    name="Mixture-of-Thoughts, SYNTHETIC-SFT",
    datasets=(
        "open-r1/Mixture-of-Thoughts",
        "PrimeIntellect/SYNTHETIC-1-SFT-Data",
        "PrimeIntellect/SYNTHETIC-2-SFT-verified",
    ),
    has=("messages", "num_tokens|task_type"),
    lacks=("chosen", "generations"),
    rank=0,
    chat="messages",
    gold=GOLDS,
    copies=("prompt", "problem"),
)
