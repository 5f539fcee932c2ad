"""Engine ``vllm``: vLLM inside this process, request by request; traces leave as they finish.

On a machine without CUDA the settings that make vLLM's CPU build work are made before it is
imported (``vllm_start``): one process, one thread, eager, float32. On CUDA its own defaults stand.

One request per sample, not ``n=K``: resume may need only sample 3, and a finished sample leaves
without waiting for its siblings. Their common prefix is cached.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory import model_files
from factory.engines import base
from factory.engines._vllm_params import Parameters
from factory.engines.base import Failure, Incoming, OnPartial, Request
from factory.engines.vllm_cpu import SLOTS, cpu_settings, pack_experts, sequence_tokens
from factory.engines.vllm_start import has_cuda, prepare_environment, start
from factory.errors import EngineError
from factory.records import Message, Sampling, Trace

PARTIAL_EVERY_TOKENS = 128


def fitted(
    model: str, settings: Mapping[str, Any], prompts: Sequence[Sequence[Message]],
    sampling: Sampling,
) -> dict[str, Any]:  # fmt: skip
    """Return the engine's settings with what the work to come says: on a CPU, its longest sequence.

    ``open_engine`` asks for it where prompts and sampling are known before the engine starts.
    """
    out = dict(settings)
    # Before a tokenizer is looked for: where there is no such model, that is tried five times.
    model_files.revision_of(model, out.get("revision"))
    if not has_cuda() and not {"max_model_len", "kv_cache_bytes", "sequence_tokens"} & out.keys():
        out["sequence_tokens"] = sequence_tokens(model, out.get("revision"), prompts, sampling)
    return out


@dataclass
class _Flight:
    """A request under way."""

    request: Request
    begun: float
    n_prompt_tokens: int
    text: list[str] = field(default_factory=list)
    n_tokens: int = 0
    n_checked: int = 0


class Engine(base.Engine):
    """vLLM on one model.

    Args:
        model: local folder, or a hub name.
        revision: commit of a hub model.
        chat_template: Jinja text instead of the model's own; ``plain`` joins the messages.
        max_model_len: longest prompt + completion, tokens; default: the model's own, on a CPU
            as far as the cache holds it.
        max_num_seqs: sequences decoded at once; on a CPU at most as many as the cache holds.
        queued: requests handed to vLLM beyond those, so that no slot waits.
        gpu_memory_utilization: share of the device's memory (CUDA).
        tensor_parallel_size: devices per model (CUDA).
        sequence_tokens: tokens of the longest sequence that is to come, where it is known: on a
            CPU, memory is taken for it and not for the longest that the model could take.
        kv_cache_bytes: size of the cache on CPU; default: for the work, and at most a quarter of
            the free memory (``vllm_cpu``).
        enforce_eager: no graph capture; always so on CPU.
        args: further arguments of ``vllm.LLM``, as they are.

    Attributes:
        llm: the ``vllm.LLM``, for what the contract of engines does not have, such as token ids in
            and token ids out; None once closed. No run may be under way meanwhile.

    Raises:
        EngineError: vLLM is not installed or cannot start; the message says what to change.
    """

    knows_template = True

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        chat_template: str | None = None,
        max_model_len: int | None = None,
        max_num_seqs: int = SLOTS,
        queued: int = 64,
        gpu_memory_utilization: float = 0.9,
        tensor_parallel_size: int = 1,
        sequence_tokens: int | None = None,
        kv_cache_bytes: int | None = None,
        enforce_eager: bool = False,
        args: Mapping[str, Any] | None = None,
    ) -> None:
        model_files.check_safe(model)
        self.model = model_files.name_of(model)
        self.revision = model_files.revision_of(model, revision)
        self.device = prepare_environment()
        self.n_devices = 0 if self.device == "cpu" else tensor_parallel_size
        settings: dict[str, Any] = {
            "model": model,
            "trust_remote_code": False,
            "max_model_len": max_model_len,
            "max_num_seqs": max_num_seqs,
            "enable_prefix_caching": True,
            "load_format": "safetensors",
            # Of a sample's tokens: after temperature, as a trainer computes its own.
            "logprobs_mode": "processed_logprobs",
        }
        if not model_files.is_local(model):
            settings["revision"] = self.revision
        if self.device == "cpu":
            settings |= cpu_settings(
                model,
                revision=settings.get("revision"),
                max_num_seqs=max_num_seqs,
                max_model_len=max_model_len,
                sequence_tokens=sequence_tokens,
                kv_cache_bytes=kv_cache_bytes,
                dtype=str((args or {}).get("dtype", "float32")),
            )
        else:
            settings |= {
                "gpu_memory_utilization": gpu_memory_utilization,
                "tensor_parallel_size": tensor_parallel_size,
                "enforce_eager": enforce_eager,
            }
        settings |= args or {}
        at_once = int(settings["max_num_seqs"])
        self.slots = at_once + queued
        self.llm: Any = start(settings)
        self._engine = self.llm.llm_engine
        self._tokenizer = self.llm.get_tokenizer()
        self._given_template = chat_template
        self._template: str | None = None
        self.template: str | None = None
        self._rendered: tuple[tuple[str, str], list[int]] | None = None
        self._use_template(model)
        self.max_model_len = int(self.llm.model_config.max_model_len)
        self._flights: dict[str, _Flight] = {}
        # Requests are made in bursts: one by one between steps, each would find the processor's
        # caches full of the model and cost twice as much. What waits then is never under half.
        self._refill_below = at_once + max(1, queued // 2)
        self._params = Parameters()

    def render(self, request: Request) -> list[int]:
        """Return the token ids of the prompt, prefill included."""
        key = (request.prompt_id, request.sampling.prefill)
        if self._rendered is None or self._rendered[0] != key:
            # The samples of a prompt are asked one after the other: one rendering serves them all.
            tokens = model_files.render(
                self._tokenizer,
                request.messages,
                template=self._template,
                prefill=request.sampling.prefill,
            )
            self._rendered = (key, tokens)
        return self._rendered[1]

    def rendered_text(self, request: Request) -> str:
        """Return the prompt exactly as the model sees it, to be shown before money is spent."""
        return str(self._tokenizer.decode(self.render(request), skip_special_tokens=False))

    def run(
        self, requests: Iterator[Request | None], on_partial: OnPartial | None = None
    ) -> Iterator[Trace | Failure | None]:
        """Answer requests as slots free; yield None when idle."""
        incoming = Incoming(requests)
        while incoming.more or self._flights:
            if len(self._flights) < self._refill_below:
                for request in incoming.take(lambda: len(self._flights) < self.slots):
                    failure = self._add(request, streaming=on_partial is not None)
                    if failure is not None:
                        yield failure
            if not self._flights:
                if incoming.more:
                    yield None
                continue
            yield from self._step(on_partial)

    def cancel(self, trace_ids: Iterable[str]) -> None:
        """Forget requests that are under way."""
        known = [t for t in trace_ids if t in self._flights]
        if known:
            self._engine.abort_request(known)
            for trace_id in known:
                del self._flights[trace_id]

    def reload(self, weights: str | Iterable[tuple[str, Any]]) -> None:
        """Take new weights without a restart: a safetensors folder, or (name, tensor) pairs.

        A folder is another model of the same shape: its name, revision and chat template (unless
        one was given to the engine) are those in force afterwards. Pairs leave them as they are.

        The pairs of a model with tied embeddings must hold ``lm_head.weight``, as ``state_dict()``
        does: vLLM on CPU keeps its old output head otherwise. Logprobs of the trainer and of the
        engine must agree afterwards (``logprobs``).
        """
        pairs = _with_head(weights) if isinstance(weights, str) else weights
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(pairs)})
        if self.device == "cpu":
            self.llm.apply_model(pack_experts)
        self.llm.reset_prefix_cache()
        if isinstance(weights, str):
            self.model, self.revision = (
                model_files.name_of(weights),
                model_files.revision_of(weights),
            )
            self._use_template(weights)

    def logprobs(self, token_ids: list[int]) -> list[float]:
        """Return the logprob of each token but the first, given those before it."""
        from vllm import SamplingParams

        params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
        out = self.llm.generate([{"prompt_token_ids": token_ids}], params, use_tqdm=False)[0]
        pairs = zip(out.prompt_logprobs[1:], token_ids[1:], strict=True)
        return [float(found[token].logprob) for found, token in pairs]

    def complete(
        self,
        prompts: Sequence[list[int]],
        *,
        seeds: Sequence[int],
        max_tokens: int,
        temperature: float,
        top_p: float,
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Return completion tokens, the end token included, and the log probability of each.

        The log probabilities are those of the distribution that was sampled from, temperature
        included.

        Args:
            prompts: token ids, N lists.
            seeds: one per prompt, shape (N,).
            max_tokens: of a completion.
            temperature: of the sampling.
            top_p: of the sampling.
        """
        from vllm import SamplingParams

        params = [
            SamplingParams(
                temperature=temperature,
                top_p=top_p,
                max_tokens=max_tokens,
                seed=seed,
                detokenize=False,
                logprobs=0,  # the sampled token's alone
            )
            for seed in seeds
        ]
        asked = [{"prompt_token_ids": ids} for ids in prompts]
        out = self.llm.generate(asked, params, use_tqdm=False)
        answers = [o.outputs[0] for o in out]
        return [list(a.token_ids) for a in answers], [
            [float(found[t].logprob) for found, t in zip(a.logprobs, a.token_ids, strict=True)]
            for a in answers
        ]

    def close(self) -> None:
        """Free the model."""
        import gc

        self._flights.clear()
        self.llm = self._engine = None
        gc.collect()

    # ---- inside

    def _use_template(self, model: str) -> None:
        self._template = _template(self._given_template, model, self._tokenizer)
        self.template = model_files.template_hash(self._template)
        self._rendered = None

    def _add(self, request: Request, *, streaming: bool) -> Failure | None:
        try:
            tokens = self.render(request)
        except Exception as error:  # noqa: BLE001 - a chat template may raise anything on one row
            return Failure(
                trace_id=request.trace_id,
                kind="template_error",
                message=f"{type(error).__name__}: {error}"[:300],
                retriable=False,
            )
        if len(tokens) + request.sampling.max_tokens > self.max_model_len:
            return Failure(
                trace_id=request.trace_id,
                kind="too_long",
                message=f"prompt of {len(tokens)} tokens + max_tokens {request.sampling.max_tokens}"
                f" > context of {self.max_model_len}",
                retriable=False,
            )
        try:
            # As vLLM's own renderer gives it: a bare dictionary would go through it every time.
            prompt = {"type": "token", "prompt_token_ids": tokens}
            params = self._params.of(request, streaming=streaming)
            self._engine.add_request(request.trace_id, prompt, params)
        except ValueError as error:
            return Failure(
                trace_id=request.trace_id,
                kind="bad_request",
                message=str(error)[:300],
                retriable=False,
            )
        self._flights[request.trace_id] = _Flight(request, time.monotonic(), len(tokens))
        return None

    def _step(self, on_partial: OnPartial | None) -> Iterator[Trace]:
        try:
            outputs = self._engine.step()
        except Exception as error:
            raise EngineError(
                f"vLLM died on {self.model}: {type(error).__name__}: {error}",
                "what was committed is kept; run the same command again",
            ) from error
        for output in outputs:
            flight = self._flights.get(output.request_id)
            if flight is None:
                continue
            sample = output.outputs[0]
            if on_partial is not None:
                flight.text.append(sample.text)
                flight.n_tokens += len(sample.token_ids)
            if output.finished:
                del self._flights[output.request_id]
                yield self._trace(flight, sample)
            elif (
                on_partial is not None
                and flight.n_tokens - flight.n_checked >= PARTIAL_EVERY_TOKENS
            ):
                flight.n_checked = flight.n_tokens
                rule = on_partial(output.request_id, "".join(flight.text))
                if rule:
                    self.cancel([output.request_id])
                    yield flight.request.trace(
                        "".join(flight.text),
                        finish_reason="abort",
                        stop_reason=rule,
                        n_prompt_tokens=flight.n_prompt_tokens,
                        n_completion_tokens=flight.n_tokens,
                        seconds=time.monotonic() - flight.begun,
                    )

    def _trace(self, flight: _Flight, sample: Any) -> Trace:
        streamed = bool(flight.text)
        return flight.request.trace(
            "".join(flight.text) if streamed else sample.text,
            finish_reason=sample.finish_reason,
            stop_reason=None if sample.stop_reason is None else str(sample.stop_reason),
            n_prompt_tokens=flight.n_prompt_tokens,
            n_completion_tokens=flight.n_tokens if streamed else len(sample.token_ids),
            seconds=time.monotonic() - flight.begun,
        )


def _template(given: str | None, model: str, tokenizer: Any) -> str | None:
    if given == "plain":
        return None
    if given is not None:
        return given
    own = (
        model_files.chat_template(model) if model_files.is_local(model) else tokenizer.chat_template
    )
    return own if isinstance(own, str) else None


def _with_head(folder: str) -> Iterator[tuple[str, Any]]:
    """Yield a folder's tensors, and ``lm_head.weight`` where it is tied and left out."""
    from safetensors import safe_open

    names: set[str] = set()
    embedding = None
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(str(path), framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                tensor = file.get_tensor(name)
                names.add(name)
                if name.endswith("embed_tokens.weight"):
                    embedding = tensor
                yield name, tensor
    if "lm_head.weight" not in names and embedding is not None:
        yield "lm_head.weight", embedding
