"""UltraFeedback: a list of completions, each with its model."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="UltraFeedback",
    datasets=("openbmb/UltraFeedback",),
    has=("instruction", "completions"),
    prompt="instruction",
    completion="completions",
)
