"""IFEval: prompts with instructions that can be checked."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="IFEval",
    datasets=("google/IFEval",),
    has=("prompt", "instruction_id_list", "kwargs"),
    lacks=("completion", "response"),
    prompt="prompt",
    gold_fields=(("instruction_ids", "instruction_id_list"), ("kwargs", "kwargs")),
    verifier="constraints",
)
