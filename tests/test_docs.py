"""Documents are tested: every verb is in the README, every command in it exists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from factory.cli.main import VERBS, build_parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("verb", [name for name, _, _ in VERBS])
def test_every_verb_is_in_the_readme_and_has_help(verb: str) -> None:
    assert re.search(rf"`?factory {verb}\b", README), f"factory {verb} is not in README.md"
    with pytest.raises(SystemExit) as stop:
        build_parser().parse_args([verb, "--help"])
    assert stop.value.code == 0


def commands() -> list[str]:
    blocks = re.findall(r"```(?:console|bash|sh)\n(.*?)```", README, re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    found = [re.sub(r"^\$ ", "", line).split("  #")[0] for line in lines]
    return [c for c in found if re.match(r"(\.venv/bin/)?factory ", c)]


@pytest.mark.parametrize("command", commands())
def test_the_commands_of_the_readme_parse(command: str) -> None:
    import shlex

    argv = shlex.split(command)[1:]
    build_parser().parse_args(argv)


def test_the_top_level_holds_only_what_it_should() -> None:
    allowed = {
        "pyproject.toml", "README.md", "CHANGELOG.md", "Makefile", "requirements", "factory",
        "pipelines", "distill", "tests", "catalogs", "docs", "LICENSE", "CONTRIBUTING.md", "data",
        "build",
    }  # fmt: skip
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no checkout of git: what lies here may be anybody's")
    found = {line.partition("/")[0] for line in listed.stdout.splitlines()}
    assert {n for n in found if not n.startswith(".")} <= allowed


def test_what_the_table_of_the_paper_names_is_there() -> None:
    text = (ROOT / "docs" / "r1.md").read_text()
    rows = [line for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(rows) == 50
    named = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", text)
    assert len(named) > 50
    for file, test in named:
        assert f"def {test}" in (ROOT / "tests" / file).read_text() if test else True, (file, test)
    for path in re.findall(r"`((?:pipelines|distill|factory|catalogs)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
