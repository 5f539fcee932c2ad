"""What every plug-in gets for free: the contract of verifiers and scores, run over all of them."""

from __future__ import annotations

import polars as pl
import pytest

from factory import plugins
from factory.records import TABLES, Item, Verdict
from factory.stages.scorer import Scorer, frame_of

GARBAGE = [
    "",
    " \n\t ",
    "<think>",
    "</think>",
    "<think></think>",
    "</think><think>",
    "\\boxed{",
    "\\boxed{}" * 50,
    "{" * 5000,
    "\x00\x01\x02",
    "\ufffe\u202e\u200b",
    "é中文日本語한국어" * 20,
    "```python\nprint(1)",
    "9" * 100_000,
    "a b " * 50_000,
    "\n" * 10_000,
    "\U0001f600" * 500,
    "ANSWER: " + "A" * 3000,
]
GOLDS: list[object] = [None, "", "5", "A", "see figure", "{}", "[", "\\frac{", {"x": 1}, "\x00"]


@pytest.mark.parametrize("name", plugins.names("verifiers"))
def test_a_verifier_never_raises_and_is_deterministic(name: str) -> None:
    module = plugins.load("verifiers", name)
    assert isinstance(module.VERSION, int)
    quick = getattr(module, "quick", None)
    for text in GARBAGE:
        for gold in GOLDS:
            item = Item(text=text, gold=gold)
            if quick is not None:
                first = quick(item)
                assert first is None or isinstance(first, Verdict)
                assert first == quick(item)
                if first is None:
                    continue  # the pool's turn: test_pool and the verifier's own tests
            elif len(text) > 1000 or gold not in (None, "5"):
                continue
            verdict = module.verify(item)
            assert isinstance(verdict, Verdict)
            assert (verdict.reward is None) == (verdict.status == "unscored")
            assert verdict.status != "unscored" or verdict.reason
            if quick is not None:
                assert verdict == first, "verify repeats the steps of quick"


# What needs a file of one's own (it has a ``ready``) has a test file of its own.
SCORES = [n for n in plugins.names("scores") if not hasattr(plugins.load("scores", n), "ready")]


@pytest.mark.parametrize("name", SCORES)
class TestScoreContract:
    texts = (
        "<think>\nI add 2 and 3. Wait, check: 5.\n</think>\n\nThe answer is \\boxed{5}.",
        "<think>我先算 2+3=5。</think>\n\n答案是 \\boxed{5}。",
        "no thinking at all, just a sentence of English words.",
        None,
        *[t.replace("\x00", "") for t in GARBAGE],
        "loop loop loop. " * 200,
    )

    def frame(self) -> pl.DataFrame:
        n = len(self.texts)
        return frame_of(
            list(self.texts),
            prompts=["What is 2 + 3?"] * n,
            target_languages=["en", "zh", None] * (n // 3) + ["en"] * (n % 3),
            extracted=["5", None] * (n // 2) + ["5"] * (n % 2),
        )

    def test_columns_height_and_kinds(self, name: str) -> None:
        module = plugins.load("scores", name)
        out = module.score(self.frame())
        assert out.columns == [*module.WRITES, *getattr(module, "LENDS", {})]
        assert out.height == len(self.texts)
        assert set(module.WRITES.values()) <= {"text", "int", "float", "bool"}
        Scorer([name]).score(self.frame())

    def test_null_in_null_out(self, name: str) -> None:
        out = Scorer([name]).score(frame_of([None, None], prompts=["a", None]))
        assert all(v is None for row in out.rows() for v in row)

    def test_rows_do_not_influence_each_other(self, name: str) -> None:
        scorer, frame = Scorer([name]), self.frame()
        whole = scorer.score(frame)
        halves = pl.concat([scorer.score(frame[:7]), scorer.score(frame[7:])])
        assert whole.equals(halves, null_equal=True)
        assert whole.reverse().equals(scorer.score(frame.reverse()), null_equal=True)

    def test_an_empty_frame(self, name: str) -> None:
        assert Scorer([name]).score(self.frame()[:0]).height == 0


def test_column_names_are_unique_over_all_scores_and_free_of_the_traces_own() -> None:
    scorer = Scorer(SCORES)
    assert not set(scorer.columns) & set(TABLES["traces"].columns)
