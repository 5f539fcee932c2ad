r"""Reading an option out of a piece of text, and the pieces that say one (choice).

A piece is read from its front: words that announce an answer, a letter, and what follows it, which
must be the letter's own text, a reason, or nothing. What names a second option, denies, or hedges
is no answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from factory.verifiers import answers
from factory.verifiers.answer_words import OPTION_WORDS

DEFAULT_N_OPTIONS = 10
_LIST_CHARS = 60
_PROSE_CHARS = 1000

FULL_WIDTH: dict[int, int | str] = {0xFF21 + i: 0x41 + i for i in range(26)}
FULL_WIDTH |= {0xFF41 + i: 0x61 + i for i in range(26)}
FULL_WIDTH |= {0xFF10 + i: 0x30 + i for i in range(10)}
FULL_WIDTH |= {ord(a): b for a, b in zip("（）：．，；？！［］।۔॥", "():.,;?![]...", strict=True)}
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


_STYLE = re.compile(
    rf"\\(?:(?:{answers.STYLES}|boxed|fbox|boldsymbol|bm|mathcal|textsc|displaystyle|textstyle"
    r"|tiny|small|normalsize|large|Large|LARGE|huge|Huge|left|right)(?![A-Za-z])\s*"
    r"|(?:text)?color\s*\{[^{}]*\}\s*(?=\{))"
)
_TAGS = re.compile(r"<([a-z_]{3,14})>([^<>]*)</\1>", re.IGNORECASE)
_SHOWS = re.compile(r"\A\s*(?:(?:[✅✔✓☑👉→⇒➡▶►∴•]\ufe0f?|[-=]>|\\(?:Rightarrow|therefore)\b)\s*)+")
"""Signs before an option that point to it."""
_SPACING = re.compile(r"\\[()\[\] ,;:!]|\\q?quad(?![A-Za-z])|~|\\\\")
LATIN = re.compile(r"\bi\. ?e\.,?(?= )")
_MARKS = " \t\n\"'“”‘’„«»「」【】*_`$<>{}~。…"
_SURE = (
    r"definitely|clearly|certainly|for sure|probably|therefore|thus|actually|indeed|simply|still"
    r"|surely|likely|most likely|obviously|choosing|instead|just|hence|donc|also|daher|entonces"
)
_ANNOUNCES = re.compile(
    r"(?:(?:so|thus|hence|therefore|then|and|because|sure)\b[,!:]*\s+)?"
    r"(?:(?:it(?:'s| is| must be| has to be)|must be|that(?:'s| is)|this is"
    r"|(?:i(?:'d|'ll|'m| would| will| am)?|let's|we) "
    r"(?:choose|pick|select|go(?:ing)? with|think|believe|guess|say)(?: that)?(?: it(?:'s| is))?"
    r"|going with|go with|by elimination,?)\s+)?"
    r"(?:(?:the |my |an? |le |la |el |die |der |η |(?-i:a|o)(?= [B-Z]\b))?"
    r"(?:(?:final|correct|right|best|only|true|richtige|bonne)\s+)*"
    rf"(?:{OPTION_WORDS})\s*(?:choice\s*)?(?:is|:|=|est|es|ist|é|è)?\s*"
    r"|(?:la|le|el|l['’]|η|die|der|den|(?-i:a|o))\s+(?=[(]?(?-i:[B-Z])\b[^A-Za-z]*$)"
    r"|(?:正确|正確)?(?:答案|选项|選項|选择|選擇|[选選])(?:是|为|為|[选選])?\s*:?\s*"
    rf"|(?:{_SURE}),?\s+(?=[\"'*_`$({{\[]*\w)"
    r"|only\s+(?=[\"'*_`$({\[]*[A-Z](?![A-Za-z]))"
    r"|[:：]\s*)*",
    re.IGNORECASE,
)
_LETTER = re.compile(
    r"[\"'“‘„«「【*_`$({\[<\s]*([A-Za-z])"
    r"(?![A-Za-z0-9_^#]|'(?![dt][ıiuü]r)|’(?![dt][ıiuü]r)\w|\.[a-z]\.)"
)
_QUOTED = re.compile(r"['’]([A-Za-z])['’](?!\w)")
_DENIES = re.compile(
    r"(?:is |are |was |it |that |definitely |clearly |certainly |be |,)*\s*"
    r"(?:not?\b|isn'?t|cannot|can'?t|never|neither|nor\b|none of (?:these|them)\b|non-"
    r"|un(?:able|sure)|incorrect|wrong|anything but|everything except|all but|except|other than"
    r"|nicht|kein|non|ne\b|n['’]est|niet|ikke|inte|ei ole|nie\b|bukan|không|si\b|δεν|не\b|ليس|لا"
    r"|\\(?:neg|lnot|not|overline)|[¬!~❌✗✘×]|不|非|没|沒|ไม่)",
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
    r"(?:correct|right|true|answer|valid|best|here|in this case|it is|works|fits|remains|正确|对)\b"
    r"(?!\s+(?:if|when|were|unless)\b)",
    re.IGNORECASE,
)
_COPULA = re.compile(
    r"(?:['’]?[dt][ıiuü]r|şıkkı(?:dır)?|です|になります|となります|である|だ|번?(?:입니다|이다)|번"
    r"|(?:सही |सत्य )?(?:है|हैं|होगा)|(?:সঠিক|হবে|হয়)|(?:صحیح |درست )?(?:ہے|ہوگا|است)|صحيح[ةه]?"
    r"|ist (?:richtig|korrekt)|ist die richtige Antwort|es (?:la )?(?:respuesta )?correct[ao]"
    r"|est (?:la (?:bonne )?réponse(?: correcte)?|correcte?|juste)|è (?:la risposta )?corretta"
    r"|(?:está|é a?) ?(?:resposta )?(?:correta|correto)"
    r"|верно|является правильным|là (?:đáp án )?đúng"
    r"|benar|är rätt|er riktig|er rigtig|is juist|on oikein|je správn[aěá]|jest poprawna)"
    r"[\s.!。]*",
    re.IGNORECASE,
)
"""All that stands behind a letter where the language puts its verb, or its praise, there."""
_REASON = re.compile(
    r"\s*(?:because|since|as|for|due|given|where|which|that|with|by|from|based|when|in|on|and"
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
_NAMED_LAST = re.compile(
    r"(.*?)[\s,;:–—-]+(?:which (?:is|corresponds to|matches)|that is|i\.?e\.?|namely|so|or)?,?\s*"
    rf"(?:the )?(?:{OPTION_WORDS})\s*[:,]?\s*[(\[]?([A-Z])[)\]]?\W*",
    re.DOTALL | re.IGNORECASE,
)
"""A value with its option behind it: "4, which is option B"."""
_SUPPOSES = re.compile(
    r"\b(?:suppose|assume|assuming|if|whether|consider|eliminat\w+|reject\w*|exclud\w+|ignore|unlike)\b",
    re.IGNORECASE,
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
    piece = _SPACING.sub(" ", _STYLE.sub("", _TAGS.sub(r"\2", _SHOWS.sub("", piece))))
    piece = piece.replace("**", "").replace("__", "")
    piece = LATIN.sub("namely", re.sub(r"\s+", " ", re.sub(r"[{}$]", "", piece)))
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
    denial = _DENIES.match(text)
    but = _BUT.search(text, denial.end() if denial else 1)
    if but:
        return option_of(text[but.end() :], texts)._replace(piece=piece)
    return Reading(None, "denied", piece)


def _behind_the_letter(letter: str, after: str, rest: str, texts: Mapping[str, str]) -> str:
    """Say why a letter with that behind it is no answer; '' where it is one."""
    rest = rest.strip()
    tail = rest.strip(_MARKS + ")].,:;?!-–—<>|\\✅✔✓☑\ufe0f")
    if not tail:
        return "asked" if re.match(r"[)\]*_\s]*\?", after) else ""
    if _NOT_OTHERS.match(rest) or _COPULA.fullmatch(rest.lstrip(_MARKS + ")]")):
        return ""
    if re.match(r"[\s*_)\]]*[❌✗✘]", after):
        return "denied"
    if _is_own_text(rest.strip(_MARKS + ")].,:;=-–—<>|"), texts, letter):
        return ""
    if _OPERAND.match(after):
        return "no_option"
    if len(rest) <= _LIST_CHARS and _LISTED.fullmatch(rest):
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
        return "" if agrees(letter, told, texts) else "several_options"
    bracket = re.match(r"[\s*_`)\]\"']*[(\[]([^()\[\]]*)", after)
    if bracket:
        return "" if agrees(letter, bracket.group(1), texts) else "several_options"
    if _VERDICT.match(rest):
        return "several_options" if _HEDGES.search(rest[:80]) else ""
    if texts[letter] and agrees(letter, rest, texts) and by_text(rest, texts) == letter:
        return ""
    if _REASON.match(rest) and not (letter in "AI" and re.match(r"(?:in|on|for|with|by)\b", rest)):
        return ""
    return "several_options" if _HEDGES.search(rest[:40]) else "no_option"


_OPERAND = re.compile(
    r"\([^()]*[0-9][^()]*,[^()]*\)|\s*=(?:[^=\\A-Za-z]|\\[A-Za-z]+)*[A-Za-z]|\s*[+*/^_]\s*[0-9]"
)
"""Behind a letter: it is a name in a formula, such as E = mc^2 or C(5, 2), and no option."""


def _is_own_text(rest: str, texts: Mapping[str, str], letter: str) -> bool:
    return bool(texts[letter]) and _normal(rest) == _normal(texts[letter])


def agrees(letter: str, told: str, texts: Mapping[str, str]) -> bool:
    """Tell whether what stands behind a letter is not another option's text or letter."""
    told = told.strip()
    if not told or _is_own_text(told, texts, letter):
        return True
    other = by_text(told, texts)
    if other is None:
        other = by_text(_FIRST_WORDS.split(told, maxsplit=1)[0], texts)
    if other is not None:
        return other == letter
    alone = re.fullmatch(r"[(\[\s]*([A-Z])[)\]\s.]*", told)
    return alone is None or alone.group(1) not in texts or alone.group(1) == letter


_FIRST_WORDS = re.compile(
    r"(?<=[.!?])\s|[,;:(]|\s[-–—=]\s|\b(?:because|since|as|for|which|due to|is (?:correct|right))\b"
)


def _by_words(text: str, body: str, piece: str, texts: Mapping[str, str]) -> Reading:
    """Read an option's own text, with or without its letter behind it."""
    found = behind(text)
    if found and found.group(2) in texts:
        letter, told = found.group(2), found.group(1)
        listed = {x for x in _ALONE.findall(told) if x.isupper()} & set(texts) - {letter}
        words = body[: len(found.group(1)) - (len(text) - len(body))] if body != text else told
        if not listed - set("AI") and not _HEDGES.search(told) and not _SUPPOSES.search(told):
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


def behind(text: str) -> re.Match[str] | None:
    """Find "Rome (option B)" or "Rome, option B"; the cap keeps the search short."""
    if len(text) > 400:
        return None
    found = _BEHIND.fullmatch(text) if re.search(r"[)\]]\W*$", text[-6:]) else None
    return found or (_NAMED_LAST.fullmatch(text) if re.search(r"\b[A-Z]\W*$", text[-8:]) else None)


def by_text(piece: str, texts: Mapping[str, str]) -> str | None:
    """Return the option whose text a piece repeats; None unless it is exactly one."""
    wanted = _normal(piece)
    if not wanted or (re.fullmatch("[a-z]", wanted) and wanted.upper() in texts):
        return None
    hits = [letter for letter, text in texts.items() if text and _normal(text) == wanted]
    return hits[0] if len(hits) == 1 else None


def _normal(text: str) -> str:
    text = _SPACING.sub(" ", _STYLE.sub("", text))
    return re.sub(r"[\s\"'*`$.。{}\\()]+", " ", text).strip().casefold()


def named_letter(piece: str, texts: Mapping[str, str]) -> str | None:
    """Return the letter of "C Cecile", as some sources write their golds."""
    named = _NAMED.match(plain(piece))
    if named is None or named.group(1) not in texts:
        return None
    letter = named.group(1)
    return letter if agrees(letter, named.group()[1:], texts) else None


def twin_of(letter: str, texts: Mapping[str, str]) -> str | None:
    """Return another option with the same text: then the letter alone is no fair gold.

    >>> twin_of("B", {"A": "4", "B": "5", "C": "$5$"})
    'C'
    """
    text = _normal(texts[letter])
    return next((k for k, v in texts.items() if k != letter and v and _normal(v) == text), None)
