"""Answers that hang, fill or fool a grader: towers, nesting, megabytes, homoglyphs, code."""

from __future__ import annotations

TOWERS = [
    "9^{9^{9^9}}", "9^9^9", "9^{9^9}", "2^{10^9}", "10^{10^8}", "10^{10^{10}}", "(9^{9^9})^{9}",
    "100000000!", "10^7!", "(10^8)!", "1000!!", "((5!)!)!", "3!!!!!!",
    r"\binom{100000000}{50000000}",
    r"\binom{10^8}{5\cdot 10^7}", r"\sum_{k=1}^{1000000000} k", r"\sum_{k=1}^{10^9} \frac1k",
    r"\prod_{k=1}^{10^6} k", r"\int_0^1 x^x dx", r"\lim_{x\to0} x^{x^{x^x}}", "(x+1)^{100000}",
    r"\int_0^\infty \frac{\sin(x^{x^x})}{x^x} dx", "(x+y+z)^{999}", "(x+1)^{9999}",
    "e^{e^{e^{e^e}}}",
    "(1+10^{-300})^{10^{300}}", "(-1)^{10^{100}}", "i^{10^{50}}", r"\sin(10^{1000})",
    r"\sin(10^{50})",
    r"\sqrt[10^9]{5}", r"\lfloor 10^{5000}\pi \rfloor", r"\Gamma(10^9)", "2^{1/" + "3" * 100 + "}",
    r"\tan(\pi/2)", r"\ln 0", r"\log_1 6", r"\sqrt[0]{6}", "1e999", "1e-999", "1e" + "9" * 50,
]  # fmt: skip
LONG = [
    "9" * 200_000, "9" * 401, "9" * 2000, "0." + "3" * 5000, "1," * 500_000 + "1", "1," * 1000,
    ",".join(map(str, range(3000))), r"\{" + ",".join(map(str, range(3000))) + r"\}",
    "1+" * 300 + "1", "x+" * 300 + "x", "-" * 1000 + "1", "+-" * 200 + "1", "1/" * 300 + "1",
    "x_" * 200 + "1", "5" + "!" * 300, "5" + "'" * 300, "5" + r"^\circ" * 90, "a" * 500,
    "ab" * 250, "sin" * 150, "π" * 300, "½" * 200, "²" * 200, "×" * 300, r"\pm" * 150 + "1",
    "1" + r"\pm1" * 80, "(1,2)," * 150 + "(1,2)", "x=y=" * 60 + "1", "1<" * 200 + "x",
    "a:" * 150 + "b", r"\cup".join(["(1,2)"] * 90), " " * 2000 + "x", "$ " + " " * 1900 + "x",
    r"\," * 600 + "1", "1" + ",111" * 400, "$" * 20_000, "\\" * 1000, "|" * 400, "x\n" * 100_000,
    r"\boxed{7}" * 60_000, r"\boxed{" * 60_000, "the answer is " * 20_000, "<answer>" * 20_000,
    "####" * 20_000, "{" * 100_000, "}" * 100_000, "**" * 50_000, r"\(" * 50_000, "= " * 50_000,
]  # fmt: skip
NESTED = [
    "(" * 3000 + "1" + ")" * 3000, "(" * 60 + "1" + ")" * 60, "{" * 500 + "1" + "}" * 500,
    r"\frac{1}{" * 200 + "1" + "}" * 200, r"\frac{1}{1+" * 30 + "1" + "}" * 30,
    r"\sqrt{" * 300 + "2" + "}" * 300, r"\sqrt{" * 30 + "2" + "}" * 30, "|" * 31 + "x" + "|" * 31,
    "x^" * 200 + "2", "x^{x^" * 20 + "2" + "}" * 20, "e^{" * 20 + "1" + "}" * 20,
    "x_{" * 50 + "1" + "}" * 50, r"\text{" * 100 + "a" + "}" * 100, r"\sin " * 120 + "x",
    r"\ln " * 100 + "7", r"\begin{pmatrix}" + "1&" * 200 + r"1\end{pmatrix}",
    r"\begin{pmatrix}" * 40 + "1" + r"\end{pmatrix}" * 40, r"\{" * 40 + "1" + r"\}" * 40,
    r"\left(" * 300, r"\begin{array}{" + "c" * 400 + "}1",
]  # fmt: skip
CODE = [
    "__import__('os').system('touch {canary}')", r"\input{/etc/passwd}", "lambda: 5",
    "().__class__", "{0.__class__}", 'f"{5}"', 'eval("5")', 'exec("5")', "5;import os",
    "Symbol('x')", "sympify('5')", "S(5)", r"\x35", "&#53;", "fife", "%35",
]  # fmt: skip
FOREIGN = ["а", "𝟓", "五", "Ⅴ", "⑤", "\u202e5\u202c6", "5\u0338", "\x00", "6\u200b"]
BROKEN = [
    "1/0", "0/0", "0^{-1}", r"\frac{0}{0}", r"\infty-\infty", "nan", "inf", "", " ", "5^", "5_",
    "5<x<", "<", ">", "{x|", r"\{x|x>\}", r"\cup", "(1,2", "1,2)", "(,)", "[,]", r"\frac",
    r"\frac{}{}", r"\frac{1}", r"\sqrt", r"\sqrt[", "^", "_", "°", "==", "5 6", "5=5", "5 or 6",
]  # fmt: skip
SYMBOLIC = [
    r"\sum_{k=1}^{999} \frac{1}{k^k}", r"\int \sqrt{\tan x} \sqrt{\sin x} dx",
    r"\int_0^\infty e^{-x^{x}} \sin(x^x) dx", r"\sum_{n=1}^{999}\sum_{m=1}^{999} \frac{1}{n^2+m^2}",
    r"\lim_{x\to 0} \frac{\sin(\tan x)-\tan(\sin x)}{x^7}", r"\prod_{k=1}^{999} \sum_{j=1}^{k} j^k",
    r"\max(" + ",".join(f"x^{i}" for i in range(60)) + ")", r"\gcd(x^{999}-1,x^{998}-1)",
    r"\det\begin{pmatrix}"
    + r"\\".join("&".join(f"x_{{{i}{j}}}" for j in range(7)) for i in range(7))
    + r"\end{pmatrix}",
    r"\sum_{k=0}^{n} \binom{n}{k} \binom{n}{n-k} \sum_{j=0}^{k} \binom{k}{j}^2",
    r"(\sum_{k=1}^{n} k)^{99}", r"\int (x+1)^{99}(x+2)^{99} dx", r"\sum_{p=1}^{999} p!",
    r"\int_0^1 (\sin x)^{99}(\cos x)^{98} dx", r"\left(\int e^{x^2} dx\right)^{50}",
    r"\frac{\sum_{k=1}^n k}{\prod_{k=1}^n (x+k)(y+k)(z+k)}", r"\sum_{k=1}^{999} k^{999}",
    r"\int_{0}^{2\pi} \cos(\cos(\cos(\cos x))) dx", r"\max(" * 20 + "x" + ")" * 20,
    r"\sqrt{\sum_{k=1}^{n} \sqrt{\sum_{j=1}^{k} \sqrt{\sum_{i=1}^{j} i}}}",
    r"\int_0^{\pi/2} \ln(\sin x)\ln(\cos x) dx", r"\bigcup_{n=1}^{999} (n,n+1)",
    r"\{x | \sum_{k=1}^{99} x^k = 0\}", r"\int_0^1 \frac{dx}{\prod_{k=1}^{99}(x+k)}",
    r"\overline{z}^{99}+\max(z,w)^{98}", r"(\gcd(a,b)+\gcd(b,c))^{60}",
    r"\frac{\partial^{99}}{\partial x^{99}} \sin(x^{99})", r"\log_{\max(x,y)} (x^{99}+y^{99})",
]  # fmt: skip
"""Beyond the grammar, and given to sympy where the gold is unevaluated, too."""
SYMBOLIC_GOLDS = [r"\lim_{n\to\infty} a_n", r"\sum_{k=1}^{n} \frac{1}{k}"]
ALL = [*TOWERS, *LONG, *NESTED, *CODE, *FOREIGN, *BROKEN]
"""None of them is the answer 5."""
