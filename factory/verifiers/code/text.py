"""What is read out of an answer, and how printed output is compared."""

from __future__ import annotations

import math
import re

# An opening fence with its language; the closing one stands alone. Indented fences count.
_OPEN = re.compile(
    r"^([ \t]*(?:[-*+]|\d+[.)])?[ \t]*)(`{3,}|~{3,})[ \t]*([A-Za-z0-9_+#.-]*)[^\n`]*$"
)
_TAGS = {
    "python": {"python", "python3", "py", "py3"},
    "cpp": {"cpp", "c++", "cc", "cxx"},
    "c": {"c"},
    "rust": {"rust", "rs"},
    "go": {"go", "golang"},
    "javascript": {"javascript", "js"},
    "java": {"java"},
}
_NUMBER = re.compile(r"[-+]?(?:\d{1,320}(?:\.\d{0,320})?|\.\d{1,320})(?:[eE][-+]?\d{1,3})?")
_WHOLE = re.compile(r"[-+]?\d+")
_ALIASES = {tag: name for name, tags in _TAGS.items() for tag in tags}


def language_name(name: str) -> str:
    """Return one name per language.

    >>> language_name("C++"), language_name("python3")
    ('cpp', 'python')
    """
    return _ALIASES.get(name.lower(), name.lower())


def fenced_blocks(text: str) -> list[tuple[str, str]]:
    """Return (language tag, code) of every fenced block; one that is never closed runs to the end.

    >>> fenced_blocks("so:\\n```python\\nx = 1\\n```\\n")
    [('python', 'x = 1\\n')]
    """
    blocks: list[tuple[str, str]] = []
    fence, tag, indent = "", "", ""
    lines: list[str] = []
    for line in text.split("\n"):
        if not fence:
            opened = _OPEN.match(line.rstrip("\r"))
            if opened:
                fence, tag = opened.group(2), opened.group(3).lower()
                indent, lines = opened.group(1), []
        elif line.strip() and set(line.strip()) == {fence[0]} and len(line.strip()) >= len(fence):
            blocks.append((tag, "".join(x + "\n" for x in lines)))
            fence = ""
        else:  # in a list the code is indented as far as its fence
            shift = len(indent) if not line[: len(indent)].strip() else 0
            lines.append(line[shift:])
    if fence and any(line.strip() for line in lines):
        blocks.append((tag, "\n".join(lines)))
    return blocks


def same_output(got: str, expected: str, tolerance: float = 0.0) -> bool:
    """Compare what a program printed: line by line, word by word, trailing blank lines aside.

    Every line counts, the first blank one too; nothing may be missing or follow. With a tolerance,
    words that are numbers may differ by it, relatively or absolutely; inf and nan never do, and
    where a whole number is expected, only one that is printed as a fraction may be near it.

    >>> same_output("1 2 \\r\\n3", "1 2\\n3\\n"), same_output("1", "1\\n2"), same_output("", "\\n5")
    (True, False, False)
    """
    left, right = _lines(got), _lines(expected)
    if left == right or tolerance <= 0:
        return left == right
    if [len(line) for line in left] != [len(line) for line in right]:
        return False
    pairs = zip(
        (w for line in left for w in line), (w for line in right for w in line), strict=True
    )
    return all(a == b or _near(a, b, tolerance) for a, b in pairs)


def _near(got: str, expected: str, tolerance: float) -> bool:
    if not (_NUMBER.fullmatch(got) and _NUMBER.fullmatch(expected)):
        return False
    a, b = float(got), float(expected)
    if _WHOLE.fullmatch(expected):
        return not _WHOLE.fullmatch(got) and abs(a - b) <= min(tolerance, 0.01)
    return math.isfinite(a) and math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)


def _lines(text: str) -> list[list[str]]:
    lines = [line.split() for line in text.replace("\r\n", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines
