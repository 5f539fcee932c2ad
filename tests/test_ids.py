"""Keys: the same for ever, whatever the process, the hash seed, the order of fields."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from factory.records import Prompt, PromptSource, Sampling, ids

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden" / "keys.json"

MAKE = """
import random, sys, json
from factory.records import ids
def value(g, depth=0):
    kind = g.randrange(9 if depth < 3 else 6)
    if kind == 0: return g.randrange(-10**12, 10**12)
    if kind == 1: return g.choice([g.random(), g.random() * 1e300, -g.random() * 1e-300, 0.1, 1.0])
    if kind == 2:
        ranges = [(32, 127), (0xc0, 0x24f), (0x4e00, 0x9fff), (0x301, 0x302)]
        return "".join(chr(g.randrange(*g.choice(ranges))) for _ in range(g.randrange(12)))
    if kind == 3: return g.random() < 0.5
    if kind == 4: return g.choice(["", "e\\u0301", "\\u00e9"])
    if kind == 5: return g.randrange(3)
    if kind == 6: return [value(g, depth + 1) for _ in range(g.randrange(4))]
    items = [(f"k{g.randrange(1000)}", value(g, depth + 1)) for _ in range(g.randrange(5))]
    return dict(items)
def disturb(v, g):
    if isinstance(v, dict):
        items = [(k, disturb(x, g)) for k, x in v.items()] + [(f"unset{g.randrange(99)}", None)]
        g.shuffle(items)
        return dict(items)
    if isinstance(v, list): return [disturb(x, g) for x in v]
    return v
g, d = random.Random(11), random.Random(int(sys.argv[1]))
records = [{"id": i, "v": value(g)} for i in range(10_000)]
print(ids.key_of([ids.key_of(disturb(r, d) if sys.argv[1] != "0" else r) for r in records]))
"""


def test_ten_thousand_records_have_the_same_keys_everywhere() -> None:
    results = set()
    for argument, hash_seed in (("0", "0"), ("1", "1"), ("2", "12345"), ("3", "random")):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        run = subprocess.run(
            [sys.executable, "-c", MAKE, argument],
            capture_output=True, text=True, check=True, cwd=ROOT, env=environment,
        )  # fmt: skip
        results.add(run.stdout.strip())
    assert len(results) == 1


def golden_values() -> dict[str, object]:
    prompt = Prompt.of("What is 2 + 3?", system="Be brief.")
    sampling = Sampling(temperature=0.7, max_tokens=256, top_p=0.95, prefill="<think>\n")
    return {
        "empty": {},
        "nested": {"b": [1, 2.5, "é", {"z": None, "a": True}], "a": -0.0},
        "messages": list(prompt.messages),
        "sampling": sampling.key_fields(),
        "big": 10**30,
        "small": 1e-7,
        "text": "深度求索",
    }


def test_keys_equal_the_golden_ones() -> None:
    expected = json.loads(GOLDEN.read_text())
    found = {name: ids.key_of(value) for name, value in golden_values().items()}
    prompt = Prompt.of("What is 2 + 3?", system="Be brief.")
    sampling = Sampling(temperature=0.7, max_tokens=256, top_p=0.95, prefill="<think>\n")
    found["prompt_id"] = prompt.prompt_id
    found["sampling_id"] = sampling.sampling_id
    found["trace_id"] = ids.trace_id(
        prompt_id=prompt.prompt_id, model="org/model", revision="a" * 40,
        sampling_id=sampling.sampling_id, sample_index=3,
    )  # fmt: skip
    found["imported"] = ids.imported_trace_id(
        prompt_id=prompt.prompt_id, model="org/model", completion="<think>5</think>5"
    )
    found["source_id"] = PromptSource(
        prompt_id=prompt.prompt_id, source="s", item="1", gold="5"
    ).source_id
    found["verdict_id"] = ids.verdict_id(trace_id="t", gold_hash="g", options_hash="o")
    found["seed"] = str(ids.seed_of(base=0, trace_id="t"))
    assert found == expected, "a key changed: every stored fact would lose its meaning"


DIFFERENT = [
    (1, 1.0, "integers and floats are distinct"),
    ("1", 1, "text is not a number"),
    (True, 1, "a truth value is not a number"),
    ([], {}, "a list is not an object"),
    ([None], [], "an unset item of a list has a place"),
    ({"a": ""}, {}, "empty text is set"),
    (["ab"], ["a", "b"], "borders of items count"),
]


@pytest.mark.parametrize(("a", "b", "why"), DIFFERENT)
def test_different_values_have_different_keys(a: object, b: object, why: str) -> None:
    assert ids.key_of(a) != ids.key_of(b), why


SAME = [
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "order of fields"),
    ({"a": 1, "b": None}, {"a": 1}, "unset fields"),
    ("e\u0301", "\u00e9", "Unicode composition"),
    ((1, 2), [1, 2], "tuples are lists"),
    (-0.0, 0.0, "the sign of zero"),
]


@pytest.mark.parametrize(("a", "b", "why"), SAME)
def test_equal_values_have_one_key(a: object, b: object, why: str) -> None:
    assert ids.key_of(a) == ids.key_of(b), why


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1: 2}, {"a": {1, 2}}, b"x"])
def test_what_has_no_canonical_form_is_refused(bad: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        ids.key_of(bad)


def test_defaults_are_not_part_of_a_samplings_key() -> None:
    plain = Sampling(temperature=1, max_tokens=10)  # an integer where a float is meant
    assert plain.sampling_id == Sampling(temperature=1.0, max_tokens=10, top_k=0).sampling_id
    assert plain.sampling_id != Sampling(temperature=1.0, max_tokens=10, seed=1).sampling_id


def test_many_keys_do_not_collide() -> None:
    generator = random.Random(0)
    keys = {ids.key_of([i, generator.random()]) for i in range(20_000)}
    assert len(keys) == 20_000
