r"""What stands around an answer: labels before it, qualifiers and conditions behind it (math).

``\text{The maximum is }12``, ``2^{n-1} \text{ for } n \ge 1``, ``12, \text{ attained at } x = 3``:
the answer is 12, 2^{n-1}, 12. Words that make it another answer ("not", "multiples of", "for even
n") are never left out: then the grammar does not know the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from factory.verifiers.math.nodes import INEQUALITIES, Node, ParseError
from factory.verifiers.math.numbers import symbols
from factory.verifiers.math.plain import ALL_REALS
from factory.verifiers.math.tokens import RELATIONS, Token
from factory.verifiers.math.units import measure
from factory.verifiers.math.words import domain_said, number_in_words

_LABEL = re.compile(
    r".*\b(?:is|are|be|equals?|equal to|was|were|has|have|had|gives?|yields?|gets?|got|needs?|total"
    r"|answer|ans|result|solution|value|minimum|maximum|probability|area|perimeter|volume|sum"
    r"|exactly|about|approximately)\s*(?:exactly|about|only|approximately)?"
    r"|.*(?:答案|为|是|等于|有|共)",
    re.IGNORECASE | re.DOTALL,
)
_QUALIFIER = re.compile(
    r"\W*(?:for|where|with|when|whenever|as|at(?! (?:most|least))|such that|s\.t\.|attained"
    r"|achieved|reached|occurs?|occurring|is (?:the|a|an|our)|which|since|because|by|i\.?\s?e"
    r"|that is|provided|given|on|其中|当|因为)\b.*",
    re.IGNORECASE | re.DOTALL,
)
_OTHERWISE = re.compile(
    r"\b(?:if|even|odd|unless|except|otherwise|not|no|never|only|or|wrong|incorrect|false"
    r"|impossible)\b|n't\b",
    re.IGNORECASE,
)
_IF = frozenset((
    "if", "only if", "in case", "in the case", "in case that", "assuming", "assuming that",
    "on condition that", "so long as", "for", "wenn", "nur wenn", "falls", "sofern", "für",
    "für alle", "wobei", "si", "lorsque", "quand", "pour", "pour tout", "où", "avec", "cuando",
    "para", "para todo", "donde", "siempre que", "se", "quando", "per", "per ogni", "dove",
    "onde", "caso", "als", "voor", "waarbij", "om", "när", "då", "för", "för alla",
    "når", "hvis", "dersom", "dacă", "când", "pentru", "gdy", "jeśli", "jeżeli", "dla", "gdzie",
    "pokud", "když", "jestliže", "pro", "kde", "ak", "keď", "pre", "ha", "jos", "kun", "kui",
    "jei", "kai", "eğer", "için", "iken", "nếu", "khi", "với", "jika", "bila", "apabila",
    "untuk", "dengan", "αν", "όταν", "για", "если", "при", "когда", "для", "где", "якщо",
    "коли", "ако", "когато", "за", "若", "如果", "当", "當", "假设", "对于", "對於",
    "ただし", "但し", "もし",
    "단", "만약", "אם", "כאשר", "عندما", "إذا", "اگر", "وقتی", "यदि", "जब", "যদি", "যখন", "หาก",
    "ถ้า", "เมื่อ",
))  # fmt: skip
"""What joins a condition, in the languages whose answers are read; nothing else may stand beside
it, since ``_QUALIFIER`` alone knows the words of a whole clause."""
_THEN = frozenset((
    "then", "dann", "so", "alors", "entonces", "allora", "então", "dan", "så", "wtedy",
    "pak", "то", "тогда", "则", "則", "那么",
))  # fmt: skip
_DOTS = frozenset(("ldots", "dots", "cdots"))
_CONDITIONS = INEQUALITIES | {"in", "notin", "!="}
_ALL = frozenset(("all", "any", "for all"))
Parse = Callable[[list[Token]], Node]


def denies(words: str) -> bool:
    """Tell whether words make what stands beside them another answer: "not", "multiples of"."""
    return bool(measure(words).changes or _OTHERWISE.search(words))


def without_label(tokens: list[Token]) -> list[Token]:
    """Take off what names the answer: words with a colon or a verb, ``l:`` before an equation."""
    while len(tokens) > 1 and tokens[0][0] == "text":
        label = tokens[0][1]
        if _are_labels(tokens):
            return [*_with_equals(tokens)]
        if denies(label):
            break
        if tokens[1] == ("op", ":") or tokens[1][1] in ("=", "approx"):
            tokens = tokens[2:]
        elif (
            label.rstrip().endswith((":", "："))
            or _LABEL.fullmatch(label.strip())
            or (label.strip().lower() in _ALL and any(RELATIONS.get(v) for _, v in tokens))
        ):
            tokens = tokens[1:]
        else:
            break
    is_named = len(tokens) > 3 and tokens[0][0] == "sym" and tokens[1] == ("op", ":")
    if is_named and any(t[1] == "=" for t in tokens[2:]):
        return tokens[2:]
    return tokens


def _are_labels(tokens: list[Token]) -> bool:
    """Tell whether several parts have each a name: "length = 4, width = 3"."""
    return any(
        sign in (("op", ","), ("op", ";")) and part[0] == "text" and equals[1] in ("=", ":")
        for sign, part, equals in zip(tokens, tokens[1:], tokens[2:], strict=False)
    )


def _with_equals(tokens: list[Token]) -> Iterator[Token]:
    """Write the colon behind a name as an equals sign."""
    before: Token = ("", "")
    for token in tokens:
        yield ("op", "=") if token == ("op", ":") and before[0] == "text" else token
        before = token


def without_qualifier(tokens: list[Token], parse: Parse) -> tuple[list[Token], tuple[Node, ...]]:
    """Take off what only says where the answer holds or what it is.

    Args:
        tokens: of the whole answer.
        parse: reads tokens as an answer, or raises ``ParseError``.

    Returns:
        The answer's tokens, and the conditions on its names.
    """
    tokens = _with_when(tokens, parse)
    begin = _words_behind(tokens)
    if begin:
        rest = tokens[begin:]
        if _is_harmless(rest, parse):
            return _without_comma(tokens[:begin]), _conditions(rest, parse)
        return tokens, ()
    begin = _bracket_behind(tokens)
    inside = tokens[begin + 1 : -1]
    if begin and (_is_remark(inside) or _are_alternatives(inside, parse)):
        return _without_comma(tokens[:begin]), _conditions(inside, parse)
    return tokens, ()


def _with_when(tokens: list[Token], parse: Parse) -> list[Token]:
    r"""Write ``x^2 \text{ if } x > 0`` and ``\text{wenn } x > 0\text{, dann } x^2`` with "when".

    Only where one such word stands there, and all that it joins are conditions on names of the
    answer: "1 if x > 0, else 2" and "5 if n is even" are other answers than 1 and 5.
    """
    places = [i for i, token in enumerate(tokens) if _is_one_of(token, _IF)]
    if len(places) != 1:
        return tokens
    at = places[0]
    if at:
        body, told = tokens[:at], tokens[at + 1 :]
    else:
        ends = [i for i, token in enumerate(tokens) if _is_one_of(token, _THEN)]
        ends = ends or [i for i, t in enumerate(tokens) if t == ("op", ",")]
        if len(ends) != 1:
            return tokens
        told, body = _without_comma(tokens[1 : ends[0]]), tokens[ends[0] + 1 :]
    if any(kind == "text" for kind, _ in told):
        return tokens
    try:
        node = parse(_without_words(told))
    except ParseError:
        return tokens
    items = node[1] if node[0] == "list" else (node,)
    signs = {sign for n in items for sign in (n[2] if n[0] == "rel" else ("=",))}
    names = {value for kind, value in body if kind == "sym"}
    if not signs <= _CONDITIONS or not all(symbols(n) & names for n in items):
        return tokens
    return [*body, ("text", "when"), *told]


def _is_one_of(token: Token, words: frozenset[str]) -> bool:
    return token[0] == "text" and token[1].strip(" ,;.(").casefold() in words


def _conditions(rest: list[Token], parse: Parse) -> tuple[Node, ...]:
    r"""Read a qualifier: relations, and words that say what its names are.

    ``\text{for all integers } n \ge 2``: n is an integer, and at least 2.
    """
    said = [v for k, v in rest if k == "text"]
    sets = [s for s in map(domain_said, said) if s is not None]
    body = _without_words(rest)
    if not body:
        return ()
    try:
        node = parse(body)
    except ParseError:
        return (("text", " ".join(v for _, v in rest)),) if len(body) > 1 else ()
    items = node[1] if node[0] == "list" else (node,)
    relations = [n for n in items if n[0] in ("rel", "union")]
    names = {s for n in relations for s in symbols(n)} or {n[1] for n in items if n[0] == "sym"}
    told = items if relations else ()  # what goes on behind n = 1, as in "n = 1, 2, 3, …", too
    if len(sets) > 1 or (sets and len(names) > 1 and relations):
        return (*told, ("text", " ".join(said)))
    members = ALL_REALS if sets == ["bbR"] else ("sym", sets[0]) if sets else None
    if members is not None:
        told = (*told, *(("rel", (("sym", n), members), ("in",)) for n in sorted(names)))
    return tuple(told)


def _are_alternatives(tokens: list[Token], parse: Parse) -> bool:
    """Tell whether a qualifier is ``x < 1 or x > 3`` and nothing else."""
    if ("op", "or") not in tokens or any(k == "text" and denies(v) for k, v in tokens):
        return False
    try:
        node = parse(_without_words(tokens))
    except ParseError:
        return False
    return node[0] == "union" and all(n[0] == "rel" for n in node[1])


def _without_words(rest: list[Token]) -> list[Token]:
    body = [t for t in rest if t[0] != "text"]
    depth = sum((v in "([") - (v in ")]") for k, v in body if k == "op")
    while body and body[-1] in (("op", "."), ("op", ","), ("op", ")")):
        if body[-1][1] == ")" and depth >= 0:
            break
        depth += body.pop()[1] == ")"
    while body and body[0] in (("op", "("), ("op", ",")):
        del body[0]
    return body


def _without_comma(tokens: list[Token]) -> list[Token]:
    while len(tokens) > 1 and tokens[-1] in (("op", ","), ("op", ";"), ("op", ".")):
        tokens = tokens[:-1]
    return tokens


def _words_behind(tokens: list[Token]) -> int:
    """Return where words begin a qualifier outside of brackets, or 0."""
    depth = 0
    for at, (kind, value) in enumerate(tokens):
        if kind == "text" and at and depth == 0 and _QUALIFIER.fullmatch(value):
            return at
        if kind == "op":
            depth += (value in ("(", "[", "{", "\\{")) - (value in (")", "]", "}", "\\}"))
    return 0


def _is_harmless(rest: list[Token], parse: Parse) -> bool:
    """Tell whether a qualifier is a condition on names, or nothing but words."""
    words = " ".join(v for k, v in rest if k == "text")
    if _OTHERWISE.search(words) or sum(k == "text" and bool(_QUALIFIER.fullmatch(v))
                                       for k, v in rest) > 2:  # fmt: skip
        return False
    if any(t == ("op", "or") for t in rest):
        return _are_alternatives(rest, parse)
    body = _without_words(rest)
    if not body or all(kind == "sym" for kind, _ in body):
        return True
    if re.match(r"\W*(?:i\.?\s?e|that is|since|because|by)\b", rest[0][1], re.IGNORECASE):
        return True
    try:
        node = parse(body)
    except ParseError:
        return False
    items = node[1] if node[0] == "list" else (node,)
    if items[0][0] == "rel" and ("sym", "…") in items:
        return True  # n = 1, 2, 3, …
    return all(n[0] in ("rel", "sym") for n in items)


def _bracket_behind(tokens: list[Token]) -> int:
    """Return where a bracket opens that closes at the end, or 0."""
    if not tokens or tokens[-1] != ("op", ")"):
        return 0
    depth = 0
    for at in range(len(tokens) - 1, 0, -1):
        if tokens[at][0] == "op":
            depth += (tokens[at][1] == ")") - (tokens[at][1] == "(")
            if depth == 0:
                return at
    return 0


def _is_remark(inside: list[Token]) -> bool:
    """Tell whether a bracket behind an answer holds a condition or words, and no factor."""
    words = " ".join(v for k, v in inside if k == "text")
    if denies(words):
        return False
    if any(t == ("op", "or") for t in inside):
        return False
    if inside and domain_said(words) and all(k in ("sym", "text") for k, _ in inside):
        return True
    if inside and inside[0][0] == "text":
        return len(inside) == 1 or bool(_QUALIFIER.fullmatch(inside[0][1]))
    signs = {RELATIONS.get(v) for k, v in inside if k in ("op", "cmd")}
    if "=" in signs and any(v in _DOTS for _, v in inside):
        return True  # n = 1, 2, 3, …
    return bool(signs & {"in", "notin", "<", ">", "<=", ">=", "!="})


def says_another_number(tokens: list[Token]) -> bool:
    """Tell whether a bracket repeats the number before it in words, but another one."""
    begin = _bracket_behind(tokens)
    if begin != 1 or tokens[0][0] != "num" or len(tokens) != 4 or tokens[2][0] != "text":
        return False
    number = number_in_words(tokens[2][1].casefold())
    return number is not None and tokens[0][1] != str(number)
