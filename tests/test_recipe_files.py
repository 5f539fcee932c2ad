"""Recipe files that would lose a key, or never end, are refused in one line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from factory.config import apply_override, read_yaml
from factory.errors import ConfigError

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n"
                                      for i in range(1, 12))  # fmt: skip
BAD = {
    "a key twice": ("filters:\n  a: x > 1\n  b: y\n  a: x > 2\n", "'a' twice, line 4"),
    "a top key twice": ("universe: {}\nuniverse: {splits: [test]}\n", "'universe' twice, line 2"),
    "nested without end": ("a: " + "[" * 50_000, "nested without end"),
    "mappings without end": ("{a: " * 50_000, "nested without end"),
    "laughs": (LAUGHS, "unfolds to millions"),
    "itself": ("a: &a [*a]\n", "unfolds to millions"),
    "a tag that builds": ("a: !!python/object/apply:os.system [true]\n", "not readable YAML"),
    "too large": ("a: " + "x" * (5 << 20), "larger than 4 MiB"),
    "a list": ("- a\n", "is a mapping of keys"),
    "not UTF-8": (b"a: \xff\n", "not readable YAML"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_recipe_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    text, says = BAD[name]
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    start = time.monotonic()
    with pytest.raises(ConfigError, match=says) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 10


def test_anchors_and_merges_stay_allowed(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: {<<: *a, x: 3}\n")
    assert read_yaml(path) == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": {"x": 3}}


# JSON writes a small number without a point, which YAML 1.1 takes for a text.
@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-6", 1e-6), ("-2E5", -2e5), ("1.e4", 1e4), ("1.5e-3", 1.5e-3), ("7", 7), ("e5", "e5"),
     ("12e", "12e"), ("1e5x", "1e5x"), ("'1e-6'", "1e-6")],
)  # fmt: skip
def test_a_number_without_a_point_is_a_number(tmp_path: Path, text: str, value: object) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f'{{"trl": {{"learning_rate": {text}}}}}')
    assert read_yaml(path)["trl"]["learning_rate"] == value
    made: dict[str, dict[str, object]] = {}
    apply_override(made, f"trl.learning_rate={text}")
    assert made["trl"]["learning_rate"] == value
