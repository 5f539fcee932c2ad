"""CLUEWSC 2020: whether a Chinese pronoun stands for a word, asked as yes or no."""

from collections.abc import Mapping

from factory.sources.benchmarks import Benchmark, Question, Row
from factory.sources.benchmarks.readers import chosen, item, plain


def read(row: Row, seed: int) -> Question:
    """Read a row of CLUEWSC; on the hub label 1 is false, in the set's own files it is text.

    Raises:
        ValueError: the row has no label (the test split).
    """
    del seed
    target = plain(row["target"])
    if not isinstance(target, Mapping):
        raise TypeError("target is no mapping")
    label = str(row["label"]).strip().lower()
    right = {"true": 0, "0": 0, "false": 1, "1": 1}.get(label)
    if right is None:
        raise ValueError(f"label {label}")
    asked = (
        f"{str(row['text']).strip()}\n\n上面的句子中，“{target['span2_text']}”"
        f"指的是“{target['span1_text']}”吗？"
    )
    return chosen(
        asked, ["是", "不是"], right, between="\n", language="zh", item=item(row, "idx", "id")
    )


BENCHMARK = Benchmark(
    about="304 Chinese pronouns, yes or no (split validation)",
    dataset="clue/clue",
    read=read,
    template="choice_zh",
    k=4,
    licence="none stated",
    config=("cluewsc2020",),
    split="validation",
    of_paper=True,
)
