# ruff: noqa: E402
"""Run by data-juicer's own interpreter: eight cheap filters and MinHash; print JSON.

No language identification (its model would be downloaded). usage: python _peer_juicer.py TASK.json
"""

from __future__ import annotations

import importlib.machinery
import json
import os
import resource
import sys
import tempfile
import types
from pathlib import Path

os.environ["HF_DATASETS_OFFLINE"] = "1"


def _refuse(*args: object, **kwargs: object) -> None:
    raise ImportError("nothing is installed during a benchmark")


# It installs torch while it runs, to count GPUs. An empty module in its place says there are none.
torch = types.ModuleType("torch")
torch.__spec__ = importlib.machinery.ModuleSpec("torch", None)
torch.cuda = types.SimpleNamespace(
    device_count=lambda: 0, is_available=lambda: False, empty_cache=lambda: None
)
torch.Tensor = type("Tensor", (), {})
torch.Generator = type("Generator", (), {})
torch.nn = types.SimpleNamespace(Module=type("Module", (), {}))
torch.set_num_threads = torch.set_num_interop_threads = lambda n: None
sys.modules["torch"] = torch

from data_juicer.utils.lazy_loader import LazyLoader

LazyLoader._install_package = _refuse

from data_juicer.core.data import NestedDataset
from data_juicer.ops.deduplicator.document_minhash_deduplicator import DocumentMinhashDeduplicator
from data_juicer.ops.filter.alphanumeric_filter import AlphanumericFilter
from data_juicer.ops.filter.average_line_length_filter import AverageLineLengthFilter
from data_juicer.ops.filter.character_repetition_filter import CharacterRepetitionFilter
from data_juicer.ops.filter.maximum_line_length_filter import MaximumLineLengthFilter
from data_juicer.ops.filter.special_characters_filter import SpecialCharactersFilter
from data_juicer.ops.filter.text_length_filter import TextLengthFilter
from data_juicer.ops.filter.word_repetition_filter import WordRepetitionFilter
from data_juicer.ops.filter.words_num_filter import WordsNumFilter


def cpu() -> float:
    own, kids = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + kids.ru_utime + kids.ru_stime


def main(path: str) -> dict[str, object]:
    common = {"text_key": "completion", "num_proc": 1}
    ops = [
        kind(**common)
        for kind in (
            TextLengthFilter, WordsNumFilter, CharacterRepetitionFilter, WordRepetitionFilter,
            SpecialCharactersFilter, AlphanumericFilter, AverageLineLengthFilter,
            MaximumLineLengthFilter,
        )
    ]  # fmt: skip
    minhash = DocumentMinhashDeduplicator(
        text_key="completion", num_proc=1, tokenization="space", window_size=5,
        num_permutations=112, num_bands=14, num_rows_per_band=8, jaccard_threshold=0.7,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        warm = NestedDataset.from_list([{"completion": "A short text to start with."}] * 2)
        for op in ops:  # set-up of its operators is not counted
            warm = op.run(warm)
        begin = cpu()
        rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
        whole = NestedDataset.from_list([{"completion": r["completion"]} for r in rows])
        data = whole
        for op in ops:
            data = op.run(data)
        mid = cpu()
        # MinHash over all texts, as in the other chains, not only over what the filters left.
        data = minhash.run(whole)
        data.to_json(str(Path(name) / "out.jsonl"))
        end = cpu()
    return {
        "filters_s": mid - begin,
        "minhash_s": end - mid,
        "cpu_s": end - begin,
        "n_unique": len(data),
    }


task = json.loads(Path(sys.argv[1]).read_text())
print("\n" + json.dumps(main(task["path"])))
