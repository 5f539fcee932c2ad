r"""Instructions that many prompts share ("Please reason step by step …"): no sign of contamination.

A run of words at the beginning or at the end of many different items is no part of any of them. It
is cut out of a benchmark's texts before they are indexed, where it stands in a large share of the
rows on both sides, or is known, or was given. A text that is nothing but the run is an item, and so
is a run whose rests are all alike. Words are the folded ones of ``factory.sets.words``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from factory.sets.words import chunks, words_of

WordList = tuple[str, ...]
MIN_WORDS = 5
MIN_SHARE = 0.2
_MOST_WORDS = 400
_CUT = "instructioncut"
KNOWN = (
    "Please reason step by step, and put your final answer within \\boxed{}.",
    "Let's think step by step and output the final answer within \\boxed{}.",
    "Let's think step by step.",
    "Think step by step before answering.",
    "Please think step by step and then answer the question.",
    "Please put your final answer within \\boxed{}.",
    "Put your final answer within \\boxed{}.",
    "Solve the following math problem step by step. The last line of your response should be of "
    "the form Answer: $Answer (without quotes) where $Answer is the answer to the problem.",
    'Remember to put your answer on its own line after "Answer:".',
    "Solve the following math problem efficiently and clearly.",
    "Answer the following multiple choice question. The last line of your response should be of "
    "the following format: 'ANSWER: $LETTER' (without quotes) where LETTER is one of ABCD. Think "
    "step by step before answering.",
    "请通过逐步推理来解答问题，并把最终答案放置于\\boxed{}中。",
    "请一步步思考，并将最终答案放在\\boxed{}中。",
)
"""Instructions of well-known recipes and templates."""


def word_lists(texts: Sequence[str | None]) -> list[WordList]:
    """Return the folded words of each text.

    >>> word_lists(["Let x = 4.", None])
    [('let', 'x', '4'), ()]
    """
    out: list[WordList] = []
    for _, chunk in chunks(texts):
        words = words_of(chunk)
        for first, end in zip(words.first_D[:-1].tolist(), words.first_D[1:].tolist(), strict=True):
            out.append(tuple(words.phrase(first, end - first).split()))
    return out


def leading(texts: Iterable[WordList], least: int) -> set[WordList]:
    """Return runs with which at least so many different texts begin, each followed by more words.

    A run is as long as its texts go on alike: it ends where they begin to differ.

    >>> leading([("say", "it", "in", "a", "word", str(n)) for n in range(3)], 3)
    {('say', 'it', 'in', 'a', 'word')}
    """
    groups: dict[WordList, list[WordList]] = {}
    for text in set(texts):
        if len(text) > MIN_WORDS:
            groups.setdefault(text[:MIN_WORDS], []).append(text)
    found: set[WordList] = set()
    todo = [(run, group) for run, group in groups.items() if len(group) >= least]
    while todo:
        run, group = todo.pop()
        n = len(run)
        following = Counter(text[n] for text in group if len(text) > n + 1)
        if n == _MOST_WORDS or not following or following.most_common(1)[0][1] < 0.9 * len(group):
            found.add(run)
        if n == _MOST_WORDS:
            continue
        for word, count in following.items():
            if count >= max(least, len(group) / 3):
                some = [text for text in group if len(text) > n + 1 and text[n] == word]
                todo.append(((*run, word), some))
    return found


def shared(
    ours: Sequence[WordList], theirs: Sequence[WordList], *, n_rows: int | None = None
) -> list[WordList]:
    """Return the instructions that a large share of the texts on both sides begin or end with.

    Args:
        ours: texts to be checked.
        theirs: a benchmark's texts.
        n_rows: rows that the texts to be checked are of; default: one each.
    """
    ours, theirs = list(set(ours)), list(set(theirs))
    least = max(3, int(MIN_SHARE * (n_rows or len(ours)))), max(2, int(MIN_SHARE * len(theirs)))
    out: set[WordList] = set()
    for turned in (False, True):
        runs: set[WordList] = set()
        kept: list[WordList] = []
        mine, other = ([t[::-1] for t in side] if turned else side for side in (ours, theirs))
        for a in leading(mine, least[0]):
            for b in leading(other, least[1]):
                runs.add(_common(a, b))
        # Items that begin alike by chance ("How many …") make a run a little longer: the shorter
        # one is the instruction.
        for run in sorted(runs, key=len):
            if len(run) >= MIN_WORDS and not any(
                run[: len(r)] == r and len(run) - len(r) < MIN_WORDS for r in kept
            ):
                kept.append(run)
        out.update(run[::-1] if turned else run for run in kept)
    return sorted(out, key=len, reverse=True)


def _common(a: WordList, b: WordList) -> WordList:
    n = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[:n]


class Instructions:
    """Instructions to be cut out of texts.

    Args:
        runs: their words, such as of ``shared``.
        texts: instructions as they are written, ``KNOWN`` ones or a user's own.
    """

    def __init__(self, runs: Iterable[WordList] = (), texts: Sequence[str] = KNOWN) -> None:
        every = {*runs, *(words for words in word_lists(texts) if words)}
        self._runs = sorted(every, key=len, reverse=True)
        self._by_first: dict[str, list[WordList]] = {}
        for run in self._runs:
            self._by_first.setdefault(run[0], []).append(run)

    def without(self, words: WordList) -> WordList:
        """Return the words without instructions, wherever they stand; all of them if none is left.

        In the middle a word that stands nowhere else takes their place, so that no run of words
        spans the gap.

        >>> known = Instructions()
        >>> known.without(word_lists(["What is 2+2? Let's think step by step."])[0])
        ('what', 'is', '2', '2')
        """
        out: list[str] = []
        at = 0
        while at < len(words):
            runs = self._by_first.get(words[at], ())
            run = next((r for r in runs if words[at : at + len(r)] == r), None)
            if run is None:
                out.append(words[at])
                at += 1
            else:
                out.append(_CUT)
                at += len(run)
        while out and out[-1] == _CUT:
            out.pop()
        while out and out[0] == _CUT:
            out.pop(0)
        return tuple(out) or words

    def items(self, texts: Sequence[str]) -> list[str]:
        """Return a benchmark's texts without instructions; a text that holds none is unchanged."""
        out = []
        for text, words in zip(texts, word_lists(texts), strict=True):
            left = self.without(words)
            out.append(text if left == words else " ".join(left))
        return out

    def bare(self, texts: Sequence[str], *, below: int) -> Iterator[tuple[int, str]]:
        """Yield (number, text without its instructions) of texts that are then short.

        A benchmark's short item matches a text that equals it: with the instruction it would not.

        Args:
            texts: to be checked.
            below: words that make a text long.
        """
        longest = 40 * (below + max((len(run) for run in self._runs), default=0))
        some = [i for i, text in enumerate(texts) if len(text) <= longest]
        for i, words in zip(some, word_lists([texts[i] for i in some]), strict=True):
            left = self.without(words)
            if left != words and len(left) < below:
                yield i, " ".join(left)
