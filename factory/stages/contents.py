"""What a release holds, counted while it is written: splits, rows to look at twice, personal data.

A filter says what is dropped. What is left may still be a trace that nobody verified, one without
thinking, or three words: such rows are no fault of a release, but whoever trains on it must know.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import polars as pl

from factory.dialects import DIALECTS, END_TOKENS
from factory.rows.texts import strings
from factory.sets import personal

FEW_WORDS = 5
REMARKS: Mapping[str, str] = {
    "no_verdict": "have no verdict: nobody knows whether they are right",
    "no_reasoning": "have no separate reasoning",
    "few_words": f"have at most {FEW_WORDS} words",
    "foreign_tags": "still carry tags of another format of thinking",
}
"""What is counted of the kept rows → how it is said."""
_OWN = ("think", "think_answer")
_FOREIGN = sorted(
    {
        mark
        for name, dialect in DIALECTS.items()
        if name not in _OWN
        for mark in (*dialect.think, *(dialect.answer or ()))
        if mark and mark not in END_TOKENS
    }
)
# A character of a script without spaces is a word of its own.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}"
_WORD = rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+"
_HEAD_CHARS = 400


@dataclass
class Contents:
    """Counts over the rows of a release; parts are added one after the other.

    Attributes:
        splits: split → rows; ``none`` where a prompt has none.
        remarks: key of ``REMARKS`` → rows.
        personal_data: kind of ``factory.sets.personal`` → how often it stands in the texts.
        n_personal_rows: rows with any of it, in the prompt or in the trace.
    """

    splits: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(REMARKS, 0)))
    personal_data: Counter[str] = field(default_factory=Counter)
    n_personal_rows: int = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Count rows: ``split``, ``status``, ``reasoning``, ``completion`` and ``messages``."""
        self.splits.update(dict(rows["split"].fill_null("none").value_counts().iter_rows()))
        text = pl.col("completion").fill_null("")
        # Tags are no words, and a text whose first characters hold more words than these is long.
        head = text.str.slice(0, _HEAD_CHARS).str.replace_all(r"</?think>", " ")
        found = rows.select(
            no_verdict=~pl.col("status").is_in(["pass", "fail"]).fill_null(False),
            no_reasoning=pl.col("reasoning").fill_null("").str.strip_chars() == "",
            few_words=(head.str.count_matches(_WORD) <= FEW_WORDS)
            & (text.str.len_chars() <= _HEAD_CHARS),
            foreign_tags=text.str.contains_any(_FOREIGN),
        )
        self.remarks.update({name: int(found[name].sum()) for name in REMARKS})
        self._add_personal(rows)

    def _add_personal(self, rows: pl.DataFrame) -> None:
        looked = rows.select(pl.col("messages").fill_null("[]"), pl.col("completion").fill_null(""))
        # In JSON a line break is two characters, and a word would begin with the second.
        plain = (
            pl.col("messages")
            .str.replace_all(r"\n", "  ", literal=True)
            .str.replace_all(r"\"", '"', literal=True)
        )
        # Each kind is only looked for where its quick look finds something: in solutions of
        # mathematics most kinds never do, and the forms cost a hundred times as much.
        hinted = looked.select(
            (plain.str.contains(hint) | pl.col("completion").str.contains(hint)).alias(kind)
            for kind, hint in personal.HINTS.items()
        )
        some = hinted.select(pl.any_horizontal(personal.KINDS)).to_series()
        for (prompt, text), flags in zip(
            looked.filter(some).iter_rows(), hinted.filter(some).iter_rows(), strict=True
        ):
            kinds = list(itertools.compress(personal.KINDS, flags))
            found = personal.count(text, kinds)
            for said in strings(orjson.loads(prompt)):
                found.update(personal.count(said, kinds))
            self.personal_data.update(found)
            self.n_personal_rows += bool(found)

    def row(self) -> dict[str, Any]:
        """Return it as a manifest holds it."""
        return {
            "splits": dict(sorted(self.splits.items())),
            "remarks": dict(self.remarks),
            "personal_data": {**dict(sorted(self.personal_data.items())),
                              "rows": self.n_personal_rows},
        }  # fmt: skip


def contents_lines(manifest: Mapping[str, Any]) -> list[str]:
    """Return what the terminal says of a release beside its number of rows.

    Args:
        manifest: of a release; one that was written before these were counted gives no line.

    >>> contents_lines({"rows": 9, "splits": {"train": 9}, "remarks": {"no_verdict": 2}})
    ['split: 9 train', 'of 9 kept rows 2 have no verdict: nobody knows whether they are right']
    """
    lines = []
    if "splits" in manifest:
        lines.append("split: " + ", ".join(f"{n:,} {s}" for s, n in manifest["splits"].items()))
    remarks = manifest.get("remarks", {})
    for name, what in REMARKS.items():
        if n := remarks.get(name):
            lines.append(f"of {manifest['rows']:,} kept rows {n:,} {what}")
    found = dict(manifest.get("personal_data", {}))
    n_rows = found.pop("rows", 0)
    if n_rows:
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in found.items())
        lines.append(f"of {manifest['rows']:,} kept rows {n_rows:,} hold personal data ({kinds})")
    return lines
