"""Our own export for verl: the completion stands in extra_info beside the trace's id."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="verl with completion",
    has=("prompt", "extra_info.completion"),
    rank=2,
    prompt="prompt",
    completion="extra_info.completion",
    gold="reward_model.ground_truth",
    domain="ability",
)
