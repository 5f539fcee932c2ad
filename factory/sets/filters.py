"""Presets of filters: DeepSeek-R1's, as named SQL predicates over ``wide``.

R1's paper names the filters and gives no thresholds (mixed language, long paragraphs and code
blocks in the thinking for the 600k rejection samples; repetition and mixing for the cold start).
The thresholds here are ours: 95 % of the words in the target language, paragraphs of at most 600
words. A recipe replaces or switches off any of them by its name
(``factory.stages.select.funnel.compose``).

Whether such filters help a student is an open question (OpenThoughts found that filters on answers
may not); measure the student with and without.
"""

from __future__ import annotations

from collections.abc import Mapping

from factory.errors import UsageError

# A trace of which the language score abstained (too short, no prose) is not called mixed.
_ONE_LANGUAGE = "coalesce(target_fraction >= 0.95, is_abstained)"

R1_REJECTION: Mapping[str, str] = {
    "one_language": _ONE_LANGUAGE,
    "short_paragraphs": "max_paragraph_words <= 600",
    "no_code_in_thinking": "n_code_blocks = 0",
}
"""Section 2.3.3 (v1), B.3.3 (v2): filters on the chain of thought of right answers."""

R1_COLD_START: Mapping[str, str] = {
    "one_language": _ONE_LANGUAGE,
    "short_paragraphs": "max_paragraph_words <= 600",
    "no_code_in_thinking": "n_code_blocks = 0",
    "no_loop": "NOT has_loop",
    "little_repetition": "top_4gram_fraction <= 0.2 AND dup_line_fraction <= 0.5",
    "has_summary": "has_summary",
    "no_broken_characters": "broken_char_fraction <= 0.001",
}
"""B.3.2 (v2): readable format, no repetition, no mixing, and a summary after the thinking."""

FINISHED: Mapping[str, str] = {"finished": "finish_reason IN ('stop', 'imported')"}
"""Completions that ended by themselves."""

PRESETS: Mapping[str, Mapping[str, str]] = {
    "r1_rejection": R1_REJECTION,
    "r1_cold_start": R1_COLD_START,
    "finished": FINISHED,
}


def right(verifier: str = "math") -> dict[str, str]:
    """Return the filter that keeps what a verifier passed.

    >>> right("code")
    {'right': "code_status = 'pass'"}
    """
    if not verifier.isidentifier():
        raise UsageError(f"{verifier!r} is no name of a verifier", "use its file name")
    return {"right": f"{verifier}_status = 'pass'"}


def preset(name: str) -> dict[str, str]:
    """Return a preset's filters by name.

    Raises:
        UsageError: no such preset.
    """
    if name not in PRESETS:
        raise UsageError(f"no preset {name!r}", f"there are {', '.join(PRESETS)}")
    return dict(PRESETS[name])
