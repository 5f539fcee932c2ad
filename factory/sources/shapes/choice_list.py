"""Multiple choice: a list of options or letter to text; the right one by letter, number, text."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="multiple choice",
    datasets=("cais/mmlu", "TIGER-Lab/MMLU-Pro", "GBaker/MedQA-USMLE-4-options"),
    has=(
        "question|problem|prompt|question_stem|query",
        "options|choices",
        "answer_idx|answer|answerKey|answer_key|label|gold|correct_answer|answer_index",
    ),
    lacks=("generation", "generations", "completion", "response", "output", "messages"),
    rank=2,
    prompt=("question", "problem", "prompt", "question_stem", "query"),
    choices=("options", "choices"),
    gold=(
        "answer_idx",
        "answerKey",
        "answer_key",
        "answer",
        "gold",
        "correct_answer",
        "label",
        "answer_index",
    ),
    verifier="choice",
)
