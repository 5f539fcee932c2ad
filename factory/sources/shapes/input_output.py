"""Input and output: AceReason-1.1-SFT, OpenCodeReasoning, OpenScience; input: text or messages."""

from factory.sources.shape import THINKINGS, Shape

SHAPE = Shape(
    name="input and output",
    datasets=(
        "nvidia/AceReason-1.1-SFT",
        "nvidia/OpenCodeReasoning",
        "nvidia/Llama-Nemotron-Post-Training-Dataset",
        "nvidia/OpenScience",
    ),
    has=("input", "output"),
    lacks=("instruction", "prompt", "question", "problem"),
    rank=0,
    prompt="input",
    completion="output",
    thinking=THINKINGS,
    gold=("expected_answer", "ground_truth", "metadata.expected_answer"),
    copies=("solution",),
)
