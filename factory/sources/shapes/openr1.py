"""OpenR1-Math-220k: several generations per problem, with parallel lists of verdicts."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="OpenR1-Math",
    datasets=("open-r1/OpenR1-Math-220k", "open-r1/OpenR1-Math-Raw"),
    has=("problem", "generations"),
    prompt="problem",
    completion="generations",
    gold=("answer",),
    finish_reason=("finish_reasons",),
    copies=("messages",),
)
