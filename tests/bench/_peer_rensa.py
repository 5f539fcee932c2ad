"""Run by rensa's own interpreter: deduplicate or score pairs, print JSON.

usage: python _peer_rensa.py TASK.json
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import rensa


def cpu() -> float:
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


def strings(text: str, n: int) -> list[str]:
    words = text.lower().split()
    if n == 1:
        return words
    return [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)] or [" ".join(words)]


def hashes(text: str, n: int) -> list[int]:
    words = text.lower().split()
    grams = zip(*(words[i:] for i in range(n)), strict=False)
    return [hash(g) & 0xFFFFFFFFFFFFFFFF for g in grams] or [hash(text) & 0xFFFFFFFFFFFFFFFF]


WAYS = {
    "RMinHash, 5-gram strings": (strings, "digest_matrix_from_token_sets", 5),
    "RMinHash rho, 5-gram strings": (strings, "digest_matrix_from_token_sets_rho", 5),
    "RMinHash, hashed 5-gram tuples": (hashes, "digest_matrix_from_token_hash_sets", 5),
    "RMinHash rho, hashed 5-gram tuples": (hashes, "digest_matrix_from_token_hash_sets_rho", 5),
    "RMinHash rho, single words": (strings, "digest_matrix_from_token_sets_rho", 1),
}


def dedup(texts: list[str], threshold: float) -> dict[str, object]:
    out = {}
    for name, (grams, method, n) in WAYS.items():
        begin = cpu()
        sets = [grams(text, n) for text in texts]
        matrix = getattr(rensa.RMinHash, method)(sets, 128, 42)
        lsh = rensa.RMinHashLSH(threshold, 128, 16)
        flags = lsh.query_duplicate_flags_matrix_one_shot(matrix)
        out[name] = {"cpu_s": cpu() - begin, "flags": [bool(f) for f in flags]}
    begin = cpu()
    one = rensa.RMinHashDeduplicator(threshold=threshold, num_perm=128, use_lsh=True)
    kept = one.add_pairs((str(i), strings(text, 5)) for i, text in enumerate(texts))
    flags = [not k for k in kept]
    out["RMinHashDeduplicator, 5-gram strings"] = {"cpu_s": cpu() - begin, "flags": flags}
    return out


def pairs(left: list[str], right: list[str], settings: list[list[float]]) -> dict[str, object]:
    """Say for each pair whether its sketches reach the threshold, as if LSH had missed none."""
    out = {}
    for n, threshold in settings:
        texts = [strings(text, int(n)) for text in [*left, *right]]
        sketches = rensa.RMinHash.from_token_sets(texts, 128, 42)
        a, b = sketches[: len(left)], sketches[len(left) :]
        out[f"{int(n)} {threshold}"] = [
            x.jaccard(y) >= threshold for x, y in zip(a, b, strict=True)
        ]
    return out


task = json.loads(Path(sys.argv[1]).read_text())
if task["do"] == "dedup":
    print(json.dumps(dedup(task["texts"], task["threshold"])))
else:
    print(json.dumps(pairs(task["left"], task["right"], task["settings"])))
