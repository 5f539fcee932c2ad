"""Layers: each module imports only from its own layer or those below; heavy imports stay inside."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "trl", "vllm", "ray", "datasets", "transformers", "sympy", "math_verify", "jieba",
         "numba")  # fmt: skip
LAYERS = [
    ("factory.records", "factory.errors"),
    ("factory.compiled", "factory.config", "factory.plugins", "factory.workers", "factory.metrics",
     "factory.model_files", "factory.store", "factory.rows", "factory.sandbox"),
    ("factory.engines", "factory.verifiers", "factory.scores", "factory.sources", "factory.sets"),
    ("factory.stages", "catalogs"),
    ("factory.report",),
    ("factory.cli", "factory.__main__"),
    ("distill",),
    ("pipelines",),
]  # fmt: skip
LEAVES = (
    "factory.engines",
    "factory.verifiers",
    "factory.scores",
    "factory.sources",
    "factory.sets",
)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> int:
    for number, prefixes in enumerate(LAYERS):
        for prefix in prefixes:
            if module == prefix or module.startswith(prefix + "."):
                return number
    raise AssertionError(f"{module} belongs to no layer")


def imports(tree: ast.AST, *, top_only: bool) -> list[str]:
    nodes = ast.iter_child_nodes(tree) if top_only else ast.walk(tree)
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


SOURCES = sorted(
    p for d in ("factory", "catalogs", "distill", "pipelines") for p in (ROOT / d).rglob("*.py")
)


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_a_module_imports_only_from_its_layer_or_below(path: Path) -> None:
    module = module_of(path)
    tree = ast.parse(path.read_text())
    for name in imports(tree, top_only=False):
        if name.split(".")[0] not in ("factory", "catalogs", "distill", "pipelines"):
            continue
        if name in ("factory", "catalogs", "distill", "pipelines"):
            continue
        assert layer_of(name) <= layer_of(module), f"{module} imports {name} of a higher layer"
        for leaf in LEAVES:
            if name.startswith(leaf + "."):
                own = module.startswith(leaf)
                assert own or layer_of(module) > 2, f"the leaf {module} imports the leaf {name}"
    if module == "factory.compiled" or module in compiled_modules():
        return
    for name in imports(tree, top_only=True):
        assert name.split(".")[0] not in HEAVY, f"{module} imports {name} at its top"
        assert name not in compiled_modules(), f"{module} imports kernels ({name}) at its top"


@functools.cache
def compiled_modules() -> set[str]:
    """Modules of kernels: they load numba, and others import them inside functions."""
    found = set()
    for path in SOURCES:
        names = imports(ast.parse(path.read_text()), top_only=True)
        if "factory.compiled" in names or "numba" in names:
            found.add(module_of(path))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_kernels_call_only_what_their_own_file_holds(path: Path) -> None:
    # What is kept on disk is dropped when the file of the kernel changes, not when another does.
    names = imports(ast.parse(path.read_text()), top_only=True)
    if "factory.compiled" in names:
        assert {n for n in names if n.startswith("factory")} <= {
            "factory.compiled", "factory.compiled.inlined", "factory.compiled.kernel",
        }  # fmt: skip


def test_kernels_are_known_as_such() -> None:
    assert "factory.scores._repetition_kernels" in compiled_modules()


def test_importing_the_factory_loads_nothing_heavy() -> None:
    code = "import sys, factory, factory.cli.main as m; m.build_parser(); print(*sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {name.split(".")[0] for name in out.stdout.split()}
    assert not loaded & {*HEAVY, "polars", "pyarrow", "pydantic", "numpy", "duckdb"}


def test_help_starts_in_half_a_second() -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "factory", "--help"], capture_output=True, check=True, cwd=ROOT
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # CPU seconds, since other tests may share the cores.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
