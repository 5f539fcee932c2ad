"""LeetCodeDataset: a described problem, code to complete, and `check(candidate)`; prompts."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="LeetCodeDataset",
    datasets=("newfacade/LeetCodeDataset",),
    has=("problem_description", "test", "entry_point"),
    rank=2,
    prompt="problem_description",
    starter="starter_code",
    gold_fields=(("test", "test"), ("entry_point", "entry_point"), ("setup", "prompt")),
    verifier="code",
    copies=("completion", "query", "response"),
)
