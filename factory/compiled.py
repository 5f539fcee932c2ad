"""The decorator of compiled kernels: loops over bytes and integers that NumPy has no word for.

A module of kernels is named ``…_kernels`` and is imported inside the functions that call it, since
it loads numba. A kernel is compiled on its first call and kept on disk beside its source, or, where
that folder cannot be written, in numba's folder of the user (``NUMBA_CACHE_DIR`` names another).
Where neither can be, it is compiled anew in each process. What is kept is dropped when the kernel's
own file changes, and not when another does: so a file of kernels holds all that its kernels call.
Kernels run on one thread, free of the interpreter's lock, and check no bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(function: Kernel) -> Kernel:
    """Compile a function of arrays and numbers with numba when it is first called."""
    import numba

    try:
        compiled = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no folder to keep it in
        compiled = numba.njit(nogil=True, error_model="numpy")(function)
    return cast(Kernel, compiled)


def inlined(function: Kernel) -> Kernel:
    """Compile a function that only kernels call; it is part of their machine code."""
    import numba

    return cast(Kernel, numba.njit(forceinline=True, error_model="numpy")(function))
