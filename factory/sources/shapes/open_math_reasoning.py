"""OpenMathReasoning and OpenMathInstruct: problem, generated solution, expected answer."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="OpenMathReasoning, OpenMathInstruct",
    datasets=("nvidia/OpenMathReasoning", "nvidia/OpenMathInstruct-2", "nvidia/OpenMathInstruct-1"),
    has=("problem|question", "generated_solution", "expected_answer"),
    prompt=("problem", "question"),
    completion="generated_solution",
    gold="expected_answer",
)
