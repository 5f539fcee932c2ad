"""distilabel: instruction or problem, generation (one or grouped), model_name."""

from factory.sources.shape import GOLDS, PROMPTS, Shape

SHAPE = Shape(
    name="distilabel",
    has=("|".join(PROMPTS), "generation|generations", "model_name|distilabel_metadata"),
    prompt=PROMPTS,
    completion=("generation", "generations"),
    model="model_name",
    gold=GOLDS,
    key_gold=("answer", "solution"),
)
