"""NeMo-Skills, output files: problem, generation, expected and predicted answer."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="NeMo-Skills",
    has=("problem|question", "generation", "expected_answer"),
    prompt=("problem", "question"),
    completion="generation",
    thinking=("reasoning_content",),
    gold="expected_answer",
    copies=("serialized_output",),
)
