"""Messages or conversations that end with the assistant; roles of any spelling."""

from factory.sources.shape import CHATS, GOLDS, THINKINGS, Shape

SHAPE = Shape(
    name="chat",
    has=("|".join(CHATS),),
    lacks=("chosen", "rejected"),
    rank=0,
    chat=CHATS,
    thinking=THINKINGS,
    gold=(*GOLDS, "messages[*].info.reference_answer", "conversations[*].info.reference_answer"),
    key_gold=("answer", "final_answer"),
)
