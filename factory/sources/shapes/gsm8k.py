"""GSM8K: the key follows #### in the written answer."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="GSM8K",
    datasets=("openai/gsm8k",),
    has=("question", "answer"),
    rank=2,
    prompt="question",
    gold="answer",
    gold_form="hashes",
)
