"""The system-call filter of the sandbox, run number by number as the kernel runs it."""

from __future__ import annotations

import os
import struct

import pytest

from factory.sandbox.inside import kernel


def _decided(program: bytes, number: int, *arguments: int) -> int:
    """Run a filter as the kernel does, on x86-64; return its answer without its data."""
    given = struct.pack("IIQ6Q", number, 0xC000003E, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    lines = [struct.unpack_from("HBBI", program, at) for at in range(0, len(program), 8)]
    at = held = 0
    while True:
        code, yes, no, value = lines[at]
        at += 1
        if code == 0x06:
            return value >> 16
        if code == 0x20:
            (held,) = struct.unpack_from("I", given, value)
        elif code == 0x54:
            held &= value
        else:
            holds = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[code]
            at += yes if holds else no


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
@pytest.mark.parametrize(("forks", "private"), [(True, True), (False, False)])
def test_the_filter_denies_what_it_names_and_nothing_else(forks: bool, private: bool) -> None:
    program = kernel.seccomp_filter(allow_fork=forks, private=private)
    allowed = [n for n in range(450) if _decided(program, n) == 0x7FFF]
    for n in (0, 1, 2, 3, 9, 12, 56 if forks else 60, 59, 202, 231, 257, 318, 334):
        assert n in allowed
    always = (41, 42, 101, 155, 165, 250, 272, 308, 310, 319, 321, 425, 434, 447)
    for n in (*always, *(() if private else (57, 58, 62, 90, 200, 234, 297))):
        assert n not in allowed
    assert len(allowed) == (340 if private else 312)
    assert _decided(program, 302, 1) == _decided(program, 16, 1, 0x8901) == 5  # SECCOMP_RET_ERRNO
    assert _decided(program, 53, 1, 1) == 0x7FFF
    assert _decided(program, 53, 1, 2) == 5
    assert all(_decided(program, n) == 5 for n in (450, 1 << 30, 2**32 - 1))
