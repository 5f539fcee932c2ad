"""Dolphin-R1, reasoning: messages without the reply, which stands in two columns."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="Dolphin-R1",
    datasets=("cognitivecomputations/dolphin-r1",),
    has=("messages", "reasoning", "answer"),
    prompt="messages",
    thinking="reasoning",
    answer="answer",
)
