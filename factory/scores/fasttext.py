"""Any fastText classifier as columns: quality, domain, toxicity, one's own.

The file is named by whoever asks (``--param fasttext.model=quality.bin``, or ``params:`` of a
recipe), so this score is measured only where it is asked for by name. A second classifier is a
plug-in file of one's own:

    # my/domain.py
    import polars as pl
    from factory.scores import fasttext

    VERSION, READS = 1, ("completion",)
    WRITES = {"domain": "text", "domain_probability": "float"}

    def score(df: pl.DataFrame) -> pl.DataFrame:
        found = fasttext.predict(df["completion"], "my/domain.bin")
        return found.select(domain="fasttext_label", domain_probability="fasttext_probability")

fastText (Joulin et al. 2016, 2017) reads a line: line breaks become spaces, as where such
classifiers are trained on documents.
"""

from __future__ import annotations

import functools
import hashlib
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from factory.errors import ConfigError
from factory.records import polars_schema

VERSION = 1
READS = ("completion", "reasoning", "answer", "prompt")
PARAMS = ("model", "label", "of")
BY_DEFAULT = False
"""It says nothing without a model: a run that names no scores leaves it out."""
WRITES = {
    "fasttext_label": "text",
    "fasttext_probability": "float",
    "fasttext_wanted": "float",
}
MEANINGS = {
    "fasttext_label": "label that a fastText classifier of one's own gives, without __label__",
    "fasttext_probability": "its probability, 0 to 1",
    "fasttext_wanted": "probability of the label that was asked for; NULL where none was",
}
_MAGIC, _NEWEST = 793712314, 12
# Magic, version, twelve settings and a rate; entries, words, labels, tokens, pruned n-grams.
_HEAD = struct.Struct("<2i12id3i2q")
_PREFIX = "__label__"


def ready(*, model: str = "", label: str = "", of: str = "completion") -> None:
    """Refuse what cannot be measured, before anything is.

    Raises:
        ConfigError: no model is named, it is no fastText classifier, it does not have the label,
            or there is no such column.
    """
    if not model:
        raise ConfigError(
            "the score fasttext needs a model",
            "name one: --param fasttext.model=FILE.bin, or params of the recipe",
        )
    if of not in READS:
        raise ConfigError(f"fasttext cannot read {of!r}", f"of: {', '.join(READS)}")
    labels = [name.removeprefix(_PREFIX) for name in _load(model).labels]
    if label and label.removeprefix(_PREFIX) not in labels:
        known = ", ".join(labels[:8]) + (", …" if len(labels) > 8 else "")
        raise ConfigError(f"{model} has no label {label!r}", f"it has: {known}")


def identify(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what names these parameters in the store: the digest of the model, not its path.

    >>> identify({"of": "answer"})
    {'of': 'answer'}
    """
    out = dict(params)
    if out.get("model"):
        with _path(str(out["model"])).open("rb") as handle:
            out["model"] = hashlib.file_digest(handle, "sha256").hexdigest()
    return out


def score(
    df: pl.DataFrame, *, model: str = "", label: str = "", of: str = "completion"
) -> pl.DataFrame:
    """Classify a column of each trace; null where it is null or blank, and without a model.

    Args:
        df: columns of ``READS``, text, N rows.
        model: a fastText classifier (``.bin``, ``.ftz``), or a folder that holds one.
        label: the label whose probability ``fasttext_wanted`` is, with or without ``__label__``.
        of: the column that is read.

    Returns:
        N rows with the columns of ``WRITES``.

    >>> df = pl.DataFrame({"completion": ["We add two and two."]})
    >>> score(df).row(0)
    (None, None, None)
    """
    return predict(df[of].cast(pl.String), model, label=label)


def predict(texts: pl.Series, model: str, *, label: str = "") -> pl.DataFrame:
    """Classify texts; the arguments and columns are those of ``score``, shape (N, 3)."""
    if not model:
        return pl.DataFrame({name: [None] * len(texts) for name in WRITES}, polars_schema(WRITES))
    classifier, wanted = _load(model), _PREFIX + label.removeprefix(_PREFIX)
    rows: list[tuple[str | None, float | None, float | None]] = []
    for text in texts.to_list():
        if not text or not text.strip():
            rows.append((None, None, None))
            continue
        # A NUL ends fastText's line, as a line break does.
        line = " ".join(text.replace("\0", " ").split())
        labels, chances = classifier.predict(line, k=-1 if label else 1)
        if not labels:
            rows.append((None, None, None))
            continue
        of_label = dict(zip(labels, map(_share, chances), strict=True))
        best = labels[0].removeprefix(_PREFIX)
        rows.append((best, _share(chances[0]), of_label.get(wanted) if label else None))
    return pl.DataFrame(rows, polars_schema(WRITES), orient="row")


def _share(chance: float) -> float:
    """Return a probability as such: fastText's sum of floats may be a little over 1."""
    return min(max(float(chance), 0.0), 1.0)


def _path(model: str) -> Path:
    path = Path(model).expanduser()
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in (".bin", ".ftz"))
        if len(files) != 1:
            raise ConfigError(
                f"{model} holds {len(files)} fastText models", "name the .bin or .ftz itself"
            )
        path = files[0]
    if not path.is_file():
        raise ConfigError(f"no fastText model {model!r}", "give the path of a .bin or .ftz")
    return path


def _load(model: str) -> _Classifier:
    path = _path(model)
    return _read(str(path), path.stat().st_mtime_ns)


class _Classifier(NamedTuple):
    labels: tuple[str, ...]
    predict: Any


@functools.lru_cache(maxsize=4)
def _read(path: str, _changed: int) -> _Classifier:
    import fasttext

    try:
        labels = _labels(path)
        classifier = fasttext.load_model(path)
    except (ValueError, RuntimeError, MemoryError, struct.error, IndexError) as error:
        raise ConfigError(
            f"{path} is no fastText classifier, or a part of one ({error})",
            "give a whole .bin or .ftz of a supervised model",
        ) from None
    return _Classifier(labels, classifier.predict)


def _labels(path: str) -> tuple[str, ...]:
    """Read the labels of a model, and whether its dictionary is whole.

    The library trusts what a file says of its sizes: it never comes back from a cut dictionary, and
    takes what it finds in memory for the rest of a cut matrix.
    """
    size = Path(path).stat().st_size
    if size < _HEAD.size:
        raise ValueError(f"{size} bytes")
    labels = []
    with (
        Path(path).open("rb") as handle,
        mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as raw,
    ):
        magic, version, *_, n_entries, _words, n_labels, _tokens, n_pruned = _HEAD.unpack_from(raw)
        if magic != _MAGIC or version > _NEWEST:
            raise ValueError(f"magic {magic}, version {version}")
        if not n_labels:
            raise ValueError("word vectors without labels")
        at = _HEAD.size
        for _ in range(n_entries):
            end = raw.find(b"\0", at)
            # Behind the word stand how often it was seen and whether it is a label.
            if end < 0 or end + 10 > size:
                raise ValueError("its dictionary is cut")
            if raw[end + 9]:
                labels.append(raw[at:end].decode(errors="replace"))
            at = end + 10
        at += 8 * max(n_pruned, 0)
        for _ in range(2):
            at = _behind_matrix(raw, at)
        if at > size:
            raise ValueError(f"{size} of {at} bytes")
    return tuple(labels)


def _behind_matrix(raw: mmap.mmap, at: int) -> int:
    """Return where a matrix of a model ends, by the sizes that stand before it."""
    if not raw[at]:
        rows, columns = struct.unpack_from("<2q", raw, at + 1)
        return int(at + 17 + 4 * rows * columns)
    has_norms, rows, _, n_codes = struct.unpack_from("<?2qi", raw, at + 1)
    at += 22 + n_codes
    for n_bytes in (0, rows) if has_norms else (0,):
        # A product quantiser: four sizes and 256 centroids, behind the codes of the norms.
        at += n_bytes
        at += 16 + 4 * 256 * struct.unpack_from("<i", raw, at)[0]
    return int(at)
