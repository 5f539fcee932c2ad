"""DROP: a passage and a question; scored by the F1 of words, against the best of several keys."""

import json
from collections.abc import Mapping
from typing import Any

from factory.sources.benchmarks import Benchmark, Question, Row
from factory.sources.benchmarks.readers import first, item, plain


def read(row: Row, seed: int) -> Question:
    """Read a row of DROP, in the form of its authors or with flat ``answers_spans``."""
    del seed
    if row.get("answers_spans"):
        keys = [list(plain(row["answers_spans"])["spans"])]
    else:
        others = plain(row.get("validated_answers")) or []
        if isinstance(others, Mapping):  # one mapping of lists, as the hub keeps it
            names = others.keys()
            others = [dict(zip(names, v, strict=True)) for v in zip(*others.values(), strict=True)]
        keys = [_spans(plain(a)) for a in (first(row, "answer"), *others)]
    unique = [list(k) for k in dict.fromkeys(tuple(map(str, k)) for k in keys if k)]
    if not unique:
        raise ValueError("no answer")
    return Question(
        text=f"Passage: {str(row['passage']).strip()}\nQuestion: {str(row['question']).strip()}",
        gold=json.dumps(unique, ensure_ascii=False),
        verifier="spans",
        domain="reading",
        item=item(row, "query_id", "id"),
    )


def _spans(answer: Mapping[str, Any]) -> list[str]:
    if str(answer.get("number") or ""):
        return [str(answer["number"])]
    if answer.get("spans"):
        return [str(s) for s in answer["spans"]]
    date = answer.get("date") or {}
    text = " ".join(str(date.get(part) or "") for part in ("day", "month", "year")).strip()
    return [" ".join(text.split())] if text else []


BENCHMARK = Benchmark(
    about="9,536 questions on passages (split validation)",
    dataset="ucinlp/drop",
    read=read,
    template="answer_line",
    k=4,
    licence="cc-by-sa-4.0",
    split="validation",
    of_paper=True,
    headline="reward",
)
