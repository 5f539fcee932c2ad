"""Open-Reasoner-Zero: a row is a list of turns, the second one holds the key."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="Open-Reasoner-Zero",
    datasets=("Open-Reasoner-Zero/orz_math_57k_collection",),
    has=("0.value", "1.ground_truth.value"),
    prompt="0.value",
    gold="1.ground_truth.value",
    copies=("0", "1"),
)
