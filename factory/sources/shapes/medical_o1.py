"""medical-o1-reasoning-SFT: Question, Complex_CoT, Response."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="medical-o1-reasoning-SFT",
    datasets=("FreedomIntelligence/medical-o1-reasoning-SFT",),
    has=("Question", "Complex_CoT", "Response"),
    prompt="Question",
    thinking="Complex_CoT",
    answer="Response",
)
