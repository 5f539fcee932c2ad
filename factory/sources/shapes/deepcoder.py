"""DeepCoder-Preview: problems of programming and their tests in four forms; prompts."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="DeepCoder",
    datasets=("agentica-org/DeepCoder-Preview-Dataset",),
    has=("problem", "tests"),
    lacks=("response", "completion", "generation", "output", "generations"),
    prompt="problem",
    starter="starter_code",
    gold_fields=(("tests", "tests"), ("metadata", "metadata")),
    verifier="code",
)
