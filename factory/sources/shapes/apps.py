"""APPS and TACO: problems of programming with the inputs and outputs of their tests; prompts."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="APPS, TACO",
    datasets=("codeparrot/apps", "BAAI/TACO"),
    has=("question|problem|prompt", "input_output"),
    lacks=("response", "completion", "generation", "output"),
    prompt=("question", "problem", "prompt"),
    starter="starter_code",
    gold="input_output",
    verifier="code",
)
