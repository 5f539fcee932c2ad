"""Sampling policies: how many samples of a prompt are wanted.

Whether sample i is wanted depends on the verdicts of samples 0 … i−1 of its prompt alone, never on
timing: so an interrupted run, a resumed one and an undisturbed one want the same samples. What
finishes beyond that is a fact outside the universe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from factory.config import Config


class Policy(Config):
    """How many samples a prompt gets.

    ``fixed``: ``n`` each. ``until``: one after the other until ``passes`` have passed, at most
    ``max_samples``. ``adaptive``: as ``until``, and a prompt whose first ``give_up_after`` samples
    all failed is left (a bias against hard prompts: the report shows the coverage).

    >>> Policy(kind="fixed", n=4).wants(["fail"] * 3), Policy(kind="fixed", n=4).wants(["fail"] * 4)
    (True, False)
    >>> Policy(kind="until", passes=1, max_samples=8).wants(["fail", "pass"])
    False
    """

    kind: Literal["fixed", "until", "adaptive"] = "fixed"
    """What decides."""
    n: int | None = Field(default=None, ge=1)
    """Samples per prompt (``fixed``)."""
    passes: int | None = Field(default=None, ge=1)
    """Passes that are enough (``until``, ``adaptive``)."""
    max_samples: int | None = Field(default=None, ge=1)
    """Most samples of a prompt (``until``, ``adaptive``)."""
    give_up_after: int | None = Field(default=None, ge=1)
    """Failures in a row from the start after which a prompt is left (``adaptive``)."""
    ahead: int = Field(default=1, ge=1)
    """Samples of one prompt under way before their predecessors' verdicts are known. More than 1
    keeps slots busy where prompts are few, at the price of samples outside the universe."""

    def model_post_init(self, context: object) -> None:
        """Refuse a policy that lacks its own numbers."""
        need = {
            "fixed": ("n",),
            "until": ("passes", "max_samples"),
            "adaptive": ("passes", "max_samples", "give_up_after"),
        }[self.kind]
        lacking = [name for name in need if getattr(self, name) is None]
        if lacking:
            raise ValueError(f"policy {self.kind!r} needs {', '.join(lacking)}")

    @property
    def limit(self) -> int:
        """Most samples that any prompt can get."""
        return (self.n if self.kind == "fixed" else self.max_samples) or 0

    @property
    def needs_verdicts(self) -> bool:
        """Whether verdicts decide what is asked next."""
        return self.kind != "fixed"

    def wants(self, statuses: Sequence[str]) -> bool:
        """Tell whether sample ``len(statuses)`` is wanted, given the verdicts before it."""
        return self.wants_after(len(statuses), sum(s == "pass" for s in statuses))

    def wants_after(self, i: int, n_pass: int) -> bool:
        """Tell whether sample ``i`` is wanted, given how many of those before it have passed."""
        if self.kind == "fixed":
            return i < (self.n or 0)
        if i >= (self.max_samples or 0) or n_pass >= (self.passes or 0):
            return False
        gives_up = self.kind == "adaptive" and n_pass == 0 and i >= (self.give_up_after or i + 1)
        return not gives_up
