"""LiveCodeBench, code generation: public and private tests; prompts, out of every training set."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="LiveCodeBench",
    datasets=("livecodebench/code_generation_lite",),
    has=("question_content", "public_test_cases|private_test_cases"),
    prompt="question_content",
    starter="starter_code",
    gold_fields=(
        ("public_test_cases", "public_test_cases"),
        ("private_test_cases", "private_test_cases"),
        ("metadata", "metadata"),
    ),
    verifier="code",
    split=("split", "=test"),
)
