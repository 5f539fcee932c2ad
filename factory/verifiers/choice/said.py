r"""What a completion says its option is: its box, or what was said without one (choice)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping

from factory.verifiers import answers
from factory.verifiers.choice.reading import (
    FULL_WIDTH,
    LATIN,
    Reading,
    agrees,
    behind,
    by_text,
    option_of,
    plain,
)

_MAX_CUES = 24
_SAID_CHARS = 8000
_LINE_CHARS = 240


def _says_text(line: str, texts: Mapping[str, str]) -> bool:
    """Tell whether a line is an option's text, with or without its letter."""
    return bool(by_text(line, texts) or by_text(re.sub(r"^\(?[A-Z][).:]\s*", "", line), texts))


def answered(answer: str, texts: Mapping[str, str], mode: str) -> Reading:
    r"""Return the option that the answer half of a completion gives, or why there is none.

    Args:
        answer: the half after the thinking.
        texts: letter → text of the options.
        mode: ``boxed``: a box and nothing else; ``auto``: without a box, or where the boxes hold
            values of the working and no option, what was said.

    >>> answered(r"\boxed{A} and \boxed{B}", {"A": "", "B": ""}, "boxed").reason
    'several_options'
    """
    answer = answers.own_text(answer)[-answers.TAIL_CHARS :].translate(FULL_WIDTH)
    boxes = answers.from_boxes(answer)
    if boxes is None:
        if mode == "boxed":
            return Reading(None, "no_box", "")
        return said_without_box(answer, texts) or Reading(None, "no_answer", "")
    if boxes.error is not None:
        empty = boxes.error in ("empty_box", "unterminated_box")
        return Reading(None, "empty_box" if empty else boxes.error, "")
    readings = [option_of(part, texts) for part in boxes.parts]
    if mode == "auto" and all(_is_working(reading) for reading in readings):
        return said_without_box(_BOXES.sub(" ", answer), texts) or readings[-1]
    # an option and its value, each in its box
    named = [reading for reading in readings if not _is_working(reading)] or readings
    if len({reading.letter for reading in named}) == 1:
        return named[-1]
    return Reading(None, "several_options", ", ".join(boxes.parts))


def _is_working(reading: Reading) -> bool:
    """Tell whether a box holds a value, such as 42 or E = mc^2, that names no option at all."""
    piece = plain(reading.piece)
    is_list = re.fullmatch(r"[\W_]*[A-Z]{2,}[\W_]*", piece) is not None
    return reading.reason == "no_option" and not is_list and re.search("[0-9=]", piece) is not None


_BOXES = re.compile(r"\\f?box(?:ed)?\s*\{(?:[^{}]|\{[^{}]{0,80}\}){0,200}\}")

# ---- what was said without a box

_AN_OPTION = r"(?=[\"'*_`$({\[]*(?:option |choice )?[\"'*_`$({\[]*[A-Z](?![A-Za-z]))"
_RIGHT = (
    r"correct[aeo]s?|correta|correto|corretta|richtige?|đúng|sahihi|benar|tepat|doğru"
    r"|صحيح|صحیح|درست"
)
_ELSEWHERE = (
    rf"(?<![^\W\d_])(?:{_RIGHT}\s+)?(?:opción|opcion|alternativa|opção|opzione|letra|lettera"
    r"|lettre|inciso|proposition|optie|вариант|seçenek|şık|phương án|lựa chọn|pilihan|opsi"
    r"|الخيار|خيار|گزینه|אפשרות|विकल्प|বিকল্প|ตัวเลือก|ข้อ|選択肢|선택지?|chọn(?: đáp án)?|pilih"
    rf"|elijo|escolho|scelgo|choisis|wähle)(?:\s+(?:{_RIGHT}))?\s*"
    r"(?:est|es|ist|é|è|là|adalah|هو|ist die|:|：|は|은|는)?\s*"
    r"(?:la |el |le |(?-i:a|o) )?(?=[\"'*_`$({\[]*(?-i:[A-Z])(?![A-Za-z]))"
    rf"|\b(?:richtig|juist|rätt|riktig)\s+(?:ist|is|är|er)\s+{_AN_OPTION}"
)
"""An option's name in other languages, before a capital letter."""
_CHOOSES = re.compile(
    r"\b(?:i|we|i'd|i'll|i'm|i am|i would|i will|let's|let us)\s+"
    r"(?:(?:would|will|therefore|thus|must|have to|finally)\s+)*"
    r"(?:choose|chose|pick|picked|select|selected|go with|going with|went with|opt for|guess"
    r"|vote for)\b\s*"
    rf"|\b(?:i|we|i'd)\s+(?:think|believe|say|would say)\s+(?:that\s+)?"
    rf"(?:it(?:'s| is)\s+)?{_AN_OPTION}"
    r"|(?:^|[.!?]\s+|\n)[*_#\s]{0,6}(?:(?:my|the|final|correct|best|selected|chosen)\s+){0,3}"
    r"(?:choice|pick|selection|guess|vote|option|letter|verdict|response|prediction|output|selected"
    r"|final|correct|choose|select|mark)\**(?:\s+is\b\**|\s*[:=])[\s:*]*"
    r"|\b(?:corresponds to|matches|agrees with|which is|that is|that's|this is|so|thus|hence"
    r"|therefore|by elimination|only|leaves(?: us with)?|leaving|choose|select|mark|go with),?\s+"
    r"(?=(?:only\s+)?(?:the\s+)?(?:(?:option|choice|letter|answer)\s+[\"'*_`$({\[]*"
    r"|[*_]*\()[A-Z](?![A-Za-z]))"
    rf"|(?:^|[.!?]\s+|\n)[*_]*(?:so|thus|hence|therefore|by elimination|probably"
    rf"|definitely|mark|go with),?\s+{_AN_OPTION}"
    rf"|{_ELSEWHERE}"
    r"|\b(?:elimination|this|that|which)\s+(?:only\s+)?leaves\s+(?:us\s+)?(?:with\s+)?"
    r"(?:only\s+|just\s+)?(?=[\"'*_`$({\[]*(?-i:[A-Z])(?![A-Za-z]))"
    r"|\banswers?\s+(?=isn['’]?t|can['’]?t|cannot)"
    r"|\b(?:correct|right|best|final|only|appropriate|true|valid)\s+"
    r"(?:option|choice|letter|statement|selection|one)\b(?: here| in this case| for this question)?"
    r"\**\s*"
    r"(?:is|:|=|would be|must be|should be|will be)?\**\s*:?\s*(?:therefore |thus |hence )?"
    r"|\b(?:actually|rather|no|wait|so|therefore|thus|hence),?\s+"
    r"(?:it|that|this)(?:'s| is| must be)\s+"
    rf"{_AN_OPTION}"
    r"|(?:^|[.!?]\s+|\n)(?:it|that|this)(?:'s| is| must be)\s+"
    r"(?=[\"'*(]*[A-Z][\"'*)]*\s*(?:[.!]|$))"
    r"|(?:^|[.!?,:]\s+|\n|\b(?:so|thus|hence|therefore|should|must|to|will|would)\s+)"
    rf"(?:choose|pick|select)\s*:?\s+{_AN_OPTION}"
    r"|(?:故|应|應|因此|所以|我|本题|本題|可|应该|应当|應該)[选選](?![项項])[择擇]?\s*[:：]?\s*"
    r"|正[确確]的?(?:选项|選項|选择|選擇)(?:是|为|為|:|：)*\s*"
    r"|(?:^|\n)[ \t]{0,8}[选選](?![项項])[择擇]?\s*[:：]?\s*",
    re.IGNORECASE,
)
_OF_OPTION = (
    r"(?:\b(?:option|choice|answer|statement|antwort)\s|选项|選項)?[\"'*_`$({\[]{0,6}(?<![A-Za-z'’])([A-Z])"
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
    r"|die richtige Antwort|(?:ist|es|est|è|é)\s(?:richtig|korrekt|correct[aeo]|corretta"
    r"|correta|correto|die richtige Antwort|la respuesta correcta|la bonne réponse"
    r"|la risposta corretta)\b"
    r"|(?:是|为|為)?(?:正[确確]|对|對)(?:的|答案|选项|選項)*)"
    rf"|\b(?:mak(?:es|ing)|leav(?:es|ing))\s{_OF_OPTION}"
    r"(?:as\s)?(?:the|our|my)\s(?:only\s|most\s){0,2}(?:correct|right|best|answer)\b"
    r"|(?:\bonly\s|(?:^|[.!?]\s|\n))(?:option\s|choice\s)?[(*]{0,3}([A-Z])[)*]{0,3}\s"
    r"(?:works|fits|remains|is left|it is|wins)\b"
)
_ASKS = re.compile(r"[\W_]*[A-Za-z][\W_]{0,3}?\?\s*[A-Za-z]")
_NO_CLAIM = re.compile(
    r"(?:\b(?:if|whether|nor|neither|and|or|suppose|assume|assuming|unless|why|not|is|are|that only"
    r"|either|both|say|think)\s+(?:option |choice |answer |statement )?"
    r"|(?<![A-Za-z])[A-Z][)*]*\s*[,/、和]\s*)$",
    re.IGNORECASE,
)


_QUOTED = re.compile(
    r"^([^'\n]{0,200})'((?:the |my )?(?:final |correct )?answer(?: is)?\s*[:：]?\s*[^'\n]{1,80})'"
    r"([\s.!]*)$",
    re.IGNORECASE | re.MULTILINE,
)
"""The one quotation of a line, with the answer in it: its last quote is no prime of the letter."""


def said_without_box(answer: str, texts: Mapping[str, str]) -> Reading | None:
    """Return the option that a text without a box says; None where it says none.

    The last thing said counts: a tag, JSON or ``####`` where there is one, else the last phrase
    that announces an answer, else a line that is nothing but an option.
    """
    text = _QUOTED.sub(r"\1\2\3", answer[-_SAID_CHARS:].strip())
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
        if reading.letter is not None and not _fits_what_stands_before(text[:at], reading, texts):
            reading = Reading(None, "several_options", piece)
        if reading.letter is not None or reading.reason != "no_option":
            pieces.append((at, reading))
            break
    for match in _IS_CORRECT.finditer(text):
        before = text[max(0, match.start() - 40) : match.start()]
        letter = next(group for group in match.groups() if group)
        told = re.search(r"[(:]\s*([^()\n]{1,60})\)", match.group())
        if told and letter in texts and not agrees(letter, told.group(1), texts):
            continue
        if letter in texts and not _NO_CLAIM.search(before):
            at = match.start(match.lastindex or 1)
            pieces.append((at, Reading(letter, "", match.group())))
    return max(pieces, key=lambda found: found[0])[1] if pieces else None


_REFERS = re.compile(
    r"(?:^|[.!?:\n])([^.!?:\n]{1,80}?)[,;\s]+(?:which|that|i\.?e\.?,?|so|namely)"
    r"(?:'s| is| corresponds to| matches)?\s+(?:the )?(?:option |choice |answer )?\Z",
    re.IGNORECASE,
)


def _fits_what_stands_before(text: str, reading: Reading, texts: Mapping[str, str]) -> bool:
    """Tell whether "Paris, which is option" before a letter speaks of no other option's text."""
    found = _REFERS.search(text[-120:])
    if found is None:
        return True
    told = re.split(r"\b(?:is|are|be)\b|[,;]", found.group(1))[-1]
    return by_text(told, texts) in (None, reading.letter)


def _choosing(text: str) -> Iterator[tuple[int, str]]:
    for match in _CHOOSES.finditer(text):
        piece = text[match.end() : match.end() + 400].split("\n", 1)[0]
        if not re.match(r"[\W_]*[A-Za-z]\s*=", piece):  # "So E = 24/30" is an equation
            yield match.end(), piece


def _first_sentence(piece: str, texts: Mapping[str, str]) -> Reading:
    """Read the piece up to its first full stop; a full stop behind the letter is none."""
    if _ASKS.match(piece):
        return Reading(None, "no_option", piece)
    piece = LATIN.sub("namely", piece)
    whole = by_text(plain(piece), texts)
    if whole is not None:
        return Reading(whole, "", piece)
    head = re.split(r"(?<=\w[.!?*)])\s+(?![a-z(])|(?<=[。！])", piece, maxsplit=1)[0]
    reading = option_of(head, texts)
    if reading.reason == "no_option":
        return option_of(piece, texts)
    behind_it = piece[len(head) :]
    # "(B) Paris." was cut behind its bracket: the text there is the option's, or another's
    is_cut = reading.letter is not None and len(plain(head)) <= 4 and behind_it
    if is_cut and not agrees(str(reading.letter), behind_it, texts):
        return Reading(None, "several_options", piece)
    return reading


def _bare_line(text: str, texts: Mapping[str, str]) -> Reading | None:
    """Return the option of the last or the first line, unless other lines name other ones."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    ticked: dict[int, Reading] = {}
    naked: dict[int, Reading] = {}
    marked: dict[int, Reading] = {}
    for number in sorted(
        {*range(min(len(lines), 60)), *range(max(0, len(lines) - 60), len(lines))}
    ):
        line = plain(lines[number][:400])
        letter_only = re.fullmatch(r"[\W_]*[A-Za-z][\W_]*", line)
        if (letter_only and (line.upper() == line or len(line) <= 4)) or _says_text(line, texts):
            into = naked
        elif re.match(r"[\W_]*[A-Za-z][).:、\]]|[A-Z]\s[-–—]", line) or behind(line):
            into = marked
        else:
            continue
        reading = option_of(line, texts)
        if reading.letter is not None:
            into[number] = reading
            if re.search("[✅✔✓☑]", lines[number]):
                ticked[number] = reading
    if len({reading.letter for reading in ticked.values()}) == 1:
        return ticked[max(ticked)]
    for found in (naked, marked, {**marked, **naked}):
        letters = {reading.letter for reading in found.values()}
        if len(letters) == 1 and ({0, len(lines) - 1} & set(found)):
            return found[max(found)]
    announced = any(True for _ in itertools.chain(answers.cues(text), _choosing(text)))
    is_equation = re.search(r"\s\W*[A-Z]\s*=", lines[-1])
    if not (naked or marked or announced or is_equation) and len(lines[-1]) <= _LINE_CHARS:
        reading = option_of(lines[-1], texts)
        return reading if reading.reason != "no_option" else None
    return None
