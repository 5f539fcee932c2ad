"""s1K-1.1: the DeepSeek trajectory is the trace, Gemini's stays in the metadata."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="s1K-1.1",
    datasets=("simplescaling/s1K-1.1",),
    has=("question", "deepseek_thinking_trajectory", "deepseek_attempt"),
    prompt="question",
    thinking="deepseek_thinking_trajectory",
    answer="deepseek_attempt",
    gold="solution",
    domain="cot_type",
)
