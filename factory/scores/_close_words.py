"""Frequent words that tell close languages apart, and languages that the model knows badly.

They only help to name whole texts; what is judged inside of texts is in ``_function_words``.
"""

from __future__ import annotations

WORDS = {
    "af": """
        die het nie dat ons hulle sal moet wees hierdie daardie ook maar deur vir aan wat word
        gister van in op te en as met hom haar sê toe ek jy hy sy julle baie gaan kan sou nuwe
        tussen volgens nadat omdat se is
        """,
    "nl": "zij wij hij niet ook deze dit worden heeft zijn werd wordt naar volgens hebben gisteren",
    "no": """
        ikke vi jeg også etter nå noe noen bare fra hva hvem hvor hvordan være ble bli blir mye
        regjeringen møtet uken året loven sier på av hun han seg mellom sine over opp ut skulle
        """,
    "nn": """
        og i at det er som på for med av den de til har var han vi men så kan skal der ikkje eg me
        dei òg korleis kva kven kvar frå vart vere vore noko nokon berre mykje gjere seie ho sjølv
        eit ein høgare saman mellom blei gjer veke heile medan sidan sjå kjem
        """,
    "da": """
        ikke jeg vi også efter af nogle noget kun hvad hvem hvordan være blev blive bliver meget
        regeringen mødet ugen året loven siger hun han sig mellem sine op ud skulle blandt uge
        """,
    "hr": """
        tijekom tjedna tjedan tko što gdje sljedeći sljedećeg također kako prije tisuća milijuna
        europski europske povijest kolovoza srpnja lipnja svibnja travnja ožujka veljače siječnja
        rujna listopada studenoga prosinca kazao rekao opći uvjeti zrakoplov vlak točno nogomet
        glazba zbog te hrvatske hrvatska hrvatski zagreb zagrebu izvijestio priopćenju sustav
        """,
    "bs": """
        tokom sedmice sedmica šta ko gdje narednog naredni također prije hiljada miliona evropski
        evropske historija augusta jula juna maja aprila marta februara januara septembra oktobra
        novembra decembra saopćio saopćila kazao općina općine bih bosne hercegovine sarajevu
        sarajevo federacije bosanski dešava sistem kantona entiteta uslovi kahva
        """,
    "sr": """
        šta ko gde sledeći sledećeg takođe pre posle vreme mesto mesec meseca nedelje uvek deo ceo
        hiljada miliona evropski istorija avgusta saopštio rekao beograd beogradu srbije srbija
        шта ко где следећи такође пре после време је се да су на за од који која које биће би јуче
        """,
    "sl": "je bo bodo tudi pri sem smo kaj ker kot lahko pa ali so bil bila ni bi včeraj leta med",
    "sk": """
        a v na je to do s z o od za má ako aj sú alebo ktorý ktorá ktoré by som sme nie už po ale
        ich pre aby keď tak bude ešte len iba medzi pri podľa veľmi môže roku že čo kde sa vo zo
        """,
    "cs": """
        také jsou nebo který která které bych jsem jsme není jako už podle však pro aby když tak
        bude ještě jen pouze mezi při velmi může roce že co kde se ve ze jeho byl
        """,
    "gl": """
        o a os as do da dos das no na nos nas non tamén máis unha uns unhas foi polo pola ata moi
        onte xa ten teñen eles elas dun dunha ao á aos ás este está pero sobre entre cando onde
        xunta
        """,
    "pt": "não também mais uma foi pelo pela até muito já tem têm eles dum numa ao à está mas são",
    "es": "el los las y del también más una fue por hasta muy ya tiene ellos este está pero cuando",
    "ca": """
        el els les i del també més una per fins molt ja té aquest està però quan amb que han dels
        """,
    "la": """
        et in est ad cum non ut quod qui quae sunt ex ab atque sed si aut esse enim autem eius ac
        nec quam per de hic haec hoc ille illos ipse quoque anno post inter apud etiam fuit erat
        eorum
        """,
    "tl": """
        ang ng sa na mga ay at hindi namin natin kami tayo sila siya ako ikaw rin din kung para
        isang ito iyon nang pa po ni kay may mayroon wala kanyang ating aming nila niya alam upang
        dahil
        """,
    "sw": """
        ya na wa kwa ni za la katika cha vya kwamba huu hii hiyo hilo hizo yake wake wao sisi wetu
        pia lakini au kama baada kabla kuwa amesema alisema serikali watu nchi mpya jana leo kesho
        hatua mkutano mwaka mwezi siku wakati ambayo ambao bila yao zake
        """,
    "so": """
        oo iyo waa in ka ku u ee ah waxay waxaa wuxuu kale uu ay aan la soo si ayaa lagu laga
        dhaqan sharciga cusub bisha sanad dad dadka magaalada dowladda dowladdu iska isaga iyada
        iyaguna wax inay inuu kuwa markii maanta shalay doonaa doonaan doono
        """,
    "yo": """
        ni ti àwọn sí ìjọba tí ní pé kò yóò náà ń ó wọn fún láti bí gbogbo nínú orílẹ̀ èdè ọjọ́ a
        mọ̀ bá lórí sì kan àti jẹ́ èyí tó kí wọ́n rẹ̀ lọ wá òfin oṣù ọdún
        """,
    "id": """
        dalam telah bahwa karena undang akan mobil rapat bisa kamu kalian sementara uang seperti
        mereka oleh saat usai kata jumat senin selasa rabu kamis sabtu tahun pemerintah pekan
        warga rupiah berlaku
        """,
    "ms": """
        yang dan di ke dari untuk dengan ini itu adalah ada tidak akan pada juga mereka saya kami
        kita jika atau lebih satu dua dia oleh dalam telah tahun bahawa kerana boleh mesyuarat
        semalam baharu kerajaan kereta wang ialah apabila manakala beliau berkata katanya ringgit
        sahaja iaitu daripada kepada minggu isnin khamis ahad jumaat negeri syarikat datuk
        mengikut terhadap selepas hari
        """,
    "ga": """
        an na a ar go agus is le i bhí tá ní atá sé sí don chun leis ag as mar seo sin bhfuil inné
        """,
    "cy": "y yr a i o yn ac ei eu ar am gan mae oedd ddim wedi fod bod hyn hwn ddoe nid hefyd fydd",
    "sq": "dhe në të e i se me për nga nuk që është janë një si por do ka kanë edhe u tha kjo ky",
    "eu": "eta da du ez bat dira izan zen ere baina hau hori zuen dute dela edo egin duen ziren",
    "et": "ja on ei et see ta oli mis ka kui aga või nad oma meie selle olid mida kes siis eile",
    "lv": "un ir ka uz no par ar tas arī kas bija bet vai nav pie viņš viņi gan šis mēs vakar pēc",
    "lt": "ir yra kad į iš su tai buvo bet jis jie taip ne už kaip apie dėl šis mes vakar pat per",
    "is": "og að í er á sem það til um var við hann en ekki með af hún þeir fyrir eru þetta gær",
    "az": "və bu bir ki də da ilə üçün olan olub var o dünən daha çox edib kimi sonra deyil onlar",
    "eo": """
        la kaj estas ke en de ne mi ni li ili ŝi por kun ĝi tiu kiu ankaŭ al el pri sed oni estis
        """,
    "mk": "и во на да се за од со не дека ќе го ги е беше како што или по при нема биде исто",
    "bg": """
        и в на да се за от с не че ще го ги е беше как какво или по при няма също бъде след през
        """,
    "be": "і ў у не на што да з гэта як па ад за каб але яны ён яна мы таксама быў была было учора",
    "ru": """
        и в не на что с по как это из к от за но они он она мы также был была было вчера который
        """,
    "uk": """
        і в у не на що до з це як від за щоб але вони він вона ми також був була було учора який
        """,
    "hi": "है हैं के की का में से को ने और कि यह वह पर भी नहीं था थे थी लिए एक होगा",
    "mr": "आहे आहेत आणि की च्या मध्ये ने हे ते ही या होते होता नाही साठी एक काल होईल केले हा",
    "ne": "छ छन् र को मा ले लाई हो थियो भएको गरेको पनि यो त्यो हुने गर्‍यो हिजो नयाँ एक भने",
}


def words() -> dict[str, frozenset[str]]:
    """Return the words by language.

    >>> "ikkje" in words()["nn"]
    True
    """
    return {lang: frozenset(text.split()) for lang, text in WORDS.items()}
