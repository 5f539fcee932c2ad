"""Chinese-DeepSeek-R1-Distill-110k: input, reasoning_content, content."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="Chinese-DeepSeek-R1-Distill",
    datasets=("Congliu/Chinese-DeepSeek-R1-Distill-data-110k",),
    has=("input|prompt|question|instruction", "reasoning_content", "content"),
    prompt=("input", "prompt", "question", "instruction"),
    thinking="reasoning_content",
    answer="content",
    domain=("repo_name",),
)
