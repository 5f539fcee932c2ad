"""HumanEval: the head of a function and its tests; prompts."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="HumanEval",
    datasets=("openai/openai_humaneval",),
    has=("prompt", "test", "entry_point"),
    lacks=("completion", "response"),
    prompt="prompt",
    gold_fields=(("test", "test"), ("entry_point", "entry_point")),
    verifier="code",
)
