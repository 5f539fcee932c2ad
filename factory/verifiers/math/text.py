"""Answers as text: one normal form, and plain numbers compared exactly (math).

``plain_number`` is the path that nearly all word problems take; it must stay a few microseconds.
"""

from __future__ import annotations

import re
import unicodedata

from factory.verifiers.math.words import word_form

_PLAIN = re.compile(
    r"\$? ?(?:\\?\$|[€£¥])? ?([-+−]?) ?(?:\\?\$|[€£¥])? ?"
    r"([1-9][0-9]{0,2}(?:(?:,|\{,\}|,?\\[!,] ?)[0-9]{3})+(?![0-9])|[0-9]+)?(\.[0-9]*)?"
    r" ?\.? ?[$€£¥]?"
)
_SIMPLE = re.compile(r"-?[0-9]{1,400}")
MAX_DIGITS = 2000

_UNICODE = {
    "−": "-", "–": "-", "—": "-", "﹣": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ",
    "∙": r"\cdot ", "∗": "*", "÷": "/", "∕": "/", "⁄": "/", "π": r"\pi ", "∞": r"\infty ",
    "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "∪": r"\cup ",
    "∩": r"\cap ", "∈": r"\in ", "∉": r"\notin ", "√": r"\sqrt", "∛": r"\sqrt[3]",
    "°": r"^\circ ", "º": r"^\circ ", "±": r"\pm ", "∓": r"\mp ", "≈": r"\approx ",
    "∅": r"\emptyset ", "∣": "|", "〈": r"\langle ", "〉": r"\rangle ", "⟨": r"\langle ",
    "⟩": r"\rangle ", "：": ":", "，": ",", "、": ",", "；": ";", "。": ".", "（": "(", "）": ")",
    "【": "[", "】": "]", "｛": "{", "｝": "}", "∶": ":", "…": r"\ldots ", "∠": r"\angle ",
    "△": r"\triangle ", "⊥": r"\perp ", "∥": r"\parallel ", "∧": r"\land ", "∨": r"\lor ",
    "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}", "⅕": r"\frac{1}{5}", "⅛": r"\frac{1}{8}", "′": "'", "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ",
    "⌉": r"\rceil ", "≡": r"\equiv ", "→": r"\to ", "∖": r"\setminus ",
}  # fmt: skip
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta",
    "η": "eta", "θ": "theta", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi",
    "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "ϕ": "phi", "χ": "chi", "ψ": "psi",
    "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Σ": "Sigma",
    "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
_TABLE: dict[int, str | None] = {ord(k): v for k, v in _UNICODE.items()}
_TABLE |= {ord(k): f"\\{v} " for k, v in _GREEK.items()}
_TABLE |= dict.fromkeys((0x200B, 0x200C, 0x200D, 0xFEFF, 0x2060, 0x00AD))
_TABLE |= dict.fromkeys((160, 8201, 8239, 12288, 8194, 8195), " ")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")


def ascii_form(text: str) -> str:
    r"""Write full-width forms, typographic signs and Greek letters in plain LaTeX.

    Only signs that mean the same are mapped: a Cyrillic letter that looks Latin stays foreign.

    >>> ascii_form("−５×２²")
    '-5\\times 2^{2}'
    """
    if text.isascii():
        return text
    text = _RAISED.sub(lambda m: "^{" + unicodedata.normalize("NFKC", m.group()) + "}", text)
    text = _LOWERED.sub(lambda m: "_{" + unicodedata.normalize("NFKC", m.group()) + "}", text)
    text = text.translate(_TABLE)
    if text.isascii():
        return text
    return western_digits(
        "".join(unicodedata.normalize("NFKC", c) if 0xFF00 <= ord(c) <= 0xFFEF else c for c in text)
    )


def western_digits(text: str) -> str:
    """Write the digits of other scripts as 0 to 9; styled digits of mathematics stay foreign.

    >>> western_digits("১২০"), western_digits("१२.५")
    ('120', '12.5')
    """
    if text.isascii() or not _DIGITS.search(text):
        return text
    text = text.replace("٫", ".").replace("٬", ",").replace("٪", "%")
    return _DIGITS.sub(lambda m: str(unicodedata.decimal(m.group())), text)


_DIGITS = re.compile(r"\d(?<![0-9\U0001D7CE-\U0001D7FF\uFF10-\uFF19])")
_DRESS = (
    ('"', '"'), ("“", "”"), ("„", "“"), ("‘", "’"), ("«", "»"), ("``", "''"), ("`", "`"),
    ("`", "'"), ("'", "'"), ("**", "**"), ("__", "__"), ("*", "*"), ("「", "」"),
    ("\\textquotedblleft", "\\textquotedblright"),
)  # fmt: skip
_DRESSED = re.compile(r"\s*[\"“„‘«`'*_「<\\]")
_DRESSED_TEXT = re.compile(
    r"(\\text(?:tt|bf|it|rm)?\s*\{)\s*[\"“„‘«`']+([^{}\"“”‘’«»`']+)[\"”’»'`]+\s*\}"
)
_TAGGED = re.compile(
    r"<\s*(answer|final_answer|output|b|strong|code)\s*>(.*)<\s*/\s*\1\s*>",
    re.IGNORECASE | re.DOTALL,
)


def undressed(text: str) -> str:
    r"""Take off the quotation marks, Markdown and tags that hold all of an answer.

    >>> undressed('"3.14"'), undressed("**42**"), undressed("<ANSWER>1</ANSWER>")
    ('3.14', '42', '1')
    """
    if not _DRESSED.match(text):
        return text
    for _ in range(3):
        before = text = text.strip()
        tagged = _TAGGED.fullmatch(text)
        if tagged:
            text = tagged[2].strip()
        for begin, end in _DRESS:
            inner = text[len(begin) : -len(end)]
            if (
                text.startswith(begin)
                and text.endswith(end)
                and inner.strip()
                and begin not in inner
            ):
                text = inner.strip()
                break
        if text == before:
            break
    return _DRESSED_TEXT.sub(r"\1\2}", text) if "\\text" in text else text


def plain_number(text: str) -> str | None:
    r"""Return the canonical text of a plain number; None for anything else.

    Equal canonical texts are equal numbers, without any arithmetic.

    >>> plain_number(" 1,234.50 "), plain_number("-07"), plain_number("1{,}234"), plain_number("x")
    ('1234.5', '-7', '1234', None)
    """
    if _SIMPLE.fullmatch(text):
        sign, digits = ("-", text[1:]) if text[0] == "-" else ("", text)
        digits = digits.lstrip("0")
        return (sign + digits) if digits else "0"
    if len(text) > MAX_DIGITS:
        return None
    found = _PLAIN.fullmatch(text)
    if not found:
        return None
    sign, whole, decimals = found.groups()
    if whole is None and (decimals is None or len(decimals) < 2):
        return None
    whole = re.sub(r"[^0-9]", "", whole or "").lstrip("0")
    decimals = (decimals or "").rstrip("0")
    number = (whole or "0") + (decimals if len(decimals) > 1 else "")
    if number == "0":
        return "0"
    return "-" + number if sign in ("-", "−") else number


_FRAC_SHORT = re.compile(r"\\frac\s*([0-9a-zA-Z])\s*([0-9a-zA-Z])")
_FRAC_HALF = re.compile(r"\\frac\s*([0-9])\s*\{")
_SQRT_SHORT = re.compile(r"\\sqrt\s*([0-9a-zA-Z])")
_DROP = re.compile(
    r"\\(?:left|right|bigg?[lrm]?|Bigg?[lrm]?|displaystyle|textstyle|limits|nolimits|middle)"
    r"(?![a-zA-Z])|\\[!,;:> ]|~|\\q?quad(?![a-zA-Z])|\s+"
)
_SPACES = re.compile(r"(?:\\[!,;:> ]|~|\s)+")
_SPLIT_DIGITS = re.compile(r"(?<=[0-9])(?:\\[!,;:> ]|~|\s)+(?=[0-9])")
_GROUPS = re.compile(
    r"(?<![0-9.])[1-9][0-9]{0,2}(?:(?:\\[!,;:> ]|~|\s){1,2}[0-9]{3})+(?![0-9])(?!\s*/)"
)
_STYLE = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|rm|bf|operatorname)"
                    r"\s*\{([^{}]*)\}")  # fmt: skip
_OUTER = re.compile(r"^(?:\$+|\\\(|\\\[)|(?:\$+|\\\)|\\\])$|[.。]$")


def text_key(text: str) -> str:
    r"""Return a form in which answers that are merely respelled are the same text.

    >>> text_key(r"\dfrac{1}{2}") == text_key(r" \frac12 ") == text_key(r"$\tfrac{1}{2}$.")
    True
    """
    text = text.strip()
    for _ in range(3):
        before, text = text, _OUTER.sub("", text).strip()
        if text == before:
            break
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    text = text.replace("\\cfrac", "\\frac").replace("\\$", "").replace("\\%", "%")
    text = _STYLE.sub(r"\1", text)
    if _SPLIT_DIGITS.search(text):
        # "4 2" is not 42, "3 1/2" not 31/2, while 1 000 000 is one number.
        text = _GROUPS.sub(lambda m: _SPACES.sub("", m.group()), text)
        text = _SPLIT_DIGITS.sub("_ ", text)
    text = _DROP.sub("", text)
    text = text.replace("{,}", "")
    if "\\frac" in text:
        text = _FRAC_SHORT.sub(r"\\frac{\1}{\2}", text)
        text = _FRAC_HALF.sub(r"\\frac{\1}{", text)
    text = _SQRT_SHORT.sub(r"\\sqrt{\1}", text) if "\\sqrt" in text else text
    text = text.replace("\\leq", "\\le").replace("\\geq", "\\ge").replace("\\lt", "<")
    text = _LONE.sub(r"\1", text)
    return text.replace("\\gt", ">").replace("^{\\circ}", "^\\circ").replace("\\degree", "^\\circ")


def in_words(text: str) -> str:
    """Return an answer's words without the LaTeX around them.

    >>> in_words(r"$\\text{Alice and Bob}$.")
    'Alice and Bob'
    """
    text = _STYLE.sub(r"\1", _OUTER.sub("", text.strip()))
    return _OUTER.sub("", re.sub(r"\\[!,;:> ]|~|\\q?quad(?![a-zA-Z])", " ", text)).strip()


_LONE = re.compile(r"\{([0-9A-Za-z])\}")
_WORD = re.compile(r"\(?([^\W\d_](?:[^\W\d_]|[-' ])*)\)?(?:\.|(?<=[^\W\d_]{2})[!.,;]+)?")
_WORDS = re.compile(r"[^\W\d_]{2,}(?:(?:[-' ,;&、，]|\.\s)+[^\W\d_]{2,})*[.!]?")


def word_list(text: str) -> str | None:
    r"""Return an answer that is words alone, joined by commas or "and"; None for anything else.

    >>> word_list(r"\text{Alice and Bob}"), word_list("Alice, Bob"), word_list("x, y")
    ('Alice and Bob', 'Alice, Bob', None)
    """
    plain = in_words(text)
    return plain if _WORDS.fullmatch(plain) else None


def word_of(key: str) -> str | None:
    r"""Return an answer that is a word or a letter, in lower case; None for anything else.

    >>> word_of("(B)"), word_of("Navin"), word_of("2x")
    ('b', 'navin', None)
    """
    found = _WORD.fullmatch(key)
    if not found or any("①" <= c <= "⑳" for c in key):
        return None  # the numbers of statements, in any order
    return word_form(found.group(1))


def without_delimiters(text: str) -> str:
    r"""Take off the dollars or brackets of LaTeX that hold all of a text.

    >>> without_delimiters(r" \(x + 1\) "), without_delimiters("$1$ or $2$")
    ('x + 1', '$1$ or $2$')
    """
    text = text.strip()
    for start, end in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if (
            text.startswith(start)
            and text.endswith(end)
            and len(text) > len(start + end)
            and start not in text[len(start) : -len(end)]
        ):
            return text[len(start) : -len(end)].strip()
    return text
