"""Layers: each module imports only from its own layer or those below; heavy imports stay inside."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import factory

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "trl", "vllm", "ray", "datasets", "transformers", "sympy", "math_verify", "jieba",
         "numba")  # fmt: skip
LAYERS = [
    ("factory.dialects", "factory.records", "factory.errors", "factory.processes"),
    ("factory.compiled", "factory.config", "factory.plugins", "factory.workers", "factory.metrics",
     "factory.model_files", "factory.store", "factory.rows", "factory.sandbox"),
    ("factory.engines", "factory.verifiers", "factory.scores", "factory.sources", "factory.sets"),
    ("factory.stages", "catalogs"),
    ("factory.report", "factory.browse"),
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


PACKAGES = ("factory", "catalogs", "distill", "pipelines")
SOURCES = sorted(p for d in PACKAGES for p in (ROOT / d).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(p): p for p in (*SOURCES, *TESTS)}


def package_of(module: str) -> str:
    """``catalogs``, ``distill``, ``pipelines``, ``tests``, or a folder under ``factory``."""
    head, _, rest = module.partition(".")
    if head != "factory":
        return head
    first = rest.partition(".")[0]
    return f"factory.{first}" if (ROOT / "factory" / first).is_dir() and first else module


def layer_of(module: str) -> int:
    if module == "factory" or module.removeprefix("factory.") in factory.__all__:
        module = "factory.cli"  # the public names stand above all that they name
    for number, prefixes in enumerate(LAYERS):
        for prefix in prefixes:
            if module == prefix or module.startswith(prefix + "."):
                return number
    raise AssertionError(f"{module} belongs to no layer")


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def nodes_of(path: Path) -> list[ast.Import | ast.ImportFrom | ast.Attribute]:
    """The nodes of a file that these tests look at, anywhere in its text."""
    wanted = (ast.Import, ast.ImportFrom, ast.Attribute)
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, wanted)]


def imports(path: Path, *, top_only: bool) -> list[str]:
    nodes = ast.iter_child_nodes(tree_of(path)) if top_only else nodes_of(path)
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@functools.cache
def arrows(path: Path) -> set[str]:
    """Modules of ours that a module imports anywhere in its text, types included."""
    found = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name in MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            names = {f"{node.module}.{a.name}" for a in node.names}
            found |= {n if n in MODULES else node.module for n in names}
    return found - {module_of(path)}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return found


def test_no_module_stands_in_a_circle() -> None:
    assert circles({module_of(p): arrows(p) for p in SOURCES}) == []


def test_no_package_stands_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in SOURCES:
        own = package_of(module_of(path))
        graph.setdefault(own, set()).update(package_of(m) for m in arrows(path))
        graph[own].discard(own)
    assert circles(graph) == []


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def private_imports(path: Path) -> list[str]:
    """What a module takes from another package although its name begins with an underscore."""
    own = package_of(module_of(path))
    found = []
    aliases: dict[str, str] = {}
    for node in nodes_of(path):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        if node.module.partition(".")[0] not in (*PACKAGES, "tests"):
            continue
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            if full in MODULES:
                aliases[alias.asname or alias.name] = full
            other = package_of(full if full in MODULES else node.module)
            if other != own and any(p.startswith("_") for p in full.split(".") if p[:2] != "__"):
                found.append(full)
    for node in nodes_of(path):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            full = aliases.get(node.value.id)
            is_private = node.attr.startswith("_") and node.attr[:2] != "__"
            if full and is_private and package_of(full) != own:
                found.append(f"{full}.{node.attr}")
    return found


def test_stages_and_report_do_without_the_catalog() -> None:
    for path in SOURCES:
        if package_of(module_of(path)) in ("factory.stages", "factory.report"):
            assert "catalogs" not in {package_of(m) for m in arrows(path)}, path


def test_nothing_private_is_taken_from_another_package() -> None:
    found = {module_of(path): private_imports(path) for path in (*SOURCES, *TESTS)}
    assert {module: names for module, names in found.items() if names} == {}


@pytest.mark.parametrize("package", sorted({package_of(module_of(p)) for p in SOURCES}))
def test_a_module_imports_only_from_its_layer_or_below(package: str) -> None:
    for path in SOURCES:
        if package_of(module_of(path)) == package:
            check_imports(path)


def check_imports(path: Path) -> None:
    module = module_of(path)
    for name in imports(path, top_only=False):
        if name.split(".")[0] not in PACKAGES:
            continue
        if name in PACKAGES:
            continue
        assert layer_of(name) <= layer_of(module), f"{module} imports {name} of a higher layer"
        for leaf in LEAVES:
            if name.startswith(leaf + "."):
                own = module.startswith(leaf)
                assert own or layer_of(module) > 2, f"the leaf {module} imports the leaf {name}"
    if module == "factory.compiled" or module in compiled_modules():
        return
    for name in imports(path, top_only=True):
        assert name.split(".")[0] not in HEAVY, f"{module} imports {name} at its top"
        assert name not in compiled_modules(), f"{module} imports kernels ({name}) at its top"


def test_few_files_stand_loose_in_the_factory() -> None:
    assert len(list((ROOT / "factory").glob("*.py"))) <= 11


@functools.cache
def compiled_modules() -> set[str]:
    """Modules of kernels: they load numba, and others import them inside functions."""
    found = set()
    for path in SOURCES:
        names = imports(path, top_only=True)
        if "factory.compiled" in names or "numba" in names:
            found.add(module_of(path))
    return found


def test_kernels_call_only_what_their_own_file_holds() -> None:
    # What is kept on disk is dropped when the file of the kernel changes, not when another does.
    allowed = {"factory.compiled", "factory.compiled.inlined", "factory.compiled.kernel"}
    for path in SOURCES:
        names = imports(path, top_only=True)
        if "factory.compiled" in names:
            assert {n for n in names if n.startswith("factory")} <= allowed, path


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
