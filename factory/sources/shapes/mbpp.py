"""MBPP: a function in words and its assertions; prompts."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="MBPP",
    datasets=("google-research-datasets/mbpp",),
    has=("text|prompt", "code", "test_list"),
    prompt=("text", "prompt"),
    gold_fields=(("test_list", "test_list"), ("test_setup_code", "test_setup_code")),
    verifier="code",
)
