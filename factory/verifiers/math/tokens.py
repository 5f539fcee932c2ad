"""Cutting an answer into tokens (math)."""

from __future__ import annotations

import re
from collections.abc import Callable

from factory.verifiers.math.nodes import MAX_CHARS, MAX_TOKENS, ParseError
from factory.verifiers.math.notation import in_plain_notation
from factory.verifiers.math.units import is_unit

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


def _arc_form(found: re.Match[str]) -> str:
    """Write the minutes and seconds of an angle as quantities."""
    seconds = f" {found[2]} \\text{{arcsecond}}" if found[2] else ""
    return f" \\text{{degree}} {found[1]} \\text{{arcminute}}{seconds}"


def _sign_of_set(sign: str | None) -> str:
    return f"^{{{sign}}}" if sign else ""


_PREPARE: tuple[tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    ("begin",
     re.compile(r"\\\\\s*\[\s*-?[0-9.]+\s*[a-z]{2}\s*\]|\\(?:cr|newline|tabularnewline)(?![a-zA-Z])"),
     r"\\\\"),  # the space below a row
    ("}", re.compile(r"\{([:.=+<>-])\}"), r"\1"),
    ("+/-", re.compile(r"\+/-"), r"\\pm "),
    ("therefore", re.compile(r"^\s*\\therefore(?![a-zA-Z])"), " "),
    ("forall", re.compile(r"\\forall(?![a-zA-Z])"), r"\\text{for all}"),
    ("^",
     re.compile(r"(?<=[0-9])\s*\^\s*\{?\s*\\(?:text|mathrm|rm)\s*\{\s*(?:st|nd|rd|th)\s*\}\s*\}?"),
     ""),
    ("\\",
     re.compile(r"\\(?:tiny|small|[lL]arge|LARGE|[hH]uge|ensuremath|bfseries|rmfamily)(?![a-zA-Z])"),
     " "),
    ("not", re.compile(r"\\not\s*\\in(?![a-zA-Z])"), r"\\notin "),
    ("not", re.compile(r"\\not\s*="), r"\\ne "),
    ("\\in",
     re.compile(r"(\\(?:not)?in)\s*(?:\\(?:math(?:bf|rm)|boldsymbol|bm|text(?:bf)?)\s*"
                r"\{\s*([ZNRQC])\s*\}|([ZNRQC])(?![a-zA-Z(]))"
                r"(?:\s*[_^]?\s*(?:\{\s*([+*])\s*\}|([+*]))(?=\s*(?:[),;.}]|$)))?"),
     lambda m: f"{m[1]} \\mathbb{{{m[2] or m[3]}}}" + _sign_of_set(m[4] or m[5])),
    ("n", re.compile(r"\\lnot(?![a-zA-Z])|\\neg(?![a-zA-Z])"), r"\\not "),
    ("^", re.compile(r"\\(?:mathrm|text|rm)\s*\{([^{}]*\^\{?[^{}]*\}?[^{}]*)\}"),
     lambda m: _unit_form(m[1])),
    ("frac", re.compile(r"\\[dt]?frac\s*\{\s*\\(?:text|mathrm)\s*\{([^{}]*)\}\s*\}"
                r"\s*\{\s*\\(?:text|mathrm)\s*\{([^{}]*)\}\s*\}"), r"\\text{\1/\2}"),
    ("\\mu", re.compile(r"\\mu\s*\\(?:text|mathrm)\s*\{\s*"), r"\\text{u"),
    ("Omega",
     re.compile(r"(?<=[0-9}])((?:\\[ ,;:!]|~|\s)*)([kM]?)\\Omega\s*$"), r"\1\\text{\2ohm}"),
    ("\\\\", re.compile(r"\A(?!.*(?<!\\)\\begin).*\Z", re.DOTALL), lambda m: _unescaped(m[0])),
    ("\\",
     re.compile(r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![a-zA-Z])\s*\.?(?=[\W_a-z0-9]|$)"), " "),
    ("", re.compile(r"(?<=[0-9])(?:\{,\}|,?\\[!,;: ]\s*)(?=[0-9]{3}(?![0-9]))"), ""),
    ("\\", re.compile(r"(?<!\\)\\(?:[!,;:> ]|displaystyle|textstyle|limits|nolimits)"), " "),
    ("\\", re.compile(r"\\(?:underline|color\{\w+\}|textcolor\{\w+\}|mathstrut)"), " "),
    ("space", re.compile(r"\\[hv]space\{[^{}]*\}"), " "),
    ("", re.compile(r"\\q?quad|~|\\newline"), " "),
    ("frac", re.compile(r"\\[dtc]frac"), r"\\frac"),
    ("binom", re.compile(r"\\[dt]binom"), r"\\binom"),
    ("", re.compile(r"\\\$|\$|€|£|¥"), " "),
    ("", re.compile(r"\\%|％"), "%"),
    ("\\", re.compile(r"\\(?:mathbf|boldsymbol|bm|pmb)\s*\{\s*(-?[0-9][0-9.,]*)\s*\}"), r"\1"),
    ("", re.compile(r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree|\\textdegree"), " ° "),
    ("°", re.compile(r"°\s*([0-9.]+)\s*(?:\^\s*\{?\s*\\prime\s*\}?|')"
                r"(?:\s*([0-9.]+)\s*(?:\^\s*\{?\s*\\prime\s*\\prime\s*\}?|''|\"))?"), _arc_form),
    ("°", re.compile(r"°\s*(?:\\(?:text|mathrm|rm)\s*\{?\s*)?([CFK])(?![a-zA-Z])\s*\}?"),
     r"\\text{deg\1}"),
    ("math",
     re.compile(r"\\(?:mathbb|mathcal|mathscr|mathfrak)\s*\{?\s*([A-Za-z])\s*\}?"), r" \\bb\1 "),
    ("\\",
     re.compile(r"\\(?:vec|overrightarrow|overline|bar|hat|widehat|mathbf|boldsymbol|bm|tilde)\s*"
                r"\{\s*([A-Za-z]{1,2})\s*\}"), r"\\vec_\1 "),
    ("base",
     re.compile(r"\\text\{\s*\(?(?:in )?base\s*\}\s*|\b(?:in )?base\s+(?=[0-9]+\)?$)"), "_"),
)  # fmt: skip
"""A sign that must stand in the text for the rule to apply; the pattern; what replaces it."""
_TOKEN = re.compile(
    r"\s*(?:"
    r"(?P<num>[0-9]+(?:\.[0-9]+)?(?:\.(?![0-9]))?|\.[0-9]+)"
    r"|\\(?:text(?:bf|it|rm|tt|sf|sc|normal|md|up)?|mbox|rm|hbox|texttt)\s*\{(?P<text>[^{}]*)\}"
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
    "ne": "!=", "neq": "!=", "approx": "~", "simeq": "~", "in": "in", "notin": "notin",
    "equiv": "=", ":=": "=",
    "to": "->", "rightarrow": "->", "implies": "->", "Rightarrow": "->", "mapsto": "->",
}  # fmt: skip
_OPENING = frozenset(
    (("op", "or"), ("op", "("), ("op", "{"), ("op", ","), ("op", "\\{"), ("op", "["))
)
_JOINERS = {
    "and": ",", "or": "or", "且": ",", "和": ",", "或": "or", "及": ",", "与": ",", "&": ",",
    "and/or": "or", "或者": "or", "lor": "or", "vee": "or", "land": ",", "wedge": ",", "以及": ",",
}  # fmt: skip
"""Words and commands between alternatives or parts → the sign that the grammar knows."""
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
        or "+/-" in text
        or "{,}" in text
        or not text.isascii()
    ):
        for sign, pattern, replacement in _PREPARE:
            if sign in text:
                text = pattern.sub(replacement, text)
    if thousands and "," in text:
        text = _grouped(text)
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
        elif kind == "cmd" and value in _JOINERS:
            tokens.append(("op", _JOINERS[value]))
        else:
            tokens.append((kind, value))
        if len(tokens) > MAX_TOKENS:
            raise ParseError("too many signs")
    return _names_or_units(tokens)


def _unescaped(text: str) -> str:
    """Read commands that were escaped once too often, with two backslashes before each name."""
    if "begin" in text:
        return text.replace("\\\\", "\\")
    return re.sub(r"\\\\(?=[a-zA-Z(){}])", r"\\", text)


def _names_or_units(tokens: list[Token]) -> list[Token]:
    """Read a letter behind a number as a unit only where an item ends with it: ``3 m``, ``5 m/s``.

    Anywhere else, as in ``2 m \\omega``, it is a name.
    """
    depth = 0
    for at, (kind, value) in enumerate(tokens):
        if kind == "op":
            depth += (value in ("{", "(", "[")) - (value in ("}", ")", "]"))
        elif kind == "letter":
            follows = tokens[at + 1] if at + 1 < len(tokens) else ("end", "")
            is_last = follows[0] in ("end", "text", "letter") or follows[1] in (
                ",", "or", "/", "^", "cdot", ";",
            )  # fmt: skip
            if depth or not is_last:
                tokens[at] = ("sym", value)
    return tokens


def _grouped(text: str) -> str:
    """Join the digit groups of numbers, but between brackets, where commas are between items."""
    if not any(c in text for c in "([{"):
        return _THOUSANDS.sub(lambda m: m.group().replace(",", ""), text)
    out: list[str] = []
    at = depth = 0
    for found in re.finditer(r"\\\{|\\\}|[()\[\]]", text):
        if depth == 0:
            out.append(
                _THOUSANDS.sub(lambda m: m.group().replace(",", ""), text[at : found.start()])
            )
        else:
            out.append(text[at : found.start()])
        at = found.start()
        depth = max(0, depth + (1 if found.group() in ("(", "[", "\\{") else -1))
    rest = text[at:]
    out.append(rest if depth else _THOUSANDS.sub(lambda m: m.group().replace(",", ""), rest))
    return "".join(out)


def _cut_word(word: str, tokens: list[Token], spaced: bool) -> None:
    lower = word.lower()
    if lower in _JOINERS:
        tokens.append(("op", _JOINERS[lower]))
    elif word in _WORDS or (lower in ("infinity", "sqrt", "pi") and len(word) > 1):
        tokens.append(("cmd", word if word in _WORDS else lower))
    elif len(word) == 1:
        is_unit_sign = word in _UNIT_LETTERS and (
            _follows_unit(tokens) or (spaced and bool(tokens) and tokens[-1][0] == "num")
        )
        tokens.append(("letter" if is_unit_sign else "sym", word))
    elif tokens and tokens[-1][0] == "text":
        tokens[-1] = ("text", f"{tokens[-1][1]} {word}")
    elif (
        (tokens and is_unit(word) and (tokens[-1][0] == "num" or tokens[-1][1] in ("}", ")", "pi")))
        or len(word) >= 4
        or (lower == "if" and (spaced or not tokens or tokens[-1] == ("op", "(")))
        or (spaced and len(word) == 3 and tokens and tokens[-1][0] == "num")
    ):
        tokens.append(("text", word))
    else:
        tokens.extend(("sym", c) for c in word)


def _follows_unit(tokens: list[Token]) -> bool:
    """Tell whether a unit comes before, with or without a stroke: ``kg m/s^2`` in plain text."""
    behind = tokens[:-1] if tokens and tokens[-1] == ("op", "/") else tokens
    return bool(behind) and (
        behind[-1][0] == "letter" or (behind[-1][0] == "text" and is_unit(behind[-1][1]))
    )


def _cut_text(value: str, tokens: list[Token]) -> None:
    words = value.strip().strip(".!").strip()
    core = words.strip(",").strip().lower()
    if core in _JOINERS or core in ("", ";"):
        if core or "," in value or ";" in value:
            tokens.append(("op", _JOINERS.get(core, ",")))
    elif (joined := _JOINED_END.fullmatch(words)) is not None:
        _cut_text(joined[1], tokens)
        tokens.append(("op", _JOINERS[joined[2].lower()]))
    elif _MIXED.search(words) and not _NUMBER.fullmatch(words):
        _cut_prose(words, tokens)
    elif words.strip("() ").lower() in _SILENT:
        return
    elif words.count("(") != words.count(")") or (words[0] == "(" and words[-1] == ")" and tokens):
        for piece in re.findall(r"[()]|[^()]+", words):
            if piece in "()":
                tokens.append(("op", piece))
            else:
                _cut_text(piece, tokens)
    elif words[:1] in ",;" or words[-1:] in ",;:":
        for piece in re.findall(r"[,;:]|[^,;:]+(?:[,;:]+[^,;:]+)*", words):
            if piece in ",;:":
                tokens.append(("op", piece))
            else:
                _cut_text(piece, tokens)
    elif core == "to" and tokens and tokens[-1][0] == "num":
        tokens.append(("op", ":"))
    elif core in _SILENT:
        return
    elif _NUMBER.fullmatch(words):
        tokens.append(("num", words.replace(",", "")))
    elif re.fullmatch(r"[A-Za-z]", words):
        # "5 \\text{ m}" has a unit; "\\text{B}" alone is a letter.
        after = bool(tokens) and tokens[-1] not in _OPENING and tokens[-1][1] != "="
        tokens.append(("text" if after else "sym", words))
    else:
        tokens.append(("text", words))


_UNIT_LETTERS = frozenset("mgshLlJNWVAKCF")
_JOINED_END = re.compile(r"(.*\w),?\s+(and|or)", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"[-+]?[0-9][0-9,]*(?:\.[0-9]+)?")
_MIXED = re.compile(r"(?:^|[\s(=:$+-])[0-9.]*[0-9]")
_PROSE = re.compile(
    r"(?P<num>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?)"
    r"|(?P<words>[^\W\d_][^\W\d_.'’]*(?:[\s.'’/-]*[^\W\d_]+|\^[0-9]+)*)|(?P<op>[^\s$])"
)


def _cut_prose(text: str, tokens: list[Token]) -> None:
    """Cut words with numbers among them: ``There are 12 ways``, ``1,500 people``, ``x = 13``."""
    for found in _PROSE.finditer(text):
        value = found.group()
        if found["num"]:
            tokens.append(("num", value.replace(",", "")))
        elif found["op"]:
            if value != ".":
                tokens.append(("op", value))
        elif len(value) == 1:
            is_unit_sign = value in _UNIT_LETTERS and bool(tokens) and tokens[-1][0] == "num"
            tokens.append(("letter" if is_unit_sign else "sym", value))
        else:
            for piece in re.split(r"\s+(and|or)\s+|^(and|or)\s+", value):
                if piece:
                    _cut_text(piece, tokens)


def _unit_form(inside: str) -> str:
    r"""Write a unit with exponents, as in ``\\mathrm{m\\,s^{-1}}``, without inner braces."""
    plain = re.sub(r"\\[,;:! ]|~", " ", inside).replace("\\cdot", "*")
    return "\\text{" + re.sub(r"\^\s*\{?\s*(-?[0-9]+)\s*\}?", r" ^\1 ", plain) + "}"


def _cut_roman(value: str, tokens: list[Token]) -> None:
    word = value.strip()
    if word in _WORDS or word in ALIAS:
        tokens.append(("cmd", word))
    elif len(word) == 1 and word.isalpha():
        tokens.append(("unit1" if word not in "eidCP" else "sym", word))
    else:
        _cut_text(word, tokens)
