"""AIME 2024: capital column names, the solution a written one."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="AIME",
    datasets=("Maxwell-Jia/AIME_2024", "HuggingFaceH4/aime_2024"),
    has=("problem", "answer", "id|url|year"),
    keys=("answer",),
    lacks=("generations", "generation", "level", "output", "completion", "response"),
    rank=0,
    prompt="problem",
    gold="answer",
)
