"""CodeContests: descriptions of contest problems with three sets of tests; prompts."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="CodeContests",
    datasets=("deepmind/code_contests",),
    has=("description", "public_tests|private_tests|generated_tests"),
    prompt="description",
    gold_fields=(
        ("public_tests", "public_tests"),
        ("private_tests", "private_tests"),
        ("generated_tests", "generated_tests"),
    ),
    verifier="code",
    item="name",
    level=("cf_rating", "difficulty"),
)
