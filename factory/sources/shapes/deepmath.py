"""DeepMath-103K: three R1 solutions per question."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="DeepMath-103K",
    datasets=("zwhe99/DeepMath-103K",),
    has=("question", "final_answer", "r1_solution_1"),
    prompt="question",
    each=("r1_solution_1", "r1_solution_2", "r1_solution_3"),
    gold="final_answer",
    domain="topic",
)
