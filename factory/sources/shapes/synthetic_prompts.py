"""SYNTHETIC-1 and SYNTHETIC-2, tasks: how to verify stands in JSON text."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="SYNTHETIC tasks",
    datasets=(
        "PrimeIntellect/SYNTHETIC-2",
        "PrimeIntellect/verifiable-math-problems",
        "open-r1/verifiable-coding-problems-python",
    ),
    has=("prompt", "verification_info"),
    lacks=("llm_response", "response", "messages"),
    prompt="prompt",
    gold=(
        "verification_info.ground_truth",
        "verification_info.answer.value",
        "verification_info.answer",
        "verification_info",
    ),
    domain="task_type",
)
