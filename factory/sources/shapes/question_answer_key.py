"""Questions whose `answer` holds keys alone: Polaris, AceReason-Math, AIME and many more."""

from factory.sources.shape import PROMPTS, Shape

SHAPE = Shape(
    name="question and answer key",
    datasets=("POLARIS-Project/Polaris-Dataset-53K", "nvidia/AceReason-Math", "math-ai/aime25"),
    has=("|".join(PROMPTS), "answer|final_answer"),
    keys=("answer|final_answer",),
    rank=-1,
    prompt=PROMPTS,
    gold=("answer", "final_answer"),
)
