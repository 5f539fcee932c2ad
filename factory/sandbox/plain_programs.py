"""Which programs compute alone: they make no file and no process, as most functions do.

Such a sample needs no folder to write to and no namespaces of its own, whose making and ending is
a tenth of what a short sample costs. This decides no matter of safety: what is taken for plain
gets less, the walls of a tier without namespaces inside of those of the box.
"""

from __future__ import annotations

import re
from typing import Any

_MODULES = {
    "__future__", "abc", "array", "bisect", "cmath", "collections", "contextlib", "copy",
    "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "hashlib", "heapq",
    "io", "itertools", "json", "math", "numbers", "operator", "pytest", "random", "re",
    "statistics", "string", "struct", "sys", "textwrap", "time", "types", "typing", "unittest",
}  # fmt: skip
"""Modules by which nothing is written and nothing started."""
_IMPORT = re.compile(r"(?:\bfrom\s+([\w.]+)\s+)?\bimport\b[ \t]*([^\n;#]*)")
_REACHES = re.compile(
    r"\b(?:open|FileIO|exec|eval|modules|importlib|__import__|__builtins__|__loader__|mock"
    r"|tmp_path|tmpdir)\b|/dev/"
)
"""Words that lead to files or to other modules; what ``/dev/stdin`` names lies in the folder."""
_TEXTS = {
    "program": ("program",),
    "calls": ("prefix", "program", "setup"),
    "tests": ("prefix", "setup", "tests"),
}


def is_plain(mode: str, sample: dict[str, Any]) -> bool:
    r"""Tell whether a sample computes alone.

    >>> is_plain("calls", {"program": "import math\ndef f(x): return math.sqrt(x)"})
    True
    >>> is_plain("calls", {"program": "def f(x):\n    import os, re\n    return os.getcwd()"})
    False
    """
    if mode not in _TEXTS:
        return False
    text = "\n".join(sample.get(part) or "" for part in _TEXTS[mode])
    if _REACHES.search(text):
        return False
    for module, names in _IMPORT.findall(text):
        for name in [module] if module else names.split(","):
            if name.strip().partition(".")[0].partition(" ")[0] not in _MODULES:
                return False
    return True
