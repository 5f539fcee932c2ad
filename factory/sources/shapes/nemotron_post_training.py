"""Nemotron-Post-Training v1 and v2: messages, a switch `reasoning`, and metadata as JSON text."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="Nemotron-Post-Training",
    datasets=(
        "nvidia/Nemotron-Post-Training-Dataset-v1",
        "nvidia/Nemotron-Post-Training-Dataset-v2",
    ),
    has=("messages", "generator|version|metadata", "category|reasoning"),
    chat="messages",
    gold=("metadata.expected_answer", "metadata.ground_truth"),
    model=("generator", "metadata.generator", "model"),
)
