"""A server program that a test starts: ``python tests/server_program.py PORT FOLDER WHAT``.

WHAT: ``answers``; ``dies``: at its start; ``sleeps``: never listens; ``dies_once``, ``dies_often``:
in the middle of its work. It leaves the pids of itself and of a child of its own in FOLDER.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.helpers_run import SAMPLING
from tests.helpers_server import Server, recorded


def main(port: int, folder: Path, what: str) -> None:
    child = subprocess.Popen(["sleep", "600"])
    with (folder / "pids").open("a") as file:
        file.write(f"{os.getpid()}\n{child.pid}\n")
    if what == "dies":
        sys.exit("no room for the key-value cache")
    if what == "sleeps":
        time.sleep(600)

    def behave(number: int, body: dict[str, Any]) -> str:
        died = folder / "died"
        is_time = number == 5 if what == "dies_often" else not died.exists()
        if what.startswith("dies") and is_time:
            died.touch()
            print("out of memory", flush=True)
            os._exit(9)
        return "answer"

    rows = recorded(12, 8, model="recorded-model", revision="recorded", sampling=SAMPLING)
    with Server(rows, behave=behave, port=port, seconds_per_token=0.0002):
        threading.Event().wait()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
