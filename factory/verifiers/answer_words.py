r"""The words that announce an answer, in the languages that models are asked in: one table.

A cue is a noun (answer, respuesta, 答案), words that may follow it (correct, final), and a link
(is, es, 是, a colon). ``CUE`` is all of it; ``OPTION_WORDS`` are the nouns before an
option's letter.
"""

from __future__ import annotations

import re

_MODAL = r"(?:must|should|would|will|has to|have to|can only|ought to) be"
_SEEMS = r"(?:seems|appears|turns out|works out|comes out|happens|proves|has got) to be"
_SURELY = (
    r"(?:therefore|thus|then|hence|clearly|definitely|indeed|obviously|for sure|simply|now|here"
    r"|i (?:choose|pick|chose|picked|get|got))"
)
_ENGLISH = (
    # "Solution:" alone on its line opens the way to the answer, and not the answer
    r"\b(?:answer|result|conclusion|solution(?!s?\**[:：][*\s]*\n))s?(?: choice| option)?"
    r"(?: (?:to|of|for) (?:the|this|your|our) (?:question|problem|puzzle|riddle|task))?"
    rf"(?:,? {_SURELY},?)?"
    rf"(?:\*\*)? ?(?:is|are|=(?!>)|:|：|(?:[-–—]|[-=]>|→|⇒)(?= )|{_MODAL}|{_SEEMS})"
    rf"(?: {_SURELY}\b)?|\bans(?:\.| ?[:=])"
)
# Words that are an answer word in every sentence that holds them.
_PLAIN = (
    r"答案|(?<![\u3400-\u9fff])答(?=\s*[:：])|答え|正解|(?<!問)解答|回答(?=\s*(?:[:：は]))"
    r"|정답|답은|답변?(?=\s*[:：])"
    r"|\bréponse|\brespuesta|\bantwort|\blösung|\bsolución(?=\s*:)|\brisposta|\blautet|\bresposta"
    r"|\bodpowied(?:ź|zią)|\bcevap|\bответ(?:ом)?\b|उत्तर|जवाब|คำตอบ"
    r"|উত্তর|விடை|பதில்|సమాధానం|జవాబు|ಉತ್ತರ|ഉത്തരം|જવાબ|ਉੱਤਰ|ਜਵਾਬ"
    r"|(?:ال)?(?:إجابة|اجابة|جواب)|پاسخ|תשובה|התשובה"
    # Hungarian has no verb there, but an article: "a válasz a C".
    r"|\bválasz(?:om)? (?-i:az?)(?= [\"'*_`(]*(?-i:[A-Z])(?![A-Za-z]))"
    r"|\bвідповідь|\bотговор(?:ът)?\b|\bодговор|απάντηση|\bjawabannya"
)
# Words that other sentences hold, too: they announce an answer where a link follows.
_LINKED = (
    r"\b(?:jibu|đáp án|câu trả lời|svar(?:et)?|antwoord|vastaus|jawab(?:an)?(?:nya)?"
    r"|jawapan(?:nya)?|sagutan|sagot|odpověď|odpoveď|válasz|megoldás|răspuns(?:ul)?|odgovor|vastus|atbilde"
    r"|atsakymas|resposta|resultado|ergebnis|résultat|risultato|erantzuna?|svarið|përgjigjj?[ae]"
    r"|ateb|freagra|cavab|javob|jawaab|idahun|ìdáhùn|amsa|impendulo|respondo|responsum"
    r"|valiny|repons|tweġiba|äntwert|жауап|жауабы|жооп|ҷавоб|адказ|хариулт|պատասխան(?:ը)?|პასუხი"
    r"|መልስ|መልሱ|ចម្លើយ|ຄຳຕອບ|පිළිතුර|ଉତ୍ତର|উত্তৰ|ځواب)\b"
)
_CORRECT = (
    r"correct[ae]|corretta|correta|corec(?:t|tă)|finale?|definitiva|esatta|giusta|bonne|sahihi|đúng"
    r"|e saktë|zuzena"
    r"|cuối cùng|chính xác|(?:yang )?(?:benar|tepat|betul)|dogru|doğru|الصحيحة?|النهائية?|הנכונה"
    r"|הסופית|نهایی|صحیح|درست|ที่ถูกต้อง|ที่ถูก|สุดท้าย|सही|সঠিক"
)
_LINK = (
    r"\b(?:is|are|est|es|ist|é|è|sería|serait|wäre|lautet|это|является|ni|là|er|är|on|adalah|ialah"
    r"|ay|je|este|είναι|је|jest|to|е|olur|ir|yra|és|është|yw|estas|donc|also|daher|folglich|entonces|quindi|então)\b"
    r"|(?:应该|應該|应当|應當|应|應|就|即)?(?:为|為|是|[选選](?![项項擇]))|は|은|는|คือ|है|হল|হলো|হচ্ছে|ہے"
    r"|(?:هي|هو|هى|היא|הוא|הינה)\b|[–—](?=\s)|(?:[-=]>|→|⇒)(?=\s)"
)
CUE = re.compile(
    rf"(?:{_ENGLISH}|(?:{_PLAIN})[ \u200c]?(?:{_CORRECT})?"
    rf"|{_LINKED}(?: (?:{_CORRECT}))?(?=\**\s*(?:[:：=]|{_LINK})))[\s:：=*】]*"
    rf"(?:(?:\b(?:finale?|correct[ae]|corretta|correta)\b|{_LINK})[\s:：=*]*)*",
    re.IGNORECASE,
)
"""What stands before an answer: "the answer is", "Answer:", 答案是, "La réponse est" …"""

ASCII_KEYS = (
    "ans", "result", "conclusion", "solution", "respuesta", "antwort", "risposta", "lautet",
    "resposta", "cevap", "jibu", "svar", "antwoord", "vastaus", "jawab", "jawapan", "sagot",
    "sagut", "odgovor", "vastus", "atbilde", "atsakymas", "ergebnis", "risultato",
    "erantzun", "ateb", "freagra", "cavab", "javob", "jawaab", "idahun", "amsa", "impendulo",
    "respondo", "responsum", "valiny", "repons",
)  # fmt: skip
KEYS = (
    *ASCII_KEYS, "答", "正解", "解答", "回答", "정답", "답", "réponse", "lösung", "solución",
    "odpowied", "ответ",
    "उत्तर", "जवाब", "คำตอบ", "উত্তর", "விடை", "பதில்", "సమాధానం", "జవాబు", "ಉತ್ತರ", "ഉത്തരം", "જવાબ",
    "ਉੱਤਰ", "ਜਵਾਬ", "إجابة", "اجابة", "جواب", "پاسخ", "תשובה", "відповідь", "отговор", "одговор",
    "απάντηση", "đáp án", "câu trả lời", "odpověď", "odpoveď", "válasz", "megoldás", "răspuns",
    "résultat", "svarið", "përgjigj", "ìdáhùn", "tweġiba", "äntwert", "жауа", "жооп", "ҷавоб",
    "адказ", "хариулт", "պատասխան", "პასუხი", "መልስ", "መልሱ", "ចម្លើយ", "ຄຳຕອບ", "පිළිතුර", "ଉତ୍ତର",
    "উত্তৰ", "ځواب",
)  # fmt: skip
"""Some part of each word, in small letters: a text that holds none of them holds no cue."""

FALSE_CUE = re.compile(
    r"(?:\b(?:wrong|incorrect|false|invalid|inaccurate|improbable|implausible|unlikely|tempting"
    r"|opposite|trap|rejected|eliminated|excluded|not selected|least(?: [a-z]+)?|worst"
    r"|falsche[nr]?|mauvaise|fausse|incorrecta|equivocada|incorreta|errada|sbagliata|errata"
    r"|неправильн\w+|неверн\w+|yanlış)|错误的?|錯誤的?)[ *_]*(?:final )?(?:the |my )?\Z",
    re.IGNORECASE,
)
"""Before a cue: the answer that follows is said to be wrong."""
SUPPOSED_CUE = re.compile(
    r"\b(?:if|suppose|assume|assuming|whether|unless)(?: that)?(?: the| my| your)?"
    r"(?: (?:correct|right|final|best))?[ *_]*\Z",
    re.IGNORECASE,
)
"""Before a cue: the answer that follows is only supposed."""

OPTION_WORDS = (
    r"options?|choices?|letters?|answers?|statements?|opción|opciones|opcion|letra|inciso"
    r"|l['’](?:option|opzione)|choix|lettre|proposition|réponse|opzione|lettera|alternativas?|opção"
    r"|antwort(?:möglichkeit)?|buchstabe|auswahl|respuesta|risposta|resposta|optie|alternativet"
    r"|вариант|пункт|буква|opcja|možnost|seçenek|şık|lựa chọn|phương án|đáp án|pilihan|opsi"
    r"|الخيار|الاختيار|خيار|گزینه|אפשרות|विकल्प|বিকল্প|ตัวเลือก|ข้อ|選択肢|选项|選項|선택지|보기"
)
