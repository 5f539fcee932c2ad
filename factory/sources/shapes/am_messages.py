"""AM-DeepSeek-R1-Distilled: messages whose `info` holds reference answer, tests and source."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="AM-DeepSeek-R1-Distilled",
    datasets=("a-m-team/AM-DeepSeek-R1-Distilled-1.4M",),
    has=("messages", "messages[*].info"),
    chat="messages",
    gold=("messages[*].info.reference_answer", "messages[*].info.test_case"),
)
