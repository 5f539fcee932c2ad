"""What a machine samples: vLLM on random weights of a shape."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from distill.measure import Found, Work
from distill.measure.random_models import config_of, is_cuda, number_tokenizer, random_tokens


def sample(work: Work) -> Found:
    """Sample with vLLM from random weights of the shape."""
    from factory.engines.vllm import Engine
    from factory.engines.vllm_start import prepare_environment

    prepare_environment()
    cuda = is_cuda()
    slots = work.slots if cuda else min(work.slots, 32)
    longest = work.length if cuda else min(work.length, 512)
    n_prompt = longest // 8
    with tempfile.TemporaryDirectory() as folder:
        config_of(work.shape, longest).save_pretrained(folder)
        number_tokenizer(work.shape).save_pretrained(folder)
        # A file of no weights, since a model without any is refused; dummies are not read.
        Path(folder, "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
        engine = Engine(
            folder, max_model_len=longest, max_num_seqs=slots,
            gpu_memory_utilization=work.gpu_share,
            args={"load_format": "dummy", "dtype": "bfloat16"},
        )  # fmt: skip
        prompts = random_tokens(work.shape, slots, n_prompt)
        n_asked = [8, 32]
        rate, n = 0.0, 0
        took: list[float] = []
        for _ in range(2 + work.steps):
            n_tokens = min(n_asked[min(len(took), 1)], longest - n_prompt)
            began = time.monotonic()
            # From the whole distribution: random weights then hardly ever end an answer.
            answers, _ = engine.complete(
                prompts, seeds=range(slots), max_tokens=n_tokens, temperature=1.0, top_p=1.0
            )
            took.append(time.monotonic() - began)
            n = sum(map(len, answers))
            rate = n / took[-1]
            left = work.seconds - sum(took)
            if len(took) > 1 and left <= took[-1]:
                break
            # As long answers as the time left allows: short ones are mostly prompts.
            n_asked[1] = max(32, int(rate * left / slots))
        engine.close()
    return Found(phase="sample", tokens_per_s=rate, steps=len(took), step_s=took)
