"""AM-DeepSeek-Distilled-40M: question, model and its answer, with the answer key apart."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="AM-DeepSeek-Distilled-40M",
    datasets=("a-m-team/AM-DeepSeek-Distilled-40M",),
    has=("question", "answer", "question_source"),
    marked=("answer",),
    prompt="question",
    completion="answer",
    gold=("ground_truth", "reference_answer"),
    domain=("category",),
    level=("pass_rate",),
)
