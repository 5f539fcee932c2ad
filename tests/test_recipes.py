"""Recipes: every key is explained, examples run, and a misspelt key gets the nearest one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from distill import recipes as of_distill
from distill.cli import main as distill
from distill.grpo.config import GrpoConfig
from distill.presets import preset
from factory.cli import recipe
from factory.cli.main import main as factory
from factory.config import Config
from factory.errors import ConfigError
from factory.stages.select import Selection
from pipelines import reference

ROOT = Path(__file__).parent.parent
KINDS = {**recipe.kinds(), **of_distill.kinds()}


@pytest.mark.parametrize("name", KINDS)
def test_the_printed_example_is_read_by_its_class(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = factory if name in recipe.kinds() else distill
    assert run(["recipe", name]) == 0
    printed = capsys.readouterr().out
    values = yaml.safe_load(printed)
    assert values == {**values, **KINDS[name].example}
    made = KINDS[name].reads.make(values)
    if isinstance(made, GrpoConfig):
        assert preset(made.preset).rewards
    for key in KINDS[name].reads.model_fields:
        assert f"\n{key}:" in printed or f"\n# {key}:" in printed


@pytest.mark.parametrize("name", KINDS)
def test_every_key_is_explained_in_the_reference(name: str) -> None:
    kind = KINDS[name]
    text = recipe.reference(name, kind.reads, kind.inner)
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) > 5
    assert not [row for row in rows if row.endswith("|  |")]


@pytest.mark.parametrize(
    ("name", "text"), [("recipes.md", reference.recipes), ("columns.md", reference.columns)]
)
def test_the_reference_is_what_the_code_says(name: str, text: Callable[[], str]) -> None:
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == text(), "write it again with `make docs`"


class Inner(Config):
    threshold: float = 0.5


class Outer(Config):
    universe: Inner | None = None
    max_rows: int | None = None


@pytest.mark.parametrize(
    ("cls", "values", "says"),
    [
        (Outer, {"max_row": 3}, "'max_row' is near 'max_rows'"),
        (Outer, {"universe": {"treshold": 1}}, "'treshold' is near 'threshold'"),
        (Outer, {"max_row": 3, "univers": {}}, "near 'max_rows'; 'univers' is near 'universe'"),
        (Outer, {"qqq": 1}, "known keys: universe, max_rows"),
        (Outer, {"universe": {"qqq": 1}}, "known keys: threshold"),
        (Outer, {"max_rows": "many"}, "known keys: universe, max_rows"),
        (Selection, {"near_duplicates": {"treshold": 1}}, "'treshold' is near 'threshold'"),
    ],
)
def test_a_misspelt_key_gets_the_nearest_one(
    cls: type[Config], values: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        cls.make(values)
