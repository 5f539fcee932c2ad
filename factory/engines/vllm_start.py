"""What vLLM needs before it is imported, and its start: quiet, with errors that can be read."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from factory.errors import EngineError

_CPU_ENV = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "TORCHDYNAMO_DISABLE": "1",  # the CPU sampler is compiled otherwise: seconds, and a compiler
}
_QUIET_ENV = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CONFIGURE_LOGGING": "1",
}


def has_cuda() -> bool:
    """Tell whether a CUDA device is here, without importing torch."""
    return Path("/proc/driver/nvidia/version").exists() and os.environ.get(
        "CUDA_VISIBLE_DEVICES", "0"
    ) not in ("", "-1")


def prepare_environment() -> str:
    """Set what must be set before torch and vLLM are imported; return ``cpu`` or ``cuda``."""
    for name, value in _QUIET_ENV.items():
        os.environ.setdefault(name, value)
    if has_cuda():
        return "cuda"
    for name, value in _CPU_ENV.items():
        os.environ.setdefault(name, value)
    # Two threads spin against each other as soon as the cores are shared.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    return "cpu"


def start(settings: dict[str, Any]) -> Any:
    """Return a ``vllm.LLM`` of these settings.

    Raises:
        EngineError: vLLM is not installed, or cannot start; the message says what to change.
    """
    logging.getLogger("vllm").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), quiet_stderr():
            warnings.simplefilter("ignore")  # vLLM's own imports warn about torch's deprecations
            from vllm import LLM
    except ImportError as error:
        raise EngineError(
            f"vLLM cannot be imported ({error})", "install the extra 'cpu' or 'gpu'"
        ) from None
    hide_dict_of_llvmlite()
    try:
        with quiet_stderr() as said:
            return LLM(**settings)
    except Exception as error:
        _log_tail(said)
        text = " ".join(str(error).split())[:300]
        todo = "see `factory doctor`"
        if "memory" in text.lower():
            todo = "lower max_num_seqs, max_model_len or gpu_memory_utilization"
        raise EngineError(f"vLLM cannot start on {settings['model']}: {text}", todo) from error


def hide_dict_of_llvmlite() -> None:
    """Let vLLM start in a process that has used numba.

    At every start on a CPU, vLLM 0.31 walks through everything in every loaded module and calls
    ``vars(value).get("kernel")`` on what has a ``__dict__`` (``triton_utils/dispatcher.py``).
    llvmlite 0.47 keeps its C library in an object that makes a C function of any name it is asked
    for, ``__dict__`` included, and that "function" has no ``get``: vLLM ends there.

    No option or environment variable of vLLM 0.31 skips the walk where Triton is absent, and no
    order of imports helps, since vLLM itself loads numba before the second model is started. So an
    empty dictionary is put under that name into the object's table of names already looked up;
    no function of either library is replaced.
    """
    module = sys.modules.get("llvmlite.binding.ffi")
    if module is not None:
        with contextlib.suppress(AttributeError):  # a version without the table
            module.lib._fntab["__dict__"] = {}


@contextlib.contextmanager
def quiet_stderr() -> Iterator[IO[bytes]]:
    """Send what libraries write to standard error (progress bars, C++ notes) to a file instead."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield file
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _log_tail(file: IO[bytes]) -> None:
    with contextlib.suppress(ValueError, OSError):
        file.seek(0)
        sys.stderr.write("".join(file.read().decode("utf-8", "replace").splitlines(True)[-8:]))
