"""Compiled languages: how a program becomes one executable, inside the box."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.sandbox import Limits
from factory.verifiers.code.text import language_name

# A compiler is many processes, temporary files and a result; its limits are its own.
COMPILE_LIMITS = Limits(
    cpu_s=20, wall_s=40.0, memory_bytes=2 << 30, output_bytes=64 << 20, scratch_bytes=256 << 20
)


@dataclass(frozen=True)
class Language:
    """A compiler that the box can see (below /usr/bin) and its command."""

    compiler: str
    source: str
    command: tuple[str, ...]

    def installed(self) -> bool:
        """Tell whether the compiler is on this machine."""
        return _installed(self.compiler)

    def job(self) -> dict[str, Any]:
        """Return what the box reads."""
        return {"source_name": self.source, "command": list(self.command), "result": "main"}


@functools.cache
def _installed(name: str) -> bool:
    return (Path("/usr/bin") / name).exists()


_LANGUAGES = {
    "cpp": Language("g++", "main.cpp", ("g++", "-O2", "-std=c++17", "-o", "main", "main.cpp")),
    "c": Language("gcc", "main.c", ("gcc", "-O2", "-std=c11", "-o", "main", "main.c", "-lm")),
    "rust": Language("rustc", "main.rs", ("rustc", "-O", "-o", "main", "main.rs")),
    "go": Language("go", "main.go", ("go", "build", "-o", "main", "main.go")),
}  # fmt: skip


def known(name: str) -> Language | None:
    """Return the language, or None where nothing is known of it."""
    return _LANGUAGES.get(language_name(name))
