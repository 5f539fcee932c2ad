"""What the columns of ``wide`` mean, for the catalog's comments and ``docs/columns.md``.

A score says what its own columns mean (``MEANINGS`` in its file); the rest is here.
"""

from __future__ import annotations

from collections.abc import Mapping

COLUMNS: Mapping[str, str] = {
    # The trace.
    "trace_id": "key of the trace: prompt, model, revision, sampling and sample index, hashed",
    "prompt_id": "key of the prompt: its messages, hashed",
    "model": "name of the model that wrote it",
    "revision": "commit or digest of the model's weights",
    "sampling_id": "key of the sampling's settings",
    "sample_index": "number of the sample among those of its prompt, model and sampling; from 0",
    "finish_reason": "why it ended, in the engine's word: stop, length, ended (by a rule) …",
    "stop_reason": "the stop string or token that ended it, or the rule",
    "n_prompt_tokens": "tokens of the prompt, as the engine counted them",
    "n_completion_tokens": "tokens of the completion, as the engine counted them",
    "seconds": "wall time from request to end, seconds",
    "cumulative_logprob": "sum of the log probabilities of its tokens, in nats",
    "meta": "all other columns of an imported row, JSON",
    "text_hash": "hash of the completion's text: equal for exact copies",
    "run_id": "the run that stored it",
    # Its sampling.
    "temperature": "softmax temperature; NULL for imported traces",
    "top_p": "nucleus mass; NULL for imported traces",
    "max_tokens": "largest number of completion tokens; NULL for imported traces",
    # Its prompt's source.
    "source": "name of the prompt's source",
    "item": "number or name of the row within its source",
    "split": "split of the prompt; evaluation splits are left out of selections",
    "domain": "domain that the source gives: math, code …",
    "level": "difficulty that the source gives",
    "prompt_language": "language of the prompt that the source gives, ISO 639-1",
    "verifier": "verifier that the source names",
    "gold_hash": "hash of the answer key; its text: golds",
    "n_sources": "sources that hold the same prompt",
    # The verdict.
    "status": "pass, fail, or unscored (checking failed by our fault); NULL: not verified",
    "reward": "0 to 1; NULL where unscored or not verified",
    "reason": "why it failed or is unscored, a short word",
    "extracted": "the answer that was taken out of the completion",
    "decided_by": "the step that decided, the cheapest first",
    # What people said.
    "review": "keep, drop, wrong_verdict or none: the latest review",
    "review_note": "the reviewer's note",
    "reviewed_by": "who reviewed it",
    "reviewed_at": "when, ISO 8601 in UTC",
}
