"""KodCode-V1-SFT-R1: conversations, with the tests that the solution passed."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="KodCode (SFT)",
    datasets=("KodCode/KodCode-V1-SFT-R1", "KodCode/KodCode-V1-SFT-4o"),
    has=("conversations", "test"),
    chat="conversations",
    gold="test",
    verifier="code",
    copies=("question", "solution"),
)
