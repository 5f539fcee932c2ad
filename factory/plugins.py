"""Plug-ins are files: a verifier, score, engine or source is found by its name or by its path.

``load("verifiers", "math")`` imports ``factory/verifiers/math/__init__.py``;
``load("verifiers", "my/check.py")`` imports that file. There is nothing to register.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Literal

from factory.errors import PluginError

Kind = Literal["verifiers", "scores", "engines", "sources"]
_NEEDS: dict[str, tuple[str, ...]] = {
    "verifiers": ("VERSION", "verify"),
    "scores": ("VERSION", "READS", "WRITES", "score"),
    "engines": (),
    "sources": (),
}
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_MARK = {
    "verifiers": re.compile(r"^def verify\(", re.MULTILINE),
    "scores": re.compile(r"^def score\(", re.MULTILINE),
    "engines": re.compile(r"^class Engine\b(?!\(Protocol)", re.MULTILINE),
    "sources": re.compile(r"^def prompts\(", re.MULTILINE),
}
"""What tells a plug-in from the helpers beside it, without importing either."""


def names(kind: Kind) -> list[str]:
    """Return the names of the plug-ins that come with the factory.

    >>> "math" in names("verifiers")
    True
    """
    folder = Path(__file__).parent / kind
    files = {p.stem: p for p in folder.glob("[!_]*.py")}
    packages = {p.parent.name: p for p in folder.glob("[!_]*/__init__.py")}
    found = (files | packages).items()
    return sorted(n for n, p in found if _MARK[kind].search(p.read_text("utf-8")))


@functools.cache
def load(kind: Kind, name: str) -> ModuleType:
    """Return the plug-in's module.

    Args:
        kind: the folder that it belongs to.
        name: a name from ``names(kind)``, or a path that ends in ``.py``.

    Raises:
        PluginError: there is none of that name, it cannot be imported, or it lacks a part of its
            contract; the message says which.
    """
    module = load_file(Path(name)) if name.endswith(".py") else _from_name(kind, name)
    lacking = [part for part in _NEEDS[kind] if not hasattr(module, part)]
    if lacking:
        raise PluginError(
            f"{kind[:-1]} {name!r} does not define {', '.join(lacking)}",
            f"a {kind[:-1]} file defines {', '.join(_NEEDS[kind])}",
        )
    return module


def _from_name(kind: Kind, name: str) -> ModuleType:
    known = names(kind)
    if not _NAME.fullmatch(name) or name not in known:
        raise PluginError(
            f"unknown {kind[:-1]} {name!r}",
            f"known: {', '.join(known)}; or give a path to a .py file",
        )
    return importlib.import_module(f"factory.{kind}.{name}")


def load_file(path: Path) -> ModuleType:
    """Import a Python file by its path, once.

    Raises:
        PluginError: there is no such file, or it fails to load.
    """
    if not path.is_file():
        raise PluginError(f"no plug-in file {str(path)!r}", "check the path")
    digest = hashlib.blake2b(str(path.resolve()).encode(), digest_size=6).hexdigest()
    module_name = f"_factory_plugin_{path.stem}_{digest}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} cannot be imported", "it must be a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file may raise anything; it is named
        del sys.modules[module_name]
        raise PluginError(f"{path} failed to load: {type(error).__name__}: {error}") from error
    return module


def label(kind: Kind, name: str) -> str:
    """Return ``name@VERSION``, under which the plug-in's facts are stored.

    A plug-in from outside is named by its file's stem.
    """
    module = load(kind, name)
    return f"{Path(name).stem if name.endswith('.py') else name}@{module.VERSION}"
