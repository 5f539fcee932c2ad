"""What the words of a text say about its language, beside the model.

The bundled model has 16 numbers per word: it wavers between close languages, knows some of its 176
labels badly, and names text in languages that it never saw with certainty. So its probabilities
are weighed with frequent words (``frequent_words.txt``, and ``unknown_words.txt`` for languages
that it does not know), with letters that a language does not have (``alphabets.txt``), and with
spellings that one of two close languages does not have (``_UNLIKE``).
"""

from __future__ import annotations

import functools
import importlib.resources
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# The evidence of a frequent word of one language alone; of k languages it is that ÷ √((1 + k) ÷ 2).
_PER_WORD = 2.2
# Against a language: a word with a letter that it does not have, a spelling that it does not have.
_PER_LETTER, _PER_SPELLING = 1.5, 1.3
# A text is looked at up to this many words; the same word counts twice at most.
WORDS_READ = 120
# Chances in words, by the plain languages and those that inflect much, and in any other language.
_OWN, _OWN_INFLECTED, _ANY = 0.22, 0.15, 0.04
_INFLECTED = frozenset(
    "fi hu tr et eu kk ky tt ba az uz tk mn lv lt la ku cs sk sl tg".split()  # noqa: SIM905
)
# Further words that are not frequent say less: lists of names, subjects of their own.
_MOST_OTHERS = 8
# What the model gives to a language that it does not know, and to those without lists, at most.
_UNKNOWN, _LEAST, _FLOOR = 0.1, 0.03, 1e-3
_WITHOUT_WORDS = 1.0
# A letter of its own speaks for a language that is named, in at most so many words.
_PER_OWN_LETTER, _MOST_OWN = 0.5, 4

# Spellings that a language does not have, where a close one has them.
_UNLIKE = {
    "da": (
        "(kk|tt|ss|ll|nn|mm|pp|gg)$|kj|ei|øy|^kv|sjon|skap|[aeouyøåæ]k(e|er|et|te|t)$|ike$|verdi"
        "|[aeouøå]p(e|er|t|te)$|lege?$|^(nå|meg|seg|deg|etter|bare|noe|hva|ut|frem|hatt)$"
    ),
    "no": (
        "^af$|ej|øj|[a-zæøå]{3,}igt$|hed(en|er)?$|[a-zæøå]{4,}ede$|^kv|heit|leik|ikkje|skab|tion"
        "|[a-zæøå]{3,}(leg|legt|lege|ane|ingar|gje|gjev)$|[aeouyøå]b(e|er|t|te)$|^(eg|ein|ver|då)$"
    ),
    "nn": (
        "^af$|ej|øj|igt$|hed(en|er)?$|[a-zæøå]{4,}ede$|^hv|het(en)?$|[a-zæøå]{3,}lige?$|skab|tion"
        "|[a-zæøå]{3,}ene$|^(jeg|ikke|fra|en|hun|de|ble|være|bare)$"
    ),
    "nl": "sk[aeiouy]|ê|[bdfghjklmnprstvw]y[bdfgklmnrst]|^([shmbj]y|nie|het nie|dié|’n|moes|sê)$",
    "af": "ij|sch|^z|[a-z]{3,}[bdfgklmnprtv]en$|^(en een|ook niet|niet)$",
    "sr": (
        "vrije|lijep|dijel|bijel|snijeg|mije[nš]|rije[čktš]|cijel|cijen|svije|vijes|^prije|poslije"
        "|uvije|[go]v?dje$|dvije|smije|liječ|[vmpb]jer|mjes|mjen|djel|djec|djev|sjed|sjeć|sjev|svje"
        "|cvje|vjet|tjed|vjež|bjeg|pjes|ljet|htje|vidje|živje|tisuć|povijes|europ|sustav|općin|točn"
    ),
    "hr": (
        "hiljad|histori|istori|sedmic|nedelj|januar|februar|mart[au]$|april|maj[ua]$|ju[nl][iau]$"
        "|a[uv]gust|septemb|oktob|novemb|decemb|evrop|sistem|uslov|opšt|milion|porodic|fabrik|^voz"
        "|saobraćaj|hlj?eb|kafa|kahv|univerzitet|takmič|finansij|sudij|avion|obavješt|hemij|okean"
        "|penzi|ambasad|učestv|prisustv|interesov|^(šta|ko|pre|posle|gde|uvek|dve|deo|ceo|lepo)$"
        "|vreme|vred|^svet|mesec|promen|primer|pobed|hteo|videl|vide[ot]|uspe[olšh]|fajl|isati$"
    ),
    "bs": (
        "tisuć|povijes|siječ|veljač|ožuj|travnj|svibnj|lipnj|srpnj|kolovoz|rujn|listopad|prosinc"
        "|europ|sustav|uvjet|zrakoplov|glazb|kazališ|sveučiliš|tvrtk|obitelj|gospodarst|tijekom"
        "|izvješć|^točn|^tko$|uporab|glede|čimbeni|županij|hrvat|zagreb|splitu|osijek|momčad"
        "|redatelj|proračun|^(pre|posle|gde|uvek|dve|deo|ceo|lepo)$|vreme|vred|mesec|promen|primer"
        "|pobed|hteo|videl|avgust"
    ),
    "es": "eir[oa]s?$|^x[aeo]|ss|lh|nh|ç|ou$|ç|ão|^(o|os|da|do|na|não|non|em|uma|unha|ao|á)$",
    "pt": "^x[aeou]|ll|ñ|ción|cións?$|^(unha|non|y|el|los|las|ó|súa|dun|dunha|onte|xa)$",
    "gl": "j|ç|[ãõâêô]|ss|lh|nha$(?<!unha)|ie[nrsm]t|ue[rnsdbv]|^(y|el|los|las|não|em|uma)$",
    "cs": "[ľĺŕôä]|[a-zá-ž]ú|[^c]iac|ť$|nie$|^(sa|sú|aj|nie|ako|by som|alebo|keď)$|i[ua]$|dz|ovať",
    "sk": "[ěřů]|ní$|ství|^(se|jsou|jako|ale už|nebo|když|už|jen)$|ou[cdmvht]",
    "id": (
        "iviti$|siti$|kerana|bahawa|^wang$|^polis$|hospital|ialah|iaitu|sahaja|boleh|daripada"
        "|kerajaan|syarikat|pejabat|kebangsaan|perdana|parlimen|mahkamah|projek|senarai|mesyuarat"
        "|pelbagai|maklum|beliau|ringgit|sekiranya|mesti|^fail|kempen|kelab|awam|semalam|menerusi"
        "|^(turut|cuba|mahu|bekas|lebuh|kereta|bulan depan)$"
    ),
    "ms": (
        "itas$|bahwa|karena|^bisa$|^uang|mobil|kantor|perusahaan|provinsi|kabupaten|rupiah|polisi"
        "|informasi|kondisi|desember|agustus|^maret|^jul[i]$|^juni$|oktober|^usai|silakan|kemarin"
        "|^(kalau|sementara|sedangkan|tadi|pekan|usai|warga|kota|rumahsakit|saat)$"
    ),
    "hi": "ळ|.{2,}(च्या|ांना|ांनी|ण्यात|लाई|हरू|हरु|बाट|नुहोस्?|एको|न्छ|दछ)$|^(आहे|आणि|छ|गर्न|भयो|र)$",
    "ne": "ळ|.{2,}(च्या|ांना|ांनी|ण्यात)$|^(है|हैं|और|आहे|आणि)$",
    "mr": ".{2,}(लाई|हरू|हरु|बाट|नुहोस्?)$|^(है|हैं|और|छ|गर्न|भयो|र)$",
    "tr": "[og]'[a-z]|[qxw]|[a-z](larni|ning|moq|yapti|lariga|dagi)$",
    "fi": "õ|^(või|ning|aga|kui|oli|see|ma|ta)$",
}  # fmt: skip


class Evidence(NamedTuple):
    """The language that explains a text best, None for one that the model does not know.

    ``certainty`` is in (0, 1): that the text is in this language, not in one that nobody knows.
    """

    lang: str | None
    certainty: float


class Lead(NamedTuple):
    """The language that explains a stretch best, None for an unknown one, and its lead."""

    lang: str | None
    by: float


def weigh(
    words: list[str], is_name: list[bool], chances: npt.NDArray[np.float64], labels: dict[str, int]
) -> Evidence:
    """Weigh the model's probabilities with what the words of a text say.

    Args:
        words: the first words of the text, W of them, as they stand there.
        is_name: which of them are written like names, shape (W,).
        chances: probabilities of the model's labels, shape (L,).
        labels: the index of each label.

    >>> words, one = "Jeg vet ikke hva han mener".split(), np.full(2, 0.5)
    >>> weigh(words, [False] * 6, one, {"da": 0, "no": 1}).lang
    'no'
    >>> weigh("Angazi ukuthi uthe yini".split(), [False] * 4, one, {"da": 0, "no": 1}).lang is None
    True
    """
    if not labels.keys() & _known().keys():
        # A model with other names for languages than ISO 639-1 stands for itself.
        return Evidence(tuple(labels)[int(chances.argmax())], float(chances.max()))
    values = _values(words, is_name, chances, labels)
    best = max(values.of, key=lambda lang: (values.of[lang], lang))
    if best[0] == "?":
        return Evidence(None, 0.1)
    n_hits = min(values.hits.get(best, 0), values.n_plain)
    chance = float(chances[labels[best]])
    letters = _n_letters(values.beyond, best)
    return Evidence(best, _certainty(best, values.n_plain, n_hits, letters, chance))


def lead(
    words: list[str], is_name: list[bool], chances: npt.NDArray[np.float64],
    labels: dict[str, int], own: Sequence[str],
) -> Lead:  # fmt: skip
    """Tell which language explains a stretch best, and by how much more than languages given.

    Args:
        words: the words of the stretch, W of them, as they stand there.
        is_name: which of them are written like names, shape (W,).
        chances: probabilities of the model's labels, shape (L,).
        labels: the index of each label.
        own: the languages that it is compared with.

    >>> words, one = "Eg veit ikkje kva han meiner".split(), np.full(3, 1 / 3)
    >>> labels = {"da": 0, "no": 1, "nn": 2}
    >>> lead(words, [False] * 6, one, labels, ["da"]).lang
    'nn'
    >>> lead(words, [False] * 6, one, labels, ["nn"]).by < 0
    True
    """
    values = _values(words, is_name, chances, labels, own).of
    others = [lang for lang in values if lang not in own]
    mine = max((values[lang] for lang in own if lang in values), default=-math.inf)
    if not others:
        return Lead(None, -math.inf)
    best = max(others, key=lambda lang: (values[lang], lang))
    return Lead(None if best[0] == "?" else best, values[best] - mine)


class _Values(NamedTuple):
    """What speaks for each language that may be meant, and what it was counted from."""

    of: dict[str, float]
    hits: dict[str, int]
    n_plain: int
    beyond: list[tuple[frozenset[str], int]]


def _values(
    words: list[str], is_name: list[bool], chances: npt.NDArray[np.float64],
    labels: dict[str, int], asked: Sequence[str] = (),
) -> _Values:  # fmt: skip
    lower = [word.lower().replace("’", "'") for word in words[:WORDS_READ]]
    found, hits = _found(lower)
    plain = [w for k, w in enumerate(lower) if not k or not is_name[k]]
    n_plain, count_of = len(plain), Counter(plain)
    beyond = _beyond(count_of)
    likely = np.argsort(chances)[-4:]
    names = tuple(labels)
    rivals = {names[int(i)] for i in likely if chances[i] > 0.1} | {names[int(chances.argmax())]}
    rivals |= {lang for lang, n in hits.items() if n >= 2 or n >= 0.2 * n_plain}
    value: dict[str, float] = {}
    for lang in rivals | set(asked):
        if lang[0] == "?" and lang[1:] not in labels:
            value[lang] = math.log(_UNKNOWN) + found[lang]
        elif lang in labels:
            doubt = _PER_LETTER * min(_n_letters(beyond, lang)[0], 4)
            doubt += _PER_SPELLING * min(_n_unlike(count_of, lang), 6)
            chance = max(float(chances[labels[lang]]), _FLOOR)
            value[lang] = math.log(chance) + found.get(lang, 0.0) - doubt
    return _Values(value, hits, n_plain, beyond)


def is_unknown(text: str, lang: str | None) -> bool:
    """Tell Tigrinya from Amharic, Dzongkha from Tibetan: of each pair the model knows the latter.

    >>> is_unknown("ናይ ፈረንሳይ ፕሬዝዳንት መን እዩ፧", "am"), is_unknown("የፈረንሳይ ፕሬዚዳንት ማን ነው?", "am")
    (True, False)
    """
    if lang == "am":
        words = re.findall(r"[^\W\d_]+", text)
        n_here = sum(word in _unknown()["ti"] for word in words)
        return n_here + text.count("ኣ") > text.count("አ") + 0.02 * len(words)
    return lang == "bo" and sum(text.count(word) for word in _unknown()["dz"]) >= 2


def is_listed(lang: str) -> bool:
    """Tell whether frequent words of the language are known.

    >>> is_listed("sl"), is_listed("vo")
    (True, False)
    """
    return lang in _known()


def _found(lower: list[str]) -> tuple[dict[str, float], dict[str, int]]:
    """Return by language the weight of its frequent words in a text, and their number."""
    found: dict[str, float] = {}
    hits: dict[str, int] = {}
    seen: dict[str, int] = {}
    table = _languages_of()
    for word in lower:
        for piece in (word,) if word in table or "'" not in word else word.split("'"):
            seen[piece] = seen.get(piece, 0) + 1
            languages = table.get(piece, ())
            if seen[piece] > 2 or not languages:
                continue
            weight = _PER_WORD * math.sqrt(2 / (1 + len(languages)))
            for lang in languages:
                found[lang] = found.get(lang, 0.0) + weight
                hits[lang] = hits.get(lang, 0) + 1
    return found, hits


def _certainty(
    lang: str, n_plain: int, n_hits: int, letters: tuple[int, int], chance: float
) -> float:
    """Compare the language with any that nobody knows, by the share of its frequent words."""
    odds = min(max(chance, _LEAST), 0.999)
    total = math.log(odds / (1 - odds))
    n_strange, n_own = letters
    total += _PER_OWN_LETTER * min(n_own, _MOST_OWN) - min(n_strange, 4)
    if lang in _known():
        own = _OWN_INFLECTED if lang in _INFLECTED else _OWN
        total += n_hits * math.log(own / _ANY)
        n_others = n_plain - n_hits
        weight = min(n_others, _MOST_OTHERS) + 0.4 * max(n_others - _MOST_OTHERS, 0)
        total += weight * math.log((1 - own) / (1 - _ANY))
    else:
        total -= _WITHOUT_WORDS
    return 1 / (1 + math.exp(-min(max(total, -30.0), 30.0)))


def _beyond(count_of: Mapping[str, int]) -> list[tuple[frozenset[str], int]]:
    """Return the letters beyond a-z of each word that has some, and how often it stands there."""
    out = []
    for word, n in count_of.items():
        if not word.isascii():
            # Modifier letters (ʻ, ʼ) are apostrophes; marks that combine are no letters.
            letters = (c for c in word if c > "\x7f" and c.isalpha() and not "ʰ" <= c <= "˿")
            if found := frozenset(letters):
                out.append((found, n))
    return out


def _n_letters(beyond: list[tuple[frozenset[str], int]], lang: str) -> tuple[int, int]:
    """Count words with a letter beyond a-z that the language does not have, and with one it has."""
    alphabet = _alphabets().get(lang)
    if alphabet is None:
        return 0, 0
    n_own = sum(n for letters, n in beyond if letters <= alphabet)
    return sum(n for _, n in beyond) - n_own, n_own


def _n_unlike(count_of: Mapping[str, int], lang: str) -> int:
    if lang not in _UNLIKE:
        return 0
    return sum(n for word, n in count_of.items() if _is_unlike(word, lang))


@functools.lru_cache(maxsize=1 << 16)
def _is_unlike(word: str, lang: str) -> bool:
    return re.search(_UNLIKE[lang], word) is not None


def _read(name: str) -> dict[str, frozenset[str]]:
    """Read a file of lines ``language: word word``; a line that begins with blanks goes on."""
    text = (importlib.resources.files("factory.scores.language") / name).read_text(encoding="utf-8")
    out: dict[str, frozenset[str]] = {}
    for line in text.replace("\n ", " ").splitlines():
        lang, _, words = line.partition(":")
        out[lang] = frozenset(words.split())
    return out


@functools.cache
def _known() -> dict[str, frozenset[str]]:
    return _read("frequent_words.txt")


@functools.cache
def _unknown() -> dict[str, frozenset[str]]:
    return _read("unknown_words.txt")


@functools.cache
def _alphabets() -> dict[str, frozenset[str]]:
    return {lang: frozenset("".join(words)) for lang, words in _read("alphabets.txt").items()}


@functools.cache
def _languages_of() -> dict[str, tuple[str, ...]]:
    """Return the languages of each frequent word; those that the model does not know with a "?"."""
    out: dict[str, tuple[str, ...]] = {}
    for table, sign in ((_known(), ""), (_unknown(), "?")):
        for lang, words in table.items():
            for word in words:
                out[word] = (*out.get(word, ()), sign + lang)
    return out
