r"""Reading an option out of a piece of text, and the pieces that say one (choice).

A piece is read from its front: words that announce an answer, a letter, and what follows it, which
must be the letter's own text, a reason, or nothing. What names a second option, denies, or hedges
is no answer.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from factory.verifiers import answers

DEFAULT_N_OPTIONS = 10
_MAX_CUES = 24
_LIST_CHARS = 60
_PROSE_CHARS = 1000
_SAID_CHARS = 8000

FULL_WIDTH: dict[int, int | str] = {0xFF21 + i: 0x41 + i for i in range(26)}
FULL_WIDTH |= {0xFF41 + i: 0x61 + i for i in range(26)}
FULL_WIDTH |= {0xFF10 + i: 0x30 + i for i in range(10)}
FULL_WIDTH |= {ord(a): b for a, b in zip("（）：．，；？！［］", "():.,;?![]", strict=True)}
FULL_WIDTH |= {0x24B6 + i: f"({chr(65 + i)})" for i in range(26)}  # Ⓐ
FULL_WIDTH |= {0x24D0 + i: f"({chr(65 + i)})" for i in range(26)}
FULL_WIDTH |= {0x1F110 + i: f"({chr(65 + i)})" for i in range(26)}


class Reading(NamedTuple):
    """An option's letter, or why there is none, and the piece that was read."""

    letter: str | None
    reason: str
    piece: str


def option_texts(options: Any) -> dict[str, str] | None:
    """Return letter → text of the options; empty texts where only the number is known."""
    if options is None:
        return {chr(65 + i): "" for i in range(DEFAULT_N_OPTIONS)}
    if isinstance(options, Mapping):
        named = {str(k).strip().strip("().").upper(): str(v) for k, v in options.items()}
        return named if named and all(re.fullmatch("[A-Z]", k) for k in named) else None
    if isinstance(options, Sequence) and not isinstance(options, str) and 2 <= len(options) <= 26:
        return {
            chr(65 + i): re.sub(rf"^\(?{chr(65 + i)}[).:]\s*", "", str(text).strip())
            for i, text in enumerate(options)
        }
    if isinstance(options, int) and not isinstance(options, bool) and 2 <= options <= 26:
        return {chr(65 + i): "" for i in range(options)}
    return None


_STYLE = re.compile(rf"\\(?:{answers.STYLES}|boxed|fbox)\s*(?=\{{)")
_SPACING = re.compile(r"\\[()\[\] ,;:!]|\\q?quad(?![A-Za-z])|~|\\\\")
_LATIN = re.compile(r"\bi\. ?e\.,?(?= )")
_MARKS = " \t\n\"'“”‘’*_`$<>{}~。"
_ANNOUNCES = re.compile(
    r"(?:(?:so|thus|hence|therefore|then|and|because)\b[, ]*)?"
    r"(?:(?:it(?:'s| is)|i(?:'d| would)? (?:choose|pick|select|go with))\s+)?"
    r"(?:(?:the |my |an? )?(?:(?:final|correct|right|best|only|true)\s+)*"
    r"(?:answer|option|choice|letter|statement)s?\s*(?:choice\s*)?(?:is|:|=)?\s*"
    r"|(?:正确)?(?:答案|选项|选择|选)(?:是|为|选)?\s*:?\s*"
    r"|(?:definitely|clearly|certainly|for sure|probably|therefore|thus|actually|indeed|simply"
    r"|still|surely|likely|most likely|obviously|choosing|instead|just)\s+(?=[\"'*_`$({\[]*\w)"
    r"|[:：]\s*)*",
    re.IGNORECASE,
)
_LETTER = re.compile(r"[\"'“‘*_`$({\[<\s]*([A-Za-z])(?![A-Za-z0-9_'^#]|’\w|\.[a-z]\.)")
_QUOTED = re.compile(r"['’]([A-Za-z])['’](?!\w)")
_DENIES = re.compile(
    r"(?:is |are |was |it |that |definitely |clearly |certainly |be |,)*\s*"
    r"(?:not?\b|isn'?t|cannot|can'?t|never|neither|nor\b|none of (?:these|them)\b|non-"
    r"|un(?:able|sure)|incorrect|wrong|anything but|everything except|all but|except|other than"
    r"|\\(?:neg|lnot|not|overline)|[¬!~]|不|非|没)",
    re.IGNORECASE,
)
_BUT = re.compile(r"\b(?:but(?: rather)?|rather|instead|it is|it's)\b[:,]?\s*", re.IGNORECASE)
_HEDGES = re.compile(
    r"\b(?:or|otherwise|unless|maybe|perhaps|possibly|alternatively|depending|depends)\b|或|要么",
    re.IGNORECASE,
)
_NOT_OTHERS = re.compile(
    r"[\s,;(.:–—-]*(?:and |but )?(?:not|rather than|instead of|never|unlike|不是|而不是|而非)\s*",
    re.IGNORECASE,
)
_VERDICT = re.compile(
    r"\s*(?:is|must be|has to be|would be|should be|seems|looks|remains)?\s*(?:therefore|thus|also"
    r"|clearly|indeed|definitely)?\s*(?:the\s+)?(?:only |most |best |one )*"
    r"(?:correct|right|true|answer|valid|best|here|in this case|正确|对)\b",
    re.IGNORECASE,
)
_REASON = re.compile(
    r"\s*(?:because|since|as|for|due|given|where|which|that|with|by|from|based|when|in|on|is|and"
    r" (?:the|this|it|that|thus|so)|the|this|it|we|there|according|instead|after|only|alone|here"
    r"|over|namely|means|represents|states|says|follows|matches|fits|gives|describes|corresponds)\b"
    r"|\s*[，。因]"
    r"|(?:です|입니다|이다|だ|である|项|选项|是正确|正确)",
    re.IGNORECASE,
)
_MARKED = re.compile(r"[\s*_`$\"'”’)}\]]*(?:[.:)、，,;=?!\]>-]|\s[-–—=→]|–|—)[\s*_`$\"']*")
_OPTION_MARK = re.compile(r"[\s(\[*_]*([A-Z])(?:[).:\]]|\*\*|\s*$)")
_LISTED = re.compile(
    r"(?:[\s,;/|&+(){}\[\]<>.、:*_\"'-]|\b(?:and|or|to)\b|和|或|与|及|\\(?:text|lor|land|cup|vee|wedge)"
    r"|(?<![A-Za-z])[A-Za-z](?![A-Za-z]))+"
)
_ALONE = re.compile(r"(?<![A-Za-z\\'’])([A-Za-z])(?![A-Za-z'’])")
_JOINED = re.compile(
    r"\s*(?:,?\s*\b(?:and|or|and/or|as well as|plus)\b|[,/|;&+、]|\\(?:lor|land|cup|vee|wedge)"
    r"|和|或|与|及)\s*[\"'*_`$({\[]*(?:option |choice )?([A-Z])(?![A-Za-z'’])"
)
_BEHIND = re.compile(
    r"(.*?)[\s,:–—-]*[(\[]\s*(?:option|choice|answer|选项)?\s*:?\s*([A-Z])\s*[)\]]\W*", re.DOTALL
)
_NAMED = re.compile(r"([A-Z])\s+[A-Z][^\n]*$")


def plain(piece: str) -> str:
    r"""Take off LaTeX and Markdown around a piece.

    >>> plain(r"$\textbf{(B)}\ 7$")
    '(B) 7'
    """
    piece = _SPACING.sub(" ", _STYLE.sub("", piece)).replace("**", "").replace("__", "")
    piece = _LATIN.sub("namely", re.sub(r"\s+", " ", re.sub(r"[{}$]", "", piece)))
    return re.sub(r"^\s*(?:[>•#-]+\s+|\*\s+)+", "", piece).strip(" \t\n*_`")


def option_of(piece: str, texts: Mapping[str, str]) -> Reading:
    """Return the one option that a piece names.

    >>> texts = option_texts(4) or {}
    >>> option_of("**B**, not A", texts).letter, option_of("B or C", texts).reason
    ('B', 'several_options')
    """
    text = plain(piece)
    same = by_text(text, texts)
    if same is not None:
        return Reading(same, "", piece)
    text = text[:_PROSE_CHARS]
    quoted = _QUOTED.match(text)
    if quoted:
        text = quoted.group(1) + text[quoted.end() :]
    if _DENIES.match(text):
        return _denied(text, piece, texts)
    announced = _ANNOUNCES.match(text)
    assert announced is not None
    body = text[announced.end() :]
    if announced.end() and _DENIES.match(body):
        return _denied(body, piece, texts)
    match = _LETTER.match(body) or _LETTER.match(text)
    if match is None or match.group(1).upper() not in texts:
        return _by_words(text, body, piece, texts)
    body = match.string
    letter = match.group(1).upper()
    rest = body[match.end() :]
    reason = _behind_the_letter(letter, body[match.end(1) :], rest, texts)
    if reason == "no_option":
        return _by_words(text, body, piece, texts)
    return Reading(letter if not reason else None, reason, piece)


def _denied(text: str, piece: str, texts: Mapping[str, str]) -> Reading:
    """Read "not A but B" as B; what is only denied names nothing."""
    but = _BUT.search(text, 1)
    if but:
        return option_of(text[but.end() :], texts)._replace(piece=piece)
    return Reading(None, "denied", piece)


def _behind_the_letter(letter: str, after: str, rest: str, texts: Mapping[str, str]) -> str:
    """Say why a letter with that behind it is no answer; '' where it is one."""
    rest = rest.strip()
    tail = rest.strip(_MARKS + ")].,:;?!-–—<>|\\")
    if not tail:
        return ""
    if _NOT_OTHERS.match(rest):
        return ""
    if (
        len(rest) <= _LIST_CHARS
        and _LISTED.fullmatch(rest)
        and not _is_own_text(rest, texts, letter)
    ):
        others = {x.upper() for x in _ALONE.findall(rest)} - {letter}
        marked = re.match(r"[)\]*_\s]*[:.]\s|[)\]]\s", after)
        if others & set(texts) and not (marked and not _OPTION_MARK.match(rest.lstrip(":.) "))):
            return "several_options"
    joined = _JOINED.match(after.lstrip(_MARKS + ")]"))
    if joined and joined.group(1) in texts and joined.group(1) != letter:
        return "several_options"
    inside = _MARKED.match(after)
    if inside:
        told = re.sub(r"^[(\[]+|[)\]]+$", "", after[inside.end() :].strip()).strip()
        mark = _OPTION_MARK.match(told)
        if mark and mark.group(1) in texts and mark.group(1) != letter:
            return "several_options"
        return "" if _agrees(letter, told, texts) else "several_options"
    bracket = re.match(r"[\s*_`)\]\"']*[(\[]([^()\[\]]*)", after)
    if bracket:
        return "" if _agrees(letter, bracket.group(1), texts) else "several_options"
    if _VERDICT.match(rest):
        return "several_options" if _HEDGES.search(rest[:80]) else ""
    if texts[letter] and _agrees(letter, rest, texts) and by_text(rest, texts) == letter:
        return ""
    if _REASON.match(rest) and not (
        letter in "AI" and re.match(r"(?:is|in|on|for|with|by)\b", rest)
    ):
        return ""
    return "several_options" if _HEDGES.search(rest[:40]) else "no_option"


def _is_own_text(rest: str, texts: Mapping[str, str], letter: str) -> bool:
    return by_text(rest, texts) == letter


def _agrees(letter: str, told: str, texts: Mapping[str, str]) -> bool:
    """Tell whether what stands behind a letter is not another option's text or letter."""
    told = told.strip()
    other = by_text(told, texts)
    if other is None:
        other = by_text(re.split(r"(?<=[.!?])\s|[,;(]", told, maxsplit=1)[0], texts)
    if other is not None:
        return other == letter
    alone = re.fullmatch(r"[(\[\s]*([A-Z])[)\]\s.]*", told)
    return alone is None or alone.group(1) not in texts or alone.group(1) == letter


def _by_words(text: str, body: str, piece: str, texts: Mapping[str, str]) -> Reading:
    """Read an option's own text, with or without its letter behind it."""
    behind = _behind(text)
    if behind and behind.group(2) in texts:
        letter, told = behind.group(2), behind.group(1)
        listed = {x for x in _ALONE.findall(told) if x.isupper()} & set(texts) - {letter}
        words = body[: len(behind.group(1)) - (len(text) - len(body))] if body != text else told
        if not listed - set("AI") and not _HEDGES.search(told):
            known = by_text(told, texts) or by_text(words, texts)
            if known in (None, letter) and not (known is None and _DENIES.search(told)):
                return Reading(letter, "", piece)
            return Reading(None, "several_options", piece)
    words, *others = re.split(r"(?<=[.!?。])\s|[,;，(。]|\b(?:and|or)\b", body[:_PROSE_CHARS])
    same = by_text(words, texts)
    if same is not None:
        more = {by_text(other, texts) for other in others} - {None, same}
        return Reading(None if more else same, "several_options" if more else "", piece)
    return Reading(None, "no_option", piece)


def _behind(text: str) -> re.Match[str] | None:
    """Find "Rome (option B)"; the cap keeps the search for the bracket short."""
    return (
        _BEHIND.fullmatch(text) if len(text) <= 400 and re.search(r"[)\]]\W*$", text[-6:]) else None
    )


def by_text(piece: str, texts: Mapping[str, str]) -> str | None:
    """Return the option whose text a piece repeats; None unless it is exactly one."""
    wanted = _normal(piece)
    if not wanted or re.fullmatch("[a-z]", wanted):
        return None
    hits = [letter for letter, text in texts.items() if text and _normal(text) == wanted]
    return hits[0] if len(hits) == 1 else None


def _normal(text: str) -> str:
    text = _SPACING.sub(" ", _STYLE.sub("", text))
    return re.sub(r"[\s\"'*`$.{}\\()]+", " ", text).strip().casefold()


def named_letter(piece: str, texts: Mapping[str, str]) -> str | None:
    """Return the letter of "C Cecile", as some sources write their golds."""
    named = _NAMED.match(plain(piece))
    return named.group(1) if named and named.group(1) in texts else None


def _says_text(line: str, texts: Mapping[str, str]) -> bool:
    """Tell whether a line is an option's text, with or without its letter."""
    return bool(by_text(line, texts) or by_text(re.sub(r"^\(?[A-Z][).:]\s*", "", line), texts))


def answered(answer: str, texts: Mapping[str, str], mode: str) -> Reading:
    r"""Return the option that the answer half of a completion gives, or why there is none.

    Args:
        answer: the half after the thinking.
        texts: letter → text of the options.
        mode: ``boxed``: a box and nothing else; ``auto``: without a box what was said.

    >>> answered(r"\boxed{A} and \boxed{B}", option_texts(4) or {}, "boxed").reason
    'several_options'
    """
    answer = answer[-answers.TAIL_CHARS :].translate(FULL_WIDTH)
    boxes = answers.from_boxes(answer)
    if boxes is None:
        if mode == "boxed":
            return Reading(None, "no_box", "")
        return said(answer, texts) or Reading(None, "no_answer", "")
    if boxes.error is not None:
        empty = boxes.error in ("empty_box", "unterminated_box")
        return Reading(None, "empty_box" if empty else boxes.error, "")
    readings = [option_of(part, texts) for part in boxes.parts]
    if len({reading.letter for reading in readings}) == 1:
        return readings[-1]
    return Reading(None, "several_options", ", ".join(boxes.parts))


# ---- what was said without a box

_AN_OPTION = r"(?=[\"'*_`$({\[]*(?:option |choice )?[\"'*_`$({\[]*[A-Z](?![A-Za-z]))"
_CHOOSES = re.compile(
    r"\b(?:i|we|i'd|i'll|i would|i will)\s+"
    r"(?:(?:would|will|therefore|thus|must|have to|finally)\s+)*"
    r"(?:choose|chose|pick|picked|select|selected|go with|went with|opt for|guess)\b\s*"
    r"|\banswers?\s+(?=isn['’]?t|can['’]?t|cannot)"
    r"|\b(?:correct|right|best|final|only|appropriate|true|valid)\s+"
    r"(?:option|choice|letter|statement|selection)\b(?: here| in this case| for this question)?"
    r"\**\s*"
    r"(?:is|:|=|would be|must be|should be|will be)?\**\s*:?\s*(?:therefore |thus |hence )?"
    r"|\b(?:actually|rather|no|wait|so|therefore|thus|hence),?\s+"
    r"(?:it|that|this)(?:'s| is| must be)\s+"
    rf"{_AN_OPTION}"
    r"|(?:^|[.!?]\s+|\n)it(?:'s| is| must be)\s+(?=[\"'*(]*[A-Z][\"'*)]*\s*(?:[.!]|$))"
    r"|(?:^|[.!?,:]\s+|\n|\b(?:so|thus|hence|therefore|should|must|to|will|would)\s+)"
    rf"(?:choose|pick|select)\s*:?\s+{_AN_OPTION}"
    r"|(?:故|应|因此|所以|我|本题|可|应该|应当)选(?!项)择?\s*[:：]?\s*"
    r"|正确的?(?:选项|选择)(?:是|为|:|：)*\s*|(?:^|\n)[ \t]{0,8}选(?!项)择?\s*[:：]?\s*",
    re.IGNORECASE,
)
_OF_OPTION = (
    r"(?:\b(?:option|choice|answer|statement)\s|选项)?[\"'*_`$({\[]{0,6}(?<![A-Za-z'’])([A-Z])"
    r"[\"'*_`$)}\].:]{0,8}(?:\s?[(:][^()\n]{1,60}\)?)?\s{0,2}[*_]{0,4}\s{0,2}"
)
_SURE = (
    r"(?:(?:therefore|thus|also|clearly|indeed|hence|actually|definitely|certainly|then)\s){0,3}"
)
_IS_CORRECT = re.compile(
    rf"{_OF_OPTION}(?:(?:is|must be|has to be|would be|should be|seems|will be)\s+{_SURE}"
    r"(?:the\s)?(?:(?:only|most|one|logically|single)\s){0,3}"
    r"(?:(?:correct|right|answer|best|most appropriate)\b(?!\s+(?:if|when|were|for)\b)"
    r"|(?:true|valid|accurate|appropriate)(?=\s*(?:[.!*]|$)))"
    r"|(?:是|为)?(?:正确|对)(?:的|答案|选项)*)"
)
_ASKS = re.compile(r"[\W_]*[A-Za-z][\W_]{0,3}?\?\s*[A-Za-z]")
_NO_CLAIM = re.compile(
    r"(?:\b(?:if|whether|nor|neither|and|or|suppose|assume|assuming|unless|why|not|is|are|that only"
    r"|either|both|say|think)\s+(?:option |choice |answer |statement )?"
    r"|(?<![A-Za-z])[A-Z][)*]*\s*[,/、和]\s*)$",
    re.IGNORECASE,
)


def said(answer: str, texts: Mapping[str, str]) -> Reading | None:
    """Return the option that a text without a box says; None where it says none.

    The last thing said counts: a tag, JSON or ``####`` where there is one, else the last phrase
    that announces an answer, else a line that is nothing but an option.
    """
    text = answer[-_SAID_CHARS:].strip()
    for told in (answers.tagged(text), answers.in_json(text)):
        if told is not None:
            inner = option_of(told, texts)
            if inner.letter is None and (deeper := _phrases(told.strip(), texts)) is not None:
                return deeper
            return inner
    hashes = answers.last(answers.HASHES, text)
    if hashes is not None:
        found = option_of(hashes.group(1), texts)
        if found.letter is not None or text.endswith(hashes.group(0)):
            return found
    found_phrase = _phrases(text, texts)
    return found_phrase if found_phrase is not None else _bare_line(text, texts)


def _phrases(text: str, texts: Mapping[str, str]) -> Reading | None:
    """Return the last announcement that names, lists or denies options; prose is passed over."""
    pieces: list[tuple[int, Reading]] = []
    following = itertools.chain(answers.cues(text), _choosing(text))
    for at, piece in sorted(following, key=lambda found: -found[0])[:_MAX_CUES]:
        reading = _first_sentence(piece, texts)
        if reading.letter is not None or reading.reason != "no_option":
            pieces.append((at, reading))
            break
    for match in _IS_CORRECT.finditer(text):
        before = text[max(0, match.start() - 40) : match.start()]
        if match.group(1) in texts and not _NO_CLAIM.search(before):
            pieces.append((match.start(1), Reading(match.group(1), "", match.group())))
    return max(pieces, key=lambda found: found[0])[1] if pieces else None


def _choosing(text: str) -> Iterator[tuple[int, str]]:
    for match in _CHOOSES.finditer(text):
        yield match.end(), text[match.end() : match.end() + 400].split("\n", 1)[0]


def _first_sentence(piece: str, texts: Mapping[str, str]) -> Reading:
    """Read the piece up to its first full stop; a full stop behind the letter is none."""
    if _ASKS.match(piece):
        return Reading(None, "no_option", piece)
    piece = _LATIN.sub("namely", piece)
    whole = by_text(plain(piece), texts)
    if whole is not None:
        return Reading(whole, "", piece)
    head = re.split(r"(?<=\w[.!?*)])\s+(?![a-z(])|(?<=[。！])", piece, maxsplit=1)[0]
    reading = option_of(head, texts)
    return reading if reading.reason != "no_option" else option_of(piece, texts)


def _bare_line(text: str, texts: Mapping[str, str]) -> Reading | None:
    """Return the option of the last or the first line, unless other lines name other ones."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    naked: dict[int, Reading] = {}
    marked: dict[int, Reading] = {}
    for number in {*range(min(len(lines), 60)), *range(max(0, len(lines) - 60), len(lines))}:
        line = plain(lines[number][:400])
        letter_only = re.fullmatch(r"[\W_]*[A-Za-z][\W_]*", line)
        if (letter_only and (line.upper() == line or len(line) <= 4)) or _says_text(line, texts):
            into = naked
        elif re.match(r"[\W_]*[A-Z][).:、\]]|[A-Z]\s[-–—]", line) or _behind(line):
            into = marked
        else:
            continue
        reading = option_of(line, texts)
        if reading.letter is not None:
            into[number] = reading
    for found in (naked, marked, {**marked, **naked}):
        letters = {reading.letter for reading in found.values()}
        if len(letters) == 1 and ({0, len(lines) - 1} & set(found)):
            return found[max(found)]
    return None
