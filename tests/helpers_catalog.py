"""A small store of our own making for the tests of the catalog, the verbs and the report."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from catalogs import build
from factory.records import Prompt, PromptSource, Sampling, Trace, Verdict, ids, score_form
from factory.store import Store
from factory.store.durable import write_json

RUN = "20261120t120000-aaaaaa"
SAMPLING = Sampling(temperature=0.6, max_tokens=512)
LENGTH = score_form({"completion_words": "int"})
LANGUAGE = score_form({"lang": "text", "language_consistency": "float"})
N_PROMPTS, N_SAMPLES = 6, 4


def prompts() -> list[Prompt]:
    return [Prompt.of(f"What is {i} + {i}?") for i in range(1, N_PROMPTS + 1)]


def trace(prompt: Prompt, k: int, completion: str, *, model: str = "tiny") -> Trace:
    key = ids.trace_id(
        prompt_id=prompt.prompt_id,
        model=model,
        revision="main",
        sampling_id=SAMPLING.sampling_id,
        sample_index=k,
    )
    return Trace(
        trace_id=key,
        prompt_id=prompt.prompt_id,
        model=model,
        revision="main",
        sampling_id=SAMPLING.sampling_id,
        sample_index=k,
        completion=completion,
        prefill="<think>\n",
        finish_reason="stop",
        n_prompt_tokens=8,
        n_completion_tokens=len(completion.split()),
        seconds=0.5,
    )


def verdict_row(
    trace_id: str, gold: str, verdict: Verdict, run_id: str = RUN, options: str = "{}"
) -> dict[str, Any]:
    key = ids.verdict_id(
        trace_id=trace_id, gold_hash=ids.text_hash(gold), options_hash=ids.text_hash(options)
    )
    return {
        "verdict_id": key,
        "trace_id": trace_id,
        "gold_hash": ids.text_hash(gold),
        "options_hash": ids.text_hash(options),
        **verdict.to_dict(),
        "seconds": 0.001,
        "run_id": run_id,
    }


def make_store(root: Path) -> Store:
    """Six prompts of two sources, four traces each; prompt i has i - 1 right traces at most 4.

    One trace is in mixed language, one has no verdict, two have the same text.
    """
    shutil.copytree(_stored(), root, dirs_exist_ok=True)
    return Store(root)


@functools.cache
def _stored() -> Path:
    """Return the store of ``make_store``, written once for a process, which copies it."""
    root = Path(tempfile.mkdtemp(prefix="factory-tests-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    store = Store(root)
    write_json(
        store.root / "runs" / RUN / "run.json",
        {
            "run_id": RUN,
            "kind": "generate",
            "started_at": "2026-11-20T12:00:00+00:00",
            "ended_at": "2026-11-20T12:01:00+00:00",
            "details": {"model": "tiny"},
            "results": {"n_traces": 24},
        },
    )
    with store.table("prompts").writer(RUN) as writer:
        writer.append([p.row(RUN) for p in prompts()])
    with store.table("prompt_sources").writer(RUN) as writer:
        writer.append(
            [
                PromptSource(
                    prompt_id=p.prompt_id,
                    source="sums" if i % 2 else "doubles",
                    item=str(i),
                    split="train",
                    gold=str(2 * i),
                    verifier="math",
                    domain="math",
                    level="1",
                    language="en",
                ).row(RUN)
                for i, p in enumerate(prompts(), 1)
            ]
        )
    with store.table("samplings").writer(RUN) as writer:
        writer.append([SAMPLING.row(RUN)])
    traces, verdicts, lengths, languages = [], [], [], []
    for i, prompt in enumerate(prompts(), 1):
        for k in range(N_SAMPLES):
            right = k < i - 1
            mixed = (i, k) == (6, 0)
            answer = 2 * i if right else 2 * i + 1 + k // 3
            step = "所以 the sum is" if mixed else f"So the sum {'is' if k % 2 else 'must be'}"
            made = trace(prompt, k, f"{step} {answer}.\n</think>\n\n\\boxed{{{answer}}}")
            traces.append(made.row(RUN))
            result = (
                Verdict.passed(decided_by="number", extracted=str(answer))
                if right
                else Verdict.failed("wrong", decided_by="number", extracted=str(answer))
            )
            if (i, k) == (1, 3):
                result = Verdict.unscored("gold_unparsable")
            if (i, k) != (1, 2):
                verdicts.append(verdict_row(made.trace_id, str(2 * i), result))
            lengths.append({"trace_id": made.trace_id, "completion_words": 6 + k, "run_id": RUN})
            languages.append(
                {
                    "trace_id": made.trace_id,
                    "lang": "en",
                    "language_consistency": 0.75 if mixed else 1.0,
                    "run_id": RUN,
                }
            )
    with store.table("traces").writer(RUN) as writer:
        writer.append(traces)
    store.table("verdicts.math@1").add(pl.DataFrame(verdicts, infer_schema_length=None))
    store.table("scores.length@1", LENGTH).add(pl.DataFrame(lengths))
    store.table("scores.language@2", LANGUAGE).add(pl.DataFrame(languages))
    return root


def make_release(store: Store, version: str = "v1") -> Path:
    """A release of the right traces without the one in mixed language, as ``release`` writes it."""
    with build.connect(store) as con:
        rows = con.execute(
            "SELECT trace_id, status, language_consistency FROM wide ORDER BY trace_id"
        ).fetchall()
    decisions = []
    for key, status, consistency in rows:
        dropped = [] if status == "pass" else ["right"]
        dropped += [] if consistency == 1 else ["readable"]
        undefined = ["right"] if status is None else []
        decisions.append((key, not dropped, dropped, undefined))
    kept = [d[0] for d in decisions if d[1]]
    folder = store.root / "releases" / "sums" / version
    folder.mkdir(parents=True)
    pl.DataFrame({"trace_id": kept}).write_parquet(folder / "part-00000.parquet")
    texts = pl.List(pl.String)
    pl.DataFrame(
        decisions,
        {"trace_id": pl.String, "is_kept": pl.Boolean, "dropped_by": texts, "undefined_by": texts},
        orient="row",
    ).write_parquet(folder / "decisions.parquet")
    filters = [
        ("right", "status = 'pass'", True, 24, 10, 10, 10, 1),
        ("readable", "language_consistency = 1", True, 14, 1, 1, 1, 0),
        ("off", "completion_words < 9", False, 13, 0, 6, 0, 0),
    ]
    write_json(
        folder / "manifest.json",
        {
            "name": "sums",
            "version": version,
            "created_at": "2026-11-20T12:02:00+00:00",
            "rows": len(kept),
            "n_universe": len(rows),
            "parts": [{"name": "part-00000.parquet", "rows": len(kept)}],
            "universe": {"sources": ["doubles", "sums"], "n": 4},
            "filters": [
                {
                    "name": name, "sql": sql, "is_on": on, "n_in": n_in,
                    "n_dropped_here": here,
                    "n_dropped": dropped, "n_dropped_only": only, "n_undefined": undefined,
                }
                for name, sql, on, n_in, here, dropped, only, undefined in filters
            ],
            "plugins": {"math": "math@1", "length": "length@1", "language": "language@2"},
            "parents": ["sums/v0", "models/a"],
            "recipe": {"comment": "<b>made</b> by a test"},
        },
    )  # fmt: skip
    return folder
