"""What the compiled kernels of the language measures read, as tuples of arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Model(NamedTuple):
    """A fastText model as the compiled functions read it; see ``fasttext_model.LanguageModel``.

    The Huffman tree of L labels has L leaves, then L - 1 inner nodes, the last one the root:
    ``left_N`` and ``right_N`` are the children of the inner nodes. On the way to a label lie the
    inner nodes ``turn_node`` from one offset of ``turn_first_L`` to the next, and the way turns
    right (sign 1) or left (-1). All are empty where the loss is softmax.
    """

    vectors: Floats
    output_NE: Floats
    gram_row: npt.NDArray[np.int32]
    word_key: npt.NDArray[np.uint64]
    word_row: npt.NDArray[np.int32]
    n_words: int
    min_chars: int
    max_chars: int
    left_N: npt.NDArray[np.int32]
    right_N: npt.NDArray[np.int32]
    turn_first_L: Ints
    turn_node: Ints
    turn_sign: Floats
    n_labels: int


class Ways(NamedTuple):
    """The part of a model that the probability of a single label takes."""

    output_NE: Floats
    turn_first_L: Ints
    turn_node: Ints
    turn_sign: Floats


class Table(NamedTuple):
    """Words seen so far: an open-addressing table of V slots and columns of C words.

    ``key_V`` is the word's 64-bit hash, ``code_V`` its number, -1 where the slot is free;
    ``size`` holds the number of words. ``lower_C`` is the hash in lower case, ``is_name_C``
    whether that differs, ``bits_C`` the languages of which it is a function word.
    """

    key_V: npt.NDArray[np.uint64]
    code_V: npt.NDArray[np.int32]
    size: Ints
    sum_CE: Floats
    count_C: Floats
    is_name_C: Bools
    lower_C: npt.NDArray[np.uint64]
    bits_C: npt.NDArray[np.uint32]


class Bits(NamedTuple):
    """Function words: hashes in an open-addressing table, 0 where free, and their languages."""

    key: npt.NDArray[np.uint64]
    bits: npt.NDArray[np.uint32]


class Rule(NamedTuple):
    """The numbers of ``foreign.SentenceRule``."""

    min_words: int
    window: int
    least_inside: int
    doubt: float
    inside_doubt: float
    window_doubt: float
    evidence: float
    inside_evidence: float
    per_function_word: float
    attractor: float
    least: float
    least_alone: float
    floor: float


class Labels(NamedTuple):
    """What is known of L labels and K lists of function words.

    ``family_L`` numbers the families of close varieties, ``bit_L`` is the bit of the label's list
    (0 for none), ``is_attractor_L`` says that unknown languages are drawn to it; ``label_K`` is the
    label of a list, -1 for none.
    """

    family_L: Ints
    bit_L: npt.NDArray[np.uint32]
    is_attractor_L: Bools
    label_K: Ints
