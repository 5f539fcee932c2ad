"""What tokens and devices cost, for the limit and the progress of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Price:
    """What tokens and devices cost, in any one currency.

    >>> Price(per_million_completion_tokens=2.0).of(completion_tokens=500_000)
    1.0
    """

    per_million_prompt_tokens: float = 0.0
    per_million_completion_tokens: float = 0.0
    per_gpu_hour: float = 0.0

    def of(
        self, *, prompt_tokens: int = 0, completion_tokens: int = 0, gpu_seconds: float = 0.0
    ) -> float:
        """Return the money for so much."""
        return (
            prompt_tokens * self.per_million_prompt_tokens / 1e6
            + completion_tokens * self.per_million_completion_tokens / 1e6
            + gpu_seconds * self.per_gpu_hour / 3600
        )
