"""The fenced blocks of the documents, and how a test runs what stands in them.

A test module takes a block when it is imported and runs it in a test; ``test_docs_run.py`` fails
for a block that no module has taken.
"""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from distill.cli import main as distill
from factory.cli.main import main as factory

ROOT = Path(__file__).parent.parent
TAKEN: dict[tuple[str, int], str] = {}
"""Document and line of a block → the test module that runs it."""
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CHANGING = re.compile(r"\b[0-9a-f]{12}\b|[0-9.]+ s, [\d,]+ rows/s")


class Block(NamedTuple):
    """A fenced block."""

    file: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text.splitlines()[0]}"

    @property
    def commands(self) -> list[str]:
        """Its commands, without what they print and without comments."""
        lines = self.text.splitlines()
        if any(line.startswith("$ ") for line in lines):
            return [line[2:] for line in lines if line.startswith("$ ")]
        return [shlex.join(words) for line in lines if (words := shlex.split(line, comments=True))]

    @property
    def sessions(self) -> list[tuple[str, str]]:
        """Each command after a dollar sign, with what is shown under it."""
        found = re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", self.text, re.MULTILINE)
        return [(command, shown) for command, shown in found]


def blocks() -> list[Block]:
    """Return every fenced block of every document."""
    out = []
    for path in sorted(
        p for where in ("", "docs/", "catalogs/") for p in ROOT.glob(f"{where}*.md")
    ):
        text = path.read_text(encoding="utf-8")
        for found in _FENCE.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            out.append(Block(str(path.relative_to(ROOT)), line, found[1], found[2]))
    return out


def take(file: str, begins: str = "", *, language: str | None = None) -> list[Block]:
    """Return the blocks of a document that begin so, for a test that runs them."""
    module = sys._getframe(1).f_globals["__name__"]
    found = [
        b for b in blocks()
        if b.file == file and b.text.startswith(begins) and language in (None, b.language)
    ]  # fmt: skip
    assert found, f"{file} has no block that begins with {begins!r}"
    TAKEN.update(dict.fromkeys([(b.file, b.line) for b in found], module))
    return found


def run(command: str) -> int:
    """Run a command of a document in this process (``make``: a dry run); return its exit status."""
    words = shlex.split(command)
    if words[0] == "make":
        dry = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, check=False)
        return dry.returncode
    if words[0] in ("factory", "distill"):
        return {"factory": factory, "distill": distill}[words[0]](words[1:])
    assert words[0] == "python", command
    _, path, *rest = words
    if path == "-m":
        path, rest = f"{rest[0].replace('.', '/')}.py", rest[1:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [path, *rest])
        patch.setattr(sys, "path", list(sys.path))
        try:
            runpy.run_path(str(ROOT / path), run_name="__main__")
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


class _Parsed(Exception):
    """The command was read, and is not run."""


def parse(command: str) -> None:
    """Let the program's own parser read a command that cannot be run here."""
    real = argparse.ArgumentParser.parse_args

    def read(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> None:
        real(self, args, namespace)
        raise _Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", read)
        with pytest.raises(_Parsed):
            run(command)


def shows(printed: str, shown: str) -> bool:
    """Tell whether what is shown was printed; digests and times may differ, "…" is any lines."""
    at, text = 0, _CHANGING.sub("*", printed)
    for part in _CHANGING.sub("*", shown).split("…\n"):
        found = text.find(part.strip("\n"), at)
        if found < 0:
            return False
        at = found + len(part.strip("\n"))
    return True
