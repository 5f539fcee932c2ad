r"""Answer keys: what a column of golds holds, as the verifiers read it, and who reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from factory import dialects, plugins
from factory.rows.paths import opened

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_SENTENCE_END = re.compile(r"[.!?。！？]['\"”)]*$")
_KEY_CHARS = 120
_KEY_WORDS = 6
_PROSE_WORDS = 12
_MATH = re.compile(r"[\d\\=^_+*/<>]|\bpi\b|∞|√|π")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def is_key(value: Any) -> bool:
    r"""Tell whether a value can only be an answer key: a number, a formula, a few words.

    >>> is_key("\\frac{7}{8}"), is_key(54), is_key("Paris")
    (True, True, True)
    >>> is_key("Paris is the capital of France."), is_key("<think>a</think>4")
    (False, False)
    """
    if isinstance(value, bool | int | float):
        return True
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        return False
    text = value.strip()
    if not text or "\n" in text or len(text) > _KEY_CHARS or dialects.split(text).dialect:
        return False
    n_words = len(re.sub(r"\$[^$]*\$|\\\w+", " ", text).split())
    return n_words <= _KEY_WORDS and not (n_words >= 3 and _SENTENCE_END.search(text))


def gold_text(value: Any, form: str = "") -> str | None:
    r"""Return a gold as text, unwrapped; None where there is none.

    Args:
        value: of the column.
        form: ``boxed``: the last box of a solution; ``hashes``: what follows the last ``####``.

    >>> gold_text('["\\\\frac{7}{8}"]'), gold_text("\\boxed{54}"), gold_text(7), gold_text("")
    ('\\frac{7}{8}', '54', '7', None)
    >>> gold_text("48/2 = 24 clips.\n#### 24", "hashes"), gold_text("It is $\\boxed{9}$.", "boxed")
    ('24', '9')
    """
    if form == "hashes":
        return _last_after(value, "####")
    if form == "boxed":
        return boxed(value)
    if isinstance(value, str) and value[:1] == "[":
        inner = opened(value)
        value = inner[0] if isinstance(inner, list) and len(inner) == 1 else value
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], Mapping):
        value = value[0]
    if value is None or value == "" or value == [] or value == {}:
        return None
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        return orjson.dumps(value, default=str).decode()
    text = value.strip()
    whole = re.fullmatch(r"\$*\s*\\(?:boxed|fbox)\s*\{(.*)\}\s*\$*\.?", text, re.DOTALL)
    if whole and _balanced(whole[1]):
        text = whole[1].strip()
    return text or None


def _last_after(value: Any, mark: str) -> str | None:
    if not isinstance(value, str) or mark not in value:
        return None
    return value.rpartition(mark)[2].strip().split("\n")[0].strip() or None


def boxed(value: Any) -> str | None:
    r"""Return what the last box of a text holds; None where it has none, or an open one."""
    if not isinstance(value, str):
        return None
    for found in reversed(list(_BOX.finditer(value))):
        depth = 1
        for at in range(found.end(), len(value)):
            depth += {"{": 1, "}": -1}.get(value[at], 0) * (value[at - 1] != "\\")
            if depth == 0:
                return value[found.end() : at].strip() or None
    return None


def _balanced(text: str) -> bool:
    depth = 0
    for char in text:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if depth < 0:
            return False
    return depth == 0


def default_verifier(gold: str | None) -> str | None:
    """Return the verifier that fits a gold where nobody names one; None where none can.

    Prose (a reference answer of whole sentences) is left to a judge: no rule can score it.

    >>> default_verifier("1/2"), default_verifier("C"), default_verifier('{"test_cases": []}')
    ('math', 'choice', 'code')
    >>> default_verifier('{"statements": "x"}')
    >>> default_verifier("Because the light of the sun is scattered by the small molecules of air.")
    """
    if not gold:
        return None
    fitting = plugins.verifier_of_gold(gold)
    if fitting == "code":
        return "code"
    text = gold.strip()
    if isinstance(opened(text), Mapping):  # of a verifier that nobody names
        return None
    words = re.sub(r"\$[^$]*\$|\\\w+", " ", text).split()
    if "def " in text and "\n" in text:
        return None
    plain = sum(w.strip(".,;:").isalpha() and len(w) > 1 for w in words)
    return None if plain > _PROSE_WORDS else fitting


# ---- multiple choice


def option_list(value: Any) -> list[tuple[str, str]] | None:
    """Return (letter, text) of the options; None where the value holds none.

    Lists of texts, letter → text, lists of label and text (ARC), and their JSON text. Letters that
    the row gives stay, gaps included: its completions answer by them. Other labels become letters.

    >>> option_list({"A": "Mars", "B": "Jupiter"})
    [('A', 'Mars'), ('B', 'Jupiter')]
    >>> option_list({"text": ["Mars", "Jupiter"], "label": ["1", "2"]})
    [('A', 'Mars'), ('B', 'Jupiter')]
    """
    texts, labels = _texts_and_labels(value)
    if texts is None or not 2 <= len(texts) <= len(_LETTERS):
        return None
    return list(zip(_letters_of(labels, len(texts)), texts, strict=True))


def _letters_of(labels: Sequence[str], n: int) -> list[str]:
    own = [label.upper() for label in labels]
    is_lettered = len(own) == len(set(own)) == n and all(len(x) == 1 and x in _LETTERS for x in own)
    return own if is_lettered else list(_LETTERS[:n])


def _texts_and_labels(value: Any) -> tuple[list[str] | None, list[str]]:
    value = opened(value)
    if isinstance(value, Mapping):
        if isinstance(value.get("text"), list):
            return [str(t) for t in value["text"]], [str(x) for x in value.get("label") or ()]
        named = {k: v for k, v in value.items() if v is not None}
        if not all(re.fullmatch(r"\(?[A-Za-z0-9][).]?", str(k)) for k in named):
            return None, []
        return [str(v) for v in named.values()], [str(k).strip("().") for k in named]
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None, []
    if value and all(isinstance(v, Mapping) for v in value):
        label = next((k for k in ("label", "key", "id", "letter") if k in value[0]), None)
        text = next((k for k in ("text", "value", "content", "option") if k in value[0]), None)
        if text is None or label is None:  # {text, finish_reason} is a completion of an API
            return None, []
        return [str(v.get(text)) for v in value], [str(v.get(label)) for v in value if label]
    if any(isinstance(v, list | dict) or v is None for v in value):
        return None, []
    texts = [str(v) for v in value]
    lettered = [re.sub(rf"^\(?{c}[).:]\s*", "", t) for c, t in zip(_LETTERS, texts, strict=False)]
    all_lettered = all(a != b for a, b in zip(lettered, texts, strict=False))
    return (lettered if all_lettered else texts), []


def chosen_letter(gold: Any, options: Any) -> str | None:
    """Return the letter of the right option, named by letter, label, 0-based number or text.

    >>> chosen_letter("B", ["x", "y"]), chosen_letter(1, ["x", "y"]), chosen_letter("y", ["x", "y"])
    ('B', 'B', 'B')
    >>> chosen_letter("2", {"text": ["x", "y"], "label": ["1", "2"]})
    'B'
    >>> chosen_letter("C", {"A": "x", "C": "z"}), chosen_letter("B", {"A": "x", "C": "z"})
    ('C', None)
    """
    texts, labels = _texts_and_labels(options)
    if texts is None or gold is None or isinstance(gold, bool) or len(texts) > len(_LETTERS):
        return None
    letters = _letters_of(labels, len(texts))
    if isinstance(gold, list) and len(gold) == 1:
        gold = gold[0]
    said = str(gold).strip()
    if said in labels:
        return letters[labels.index(said)]
    letter = said.strip("().").upper()
    is_letter = len(letter) == 1 and letter in letters
    if isinstance(gold, int) or (said.isdecimal() and said not in texts):
        return letters[int(said)] if 0 <= int(said) < len(texts) else None
    exact = [i for i, text in enumerate(texts) if text.strip() == said]
    if len(exact) == 1 and not is_letter:
        return letters[exact[0]]
    if is_letter:
        return letter
    lettered = re.match(r"\(?([A-Z])[).:]\s+\S", said)
    if lettered and lettered[1] in letters:
        return lettered[1]
    return None


def with_starter(question: str, code: str) -> str:
    r"""Return the question with the code to complete below it.

    >>> with_starter("Double x.", "def f(x):")
    'Double x.\n\nComplete this code:\n\n```python\ndef f(x):\n```'
    """
    return f"{question.rstrip()}\n\nComplete this code:\n\n```python\n{code}\n```"


def with_options(question: str, options: Sequence[tuple[str, str]]) -> str:
    r"""Return the question with its options below it, unless they stand in it already.

    >>> with_options("Largest?", [("A", "Mars"), ("B", "Jupiter")])
    'Largest?\n\nA. Mars\nB. Jupiter'
    """
    if all(re.search(rf"\b{a}[).:\]]\s*{re.escape(t.strip())}", question) for a, t in options):
        return question
    return question.rstrip() + "\n\n" + "\n".join(f"{a}. {text}" for a, text in options)
