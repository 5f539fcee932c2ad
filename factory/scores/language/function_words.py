"""The most frequent words of some languages: what tells short sentences apart where n-grams waver.

Only words that one of two compared languages has and the other has not are counted, so that shared
ones ("de", "la", "in") do no harm.
"""

from __future__ import annotations

import functools

_LISTS = {
    "en": """
        the and of to is are was were be been it its that this these those we you they he she
        i for with on at by from as not but or if so what when which who how why there their
        his her my your our have has had do does did can could will would should may might
        must then than let now wait no all any each more into out up about after before
        because also just need get me him them an in a us only still again first next where
        one two let's that's it's i'm don't okay means actually maybe think know here since
        same both other some even every down over
        """,
    "de": """
        der die das und ist nicht ein eine einen einem einer eines zu mit auf für von den dem
        des im wie viel viele wird werden wurde sind war hat haben hatte er sie es ich wir ihr
        sein seine ihre sich auch als wenn dann aber oder noch nur mehr bei aus nach um am zum
        zur was wer wo wie dass kann können muss jede jeden jeder jedes pro insgesamt also so
        da diese dieser dieses alle beide über unter vor zwischen ohne durch bis gegen kostet
        hier jetzt schon sehr
        """,
    "fr": """
        le la les un une des du de et est pas que qui dans pour sur avec sont il elle ils
        elles je nous vous ce cette ces son sa ses leur leurs au aux combien chaque plus par
        en a ont si mais ou donc car comme tout tous toute toutes fois après avant chez quel
        quelle été être fait faire peut on y ne se lui même aussi alors d l qu j c s n m coûte
        reste jour jours deux trois
        """,
    "es": """
        el la los las un una unos unas de del y es no que en por para con son era fue ser se
        su sus al lo le les como más pero si cuando cuánto cuántos cuántas cuánta cada todo
        todos todas ya o qué este esta estos estas ese esa hay tiene tienen había ha han puede
        pueden entre sobre después antes también muy dos tres cuatro días día hasta desde sin
        porque cuesta total
        """,
    "it": """
        il lo la i gli le un una uno di del della dei delle degli e è non che in per con sono
        era si su da dal dalla nel nella al alla ai come più ma se quando quanto quanti quante
        ogni tutto tutti questo questa questi queste ha hanno può anche poi dopo prima molto
        due tre quindi allora cosa
        """,
    "pt": """
        o a os as um uma uns umas de do da dos das e é não que em no na nos nas por para com
        são era foi ser se seu sua seus suas ao aos como mais mas ou quando quanto quantos
        quantas cada todo todos este esta esse essa há tem têm pode também muito depois antes
        até ele ela eles elas então você
        """,
    "nl": """
        de het een en is niet van in op te dat die voor met zijn was er aan om als maar of ook
        bij naar door uit hoeveel elke elk ze hij zij ik we wij je jullie hun haar heeft
        hebben had worden wordt kan kunnen dan nog meer deze dit wat wie waar hoe dus al over
        """,
    "pl": """
        i w na z do nie się jest to że o od za po dla przez przy jak ale czy lub co który
        która które jego jej ich tym tego tej są był była było być ma mają może tak więc
        ponieważ oraz dwa ile każdy każda każde nas jako tylko już także gdy jeśli dziecko
        rodzicem zatem
        """,
    "sw": """
        ya na wa kwa ni za la katika ana kila yake hiyo hii huu hizo moja mbili tatu yeye wake
        wao cha vya ngapi kiasi gani lakini kama ikiwa baada kabla kuwa ambayo ambaye pia sana
        zaidi watu mara siku jumla wakati hadi bila tu basi sasa kutoka wana alikuwa anaweza
        wengine nusu ngapi zote wote yote gharama kununua
        """,
    "sv": """
        och att det är en ett som på för med av den de inte till har var jag vi han hon om men
        så eller kan ska från vad när hur många varje där också efter
        """,
    "da": """
        og at det er en et som på for med af den de ikke til har var jeg vi han hun om men så
        eller kan skal fra hvad når hvor mange hver der også efter
        """,
    "no": """
        og at det er en et som på for med av den de ikke til har var jeg vi han hun om men så
        eller kan skal fra hva når hvor mange hver der også etter
        """,
    "ro": """
        și în de la cu pe nu este sunt un o că din care pentru mai ce sau dar dacă fost are au
        el ea lor lui cât câte fiecare după apoi acest această
        """,
    "tr": """
        bir ve bu için ile da de ne kadar kaç her olan var çok daha ama eğer sonra gün toplam
        o şu ki mi mı gibi olarak değil
        """,
    "id": """
        yang dan di ke dari untuk dengan ini itu adalah ada tidak akan pada juga berapa setiap
        dia mereka saya kami kita jika maka atau lebih satu dua
        """,
    "vi": """
        và là của có không một các cho được trong với những này đó người khi bao nhiêu mỗi thì
        nếu đã sẽ cũng
        """,
    "cs": """
        a v na je se že to do s z o ale jak kolik každý každá nebo když není jsou byl byla
        bylo má pro po od který která které také už jen
        """,
    "hu": """
        a az és hogy nem is egy van volt ha de mint mennyi hány minden meg ez csak már még
        vagy
        """,
    "fi": """
        ja on ei se että oli hän ovat mutta kun jos niin kuinka monta joka mitä myös sitten
        tai
        """,
    "ru": """
        и в не на что с по как это из к у за от но для он она они мы я вы его её их сколько
        если то же бы был была было были каждый каждого чтобы все уже или так при до после
        есть ли где когда тогда потом нужно можно
        """,
    "uk": """
        і в не на що з по як це із до у за від але для він вона вони ми я ви його її їх
        скільки якщо то ж би був була було були кожен щоб всі вже або так при після є чи де
        коли та має
        """,
    "bg": """
        и в не на че с по като това от за но той тя те ние аз вие го колко ако то бил била
        било всеки за да всички вече или така при след е ли къде кога са ще се
        """,
    "sr": """
        и у не на да с по као то од за али он она они ми ја ви га колико ако би био била било
        сваки сви већ или тако при после је ли где када су се што
        """,
}


# Other words that are written like function words of another language: no sign of that one.
_LIKE = {
    "en": """
        door car care total pour pours come comes die dies plus per due non dan van wat er po con
        et si ser de es une te sin sin's su ne hat man men son sons hen egg eggs ten per via
        bar bat bin dare dire dove fine fit grand gut hinder kind lag led leg long main more note
        pain pan pays place pose qui quote rang real rest rot sale sans seal sole sur tag tot
        tag tale ton toll tour vice war wars wise worden art arts bad bald brief fast halt
        """,
    "de": "in an so was war die man als am um per pro den des her hin mit",
    "fr": "car pour plus son sur les des on or par pas du dans sans font tout",
    "es": "son con sin de en es se la las el los más uno una era sobre entre",
}  # fmt: skip


@functools.cache
def lists() -> dict[str, frozenset[str]]:
    """Return the function words by language."""
    return {lang: frozenset(words.split()) for lang, words in _LISTS.items()}


@functools.cache
def alike() -> dict[str, frozenset[str]]:
    """Return by language what does not speak against it: its function words and words like others'.

    >>> "pour" in lists()["en"], "pour" in alike()["en"], "pour" in lists()["fr"]
    (False, True, True)
    """
    return {lang: words | set(_LIKE.get(lang, "").split()) for lang, words in lists().items()}


@functools.cache
def by_word() -> dict[str, tuple[str, ...]]:
    """Return the languages of each function word."""
    out: dict[str, tuple[str, ...]] = {}
    for lang, words in lists().items():
        for word in words:
            out[word] = (*out.get(word, ()), lang)
    return out
