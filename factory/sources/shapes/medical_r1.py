"""Medical-R1-Distill-Data: columns named after the fields of the API."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="Medical-R1-Distill",
    datasets=("FreedomIntelligence/Medical-R1-Distill-Data",),
    has=("question", "reasoning (reasoning_content)", "response (content)"),
    prompt="question",
    thinking="reasoning (reasoning_content)",
    answer="response (content)",
)
