"""vLLM's form of a sampling, made once and copied for every request."""

from __future__ import annotations

import copy
from typing import Any

from factory.engines.base import Request
from factory.records import Sampling


class Parameters:
    """Gives each request its own ``SamplingParams``; remembers those of the last sampling.

    To build and check them anew costs more than to add the request.
    """

    def __init__(self) -> None:
        self._last: tuple[Sampling, bool, Any] | None = None

    def of(self, request: Request, *, streaming: bool) -> Any:
        """Return the request's parameters, with its own seed.

        Args:
            request: the next to be added.
            streaming: whether the text so far is wanted while it grows.

        Raises:
            ValueError: vLLM takes no such sampling.
        """
        last = self._last
        if last is None or last[0] is not request.sampling or last[1] != streaming:
            params = sampling_params(request.sampling, streaming=streaming)
            self._last = last = (request.sampling, streaming, params)
        params = copy.copy(last[2])
        params.seed = request.seed
        return params


def sampling_params(s: Sampling, *, streaming: bool) -> Any:
    """Return vLLM's form of a sampling, without a seed."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        n=1,
        temperature=s.temperature,
        top_p=s.top_p,
        top_k=s.top_k,
        min_p=s.min_p,
        min_tokens=s.min_tokens,
        max_tokens=s.max_tokens,
        repetition_penalty=s.repetition_penalty,
        presence_penalty=s.presence_penalty,
        frequency_penalty=s.frequency_penalty,
        stop=list(s.stop) or None,
        skip_clone=True,  # else vLLM copies every request's deeply, though each has its own
        skip_special_tokens=False,  # tags such as <think> may be special tokens
        spaces_between_special_tokens=False,
        output_kind=RequestOutputKind.DELTA if streaming else RequestOutputKind.FINAL_ONLY,
    )
