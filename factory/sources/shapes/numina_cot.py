"""NuminaMath-CoT: a written solution, repeated as messages; the key stands in its box."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="NuminaMath-CoT",
    datasets=("AI-MO/NuminaMath-CoT", "AI-MO/NuminaMath-TIR"),
    has=("problem", "solution", "messages"),
    lacks=("generations", "generation", "reannotated_messages"),
    prompt="problem",
    completion="solution",
    gold="solution",
    gold_form="boxed",
    copies=("messages",),
)
