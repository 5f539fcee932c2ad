"""Plug-ins are files: a verifier, score, engine or source is found by its name or by its path.

``load("verifiers", "math")`` imports ``factory/verifiers/math/__init__.py``;
``load("verifiers", "my/check.py")`` imports that file. There is nothing to register.

A file is code. Its path may come from the command line, a recipe or a caller in Python (``allow``);
a path that only a data row names is never imported.

What a plug-in wants where nobody says otherwise it declares itself, so that a user's own plug-in
can have it, too; nothing here or elsewhere depends on a plug-in's name. A verifier may declare:

- ``OPTIONS``: names of its options, where ``verify`` takes ``**options``.
- ``FILE_OPTIONS``: options for rows of files and imports, such as ``{"mode": "auto"}``.
- ``fits_gold(gold)``: whether a gold that nobody named a verifier for is one of its own, or
  ``FITS_ANY_GOLD = True``: it takes those that no other fits.
- ``MOST_PER_ROW``: the largest numbers that a data row may set an option to.
- ``DEADLINE_S`` and ``MEMORY_BYTES``: limits of one item in a worker (``factory.stages.checker``).

A score may declare:

- ``BY_DEFAULT = False``: it is measured only where it is named.
- ``ready(**params)``: called once before any work, refuses what cannot be measured.
- ``identify(params)``: what names its parameters in the store, where that is not their text, such
  as the digest of a folder of weights. Such a score is measured in one process.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

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
    return list(_names(kind))


@functools.cache
def _names(kind: Kind) -> tuple[str, ...]:
    folder = Path(__file__).parent / kind
    files = {p.stem: p for p in folder.glob("[!_]*.py")}
    packages = {p.parent.name: p for p in folder.glob("[!_]*/__init__.py")}
    found = (files | packages).items()
    return tuple(sorted(n for n, p in found if _MARK[kind].search(p.read_text("utf-8"))))


def default_scores() -> list[str]:
    """Return the scores that are measured where nobody names any: all that need nothing.

    A score that does (``BY_DEFAULT = False``) reads a model of the user's own.

    >>> "length" in default_scores(), "reward_model" in default_scores()
    (True, False)
    """
    return [n for n in names("scores") if getattr(load("scores", n), "BY_DEFAULT", True)]


_ALLOWED: set[Path] = set()


def allow(name: str | None) -> None:
    """Let a verifier's file be imported: whoever runs the factory has named it, not a data row.

    Verbs call this with what the command line or a recipe says; so does a caller in Python whose
    own rows name a file. Anything but a path is left aside.
    """
    if name is not None and name.endswith(".py"):
        _ALLOWED.add(Path(name).resolve())


def load(kind: Kind, name: str) -> ModuleType:
    """Return the plug-in's module.

    Args:
        kind: the folder that it belongs to.
        name: a name from ``names(kind)``, or a path that ends in ``.py``.

    Raises:
        PluginError: there is none of that name, it cannot be imported, it lacks a part of its
            contract, or it is a verifier's file that nobody but a data row has named; the message
            says which.
    """
    # Verifiers alone are named by data rows; files of the other kinds come from recipes.
    if kind == "verifiers" and name.endswith(".py") and Path(name).resolve() not in _ALLOWED:
        raise PluginError(
            f"verifier {name!r} is a file that a data row names; it was not run",
            "where it is yours, name it with --verifier or in the recipe",
        )
    return _load(kind, name)


@functools.cache
def _load(kind: Kind, name: str) -> ModuleType:
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

    A plug-in from outside is named by its file's stem; a verifier from outside also bears a digest
    of its text, ``name@VERSION+digest``: two files of one name are two verifiers.

    Raises:
        PluginError: a file bears the name of a plug-in that comes with the factory.

    >>> label("verifiers", "math").partition("@")[0]
    'math'
    """
    module = load(kind, name)
    if not name.endswith(".py"):
        return f"{name}@{module.VERSION}"
    stem = Path(name).stem
    if stem in names(kind):
        raise PluginError(
            f"{name} bears the name of a {kind[:-1]} that comes with the factory", "rename the file"
        )
    if kind != "verifiers":
        return f"{stem}@{module.VERSION}"
    digest = hashlib.blake2b(Path(name).read_bytes(), digest_size=4).hexdigest()
    return f"{stem}@{module.VERSION}+{digest}"


def meanings(kind: Kind, name: str) -> dict[str, str]:
    """Return column → what it means, as the plug-in's file says (``MEANINGS``).

    >>> meanings("scores", "dynamics")["n_wait"]
    'of these, the word wait and its Chinese counterparts'
    """
    return dict(getattr(load(kind, name), "MEANINGS", {}))


# ---- what a verifier declares


@functools.cache
def option_names(name: str) -> tuple[str, ...]:
    """Return the names of the options that a verifier takes.

    >>> option_names("choice")
    ('mode', 'options')
    """
    module = load("verifiers", name)
    parameters = inspect.signature(module.verify).parameters.values()
    takes = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
    return tuple(getattr(module, "OPTIONS", takes))


@functools.cache
def all_option_names() -> frozenset[str]:
    """Return the names of the options of all verifiers that come with the factory."""
    return frozenset(o for name in _names("verifiers") for o in option_names(name))


def file_options(kind: Kind, name: str) -> dict[str, Any]:
    """Return the options that a plug-in wants for rows of files and imports (``FILE_OPTIONS``).

    Such rows hold answers in any form, while our own recipes ask for one form and say so.

    >>> file_options("verifiers", "math")
    {'mode': 'auto'}
    """
    return dict(getattr(load(kind, name), "FILE_OPTIONS", {}))


def row_options(name: str, given: object, *, strict: bool = False) -> dict[str, Any]:
    """Return what a row's column ``options`` says to a verifier.

    Args:
        name: of the verifier.
        given: a mapping of its options, or that as JSON text; for a verifier with an option
            ``options`` (the texts of a multiple choice) also those texts: a list, or a mapping
            from letters. Keys without a value are left out: Arrow gives every row all keys.
        strict: raise for what is none of these; else it says nothing to this verifier.

    Raises:
        ValueError: the column cannot be read.

    >>> row_options("choice", ["Paris", "London"])
    {'options': ['Paris', 'London']}
    >>> row_options("math", '{"mode": "boxed"}'), row_options("math", ["Paris", "London"])
    ({'mode': 'boxed'}, {})
    """
    if given is None or given == "":
        return {}
    if isinstance(given, str):
        with contextlib.suppress(ValueError, RecursionError):  # it may be the texts themselves
            given = json.loads(given)
    takes_texts = "options" in option_names(name)
    if isinstance(given, Mapping):
        fields = {str(k): v for k, v in given.items() if v is not None}
        is_texts = takes_texts and not set(fields) & set(option_names(name))
        return {"options": fields} if is_texts and fields else fields
    if takes_texts:
        return {"options": given}
    if strict:
        raise ValueError(f"unreadable options: {str(given)[:80]}")
    return {}


def bounded(
    name: str, own: Mapping[str, Any], ours: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a data row's options within what whoever runs the factory allows.

    Args:
        name: of the verifier, whose ``MOST_PER_ROW`` holds where nobody says less.
        own: the row's options.
        ours: options of the recipe or the command line.

    >>> bounded("code", {"cpu_s": 100_000, "prelude": False}, {"cpu_s": 2})
    {'cpu_s': 2, 'prelude': False}
    """
    most = dict(getattr(load("verifiers", name), "MOST_PER_ROW", {}))
    out = dict(own)
    for option in most.keys() & out.keys():
        limit = (ours or {}).get(option, most[option])
        try:
            said = float(out[option])
        except (TypeError, ValueError, OverflowError):
            continue  # no number: the verifier says so
        if not 0 <= said <= float(limit):
            out[option] = limit
    return out


def verifier_of_gold(gold: object) -> str:
    """Return the verifier that fits a gold where nobody names one.

    >>> verifier_of_gold("1/2"), verifier_of_gold("C"), verifier_of_gold({"test_cases": []})
    ('math', 'choice', 'code')
    """
    fitting, others = _takers_of_golds()
    return next((name for name, fits in fitting if fits(gold)), others)


@functools.cache
def _takers_of_golds() -> tuple[list[tuple[str, Callable[[object], bool]]], str]:
    """Return the verifiers that know their golds, and the one that takes all others."""
    modules = {name: load("verifiers", name) for name in _names("verifiers")}
    fitting = [(n, m.fits_gold) for n, m in modules.items() if hasattr(m, "fits_gold")]
    return fitting, next(n for n, m in modules.items() if getattr(m, "FITS_ANY_GOLD", False))
