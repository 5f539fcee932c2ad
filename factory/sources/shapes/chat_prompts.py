"""Messages that end with the user: prompts, with their gold beside them where there is one."""

from factory.sources.shape import CHATS, GOLDS, Shape

SHAPE = Shape(
    name="prompts as messages",
    datasets=("allenai/RLVR-GSM-MATH-IF-Mixed-Constraints", "allenai/RLVR-GSM"),
    has=("|".join(CHATS),),
    lacks=("chosen", "rejected"),
    rank=-1,
    prompt=CHATS,
    gold=GOLDS,
    key_gold=("answer", "final_answer", "label"),
)
