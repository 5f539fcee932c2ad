"""MegaScience and TextbookReasoning: a written answer beside the reference answer it came from."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="MegaScience",
    datasets=("MegaScience/MegaScience", "MegaScience/TextbookReasoning"),
    has=("question", "answer", "reference_answer", "subject"),
    written=("answer",),
    prompt="question",
    completion="answer",
    gold="reference_answer",
)
