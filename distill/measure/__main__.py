"""One phase, in a process of its own: ``python -m distill.measure PHASE OUT WORK``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from distill.measure import Work
from distill.measure.sampling import sample
from distill.measure.training import grpo, sft


def main(words: Sequence[str]) -> None:
    """Measure one phase here, and write what was found."""
    phase, out, work = words
    found = {"sft": sft, "grpo": grpo, "sample": sample}[phase](Work(**json.loads(work)))
    Path(out).write_text(json.dumps(asdict(found)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
