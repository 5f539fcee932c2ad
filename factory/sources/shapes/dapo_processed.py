"""DAPO-Math-17k-Processed: a plain prompt whose solution is the key."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="DAPO-Math-Processed",
    datasets=("open-r1/DAPO-Math-17k-Processed",),
    has=("prompt", "solution", "reward_model.ground_truth"),
    rank=2,
    prompt="prompt",
    gold=("reward_model.ground_truth", "solution"),
    copies=("source_prompt",),
)
