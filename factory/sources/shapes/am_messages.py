"""AM-DeepSeek-R1-Distilled and AM-Thinking: turns whose `info` holds key, tests and source."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="AM-DeepSeek-R1-Distilled, AM-Thinking",
    datasets=("a-m-team/AM-DeepSeek-R1-Distilled-1.4M", "a-m-team/AM-Thinking-v1-Distilled"),
    has=("messages|conversations", "messages[*].info|conversations[*].info"),
    chat=("messages", "conversations"),
    gold=(
        "messages[*].info.reference_answer",
        "messages[*].info.test_case",
        "conversations[*].info.ground_truth",
        "conversations[*].info.test_case",
    ),
    model=("messages[-1].info.model_name", "conversations[-1].info.model_name", "model"),
    domain=("messages[-1].info.category", "conversations[-1].info.category", "category"),
)
