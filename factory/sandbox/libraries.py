"""Libraries that a task may name: a box shows them to its programs, read-only, where it does."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

LIBRARIES: dict[str, tuple[str, ...]] = {
    "numpy": (), "sympy": ("mpmath",), "mpmath": (), "networkx": (), "scipy": ("numpy",),
    "sortedcontainers": (),
}  # fmt: skip
"""Names that a task may use, each with the others that it needs itself."""


@functools.cache
def folders(name: str) -> tuple[Path, ...]:
    """Return where a library lies here: its package and its shared objects; () where it does not.

    >>> folders("no_such_library")
    ()
    """
    if name not in LIBRARIES:
        return ()
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return ()
    package = Path(next(iter(spec.submodule_search_locations)))
    objects = package.with_name(f"{name}.libs")
    return (package, objects) if objects.is_dir() else (package,)


def is_usable(name: str) -> bool:
    """Tell whether a box can show a library: it is in the list, and installed with its needs.

    >>> is_usable("torch")
    False
    """
    return bool(folders(name)) and all(folders(other) for other in LIBRARIES[name])


def with_needs(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the libraries with those that they need.

    >>> with_needs(("sympy",))
    ('mpmath', 'sympy')
    """
    return tuple(sorted({*names, *(other for name in names for other in LIBRARIES[name])}))
