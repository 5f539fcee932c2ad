"""Cutting an answer into tokens (math)."""

from __future__ import annotations

import re

from factory.verifiers.math.nodes import MAX_CHARS, MAX_TOKENS, ParseError
from factory.verifiers.math.notation import in_plain_notation
from factory.verifiers.math.units import UNITS

FUNCTIONS = frozenset(
    (
        "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "arccot", "sinh",
        "cosh", "tanh", "coth", "asin", "acos", "atan", "ln", "log", "lg", "exp", "sqrt", "cbrt",
        "abs", "floor", "ceil", "max", "min", "gcd", "lcm",
    )
)  # fmt: skip
ALIAS = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "lb": "log", "tg": "tan", "ctg": "cot",
    "arctg": "arctan", "cosec": "csc",
}  # fmt: skip
GREEK = frozenset(
    (
        "alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta",
        "vartheta", "kappa", "lambda", "mu", "nu", "xi", "rho", "sigma", "tau", "phi", "varphi",
        "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Sigma", "Phi", "Psi", "Omega",
        "ell", "hbar",
    )
)  # fmt: skip
_PLAIN_NAMES = ("pi", "inf", "infinity", "oo", "theta", "alpha", "beta", "gamma", "lambda", "omega")
_WORDS = FUNCTIONS | frozenset(ALIAS) | frozenset(_PLAIN_NAMES)
_PREPARE = (
    (re.compile(r"\\\\(?=[a-zA-Z(){}])(?!.*\\begin)"), r"\\"),  # escaped once too often
    (re.compile(r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![a-zA-Z])\s*\.?(?=[\W_a-z0-9]|$)"), " "),
    (re.compile(r"(?<=[0-9])(?:\{,\}|,?\\[!,;: ]\s*)(?=[0-9]{3}(?![0-9]))"), ""),
    (re.compile(r"(?<!\\)\\(?:[!,;:> ]|displaystyle|textstyle|limits|nolimits)"), " "),
    (re.compile(r"\\(?:underline|color\{\w+\}|textcolor\{\w+\}|mathstrut)"), " "),
    (re.compile(r"\\[hv]space\{[^{}]*\}"), " "),
    (re.compile(r"\\q?quad|~|\\newline"), " "),
    (re.compile(r"\\[dtc]frac"), r"\\frac"),
    (re.compile(r"\\[dt]binom"), r"\\binom"),
    (re.compile(r"\\\$|\$|€|£|¥"), " "),
    (re.compile(r"\\%|％"), "%"),
    (re.compile(r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree|\\textdegree"), " ° "),
    (re.compile(r"°\s*([CFK])(?![a-zA-Z])"), r"\\text{deg\1}"),
    (re.compile(r"\\(?:mathbb|mathcal|mathscr|mathfrak)\s*\{?\s*([A-Za-z])\s*\}?"), r" \\bb\1 "),
    (re.compile(r"\\(?:vec|overrightarrow|overline|bar|hat|widehat|mathbf|boldsymbol|bm|tilde)\s*"
                r"\{\s*([A-Za-z]{1,2})\s*\}"), r"\\vec_\1 "),
    (re.compile(r"\bbase\s+(?=[0-9]+$)"), "_"),
)  # fmt: skip
_TOKEN = re.compile(
    r"\s*(?:"
    r"(?P<num>[0-9]+(?:\.[0-9]+)?(?:\.(?![0-9]))?|\.[0-9]+)"
    r"|\\(?:text|textbf|textit|textrm|mbox|rm|textnormal|hbox)\s*\{(?P<text>[^{}]*)\}"
    r"|\\(?:mathrm|operatorname\*?|mathit|mathsf)\s*\{(?P<roman>[^{}]*)\}"
    r"|\\vec_(?P<vec>[A-Za-z]{1,2})"
    r"|\\(?P<cmd>[a-zA-Z]+)|(?P<esc>\\.)"
    r"|(?P<cjk>[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]+)"
    r"|(?P<word>[A-Za-z]+)|(?P<op>[<>!]=|\*\*|:=|=>|.)"
    r")",
    re.DOTALL,
)
_ORDINAL = re.compile(r"(?<=[0-9])(?:st|nd|rd|th)(?![a-zA-Z])")
_THOUSANDS = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9])(?!,[0-9])")
RELATIONS = {
    "=": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "!=": "!=", "lt": "<", "gt": ">",
    "le": "<=", "leq": "<=", "leqslant": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=",
    "ne": "!=", "neq": "!=", "approx": "~", "simeq": "~", "in": "in", "equiv": "=", ":=": "=",
    "to": "~", "rightarrow": "~", "implies": "~", "Rightarrow": "~",
}  # fmt: skip
_OPENING = frozenset((("op", "("), ("op", "{"), ("op", ","), ("op", "\\{"), ("op", "[")))
_JOINERS = frozenset(("and", "or", "且", "和", "或", "及", "与"))
_SILENT = frozenset(["about", "approximately", "exactly", "only", "is", "are", "the"])

Token = tuple[str, str]


def tokenize(text: str, *, thousands: bool = True) -> list[Token]:
    """Cut an answer (already in ``ascii_form``) into tokens: kind and text."""
    if len(text) > MAX_CHARS:
        raise ParseError("too long")
    text = in_plain_notation(text)
    if (
        "\\" in text
        or "$" in text
        or "~" in text
        or "%" in text
        or "base" in text
        or "{,}" in text
        or not text.isascii()
    ):
        for pattern, replacement in _PREPARE:
            text = pattern.sub(replacement, text)
    if thousands and "," in text and not any(c in text for c in "([{"):
        text = _THOUSANDS.sub(lambda m: m.group().replace(",", ""), text)
    text = _ORDINAL.sub("", text)
    tokens: list[Token] = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if not found:
            raise ParseError("unknown sign")
        kind = found.lastgroup or ""
        value = found.group(kind)
        spaced = found.start(kind) > at
        at = found.end()
        if kind == "word":
            _cut_word(value, tokens, spaced)
        elif kind in ("text", "cjk"):
            _cut_text(value, tokens)
        elif kind == "roman":
            _cut_roman(value, tokens)
        elif kind == "vec":
            tokens.append(("sym", f"vec {value}"))
        elif kind == "esc":
            tokens.append(("op", value))
        else:
            tokens.append((kind, value))
        if len(tokens) > MAX_TOKENS:
            raise ParseError("too many signs")
    return tokens


def _cut_word(word: str, tokens: list[Token], spaced: bool) -> None:
    lower = word.lower()
    if lower in _JOINERS:
        tokens.append(("op", ","))
    elif word in _WORDS or (lower in ("infinity", "sqrt", "pi") and len(word) > 1):
        tokens.append(("cmd", word if word in _WORDS else lower))
    elif len(word) == 1:
        tokens.append(("sym", word))
    elif tokens and tokens[-1][0] == "text":
        tokens[-1] = ("text", f"{tokens[-1][1]} {word}")
    elif (
        (
            tokens
            and lower in UNITS
            and (tokens[-1][0] == "num" or tokens[-1][1] in ("}", ")", "pi"))
        )
        or len(word) >= 4
        or (spaced and len(word) == 3 and tokens and tokens[-1][0] == "num")
    ):
        tokens.append(("text", word))
    else:
        tokens.extend(("sym", c) for c in word)


def _cut_text(value: str, tokens: list[Token]) -> None:
    words = value.strip().strip(".").strip()
    core = words.strip(",").strip().lower()
    if core in _JOINERS or core in ("", ";"):
        if core or "," in value or ";" in value:
            tokens.append(("op", ","))
    elif core == "to" and tokens and tokens[-1][0] == "num":
        tokens.append(("op", ":"))
    elif core in _SILENT:
        return
    elif re.fullmatch(r"[-+]?[0-9][0-9,]*(?:\.[0-9]+)?", words):
        tokens.append(("num", words.replace(",", "")))
    elif re.fullmatch(r"[A-Za-z]", words):
        # "5 \\text{ m}" has a unit; "\\text{B}" alone is a letter.
        after = bool(tokens) and tokens[-1] not in _OPENING and tokens[-1][1] != "="
        tokens.append(("text" if after else "sym", words))
    else:
        tokens.append(("text", words))


def _cut_roman(value: str, tokens: list[Token]) -> None:
    word = value.strip()
    if word in _WORDS or word in ALIAS:
        tokens.append(("cmd", word))
    elif len(word) == 1 and word.isalpha():
        tokens.append(("unit1" if word not in "eidCP" else "sym", word))
    else:
        _cut_text(word, tokens)
