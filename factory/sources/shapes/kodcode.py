"""KodCode-V1: questions with pytest files; the reference solution stays in the metadata."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="KodCode",
    datasets=("KodCode/KodCode-V1",),
    has=("question", "test", "solution"),
    lacks=("conversations",),
    prompt="question",
    gold="test",
    verifier="code",
)
