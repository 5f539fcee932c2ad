"""Peak memory of a program, for tests and benchmarks."""

from __future__ import annotations

from pathlib import Path


def own_peak_mib() -> float:
    """Peak memory of this very program (``ru_maxrss`` would count that of its parent's fork)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith("VmHWM")) / 2**10
