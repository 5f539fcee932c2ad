"""natural_reasoning: a list of responses, each with its model, and a reference answer."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="natural_reasoning",
    datasets=("facebook/natural_reasoning",),
    has=("question", "responses"),
    prompt="question",
    completion="responses",
    gold="reference_answer",
)
