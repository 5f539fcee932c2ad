"""Which part of an answer is the program: fenced blocks, and what belongs together in them."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable
from dataclasses import dataclass

from factory.verifiers.code.text import fenced_blocks, language_name

_CLOSING = re.compile(r"^[ \t]*(?:`{3,}|~{3,})[ \t]*\r?$", re.MULTILINE)
_TEST_IMPORTS = {"unittest", "pytest", "doctest"}
_READS = re.compile(r"\binput\s*\(|\bstdin\b|\bopen\s*\(\s*0\b|fileinput")


@dataclass(frozen=True)
class _Block:
    code: str
    tree: ast.Module | None
    defines: frozenset[str]
    uses: frozenset[str]

    @property
    def is_demo(self) -> bool:
        """Tests or examples of a program, and no program: it defines nothing but tests."""
        if self.tree is None:
            return False
        for node in self.tree.body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {getattr(node, "module", None), *(a.name for a in node.names)}
                if names & _TEST_IMPORTS:
                    return True
        return all(
            isinstance(n, (ast.Assert, ast.Import, ast.ImportFrom)) or _is_text(n)
            for n in self.tree.body
        )

    @property
    def acts(self) -> bool:
        """It does something when it is run, beyond definitions."""
        quiet = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef, ast.Import, ast.ImportFrom,
                 ast.Assign, ast.AnnAssign)  # fmt: skip
        return self.tree is not None and any(
            not isinstance(n, quiet) and not _is_text(n) for n in self.tree.body
        )


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def program_of(answer: str, language: str, wanted: Iterable[str] = (), *, runs: bool = False) -> (
    str | None
):  # fmt: skip
    """Return the program of an answer; all of it where there is no fence, None where it is empty.

    Blocks in another language (a shell line, sample output) are passed over where one in the asked
    language is there. Of several Python blocks the last one counts that defines what the tests ask
    for, or, for whole programs, that reads and prints; a block of tests or examples behind it does
    not. Blocks that define what it uses are put before it.

    Args:
        answer: the text behind the thinking.
        language: of the gold.
        wanted: names that the tests ask for.
        runs: the whole program is run on standard input.

    >>> program_of("```py\\na = 1\\n```\\nIt prints:\\n```text\\n1\\n```", "python")
    'a = 1\\n'
    >>> program_of("   ", "python") is None
    True
    >>> program_of("```\\ndef f(): pass\\n```\\nTry:\\n```\\nprint(f())\\n```", "python", ["f"])
    'def f(): pass\\n'
    """
    python = language_name(language) == "python"
    blocks = fenced_blocks(answer)
    if len(_CLOSING.findall(answer)) == 1 and "```" in answer and len(blocks) <= 1:
        closed = _closed_only(answer, python=python)
        if closed is not None:
            return closed
    if not blocks:
        return answer.lstrip("\r\n") if answer.strip() else None
    fitting = _fitting(blocks, language_name(language))
    if not any(code.strip() for code in fitting[-1:]) or not python or len(fitting) == 1:
        return fitting[-1] if fitting[-1].strip() else None
    return _chosen([_read(code) for code in fitting], set(wanted), runs=runs)


def _closed_only(answer: str, *, python: bool) -> str | None:
    """Return the code before a closing fence whose opening is not there."""
    mark = _CLOSING.search(answer)
    if mark is None or re.search(r"^[ \t]*(?:`{3,}|~{3,})[ \t]*\w", answer, re.MULTILINE):
        return None
    before, after = answer[: mark.start()], answer[mark.end() :]
    if not before.strip():
        return None
    if not python:
        return before if not after.strip() else None
    read = _read(before.lstrip("\r\n"))
    return before.lstrip("\r\n") if read.tree is not None and (read.defines or read.acts) else None


def _fitting(blocks: list[tuple[str, str]], wanted: str) -> list[str]:
    for match in (lambda tag: language_name(tag) == wanted, lambda tag: tag == "", lambda _: True):
        fitting = [code for tag, code in blocks if match(tag)]
        if fitting:
            return fitting
    return []


def _chosen(blocks: list[_Block], wanted: set[str], *, runs: bool) -> str | None:
    at = len(blocks) - 1
    if runs:
        reading = [i for i, b in enumerate(blocks) if _READS.search(b.code) and not b.is_demo]
        acting = [i for i, b in enumerate(blocks) if b.acts and not b.is_demo]
        at = (reading or acting or [at])[-1]
    else:
        owners = [i for i, b in enumerate(blocks) if b.defines & wanted]
        at = owners[-1] if owners else at
        if not owners and not wanted:
            at = next((i for i in range(at, -1, -1) if not blocks[i].is_demo), at)
    parts = [blocks[at]]
    lacking = set(parts[0].uses - parts[0].defines)
    for block in reversed(blocks[:at]):
        if block.defines & lacking and not block.defines & wanted and block.tree is not None:
            if not runs and block.acts:
                continue
            parts.insert(0, block)
            lacking = (lacking | block.uses) - block.defines
    if runs and not any(b.acts for b in parts):
        # Definitions alone print nothing; the block behind them that calls them is the main part.
        defined = {name for b in parts for name in b.defines}
        main = [b for b in blocks[at + 1 :] if b.acts and b.uses & defined and not b.is_demo]
        parts += main[:1]
    code = "\n".join(b.code.rstrip("\n") for b in parts) + "\n"
    return (parts[0].code if len(parts) == 1 else code) if code.strip() else None


def _read(code: str) -> _Block:
    try:
        tree: ast.Module | None = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        found = re.findall(r"^(?:async\s+)?(?:def|class)\s+(\w+)", code, re.MULTILINE)
        return _Block(code, None, frozenset(found), frozenset())
    assert tree is not None
    defines: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            defines.add(node.name)
            if isinstance(node, ast.ClassDef) and node.name == "Solution":
                defines |= {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
        elif isinstance(node, ast.Assign):
            defines |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            defines |= {(a.asname or a.name).partition(".")[0] for a in node.names}
    uses = {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
    } - set(dir(builtins))
    return _Block(code, tree, frozenset(defines), frozenset(uses))
