"""A rollout from prompts to rewards and record, and the drawing again of groups that teach nothing.

A group whose rewards are all equal has no advantages. DAPO (arXiv:2503.14476, 3.2) samples on until
a batch has none; here such a group is drawn again with another prompt, for at most three rounds,
and its verdicts are those that pay: nothing is judged twice. What was drawn in vain is recorded.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from distill.devices import world
from distill.grpo.config import Pair
from distill.grpo.record import Recorder
from distill.grpo.reward import Payer, Rewarded, means, signs_of_length, tossed
from distill.grpo.rollout import (
    Drawn,
    Keys,
    Renderer,
    Sample,
    Sampler,
    gathered,
    own_share,
    sample_indices,
)
from distill.presets import cap_at
from distill.rehearsal import is_replaced, planted, right_answer
from distill.rewards import route_of
from factory.dialects import split_reasoning
from factory.records import ids


@dataclass(frozen=True, slots=True)
class Completion:
    """One completion of a rollout: its prompt's number, tokens, and what became of it."""

    number: int
    prompt_ids: list[int]
    completion_ids: list[int]
    logprobs: list[float]
    sample: Sample
    rewarded: Rewarded


class Rollout:
    """One rollout of all processes: prompts → samples → rewards → record.

    TRL calls it with the prompts of this process; what is recorded is gathered from all of them,
    so that a group which two processes share keeps one row per sample.

    Args:
        pairs: prompts with their golds; TRL's prompts are their numbers, as text.
        keys: names of the rollouts.
        renderer: of the policy.
        sampler: of the policy.
        payer: judges completions.
        record: None in all processes but the first.
        caps: first step → most completion tokens.
        group_size: completions of a prompt.
        seed: of the run.
        control: ``random`` pays by the toss of a coin.
        resample: rounds in which groups without variance are drawn again; 0: never. The groups of
            a process are its own then (``config`` sees to that).
        rehearsed: dialect of the right answers that replace a quarter of the samples; None: none.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        keys: Keys,
        *,
        renderer: Renderer,
        sampler: Sampler,
        payer: Payer,
        record: Recorder | None,
        caps: Mapping[int, int],
        group_size: int,
        seed: int,
        control: Literal["none", "random"],
        resample: int = 0,
        rehearsed: str | None = None,
    ) -> None:
        self.rehearsed = rehearsed
        self.pairs, self.keys = pairs, keys
        self.renderer, self.sampler, self.payer, self.record = renderer, sampler, payer, record
        self.caps, self.group_size, self.seed, self.control = caps, group_size, seed, control
        self.resample = resample
        self.all_from = 0
        """Update from which prompts without a gold are drawn, too."""
        self.seconds = {"sampling_s": 0.0, "reward_s": 0.0}
        """Wall seconds of sampling and of rewards, in which nothing is trained."""
        self._means: dict[str, float | None] = {}

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        """Return what TRL's ``rollout_func`` must, and ``paid``: a reward per completion."""
        step = int(trainer.state.global_step)
        indices = own_share(sample_indices(gathered(prompts)), len(prompts))
        work = list(zip(map(int, prompts), indices, strict=True))
        done = self._complete(trainer, step, work)
        left_out: list[Completion] = []
        drawn: float | None = None
        if self.resample:
            flat = gathered([is_flat(group) for group in self._groups(done)])
            drawn = sum(flat) / len(flat)
            left_out = self._draw_again(trainer, step, done)
        everything = gathered([(c.sample, c.rewarded) for c in done])
        vain = gathered([(c.sample, c.rewarded) for c in left_out])
        everyone = [rewarded for _, rewarded in everything]
        if self.record is not None:
            samples = [sample for sample, _ in everything]
            self.record.rollouts(step, samples, everyone, group_size=self.group_size, left_out=vain)
        self._means = means(everyone)
        if self.payer.is_routed:
            answers = [
                split_reasoning(self.renderer.prefill + s.text).answer for s, _ in everything
            ]
            self._means |= signs_of_length(everyone, answers, group_size=self.group_size)
        if drawn is not None:
            self._means["zero_variance_drawn"] = drawn
        return {
            "prompt_ids": [c.prompt_ids for c in done],
            "completion_ids": [c.completion_ids for c in done],
            "logprobs": [c.logprobs for c in done],
            "paid": [c.rewarded.total for c in done],
        }

    def _complete(
        self, trainer: Any, step: int, work: Sequence[tuple[int, int]], *, round_: int = 0
    ) -> list[Completion]:
        """Return completions with rewards for (number of a prompt, index of its sample) pairs."""
        pairs = [self.pairs[number] for number, _ in work]
        keys = [
            self.keys.trace_id(prompt_id=p.prompt_id, step=step, sample_index=i)
            for (p, _), (_, i) in zip(pairs, work, strict=True)
        ]
        prompt_ids = [self.renderer.tokens(p.messages) for p, _ in pairs]
        cap, began = cap_at(self.caps, step), time.monotonic()
        drawn = self.sampler.sample(
            trainer,
            prompt_ids,
            seeds=[ids.seed_of(base=self.seed, trace_id=key) for key in keys],
            max_tokens=cap,
        )
        texts = self._rehearsed(work)
        drawn = self._with(texts, drawn, max_tokens=cap)
        samples = [
            Sample(
                p.prompt_id, i, self.renderer.text(c), len(c), self.renderer.is_finished(c), round_,
                is_rehearsed=text is not None,
            )
            for (p, _), (_, i), c, text in zip(
                pairs, work, drawn.completion_ids, texts, strict=True
            )
        ]  # fmt: skip
        sampled = time.monotonic()
        rewarded = self.payer.rewards(
            pairs,
            [self.renderer.prefill + s.text for s in samples],
            n_tokens=[s.n_tokens for s in samples],
            cap=cap,
        )
        self.seconds["sampling_s"] += sampled - began
        self.seconds["reward_s"] += time.monotonic() - sampled
        if self.control == "random":
            rewarded = tossed(rewarded, keys, seed=self.seed)
        return [
            Completion(number, *rest)
            for (number, _), *rest in zip(
                work, prompt_ids, drawn.completion_ids, drawn.logprobs, samples, rewarded,
                strict=True,
            )
        ]  # fmt: skip

    def _rehearsed(self, work: Sequence[tuple[int, int]]) -> list[str | None]:
        """Return the right answer that replaces a sample, or None; outside rehearsals, None."""
        if self.rehearsed is None:
            return [None] * len(work)
        dialect, prefill = self.rehearsed, self.renderer.prefill
        return [
            right_answer(self.pairs[number][1], dialect=dialect, prefill=prefill)
            if is_replaced(number, i) else None
            for number, i in work
        ]  # fmt: skip

    def _with(self, texts: Sequence[str | None], drawn: Drawn, *, max_tokens: int) -> Drawn:
        if self.rehearsed is None:
            return drawn
        both = (drawn.completion_ids, drawn.logprobs)
        return Drawn(*planted(self.renderer.tokenizer, texts, both, max_tokens=max_tokens))

    def _groups(self, done: Sequence[Completion]) -> list[Sequence[Completion]]:
        size = self.group_size
        return [done[i : i + size] for i in range(0, len(done), size)]

    def _draw_again(self, trainer: Any, step: int, done: list[Completion]) -> list[Completion]:
        """Put other groups in place of those without variance; return what was left out.

        All processes go through the same rounds, each with prompts of its own that nobody has used
        at this step, so that no key is made twice.
        """
        size, left_out = self.group_size, []
        used = set(gathered([c.number for c in done]))
        order = list(range(len(self.pairs))) if step >= self.all_from else self.reasoning
        random.Random(ids.seed_of(base=self.seed, trace_id=f"resample {step}")).shuffle(order)
        for round_ in range(1, self.resample + 1):
            flat = [i for i, group in enumerate(self._groups(done)) if is_flat(group)]
            fresh = [number for number in order if number not in used]
            own = fresh[world().process_index :: world().num_processes][: len(flat)]
            chosen = gathered(own)
            if not chosen:
                break
            used.update(chosen)
            work = [(number, i) for number in own for i in range(size)]
            new = self._complete(trainer, step, work, round_=round_)
            for at, group in zip(flat, self._groups(new), strict=False):
                place = slice(at * size, (at + 1) * size)
                left_out += done[place]
                done[place] = group
        return left_out

    @property
    def reasoning(self) -> list[int]:
        """Numbers of the prompts with a gold."""
        kinds = [route_of(s.gold, s.domain) for _, s in self.pairs]
        return [i for i, kind in enumerate(kinds) if kind == "reasoning"]

    def take_means(self) -> dict[str, float | None]:
        """Return the means of the last rollout, once; empty where there was none since."""
        taken, self._means = self._means, {}
        return taken


def is_flat(group: Sequence[Completion]) -> bool:
    """Tell whether a group's rewards are all equal; those that we could not judge do not count."""
    return len({c.rewarded.total for c in group if c.rewarded.total is not None}) <= 1
