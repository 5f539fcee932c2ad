"""R1-Distill-SFT of ServiceNow: the re-annotated answer is the trace."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="R1-Distill-SFT",
    datasets=("ServiceNow-AI/R1-Distill-SFT",),
    has=("problem", "reannotated_assistant_content"),
    prompt="problem",
    completion="reannotated_assistant_content",
    gold="solution",
    gold_form="boxed",
    copies=("reannotated_messages", "messages"),
)
