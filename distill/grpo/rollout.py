"""Rollouts of a GRPO run: prompts as the policy reads them, and the policy's own samples.

On a GPU TRL's colocated vLLM samples, with its own synchronisation of weights. On a CPU that does
not work (its weights are packed at load, and the loaders are gone), so an engine of ours runs in
the trainer's process and takes the trainer's weights before every rollout; each time the log
probabilities of a text are compared, since vLLM has kept an old output head before.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from distill.devices import world
from distill.grpo.config import GrpoConfig
from distill.presets import preset
from distill.student import local_folder
from distill.templates import R1_ZERO, adopt, template_for
from factory import model_files
from factory.errors import EngineError
from factory.records import Message, Sampling, ids

T = TypeVar("T")
# float32 on both sides agrees to 1e-3; stale weights are off by more than 2 nats.
TOLERANCE_NATS = 0.02
# A weight's name up to the number of its layer; empty outside of layers.
_LAYER = re.compile(r"(?:.*?\.\d+\.)?")


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a sampler returns: completion tokens, and the log probability of each, N lists each."""

    completion_ids: list[list[int]]
    logprobs: list[list[float]]


class Sampler(Protocol):
    """Samples from the policy of a trainer."""

    @property
    def worst_nats(self) -> float | None:
        """Largest difference to the trainer's log probabilities so far; None: not measured."""

    def follow(self, trainer: Any) -> None:
        """Sample from this trainer's weights from now on."""

    def sample(
        self,
        trainer: Any,
        prompts: Sequence[list[int]],
        *,
        seeds: Sequence[int],
        max_tokens: int,
        other: Sampling | None = None,
    ) -> Drawn:
        """Return one completion per prompt from the trainer's present weights.

        Their log probabilities are after temperature, and are not optional: the loss corrects for
        the difference between sampler and trainer.

        Args:
            trainer: whose policy is sampled.
            prompts: tokens, shape (N,); in training the completions of a group in a row.
            seeds: shape (N,).
            max_tokens: of a completion.
            other: temperature, top-p and length of an evaluation, in place of the training's.
        """

    def close(self) -> None:
        """Free what the sampler holds."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion of a rollout, as it is rewarded and recorded.

    Attributes:
        prompt_id: of its prompt.
        sample_index: how-manieth sample of that prompt in this rollout, over all processes.
        text: without prefill and end token.
        n_tokens: of the completion.
        is_finished: whether the policy ended it by itself.
        is_rehearsed: whether it was put in the place of what the policy said (rehearsals alone).
        round: 0, or that in which its group was drawn in place of another.
    """

    prompt_id: str
    sample_index: int
    text: str
    n_tokens: int
    is_finished: bool
    round: int = 0
    is_rehearsed: bool = False


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of a run's rollouts, the same in every process.

    Attributes:
        rl_run: stable name of the run, the same in every attempt.
        attempt: how many times the run was started, from 1.
        model: name of the policy.
        sampling_id: of the rollouts.
    """

    rl_run: str
    attempt: int
    model: str
    sampling_id: str

    def revision(self, step: int) -> str:
        """Return what stands for the policy of a step."""
        return f"{self.rl_run}@{step}#{self.attempt}"

    def trace_id(self, *, prompt_id: str, step: int, sample_index: int) -> str:
        """Return the key of a rollout."""
        return ids.trace_id(
            prompt_id=prompt_id,
            model=self.model,
            revision=self.revision(step),
            sampling_id=self.sampling_id,
            sample_index=sample_index,
        )


def sample_indices(prompts: Sequence[str]) -> list[int]:
    """Return each prompt's how-manieth occurrence it is, from 0.

    >>> sample_indices(["7", "7", "3", "7"])
    [0, 1, 0, 2]
    """
    seen: dict[str, int] = {}
    out = []
    for prompt in prompts:
        out.append(seen.get(prompt, 0))
        seen[prompt] = out[-1] + 1
    return out


def own_share(values: Sequence[int], n_own: int) -> list[int]:
    """Return this process's part of values gathered from all, each of which gave ``n_own``."""
    begin = world().process_index * n_own
    return list(values[begin : begin + n_own])


def gathered(values: list[T]) -> list[T]:
    """Return the lists of all processes in one, in the order of the processes."""
    from accelerate.utils import gather_object

    out: list[T] = gather_object(values) if world().num_processes > 1 else values
    return out


class Renderer:
    """Turns messages into the policy's prompt tokens.

    Args:
        tokenizer: the policy's.
        prefill: text that every completion begins with.
    """

    def __init__(self, tokenizer: Any, *, prefill: str = "") -> None:
        self.tokenizer, self.prefill = tokenizer, prefill
        self._ends = {tokenizer.eos_token_id, tokenizer.pad_token_id}

    def tokens(self, messages: Sequence[Message]) -> list[int]:
        """Return the prompt's tokens, prefill included: the same as an engine's at inference."""
        return model_files.render(
            self.tokenizer, messages, template=self.tokenizer.chat_template, prefill=self.prefill
        )

    def text(self, completion_ids: Sequence[int]) -> str:
        """Return a completion's text without its end; tags stay, be they special or not."""
        kept = list(completion_ids)
        while kept and kept[-1] in self._ends:
            kept.pop()
        return str(self.tokenizer.decode(kept, skip_special_tokens=False))

    def is_finished(self, completion_ids: Sequence[int]) -> bool:
        """Tell whether the policy ended the completion by itself."""
        return bool(completion_ids) and completion_ids[-1] in self._ends


class CpuSampler:
    """Our vLLM engine beside the trainer.

    Args:
        model: folder or name of the base model; its shape is what counts.
        max_model_len: longest prompt + completion, tokens.
        max_num_seqs: sequences decoded at once.
        engine: one of the same shape, lent for the run; its weights are changed.
    """

    def __init__(
        self,
        model: str,
        *,
        max_model_len: int,
        max_num_seqs: int,
        revision: str | None = None,
        engine: Any = None,
    ) -> None:
        from factory.engines.vllm import Engine

        self.worst_nats: float | None = 0.0
        self._trainer: Any = None
        self._probe = list(range(5, 37))
        self._is_lent = engine is not None
        self.engine = engine or Engine(
            model,
            revision=revision,
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
        )

    def follow(self, trainer: Any) -> None:
        """Take weights from this trainer from now on, whenever it asks for ``sync_weights``."""
        self._trainer = trainer

    def sync_weights(self) -> None:
        """Take the trainer's weights: TRL calls it before the first rollout after an update."""
        model = self._trainer.accelerator.unwrap_model(self._trainer.model)
        self.take(model, self._probe)

    def close(self) -> None:
        """Free the engine, unless it was lent."""
        if not self._is_lent:
            self.engine.close()

    def take(self, model: Any, probe: Sequence[int]) -> float:
        """Take the trainer's weights and return how far the two then are apart, in nats.

        Args:
            model: the trainer's, unwrapped.
            probe: tokens of a text, at least 2.

        Raises:
            EngineError: they disagree: the engine still samples from other weights.
        """
        # All of them first: where they are sharded each needs all processes at the same time.
        self.engine.reload(list(under_file_names(model, whole_weights(model))))
        apart = self.difference(model, probe)
        self.worst_nats = max(self.worst_nats or 0.0, apart)
        if not apart <= TOLERANCE_NATS:
            raise EngineError(
                f"the engine's log probabilities are {apart:.3f} nats off the trainer's",
                "the weights were not taken; see the engine's notes on tied output heads",
            )
        return apart

    def difference(self, model: Any, probe: Sequence[int]) -> float:
        """Return the largest difference of log probabilities over a text, in nats."""
        import torch

        tokens = list(probe)
        training = model.training
        model.eval()
        # With bf16, accelerate puts a forward in autocast on the object, whose rounding alone is
        # half a nat on rare tokens: the class's own is used. The object is still called, not its
        # forward: a sharded model gathers its weights in hooks around the call.
        in_autocast = vars(model).pop("forward", None)
        try:
            with torch.no_grad():
                logits = model(torch.tensor([tokens])).logits[0, :-1].float()
        finally:
            if in_autocast is not None:
                model.forward = in_autocast
        model.train(training)
        own = torch.log_softmax(logits, -1)[range(len(tokens) - 1), tokens[1:]]
        theirs = torch.tensor(self.engine.logprobs(tokens))
        return float((own - theirs).abs().max())

    def sample(
        self,
        trainer: Any,
        prompts: Sequence[list[int]],
        *,
        seeds: Sequence[int],
        max_tokens: int,
        other: Sampling | None = None,
    ) -> Drawn:
        """Sample with the weights that were taken last."""
        if not prompts:
            return Drawn([], [])
        completions, logprobs = self.engine.complete(
            prompts,
            seeds=seeds,
            max_tokens=max_tokens,
            temperature=other.temperature if other else trainer.args.temperature,
            top_p=other.top_p if other else trainer.args.top_p,
        )
        # What the next taking of weights is checked with.
        self._probe = list(prompts[0][:256])
        return Drawn(completions, logprobs)


def whole_weights(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield a model's weights by their name in its files, gathered from all processes.

    Adapters are added to the weights that they adapt; every process must go through all.

    Args:
        model: a torch module, unwrapped; sharded or not.
    """
    adapted = hasattr(model, "merge_adapter")
    if adapted:
        model.merge_adapter()
    try:
        for name, value in model.state_dict().items():
            if ".lora_" in name:
                continue
            if adapted:
                name = name.removeprefix("base_model.model.").replace(".base_layer", "")
            value = value.detach()
            yield name, value.full_tensor() if hasattr(value, "full_tensor") else value.clone()
    finally:
        if adapted:
            model.unmerge_adapter()


def under_file_names(model: Any, weights: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield weights under the names of the model's files, the only ones that vLLM knows for sure.

    transformers 5 keeps the experts of a layer in two tensors; in files each has its own.

    Args:
        model: a transformers model, or one of peft around it.
        weights: name in the model, tensor; layer by layer, since one is converted at a time.
    """
    from transformers.core_model_loading import revert_weight_conversion

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if getattr(base, "_weight_conversions", None) == []:
        # It was loaded from files as it is.
        yield from weights
        return
    for _, layer in itertools.groupby(weights, key=lambda pair: _LAYER.match(pair[0])[0]):  # type: ignore[index]
        yield from revert_weight_conversion(base, dict(layer)).items()


class ColocatedSampler:
    """TRL's own vLLM beside the trainer, on a GPU; its cap and seeds are TRL's."""

    worst_nats: float | None = None

    def follow(self, trainer: Any) -> None:
        """Let TRL hand the weights over under the names of files."""
        trainer.vllm_generation = with_file_names(trainer.vllm_generation)

    def sample(
        self,
        trainer: Any,
        prompts: Sequence[list[int]],
        *,
        seeds: Sequence[int],
        max_tokens: int,
        other: Sampling | None = None,
    ) -> Drawn:
        """Sample with the weights that TRL has handed over."""
        del seeds, max_tokens
        if not prompts:
            return Drawn([], [])
        vllm, before = trainer.vllm_generation, {}
        if other is not None:
            changed = {"temperature": other.temperature, "top_p": other.top_p,
                       "max_completion_length": other.max_tokens}  # fmt: skip
            before = {name: getattr(vllm, name) for name in changed}
            vars(vllm).update(changed)
        try:
            _, completions, logprobs, _ = vllm.generate(
                prompts=prompts,
                images=None,
                num_generations=1 if other else trainer.num_generations,
            )
        finally:
            vars(vllm).update(before)
        return Drawn(completions, [[token[0] for token in row] for row in logprobs])

    def close(self) -> None:
        """Nothing: TRL frees it."""


def with_file_names(generation: Any) -> Any:
    """Return TRL's ``VLLMGeneration`` as one that hands weights over under the names of files."""
    from trl.generation.vllm_generation import VLLMGeneration

    class _FileNames(VLLMGeneration):  # type: ignore[misc]
        def _iter_named_params(self) -> Iterator[tuple[str, Any]]:
            return under_file_names(self.model, super()._iter_named_params())

    made = object.__new__(_FileNames)
    # The same engine and settings: TRL makes the object itself, and takes no class for it.
    made.__dict__ = generation.__dict__
    return made


def policy_tokenizer(config: GrpoConfig) -> Any:
    """Return the base's tokenizer, made to render by the run's template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(local_folder(config.base), trust_remote_code=False)
    wanted = config.template or preset(config.preset).template
    if wanted == "r1_zero":
        tokenizer.chat_template = r1_zero_jinja(bos=begins_with_bos(tokenizer))
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
    else:
        adopt(tokenizer, template_for(tokenizer, wanted))
    return tokenizer


def begins_with_bos(tokenizer: Any) -> bool:
    """Tell whether the tokenizer's family begins every text with BOS (Llama does, Qwen not)."""
    bos = tokenizer.bos_token_id
    return bos is not None and list(tokenizer("a")["input_ids"])[:1] == [bos]


def r1_zero_jinja(*, bos: bool = False) -> str:
    """Return R1-Zero's prompt as a chat template, for engines that render messages.

    Args:
        bos: begin with the tokenizer's BOS, since engines add none to a rendered template.

    >>> "User: ' + messages[-1]['content'] + '. Assistant:" in r1_zero_jinja()
    True
    """
    head, _, tail = R1_ZERO.partition("{prompt}")
    begin = "{{ bos_token }}" if bos else ""
    return begin + "{{ '" + head + "' + messages[-1]['content'] + '" + tail + "' }}"
