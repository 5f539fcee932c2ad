"""AceCode-89K: a question and its assertions, beside what other models wrote; prompts."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="AceCode",
    datasets=("TIGER-Lab/AceCode-87K",),
    has=("question", "test_cases", "inferences"),
    prompt="question",
    gold_fields=(("test_list", "test_cases"),),
    verifier="code",
    copies=("inferences",),
)
