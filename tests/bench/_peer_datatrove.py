"""Run by datatrove's own interpreter: its MinHash over pairs, or its whole chain; print JSON.

usage: python _peer_datatrove.py TASK.json
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter, LanguageFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers.jsonl import JsonlWriter
from datatrove.utils.lid import FT176LID
from fasttext.FastText import _FastText


def cpu() -> float:
    own, kids = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + kids.ru_utime + kids.ru_stime


def run(steps: list[Any], folder: Path, name: str) -> None:
    LocalPipelineExecutor(
        pipeline=steps, logging_dir=str(folder / "logs" / name), skip_completed=False
    ).run()


def minhash(folder: Path, source: list[Any], config: MinhashConfig, sink: list[Any]) -> None:
    run([*source, MinhashDedupSignature(str(folder / "sig"), config=config)], folder, "1")
    for bucket in range(config.num_buckets):
        step = MinhashDedupBuckets(str(folder / "sig"), str(folder / "buckets"), config=config)
        step.run(None, bucket, config.num_buckets)
    run(
        [
            MinhashDedupCluster(
                str(folder / "buckets"), str(folder / "remove"), config=config, save_cluster_id=True
            )
        ],
        folder,
        "3",
    )
    run(
        [*source, MinhashDedupFilter(str(folder / "remove"), load_cluster_ids=True), *sink],
        folder,
        "4",
    )


def pairs(left: list[str], right: list[str]) -> list[bool]:
    """Same cluster or not, by its default settings (5-grams, 14 buckets of 8)."""
    out = []
    config = MinhashConfig()
    with tempfile.TemporaryDirectory() as name:
        step = MinhashDedupSignature(name, config=config)
        for a, b in zip(left, right, strict=True):
            shingles = [step.get_shingles(text) for text in (a, b)]
            if any(s.size == 0 for s in shingles):
                out.append(False)
                continue
            one, two = (step.get_signature(s) for s in shingles)
            out.append(any(x == y for x, y in zip(one, two, strict=True)))
    return out


def chain(path: str, lid: str) -> dict[str, object]:
    # Its own model would be downloaded; this one is the same model, compressed.
    model = _FastText(lid)
    FT176LID.model = property(lambda self: model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The models and tokenizers are loaded before the clock starts.
        for doc in [Document(text="A short text to load the models with.", id="0")]:
            LanguageFilter().filter(doc)
            GopherRepetitionFilter().filter(doc)
            GopherQualityFilter().filter(doc)
        begin = cpu()
        clean = folder / "clean"
        reader = JsonlReader(
            str(Path(path).parent), glob_pattern=Path(path).name, text_key="completion"
        )
        run(
            [reader, LanguageFilter(), GopherRepetitionFilter(), GopherQualityFilter(),
             JsonlWriter(str(clean), compression=None)], folder, "0",
        )  # fmt: skip
        filters_s = cpu() - begin
        begin = cpu()
        # MinHash over all texts, as in the other chains, not only over what the filters left.
        minhash(
            folder, [reader], MinhashConfig(), [JsonlWriter(str(folder / "out"), compression=None)]
        )
        minhash_s = cpu() - begin
        n_kept = sum(1 for f in clean.glob("*.jsonl") for _ in f.open())
        return {
            "filters_s": filters_s,
            "minhash_s": minhash_s,
            "cpu_s": filters_s + minhash_s,
            "n_kept": n_kept,
        }


task = json.loads(Path(sys.argv[1]).read_text())
result = (
    pairs(task["left"], task["right"])
    if task["do"] == "pairs"
    else chain(task["path"], task["lid"])
)
print("\n" + json.dumps(result))
