"""Language columns: only what names a human language is one (``python`` is none)."""

from __future__ import annotations

import re
from typing import Any

_CODES = frozenset(
    re.findall(
        "..",
        "aaabafakamanarasavayazbabebgbibmbnbobrbscacechcocrcscucvcydadedvdzeeeleneoeseteufafffifjfo"
        "frfygagdglgngugvhahehihohrhthuhyhziaidieigiiikioisitiujajvkakgkikjkkklkmknkokrkskukvkwkyla"
        "lblglilnloltlulvmgmhmimkmlmnmrmsmtmynanbndnengnlnnnonrnvnyocojomorospapiplpsptqurmrnrorurw"
        "sascsdsesgsiskslsmsnsosqsrssstsusvswtatetgthtitktltntotrtstttwtyugukuruzvevivowawoxhyiyoza"
        "zhzu",
    )
)
_NAMES = {
    "english": "en", "chinese": "zh", "german": "de", "french": "fr", "spanish": "es",
    "russian": "ru", "japanese": "ja", "korean": "ko", "portuguese": "pt", "italian": "it",
    "arabic": "ar", "hindi": "hi", "polish": "pl", "dutch": "nl", "turkish": "tr",
    "vietnamese": "vi", "thai": "th", "indonesian": "id", "bengali": "bn", "swahili": "sw",
    "telugu": "te", "czech": "cs", "ukrainian": "uk", "swedish": "sv", "greek": "el",
    "hebrew": "he", "persian": "fa", "hungarian": "hu", "romanian": "ro", "danish": "da",
    "finnish": "fi", "norwegian": "no", "catalan": "ca",
    "eng": "en", "zho": "zh", "cmn": "zh", "deu": "de", "fra": "fr", "spa": "es", "rus": "ru",
    "jpn": "ja", "kor": "ko", "por": "pt", "ita": "it", "ara": "ar", "pol": "pl",
}  # fmt: skip


def language_code(value: Any) -> str | None:
    """Return the ISO 639-1 code that a language column names, else None.

    >>> language_code("zh-CN"), language_code("English"), language_code("python")
    ('zh', 'en', None)
    """
    if not isinstance(value, str):
        return None
    name = value.strip().lower()
    if name in _NAMES:
        return _NAMES[name]
    code = name.replace("_", "-").partition("-")[0]
    return code if code in _CODES and len(name) in (2, 5, 7) else None
