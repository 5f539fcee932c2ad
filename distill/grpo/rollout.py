"""Rollouts of a GRPO run: prompts as the policy reads them, and the policy's own samples.

On a GPU TRL's colocated vLLM samples, with its own synchronisation of weights. On a CPU that does
not work (its weights are packed at load, and the loaders are gone), so an engine of ours runs in
the trainer's process and takes the trainer's weights before every rollout; each time the log
probabilities of a text are compared, since vLLM has kept an old output head before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from distill.templates import R1_ZERO
from factory import model_files
from factory.errors import EngineError
from factory.records import Message

# float32 on both sides agrees to 1e-3; stale weights are off by more than 2 nats.
TOLERANCE_NATS = 0.02


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

        self.worst_nats = 0.0
        self._is_lent = engine is not None
        self.engine = engine or Engine(
            model,
            revision=revision,
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
        )

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
        self.engine.reload(model.state_dict().items())
        apart = self.difference(model, probe)
        self.worst_nats = max(self.worst_nats, apart)
        if not apart <= TOLERANCE_NATS:
            raise EngineError(
                f"the engine's log probabilities are {apart:.3f} nats off the trainer's",
                "the weights were not taken; see the engine's notes on tied output heads",
            )
        return apart

    def difference(self, model: Any, probe: Sequence[int]) -> float:
        """Return the largest difference of log probabilities over a text, in nats."""
        import torch

        ids = list(probe)
        training = model.training
        model.eval()
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, :-1].float()
        model.train(training)
        own = torch.log_softmax(logits, -1)[range(len(ids) - 1), ids[1:]]
        theirs = torch.tensor(self.engine.logprobs(ids))
        return float((own - theirs).abs().max())

    def sample(
        self,
        prompts: Sequence[list[int]],
        *,
        seeds: Sequence[int],
        max_tokens: int,
        temperature: float,
        top_p: float,
    ) -> list[list[int]]:
        """Return the completion tokens of each prompt, its end token included where it ended."""
        from vllm import SamplingParams

        params = [
            SamplingParams(
                temperature=temperature,
                top_p=top_p,
                max_tokens=max_tokens,
                seed=seed,
                detokenize=False,
            )
            for seed in seeds
        ]
        out = self.engine.llm.generate(
            [{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False
        )
        return [list(o.outputs[0].token_ids) for o in out]


def rollout_function(
    renderer: Renderer,
    *,
    sampler: CpuSampler | None,
    messages_of: Callable[[str], Sequence[Message]],
    seeds_of: Callable[[int, Sequence[str]], list[int]],
    cap_of: Callable[[int], int],
) -> Callable[[list[str], Any], dict[str, Any]]:
    """Return TRL's ``rollout_func``.

    Args:
        renderer: renders prompts.
        sampler: on a CPU; None where TRL's colocated vLLM samples.
        messages_of: prompt column → messages.
        seeds_of: step, prompts → a seed per completion.
        cap_of: step → most completion tokens.
    """
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    probed: dict[str, list[int]] = {}
    state: dict[str, int] = {}

    def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
        step = int(trainer.state.global_step)
        ids = [renderer.tokens(messages_of(p)) for p in prompts]
        if sampler is None:
            _, completions, logprobs, _ = trainer.vllm_generation.generate(
                prompts=ids, images=None, num_generations=trainer.num_generations
            )
            taken = [[token[0] for token in row] for row in logprobs]
            return {"prompt_ids": ids, "completion_ids": completions, "logprobs": taken}
        if state.get("step") != step:
            model = trainer.accelerator.unwrap_model(trainer.model)
            probe = probed.setdefault("ids", ids[0][:256])
            sampler.take(model, probe)
            state["step"] = step
        completions = sampler.sample(
            ids,
            seeds=seeds_of(step, prompts),
            max_tokens=cap_of(step),
            temperature=trainer.args.temperature,
            top_p=trainer.args.top_p,
        )
        return {"prompt_ids": ids, "completion_ids": completions, "logprobs": None}

    return rollout


def r1_zero_jinja() -> str:
    """Return R1-Zero's prompt as a chat template, for engines that render messages.

    >>> "User: ' + messages[-1]['content'] + '. Assistant:" in r1_zero_jinja()
    True
    """
    head, _, tail = R1_ZERO.partition("{prompt}")
    return "{{ '" + head + "' + messages[-1]['content'] + '" + tail + "' }}"
