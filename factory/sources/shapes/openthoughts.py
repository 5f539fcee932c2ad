"""OpenThoughts 1 to 3, Bespoke-Stratos, Light-R1-SFT, AM-Thinking-v1: conversations."""

from factory.sources.shape import GOLDS, Shape

SHAPE = Shape(
    name="OpenThoughts, Bespoke-Stratos",
    datasets=(
        "open-thoughts/OpenThoughts-114k",
        "open-thoughts/OpenThoughts2-1M",
        "open-thoughts/OpenThoughts3-1.2M",
        "bespokelabs/Bespoke-Stratos-17k",
        "qihoo360/Light-R1-SFTData",
        "a-m-team/AM-Thinking-v1-Distilled",
    ),
    has=("conversations", "system|difficulty|domain|source|question"),
    lacks=("chosen", "rejected"),
    chat="conversations",
    rank=0,
    gold=(*GOLDS, "conversations[*].info.ground_truth", "conversations[*].info.reference_answer"),
    key_gold=("answer",),
    copies=("question", "problem", "prompt"),
)
