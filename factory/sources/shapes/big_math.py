"""Big-Math: prompt or problem with a key, and how often a small model solves it."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="Big-Math",
    datasets=("SynthLabsAI/Big-Math-RL-Verified", "open-r1/Big-Math-RL-Verified-Processed"),
    has=("prompt|problem", "solution|answer", "llama8b_solve_rate"),
    prompt=("prompt", "problem"),
    gold=("answer", "solution"),
    level="llama8b_solve_rate",
)
