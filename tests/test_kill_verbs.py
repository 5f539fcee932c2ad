"""kill -9 in the middle of every verb, two writers and a reader beside: nothing lost or doubled.

``FACTORY_KILLS`` sets the number of kills (default 8); ``FACTORY_KILLS=200`` is the full run.
"""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import orjson
import pytest

from factory.stages.forget import unfinished
from factory.store import Store
from tests.helpers_verbs import Verbs

N_KILLS = int(os.environ.get("FACTORY_KILLS", "8"))
RECIPE = "universe: {}\nfilters:\n  some: length(model) > 0\n"
LONGEST_S = 1.5


def rows(start: int, n: int) -> list[dict[str, str]]:
    return [
        {"prompt": f"What is {i} plus {i}?", "completion": f"<think>\nadd {i}\n</think>\n\n{2 * i}",
         "gold": str(2 * i), "model": "m"}
        for i in range(start, start + n)
    ]  # fmt: skip


def beside(root: str, stop: threading.Event, errors: list[str], first: int) -> None:
    """A writer (or, without ``first``, a reader) that goes on whatever is killed."""
    verbs, n = Verbs(), 0
    try:
        while not stop.is_set():
            if first < 0:
                sql = "SELECT count(*), count(DISTINCT trace_id) FROM traces"
                words = ["sql", sql, "--json", "--store", root]
            else:
                words = ["generate", root, str(first + 4 * (n % 4))]
            done = verbs.run(*words)
            if done is None or done[0] != 0:
                errors.append(f"{words}: {done}")
            n += 1
    finally:
        verbs.close()


@pytest.mark.slow
def test_kills_in_every_verb_lose_and_double_nothing(tmp_path: Path) -> None:
    root, rng = str(tmp_path / "data"), random.Random(0)
    data, recipe = tmp_path / "rows.jsonl", tmp_path / "r.yaml"
    recipe.write_text(RECIPE)
    data.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in rows(0, 60)))
    kills = Verbs()
    stop, errors = threading.Event(), list[str]()
    others = [
        threading.Thread(target=beside, args=(root, stop, errors, first)) for first in (0, 16, -1)
    ]
    assert kills.run("import", str(data), "--store", root) is not None
    wanted, gone, killed = (
        {f"What is {i} plus {i}?" for i in range(60)},
        set[str](),
        dict[str, int](),
    )
    for thread in others:
        thread.start()
    try:
        turn = 60
        while sum(killed.values()) < N_KILLS:
            verb = rng.choice(
                ["import", "verify", "score", "release", "export", "gc", "sql", "check", "forget"]
            )
            words = [verb]
            if verb == "import":
                more = tmp_path / f"more{turn}.jsonl"
                more.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in rows(turn, 20)))
                words.append(str(more))
            elif verb == "verify":
                words += ["--workers", "1"]
            elif verb == "score":
                words += ["--scores", "length"]
            elif verb == "release":
                words += ["all", str(recipe)]
            elif verb == "export":
                words += ["all", "--form", "trl", "--out", str(tmp_path / "out.jsonl")]
            elif verb == "sql":
                words.append("SELECT count(*) FROM wide")
            elif verb == "forget":
                frame = Store(root).table("prompts").read(["prompt_id", "text"]).filter(
                    text=f"What is {turn % 60} plus {turn % 60}?"
                )  # fmt: skip
                if frame.is_empty():
                    continue
                words.append(frame["prompt_id"].item())
                gone.add(frame["text"].item())
            words += ["--store", root]
            done = kills.run(*words, kill_after_s=rng.uniform(0.0, LONGEST_S))
            killed[verb] = killed.get(verb, 0) + (done is None)
            if verb == "import":
                # What a kill lost is read again: the same file, whole.
                again = kills.run(*words)
                assert again is not None
                assert again[0] == 0, again
                wanted |= {r["prompt"] for r in rows(turn, 20)}
            turn += 20
    finally:
        stop.set()
        for thread in others:
            thread.join(120)
    # What a kill of forget left is finished by the same verb, which refuses where there is nothing
    # to finish; and every verb works as ever.
    for words in (
        *([["forget"]] if unfinished(Store(root)) else []),
        ["verify", "--workers", "1"], ["score", "--scores", "length"],
        ["release", "last", str(recipe)], ["gc"], ["check", "--audit"],
        ["export", "last", "--form", "trl", "--out", str(tmp_path / "last.jsonl")],
    ):  # fmt: skip
        done = kills.run(*words, "--store", root)
        assert done is not None
        assert done[0] == 0, (words, done[1])
    kills.close()
    store = Store(root)
    texts = store.table("prompts").read(["text"])["text"].to_list()
    assert len(texts) == len(set(texts)), "a prompt is there twice"
    imported = {t for t in texts if t.startswith("What is ") and " plus " in t}
    assert wanted - imported <= gone
    assert imported <= wanted
    keys = store.table("traces").keys()
    assert keys.n_unique() == len(keys)
    made = len(texts) - len(imported)
    assert made, "the writers beside made something"
    assert made % 4 == 0, "prompts of a generate are there whole, or not"
    mistakes = [e for e in errors if "still writing" not in e]
    assert mistakes == [], "\n".join(mistakes[:3])
    print(killed)
