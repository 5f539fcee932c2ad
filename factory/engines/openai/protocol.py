"""What is sent to an OpenAI-compatible server with every request."""

from __future__ import annotations

from typing import Any

from factory.engines.base import Request
from factory.engines.openai.settings import Settings


def body_of(request: Request, settings: Settings, *, is_vllm: bool = False) -> dict[str, Any]:
    """Return the JSON body of a request.

    A vLLM server fills the sampling fields that are absent from the model's own
    ``generation_config.json``, so it is sent all of them, even those at their default.
    ``extra_body`` comes last, and wins.

    Args:
        request: what is asked.
        settings: of the engine.
        is_vllm: whether the server is known as vLLM; for ``fields: auto``.
    """
    s = request.sampling
    sends_all = settings.fields == "all" or (settings.fields == "auto" and is_vllm)
    body: dict[str, Any] = {
        "model": settings.served_as, "stream": settings.stream, "temperature": s.temperature,
        "top_p": s.top_p, "max_tokens": s.max_tokens, "seed": request.seed,
    }  # fmt: skip
    if s.stop:
        body["stop"] = list(s.stop)
    further = {
        "presence_penalty": (s.presence_penalty, 0.0),
        "frequency_penalty": (s.frequency_penalty, 0.0),
        "top_k": (s.top_k, 0), "min_p": (s.min_p, 0.0), "min_tokens": (s.min_tokens, 0),
        "repetition_penalty": (s.repetition_penalty, 1.0),
    }  # fmt: skip
    body |= {k: v for k, (v, default) in further.items() if sends_all or v != default}
    if sends_all:
        body |= {"n": 1, "skip_special_tokens": False, "spaces_between_special_tokens": False}
    if settings.stream:
        body["stream_options"] = {"include_usage": True}
    is_chat = settings.api == "chat"
    if settings.logprobs is not None:
        body["logprobs"] = True if is_chat else settings.logprobs
        if is_chat and settings.logprobs:
            body["top_logprobs"] = settings.logprobs
    messages = [dict(m) for m in request.messages]
    text = s.prefill if settings.prefill == "continue" else ""
    if is_chat:
        if text:
            messages.append({"role": "assistant", "content": text})
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        body["messages"] = messages
    else:
        body["prompt"] = "\n\n".join(str(m.get("content") or "") for m in messages) + text
    sent = {settings.rename.get(k, k): v for k, v in body.items() if k not in settings.drop}
    return sent | dict(settings.extra_body or {})
