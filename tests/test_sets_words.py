"""Folding, words and n-grams: the fast way gives what the plain way gives."""

from __future__ import annotations

import random

import numpy as np
import pytest

from factory.sets.folding import fold_text, mask_template
from factory.sets.words import chunks, gram_hashes, words_of

FOLDED = [
    ("The answer is: 4.5", "the answer is 4 5", "punctuation separates"),
    ("x² + ½", "x2 1 2", "NFKC, and a character that folds to two words"),
    ("Ａ１ ｶﾞ", "a1 ガ", "wide and half-wide forms, a mark that joins"),
    ("e\u0301t\u00e9", "été", "composed and decomposed are one"),
    ("中文ab文", "中 文 ab 文", "each Han character is a word"),
    ("ひらカナ、漢", "ひ ら カ ナ 漢", "Kana too"),
    ("한국어 문장", "한국어 문장", "Hangul has spaces of its own"),
    ("don't", "don t", "an apostrophe separates"),
    ("naïve ΣΟΦΟΣ", "naïve σοφοσ", "no rule depends on the place in the word"),
    ("a\x00b\ud800c", "a b c", "a null byte and a lone surrogate separate"),
    ("", "", "nothing"),
    (" \n\t!?… ", "", "no word"),
]


@pytest.mark.parametrize(("text", "folded", "why"), FOLDED, ids=[row[2] for row in FOLDED])
def test_folding(text: str, folded: str, why: str) -> None:
    assert fold_text(text) == folded
    words = words_of(["x!", text, "y"])
    begin, end = int(words.first_D[1]), int(words.first_D[2])
    assert words.phrase(begin, end - begin) == folded


def test_the_fast_folding_equals_the_plain_one_on_any_characters() -> None:
    rng = random.Random(7)
    odd = [0x301, 0xBD, 0x4E00, 0x3042, 0x11A8, 0xAC00, 0x1100, 0x1161, 0xFB01, 0x2026, 0x130,
           0xDF, 0xE01, 0xE33, 0xD800, 0, 10, 0x1F600, 0x212B, 0x20000, 0xFF76, 0xFF9E, 0x3099,
           0x9BE, 0x9C7, 0x65, 0x41, 0x20]  # fmt: skip
    for _ in range(1500):
        texts = [
            "".join(
                chr(rng.choice(odd) if rng.random() < 0.8 else rng.randrange(0x110000))
                for _ in range(rng.randrange(9))
            )
            for _ in range(3)
        ]
        words = words_of(texts)
        for i, text in enumerate(texts):
            begin, end = int(words.first_D[i]), int(words.first_D[i + 1])
            assert words.phrase(begin, end - begin) == fold_text(text), ascii(text)


def test_equal_words_hash_alike_and_others_do_not() -> None:
    vocabulary = ["a" * k for k in range(1, 200)] + [f"word{k}" for k in range(5000)]
    vocabulary += ["q" * 8 + "x" * k for k in range(1, 90)] + ["é" * k for k in range(1, 50)]
    one = words_of([" ".join(vocabulary)]).hash_W
    two = words_of(["zz " + w for w in vocabulary]).hash_W[1::2]
    assert (one == two).all()
    assert len(np.unique(one)) == len(vocabulary)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 10, 13, 16, 21])
def test_n_grams_are_equal_exactly_where_the_words_are(n: int) -> None:
    rng = random.Random(n)
    words = [rng.choice("abc") for _ in range(400)]
    hashes = gram_hashes(words_of([" ".join(words)]).hash_W, n)
    plain = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
    assert len(hashes) == len(plain)
    assert len(np.unique(hashes)) == len(set(plain))


def test_chunks_cover_all_texts_in_order() -> None:
    texts = ["x" * k for k in range(1500)] + [None]
    seen = [text for begin, chunk in chunks(texts) for text in chunk]
    assert seen == [text or "" for text in texts]
    assert all(begin == sum(1 for _ in seen[:begin]) for begin, _ in chunks(texts))


def test_masking_joins_two_instances_of_a_template() -> None:
    one = "Mary has 12 apples and gives her brother 3. How many does she have?"
    two = "Tom has 1,250 apples and gives his brother 40. How many does he have?"
    assert mask_template(one) == mask_template(two)
