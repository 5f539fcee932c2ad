"""glaive reasoning-v1-20m: prompt and response."""

from factory.sources.shape import GOLDS, THINKINGS, Shape

SHAPE = Shape(
    name="glaive reasoning",
    datasets=("glaiveai/reasoning-v1-20m",),
    has=("prompt", "response"),
    rank=0,
    lacks=("completion", "output", "generation", "chosen"),
    prompt="prompt",
    completion="response",
    thinking=THINKINGS,
    gold=GOLDS,
    key_gold="answer",
)
