"""More than a thousand hostile answers for every verifier that reads text: none is an answer.

They aim at the readers: at search that starts again at every character, at nested quantifiers, at
brackets that never close, at marks in masses, at numbers of a million digits, at scripts.
"""
# ruff: noqa: E501 - one kind, one line

from __future__ import annotations

from tests.hostile_math import ALL as MATH

MARKS = [
    "<think>" * 15_000, "[THINK]" * 15_000, "</think>" * 15_000, "<|im_end|>" * 10_000,
    "<|channel|>final<|message|>" * 4_000, "<answer>" * 15_000 + "</answer>", "</answer>" * 12_000,
    "<answer>\n" * 9_000, "< / answer" * 12_000, "####" * 25_000, "#### \n" * 15_000, "\\boxed" * 15_000,
    r"\boxed{" * 15_000, r"\boxed{" * 300 + "}" * 300, r"\boxed{}" * 12_000, r"\fbox{x} " * 12_000,
    r"\boxed{A} and " * 8_000, r"\boxed{A}, " * 31, r"\boxed{{{{" * 9_000, "{" * 100_000, "}" * 100_000,
    "<!--" * 25_000, "<!-- -->" * 12_000, "\n%" * 50_000, "%" * 100_000, "```" * 30_000, "`" * 100_000,
    "**" * 50_000, "* " * 50_000, "_" * 100_000, "~" * 100_000, "$" * 100_000, "$$" * 50_000,
]  # fmt: skip
WORDS = [
    "the answer is " * 8_000, "answer: " * 12_000, "answer " * 15_000, "The answer is not " * 6_000,
    "ans" * 30_000, "答案" * 50_000, "正解は" * 30_000, "答" * 100_000, "답은 " * 30_000, "उत्तर " * 15_000,
    "الإجابة " * 12_000, "جواب" * 25_000, "svar " * 20_000, "Đáp án: " * 12_000, "wrong answer: " * 8_000,
    "final " * 15_000, "the final correct best " * 4_000, "so " * 30_000, "so, therefore, thus, " * 5_000,
    "I think " * 12_000, "i would therefore thus must " * 4_000, "option " * 15_000, "(option " * 12_000,
    "which is option " * 6_000, "Question: " * 10_000 + "answer: B", "Final Answer\n" * 8_000,
    '{"answer": ' * 9_000, '{"answer": "' * 9_000, '"answer": "\\' * 9_000, "'answer': '" * 9_000,
    '"answer": [' * 9_000, '{"answer": {"answer": ' * 5_000,
]  # fmt: skip
OPTIONS = [
    "A or " * 20_000, "A, B, C, D " * 9_000, "(A) " * 25_000, "(A " * 30_000, "A) x\n" * 20_000,
    "A. Paris\n" * 10_000, "✅ A\n❌ B\n" * 9_000, "✅" * 50_000, "→ " * 40_000, "❌" * 50_000,
    "not A but " * 9_000, "A, not B, " * 9_000, "B (Paris " * 10_000, "Paris, which is " * 6_000,
    "The answer is A (" * 6_000, "**A" * 30_000, "\"A\" " * 25_000, "A's " * 25_000, "A=" * 50_000,
    r"\text{" * 12_000 + "A", r"\color{red}{" * 6_000 + "A", r"\textcolor{" * 9_000, "[A" * 50_000,
    "Ⓐ" * 30_000, "Ａ" * 50_000, "Ａ，" * 30_000, "a\u0301" * 50_000, "\u202eA" * 30_000,
    "A\u200b" * 50_000, "option A is correct. " * 5_000, "if A is correct then " * 5_000,
]  # fmt: skip
LOGIC = [
    "Ella is a knight, " * 6_000, "Ella, " * 20_000, "knight knave " * 9_000, "Ella is not " * 9_000,
    "Ella says that Bob says that " * 4_000, "yes no " * 15_000, "Yes" * 30_000, "not " * 25_000,
    "3*7+5=" * 15_000, "3*7+5=" * 60 + "27", "(" * 390, "(" * 100_000, "1+" * 190 + "1", "1/" * 190 + "1",
    "-" * 390 + "1", "9" * 390, "9*" * 190 + "9", r"\frac{1}{" * 40 + "1" + "}" * 40,
    r"\frac{1}{1}" * 9_000, r"\times" * 15_000, "3 x " * 25_000, "[" * 100_000, "[[0]," * 20_000,
    "[[0]]" * 20_000, "{1: " * 25_000, "x**" * 30_000 + "2", "x**x**x**x**x", "1" * 100_000,
    "1,234" * 20_000, "1,234," * 15_000 + "567", ") } > " * 15_000, "(E)" * 30_000,
]  # fmt: skip
TEXTS = [
    "." * 100_000, "a. " * 30_000, "a.b." * 25_000, "U.S. " * 20_000, "U.S.A.F.B." * 10_000,
    "p.m. " * 20_000, "Dr. " * 25_000, "1. " * 30_000, "1.1." * 25_000, "?!" * 50_000, "... " * 25_000,
    "\n" * 100_000, "\n \n" * 30_000, "\n\n \n\n" * 20_000, " " * 100_000, "\t" * 100_000,
    "a\n\n" * 30_000, "***" * 30_000, "*a" * 50_000, "*a*" * 30_000, "**a" * 30_000, "- " * 50_000,
    "\n- " * 30_000, "[" * 100_000, "[a" * 50_000, "[a]" * 30_000, "<<" * 50_000, "<<a>>" * 20_000,
    '"' * 100_000, "'" * 100_000, "P.S. " * 20_000, "p.\n" * 30_000, "SECTION 1 " * 10_000,
    "SECTION " * 12_000, "word " * 25_000, "WORD " * 25_000, "don't " * 18_000, "a-b-c-" * 18_000,
    "a'" * 50_000, "a." * 50_000, "a/" * 50_000, "$%" * 50_000, "{" * 50_000 + "}" * 50_000,
    '{"a":' * 20_000, "[" * 50_000 + "]" * 50_000, "今天" * 50_000, "ก" * 100_000, "\u0301" * 100_000,
    "🙂" * 50_000, "\U0001d7d3" * 50_000, "\ufeff" * 50_000, "\ud800" * 50_000, "\x00" * 100_000,
]  # fmt: skip
PIECES = [*MATH, *MARKS, *WORDS, *OPTIONS, *LOGIC, *TEXTS]
WRAPPINGS = ("%s", r"so \boxed{%s}", "<answer>%s</answer>", "The answer is %s.")
ANSWERS = [wrap.replace("%s", piece) for piece in PIECES for wrap in WRAPPINGS]
"""What a completion may hold behind its thinking, or instead of it."""
