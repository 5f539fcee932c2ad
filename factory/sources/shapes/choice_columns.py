"""Multiple choice: one column for each option, A to D or opa to opd."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="multiple choice in columns",
    datasets=("openlifescienceai/medmcqa", "haonan-li/cmmlu", "ceval/ceval-exam"),
    has=("question|problem|prompt|question_stem|query", "A|opa", "B|opb", "answer|cop"),
    lacks=("generation", "generations", "completion", "response", "output", "messages"),
    rank=2,
    prompt=("question", "problem", "prompt", "question_stem", "query"),
    choice_columns=("A", "B", "C", "D", "E", "opa", "opb", "opc", "opd"),
    gold=("answer", "cop"),
    verifier="choice",
)
