"""Keys: 128-bit BLAKE2b of canonical JSON, as 32 hexadecimal characters.

A key can be computed before the work is done, and it never changes. Canonical JSON: keys
sorted, no white space, fields that are unset (None) left out of objects, integers and floats
distinct (``1`` is not ``1.0``), text in Unicode NFC, no NaN or infinity.

What is never in a key: engine kind, number of GPUs, batch size, host, time.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence

KEY_CHARS = 32
_ENCODER = json.JSONEncoder(
    sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
)


def canonical_json(value: object) -> str:
    """Return the one JSON text that stands for ``value``.

    Args:
        value: dicts with string keys, lists, tuples, strings, ints, finite floats, bools, None.

    Raises:
        TypeError: a value or a dict key of another type.
        ValueError: NaN or infinity, or two keys that become equal under NFC.

    >>> canonical_json({"b": 1, "a": 1.0, "unset": None})
    '{"a":1.0,"b":1}'
    """
    return _ENCODER.encode(_canonical(value))


def _canonical(value: object) -> object:
    # Exact types first: to ask for a Mapping or a Sequence costs more than all the rest.
    if value is None or type(value) is bool or type(value) is int:
        return value
    if type(value) is str and value.isascii():
        return value
    if type(value) is list:
        return [_canonical(item) for item in value]
    if isinstance(value, str):
        text = str(value)
        return text if text.isascii() else unicodedata.normalize("NFC", text)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value!r} cannot be part of a key: only finite numbers can")
        # -0.0 and 0.0 are the same setting.
        return float(value) + 0.0
    if type(value) is dict or isinstance(value, Mapping):
        out: dict[str, object] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"keys of an object must be text, not {type(key).__name__}")
            if item is None:
                continue
            name = str(_canonical(key))
            if name in out:
                raise ValueError(f"two fields named {name!r} after Unicode normalisation")
            out[name] = _canonical(item)
        return out
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_canonical(item) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be part of a key")


def key_of(value: object) -> str:
    """Return the 32-character key of ``value``.

    >>> key_of({"a": 1}) == key_of({"b": None, "a": 1})
    True
    >>> key_of(1) == key_of(1.0)
    False
    """
    return key_of_json(canonical_json(value))


def key_of_json(text: str) -> str:
    """Return the key of what ``canonical_json`` wrote.

    >>> key_of_json(canonical_json({"a": 1})) == key_of({"a": 1})
    True
    """
    # surrogatepass: a lone surrogate in broken input must not stop a run.
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=KEY_CHARS // 2).hexdigest()


_last_hash = ("", hashlib.blake2b(digest_size=KEY_CHARS // 2).hexdigest())


def text_hash(text: str) -> str:
    """Return the 32-character hash of the text exactly as it is (no normalisation).

    >>> text_hash("\\u00e9") == text_hash("e\\u0301")
    False
    """
    # The key of a trace and its row ask for one text in a row. It is known again as an object: a
    # cache by value would hash it, and compare it, by itself.
    global _last_hash
    known, found = _last_hash
    if known is not text:
        data = text.encode("utf-8", "surrogatepass")
        found = hashlib.blake2b(data, digest_size=KEY_CHARS // 2).hexdigest()
        _last_hash = (text, found)
    return found


def prompt_id(messages: Sequence[Mapping[str, object]]) -> str:
    """Return the key of a prompt: of its messages alone.

    >>> len(prompt_id([{"role": "user", "content": "2+2?"}]))
    32
    """
    return key_of(list(messages))


def trace_id(
    *, prompt_id: str, model: str, revision: str, sampling_id: str, sample_index: int
) -> str:
    """Return the key of one completion, before it is made.

    Args:
        prompt_id: key of the prompt.
        model: name of the model as the user gave it.
        revision: commit of a hub model, digest of a local one, label of an API model,
            ``run_id@step#attempt`` of an RL policy.
        sampling_id: key of the sampling.
        sample_index: 0-based index of the sample among those of its prompt.
    """
    return key_of([prompt_id, f"{model}@{revision}", sampling_id, sample_index])


def trace_ids(*, prompt_id: str, model: str, revision: str, sampling_id: str, n: int) -> list[str]:
    """Return the keys of samples 0 to n - 1 of a prompt: ``trace_id`` of each, ten times faster.

    >>> names = {"prompt_id": "a", "model": "m", "revision": "r", "sampling_id": "s"}
    >>> trace_ids(**names, n=2) == [trace_id(**names, sample_index=i) for i in (0, 1)]
    True
    """
    head = canonical_json([prompt_id, f"{model}@{revision}", sampling_id])[:-1] + ","
    common = hashlib.blake2b(head.encode("utf-8", "surrogatepass"), digest_size=KEY_CHARS // 2)
    out = []
    for i in range(n):
        one = common.copy()
        one.update(b"%d]" % i)
        out.append(one.hexdigest())
    return out


def imported_trace_id(*, prompt_id: str, model: str, completion: str) -> str:
    """Return the key of a trace that somebody else made: a content hash stands for the sampling."""
    return key_of([prompt_id, f"{model}@imported", f"imported:{text_hash(completion)}", 0])


def source_id(*, prompt_id: str, source: str, item: str, correction: int = 0) -> str:
    """Return the key of one place that a prompt comes from, or of its correction."""
    return key_of([prompt_id, source, item, *([correction] if correction else [])])


def verdict_id(*, trace_id: str, gold_hash: str, options_hash: str) -> str:
    """Return the key of a verdict within its ``verifier@VERSION`` table."""
    return key_of([trace_id, gold_hash, options_hash])


def verdict_id_of(trace_id: str, hashes: tuple[str, str]) -> str:
    """Return ``verdict_id`` of hexadecimal keys (gold hash, options hash), ten times faster.

    >>> verdict_id_of("ab", ("cd", "ef")) == verdict_id(
    ...     trace_id="ab", gold_hash="cd", options_hash="ef")
    True
    """
    data = f'["{trace_id}","{hashes[0]}","{hashes[1]}"]'.encode()
    return hashlib.blake2b(data, digest_size=KEY_CHARS // 2).hexdigest()


def seed_of(*, base: int, trace_id: str) -> int:
    """Return the 31-bit sampling seed of one trace.

    Given with every request: unseeded requests depend on the order in which an engine sees them.

    >>> seed_of(base=0, trace_id="ab") == seed_of(base=0, trace_id="ab")
    True
    """
    digest = hashlib.blake2b(f"{base}:{trace_id}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") & 0x7FFFFFFF
