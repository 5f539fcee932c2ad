"""verl's rows: DAPO, Skywork-OR1, Eurus-2-RL, guru; the key in reward_model.ground_truth."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="verl",
    datasets=(
        "BytedTsinghua-SIA/DAPO-Math-17k",
        "Skywork/Skywork-OR1-RL-Data",
        "PRIME-RL/Eurus-2-RL-Data",
        "LLM360/guru-RL-92k",
    ),
    has=("prompt", "reward_model.ground_truth"),
    lacks=("completion",),
    prompt="prompt",
    gold="reward_model.ground_truth",
    domain=("ability", "data_source"),
)
