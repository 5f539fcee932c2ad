"""Preference pairs beside a conversation: chosen and rejected are its next turn, two of them."""

from factory.sources.shape import CHATS, PROMPTS, Shape

SHAPE = Shape(
    name="conversation and preferred turns",
    datasets=("qihoo360/Light-R1-DPOData",),
    has=("|".join(CHATS), "chosen", "rejected"),
    lacks=PROMPTS,
    prompt=CHATS,
    each=("chosen", "rejected"),
)
