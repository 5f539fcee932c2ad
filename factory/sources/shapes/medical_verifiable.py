"""medical-o1-verifiable-problem: open questions with a true answer."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="medical-o1-verifiable-problem",
    datasets=("FreedomIntelligence/medical-o1-verifiable-problem",),
    has=("Open-ended Verifiable Question", "Ground-True Answer"),
    prompt="Open-ended Verifiable Question",
    gold="Ground-True Answer",
)
