"""Multiple choice: the correct answer and the wrong ones in columns of their own (GPQA, SciQ)."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="multiple choice with distractors",
    datasets=("Idavidrein/gpqa", "allenai/sciq"),
    has=("question", "Correct Answer", "Incorrect Answer 1|distractor1"),
    rank=2,
    prompt="question",
    choice_columns=(
        "Correct Answer",
        "Incorrect Answer 1",
        "Incorrect Answer 2",
        "Incorrect Answer 3",
        "distractor1",
        "distractor2",
        "distractor3",
    ),
    gold="Correct Answer",
    verifier="choice",
)
