"""Math: when two final answers are the same answer. One row per rule, both ways round."""

from __future__ import annotations

import pytest

from factory.verifiers.math.parse import parse
from factory.verifiers.math.same import same
from factory.verifiers.math.text import ascii_form

SAME = [
    ("1/2", "0.5"), (r"\frac12", "0.5"), (r"2\sqrt2", r"\sqrt8"), ("-5", "−5"), ("0.50", ".5"),
    (r"1{,}234", "1234"), (r"32,\! 349", "32349"), ("1,331", "1331"), (r"\$36", "36"),
    (r"1\frac{4}{5}", "9/5"), (r"137 \frac{1}{2}", "137.5"), ("3 1/2", "7/2"), (".185", "0.185"),
    (r"1.5\times10^3", "1500"), ("7.353e14", r"7.353\times10^{14}"), (r"0.\overline{3}", "1/3"),
    (r"C_n^3", r"\binom{n}{3}"), (r"e^{i\pi}", "-1"), (r"\log_2 8", "3"), ("2^{3^2}", "512"),
    (r"\sqrt[3]{-8}", "-2"), ("(-8)^{1/3}", "-2"), (r"(2n)!/(n!n!)", r"\binom{2n}{n}"),
    (r"\frac{x+2}{7}", r"\frac{x}{7}+\frac{2}{7}"), (r"\tan^2(y)+1", r"\sec^2(y)"),
    (r"\sin 2x", r"2\sin x\cos x"), (r"\sqrt{x^2}", "|x|"), (r"2\ln x", r"\ln x^2"),
    ("(x+1)(x-1)", "x^2-1"), (r"\frac{1}{2}+\frac{\sqrt{3}}{2}i", r"e^{i\pi/3}"),
    (r"\frac{\log 2}{\log 2-\log 3}", r"\frac{\ln2}{\ln(2/3)}"), ("½", "0.5"), ("２５％", "0.25"),
    (r"50\%", "0.5"), (r"50\%", "50"), (r"90^\circ", "90"), (r"90^\circ", r"\pi/2"),
    (r"6\text{ meters}", "6"), (r"5 \text{ m}", r"500 \text{ cm}"), ("20 $cm^{2}$", "20"),
    ("x=5", "5"), ("2=x", "x=2"), (r"k = \frac{1}{3}", "1/3"), ("y=2x+3", "2x+3"),
    ("y=2x+3", "2x-y+3=0"), ("f(x)=2x", "2x"), (r"\angle APC = 74^\circ", "74"),
    ("(p,q)=(3,2)", "(3,2)"), ("S_{MBCN}:S=7:32", "7:32"), ("A:B=1", "1"), ("1:2:3", "2:4:6"),
    (r"\frac{\sqrt3}{3} \approx 0.577", r"\frac{\sqrt3}{3}"), ("x = 1/3 \\approx 0.333", "1/3"),
    (r"\{1331,1728\}", "1728, 1331"), ("1, 2 and 3", r"\{3,2,1\}"), ("(3,2)", "3,2"),
    (r"3 \pm 2\sqrt{2}", r"3+2\sqrt2, 3-2\sqrt2"),
    (r"\{1\pm\sqrt5,-2\}", r"-2, 1-\sqrt5, 1+\sqrt5"),
    (r"a=4,\,-8,\,-10", "-10,-8,4"), ("x=1, y=2", "y=2, x=1"), ("x_1=1, x_2=2", "2, 1"),
    (r"p=5, q=2 \text{ and } p=7, q=2", "p=5,q=2;p=7,q=2"), ("(2,1),(1,2)", "(1,2),(2,1)"),
    (r"(2,\infty)", "x>2"), (r"\{x|x>0\}", r"(0,\infty)"), ("-793 < a < 10", "(-793, 10)"),
    (r"x\le 1 \text{ or } x \ge 3", r"(-\infty,1]\cup[3,\infty)"), ("x<1", "-x>-1"),
    (r"(-\infty,0)\cup(0,\infty)", r"x\ne0"), (r"\mathbb{R}", r"(-\infty,\infty)"),
    (r"x>1 \text{ and } x<3", "(1,3)"), (r"x \in [0,1)", "[0,1)"), (r"\emptyset", r"\{\}"),
    (r"\mathbb{R}\setminus\{0\}", r"x \neq 0"), ("2x > 4", "x > 2"), ("3 < x", "x > 3"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\left[\begin{array}{cc}1&2\\3&4\end{array}\right]"),
    (r"\begin{pmatrix}1&2\\x&4\\\end{pmatrix}", r"\begin{bmatrix}1&2\\x&4\end{bmatrix}"),
    (r"\begin{pmatrix}1&2\\(x)&4\end{pmatrix}", r"\\begin{pmatrix}1&2\\\\x&4\\end{pmatrix}"),
    (r"\begin{pmatrix}a\\\frac12\end{pmatrix}", r"\begin{array}{c}a\\0.5\\\end{array}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)"), (r"\langle 1,2,3\rangle", "(1,2,3)"),
    ("204_5", "204_{5}"), ("x-2y+z-1=0", "2x-4y+2z=2"), ("6th", "6"),
    ("-10°C", "-10"), (r"2024^{4046}", r"2024^{4046}"), (r"10^{-2}", "0.01"),
]  # fmt: skip
DIFFERENT = [
    ("1/2004!", "1/2006!"), ("2^{-99}", "2^{-98}"), (r"1-\frac1e", r"1+\frac{1}{\mathrm e}"),
    (r"1,2,\ldots,n", r"1,3,\ldots,2n-1"), ("4", r"4\sqrt(2)"), (r"4\sqrt{2}", "4"),
    ("3x-y+13=0", "3x+4y+14=0"), ("123_5", "123"), ("204_5", "204_6"), ("2^{2005}", "2^{2005}+1"),
    (r"\frac{1}{3}", "0.3333333"), (r"\pi", "3.14159"), (r"\sqrt{2}", "1.41421356"),
    (r"10^{20}+\sqrt2", r"10^{20}+1+\sqrt2"), (r"e^{-50}", r"e^{-51}"), ("0", "10^{-300}"),
    ("[0,1)", "(0,1]"), ("(1,2)", "(2,1)"), ("(1,2)", "[1,2]"), (r"\{1331,1728\}", "1728"),
    ("5", "1,2,3,4,5"), ("20 $cm^2$", r"20\%"), ("5=5", "5"), ("2^{10}=1024=5", "5"),
    ("x=5", "y=6"),
    (r"5 \text{ cm}", r"5 \text{ m}"), (r"5 \text{ cm}", r"5 \text{ kg}"), (r"10\%", r"0.1\%"),
    (r"\infty-\infty", "0"), ("10^{1000}", r"\infty"), (r"\infty", r"-\infty"), ("-2^2", "4"),
    (r"\sqrt{x^2}", "x"), ("i", "-i"), ("2x", "2y"), ("x+y", "x-y"), ("a=1, b=2", "2, 1"),
    ("x<1", "x>-1"), ("x>2", "x\\ge2"), (r"(-\infty,1)", r"(-\infty,1]"), ("x>2", "y>3"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&5\end{pmatrix}"),
    (r"\begin{pmatrix}1&2\\x&4\\\end{pmatrix}", r"\begin{pmatrix}1&2\\y&4\end{pmatrix}"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "(1,2,3,4)"), ("(1,2,3)", "(1,2)"), ("odd", "oddd"),
    ("y=2x+1", "x=2y+1"), ("x^2=4", "x=2"), ("1:2:3", "1:2:4"), ("(5, 5)", "5"), ("AB", "5"),
    (r"\mathrm{E}*2", "E"), ("1,234", "1.234"), ("1234", "12.34"), ("а", "a"),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), SAME)
def test_the_same_answer_written_differently(a: str, b: str) -> None:
    ours, theirs = parse(ascii_form(a)), parse(ascii_form(b))
    assert same(ours, theirs) is True
    assert same(theirs, ours) is True


@pytest.mark.parametrize(("a", "b"), DIFFERENT[:-1])
def test_different_answers(a: str, b: str) -> None:
    ours, theirs = parse(ascii_form(a)), parse(ascii_form(b))
    assert same(ours, theirs) is False
    assert same(theirs, ours) is False
