"""Functions that the pool's tests run in workers: good, hung, crashing, memory-hungry."""

from __future__ import annotations

import os
import time


def work(payload: object, **options: object) -> object:
    if payload == "hang":
        while True:
            pass
    if payload == "sleep":
        time.sleep(1000)
    if payload == "crash":
        os.kill(os.getpid(), 11)
    if payload == "memory":
        return len(bytearray(64 << 30))
    if payload == "raise":
        raise KeyError("oops")
    if payload == "print":
        print("noise")
        return "printed"
    assert isinstance(payload, int)
    return payload * 2
