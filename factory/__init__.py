"""The R1 factory: generate, verify, score, judge, select and release reasoning traces.

The stages of the factory are functions of a store, and this package names them all. They are
loaded when they are first used: importing the package itself loads none of torch, trl, vllm, ray,
datasets, polars or duckdb.

>>> import tempfile
>>> from factory import Policy, Prompt, PromptSource, Sampling, Selection, Store
>>> from factory import export, generate, release, score, select, verify
>>> from factory.engines.replay import Engine
>>> prompt = Prompt(messages=({"role": "user", "content": "What is 2 + 2?"},))
>>> source = PromptSource(
...     prompt_id=prompt.prompt_id, source="sums", item="1", gold="4", verifier="math")
>>> record = {f"{prompt.prompt_id}:{i}": {"completion": text} for i, text in enumerate(
...     ["<think>2 + 2 = 4</think>It is \\\\boxed{4}.", "<think>2 + 2 = 5</think>\\\\boxed{5}"])}
>>> folder = tempfile.TemporaryDirectory()
>>> store = Store(folder.name)
>>> made = generate(store, [(prompt, source)], Engine("teacher", answers=record),
...     sampling=Sampling(temperature=0.6, max_tokens=512), policy=Policy(n=2))
>>> made.progress.n_new, made.progress.n_pass
(2, 1)
>>> verify(store).present.total()  # verified already, while they were sampled
2
>>> score(store, ["length"]).new.total()
2
>>> selected = select(store, Selection(filters={"right": "status = 'pass'"}))
>>> dataset = release(store, "sums", selected)
>>> export(store, dataset, form="trl", out=f"{folder.name}/sums.jsonl")
1
>>> folder.cleanup()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from factory.records import Prompt, PromptSource, Sampling
    from factory.stages.export import export
    from factory.stages.generate import generate
    from factory.stages.generate.policy import Policy
    from factory.stages.release import release
    from factory.stages.score import score
    from factory.stages.select import Selection, select
    from factory.stages.verify import verify
    from factory.store import Store

__all__ = [
    "Policy", "Prompt", "PromptSource", "Sampling", "Selection", "Store",
    "export", "generate", "release", "score", "select", "verify",
]  # fmt: skip
_MODULES = {
    "Policy": "factory.stages.generate.policy",
    **dict.fromkeys(("Prompt", "PromptSource", "Sampling"), "factory.records"),
    **dict.fromkeys(("Selection", "select"), "factory.stages.select"),
    "Store": "factory.store",
    **{name: f"factory.stages.{name}" for name in (
        "export", "generate", "release", "score", "verify"
    )},
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
