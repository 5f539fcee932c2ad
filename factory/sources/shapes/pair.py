"""A prompt and what a model wrote, under the usual names; thinking may stand apart."""

from factory.sources.shape import COMPLETIONS, GOLDS, PROMPTS, THINKINGS, Shape

SHAPE = Shape(
    name="prompt and completion",
    has=("|".join(PROMPTS), "|".join(COMPLETIONS)),
    rank=0,
    prompt=PROMPTS,
    completion=COMPLETIONS,
    thinking=THINKINGS,
    gold=GOLDS,
    key_gold=("answer", "final_answer", "solution"),
)
