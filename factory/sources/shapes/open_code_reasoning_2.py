"""OpenCodeReasoning-2: R1's generation; questions that are a mere dash are left out."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="OpenCodeReasoning-2",
    datasets=("nvidia/OpenCodeReasoning-2",),
    has=("question", "r1_generation"),
    prompt="question",
    completion="r1_generation",
    model="=DeepSeek-R1",
)
