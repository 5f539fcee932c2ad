"""The decorator of compiled kernels: loops over bytes and integers that NumPy has no word for.

A module of kernels is named ``…_kernels`` and is imported inside the functions that call it, since
it loads numba. A kernel is compiled on its first call and kept on disk beside its source, or, where
that folder cannot be written, in numba's folder of the user (``NUMBA_CACHE_DIR`` names another).
Where neither can be, it is compiled anew in each process. What is kept is dropped when the kernel's
own file changes, and not when another does: so a file of kernels holds all that its kernels call.
All of them take half a minute: ``make setup`` runs each once, and elsewhere one line says what is
waited for. Inside kernels, a loop over elements compiles in a tenth of the time of NumPy's
``a[:] = b`` or ``a.max()``, which bring the texts of their errors along. Kernels run on one thread,
free of the interpreter's lock, and check no bounds.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

LOG = logging.getLogger(__name__)
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(function: Kernel) -> Kernel:
    """Compile a function of arrays and numbers with numba when it is first called."""
    import numba

    _announce()
    try:
        compiled = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no folder to keep it in
        compiled = numba.njit(nogil=True, error_model="numpy")(function)
    return cast(Kernel, compiled)


def inlined(function: Kernel) -> Kernel:
    """Compile a function that only kernels call; it is part of their machine code."""
    import numba

    return cast(Kernel, numba.njit(forceinline=True, error_model="numpy")(function))


@functools.cache
def _announce() -> None:
    """Have one line said when this process first compiles a kernel."""
    from numba.core import event

    class Listener(event.Listener):  # type: ignore[misc]
        is_said = False

        def on_start(self, begun: Any) -> None:
            if not self.is_said:
                LOG.warning(
                    "compiling this step's kernels, once after an installation (half a minute)"
                )
            self.is_said = True

        def on_end(self, ended: Any) -> None:
            pass

    event.register("numba:compile", Listener())
