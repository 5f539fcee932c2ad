"""The last step: math-verify and sympy, behind caps and a limit of their own (math).

Runs in a pool worker. The parent kills the worker at its deadline; the limit here is on the CPU
time of the comparison alone, so that it can be short although a fresh worker first spends seconds
on importing sympy. A process with one thread, as a worker is, compares in a fork of itself: the
kernel ends that at the limit, whatever holds the interpreter, its memory goes with it, and the
warm worker lives on. Elsewhere (a fork of many threads is not safe) a thread of ours watches.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, NoReturn, TypeVar, cast

MAX_CHARS = 400
MAX_COMMANDS = 60
CPU_LIMIT_S = 0.8
Outcome = Literal[
    "equal", "different", "gold_unparsable", "unparsable",
    "checker_timeout", "checker_memory", "checker_crashed",
]  # fmt: skip
_T = TypeVar("_T")

# What a reader would never work out either, and a computer algebra system would try to.
_TOO_BIG = re.compile(
    r"[0-9]{401,}"
    r"|\^\s*\{?\s*[-(]?\s*[0-9.,]{4,}"  # exponents from 10^3
    r"|[0-9]{4,}\s*!|\)\s*!\s*!|!\s*!|[0-9]!\s*\)\s*!|!\s*\}\s*!"
    r"|\\[dt]?binom\s*\{[^{}]*[0-9]{5,}"
)
_TOWER = re.compile(r"\^[^^]{0,12}\^[^^]{0,12}\^|[0-9)}]\s*\^\s*\{?\s*\(?\s*[0-9]+\s*\)?\s*\^")
_REPEATED = re.compile(r"(?:(\\[a-z]+\s*\{?)\1{5,}|([^\s0-9])\2{20,})")
_LOOPS = re.compile(r"\\(?:sum|prod|int|iint|oint|lim|bigcup|bigcap|mod|pmod)(?![a-zA-Z])")
_MALFORMED = re.compile(
    r"[=<>^_+*/\\-]\s*$|^\s*[<>^_*/]|[0-9.]\s+[0-9](?![0-9]*\s*/)|==|[<>]\s*[<>]|\+\s*[*/)]"
)
_NO_FORMULA = re.compile(
    r"\\(?:[dt]?frac|sqrt|[dt]?binom)\s*(?:$|\[\s*(?:$|\])|\{\s*\}|\{[^{}]*\}\s*\{\s*\})"
    r"|\\frac\s*\{[^{}]*\}\s*$|\\(?:cup|cap)\s*$|[(\[{]\s*[,;]|[,;]\s*[)\]]|[<>=|]\s*\\\}|\(\s*\)"
    r"|\\(?:gcd|lcm|[bp]?mod|big(?:cup|cap|vee|wedge)|nabla|partial|to|equiv)(?![A-Za-z])"
    r"|[\"`#@\x00-\x08]|__|\\(?:input|include|write|x[0-9a-f])|(?<![\\A-Za-z])[A-Za-z_]{5,}\("
    r"|(?<![A-Za-z])(?:lambda|import|eval|exec|sympify|Symbol)(?![A-Za-z])|&\w*;|^\s*%"
)
_OPERATORS = re.compile(r"\\(?:sum|prod|i{1,3}nt|oint|lim)(?![a-zA-Z])")
_LONG_NUMBER = re.compile(r"[0-9]{4,}")


def too_big(text: str) -> bool:
    r"""Tell whether a text is beyond what is given to sympy.

    >>> too_big("9^{9^{9^9}}"), too_big(r"\\sum_{k=1}^{1000000} k"), too_big(r"\\frac{x}{2}")
    (True, True, False)
    """
    return (
        len(text) > MAX_CHARS
        or _TOO_BIG.search(text) is not None
        or _TOWER.search(text) is not None
        or _depth(text) > 24
        or text.count("\\") > MAX_COMMANDS
        or _REPEATED.search(text) is not None
        or text.count("^") > 40
        or (_LOOPS.search(text) is not None and _LONG_NUMBER.search(text) is not None)
    )


def is_malformed(text: str) -> bool:
    """Tell whether a text is no formula, although a forgiving parser would take a piece of it.

    >>> is_malformed("5<x<"), is_malformed("5 7"), is_malformed("5 x")
    (True, True, False)
    """
    # A forgiving parser skips signs that it does not know, such as a stroke through a digit.
    return (
        not text.isascii()
        or text.count("(") + text.count("[") != text.count(")") + text.count("]")
        or _MALFORMED.search(text) is not None
        or _NO_FORMULA.search(text) is not None
    )


_COMMANDS = frozenset((
    "frac", "dfrac", "tfrac", "cfrac", "sqrt", "cdot", "times", "div", "pm", "mp", "left",
    "right", "middle", "big", "Big", "bigl", "bigr", "Bigl", "Bigr", "sin", "cos", "tan", "cot",
    "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log", "ln", "lg",
    "exp", "pi", "infty", "sum", "prod", "int", "iint", "lim", "to", "binom", "dbinom",
    "tbinom", "begin", "end", "text", "textbf", "textit", "textrm", "mathrm", "mathbf",
    "mathbb", "mathcal", "mathit", "operatorname", "cup", "cap", "in", "emptyset", "varnothing",
    "setminus", "backslash", "lfloor", "rfloor", "lceil", "rceil", "langle", "rangle", "lbrace",
    "rbrace", "lvert", "rvert", "vert", "mid", "ldots", "dots", "cdots", "circ", "angle", "vec",
    "overline", "bar", "hat", "quad", "qquad", "boxed", "displaystyle",
    "limits", "nolimits", "land", "lor", "wedge", "vee", "le", "leq", "leqslant", "ge", "geq",
    "geqslant", "lt", "gt", "ne", "neq", "approx", "equiv", "alpha", "beta", "gamma", "delta",
    "epsilon", "varepsilon", "zeta", "eta", "theta", "vartheta", "kappa", "lambda", "mu", "nu",
    "xi", "rho", "sigma", "tau", "phi", "varphi", "chi", "psi", "omega", "Gamma", "Delta",
    "Theta", "Lambda", "Sigma", "Phi", "Psi", "Omega", "ell", "prime", "dagger", "degree",
    "mathbin", "over", "forall", "exists", "rightarrow",
))  # fmt: skip
"""Commands that math-verify understands; it skips any other, and what was negated is not."""
_SIGNS = re.compile(r"\\(?:n(?:eq?|le|ge|lt|gt)|le|leq|leqslant|ge|geq|geqslant|lt|gt|in|approx)"
                    r"(?![a-zA-Z])|[<>]=?|!=")  # fmt: skip
_SAID = re.compile(
    r"\\(?:text[a-z]*|mbox|mathrm|operatorname)\s*\{([^{}]*)\}|(?<![\\A-Za-z])[A-Za-z]{4,}"
)
_SMALL_WORDS = frozenset(("and", "or", "sqrt"))


def leaves_out(gold: str, answer: str) -> bool:
    r"""Tell whether math-verify would skip a part of the answer that the gold has not.

    Unknown commands, relation signs at an end or other ones than the gold's, words.

    >>> leaves_out("42", r"\\neq 42"), leaves_out("42", r"\\xcancel{42}"), leaves_out("x", "x+1")
    (True, True, False)
    """
    commands = set(re.findall(r"\\([a-zA-Z]+)", answer)) - set(re.findall(r"\\([a-zA-Z]+)", gold))
    if not commands <= _COMMANDS:
        return True
    signs = [sorted(_SIGNS.findall(t)) for t in (gold, answer)]
    if signs[0] != signs[1] and (not signs[0] or not signs[1]) and not _is_set(gold, answer):
        return True
    if signs[1] and (_SIGNS.match(answer.strip()) or _ends_with_sign(answer)):
        return True
    return words_beyond(answer, gold)


def words_beyond(text: str, other: str) -> bool:
    """Tell whether a text says words in prose that the other has not."""
    return not _words_of(text) <= _words_of(other) | _SMALL_WORDS


def _is_set(gold: str, answer: str) -> bool:
    return any(
        c in t for c in ("\\cup", "\\infty", "\\setminus", "\\{", "[") for t in (gold, answer)
    )


def _ends_with_sign(text: str) -> bool:
    found = None
    for found in _SIGNS.finditer(text):  # noqa: B007 - only the last one is wanted
        pass
    return found is not None and not text[found.end() :].strip()


def _words_of(text: str) -> set[str]:
    said = " ".join(m[1] if m[1] is not None else m[0] for m in _SAID.finditer(text))
    return set(re.findall(r"[a-z]{2,}", said.lower()))


def is_unevaluated(text: str) -> bool:
    r"""Tell whether a text holds a sum, product, integral or limit that is still to be worked out.

    >>> is_unevaluated(r"\\int_0^1 x^x dx"), is_unevaluated("5")
    (True, False)
    """
    return _OPERATORS.search(text) is not None


def _depth(text: str) -> int:
    depth = deepest = 0
    for sign in text:
        if sign in "{([":
            depth += 1
            deepest = max(deepest, depth)
        elif sign in "})]":
            depth -= 1
    return deepest


def compare(gold: str, answer: str) -> Outcome:
    """Compare two answers by math-verify, both ways round; both are below the caps."""
    import logging

    from math_verify import parse
    from math_verify import verify as equal

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    logging.getLogger("latex2sympy2_extended").setLevel(logging.CRITICAL)

    def work() -> Outcome:
        ours = _expressions(gold, parse(f"${gold}$", parsing_timeout=None))
        if not ours:
            return "gold_unparsable"
        theirs = _expressions(answer, parse(f"${answer}$", parsing_timeout=None))
        if not theirs:
            return "unparsable"
        same = equal(ours, theirs, **_PRECISION) and equal(theirs, ours, **_PRECISION)
        return "equal" if same else "different"

    _warm()
    if threading.active_count() == 1:
        return in_child(work, CPU_LIMIT_S)
    try:
        return limited(work, CPU_LIMIT_S)
    except OverLimit:
        return "checker_timeout"


@functools.cache
def _warm() -> None:
    """Have sympy's lazy imports and the parser's tables loaded before any clock runs."""
    from math_verify import parse
    from math_verify import verify as equal

    for gold, answer in _WARMING:
        ours = parse(f"${gold}$", parsing_timeout=None)
        theirs = parse(f"${answer}$", parsing_timeout=None)
        # without the texts of its own: equal texts would end it at once
        equal(
            [p for p in ours if not isinstance(p, str)],
            [p for p in theirs if not isinstance(p, str)],
            **_PRECISION,
        )


_PRECISION: Any = {"float_rounding": 15, "numeric_precision": 40, "timeout_seconds": None}
"""Its own rounding to 6 places holds 1/2004! equal to 1/2006!."""
_WARMING = (
    (r"\frac{x}{2} + 1", r"\frac{x + 2}{2}"),
    (r"F_n = \sum_{k=0}^{n-1} F_k F_{n-k-1}", r"F_n = \sum_{k=0}^{n-1} F_{n-k-1} F_k"),
    (r"\max(x, y)", r"\max(y, x)"),
    (r"\{1, 2\} \cup (3, 4]", r"\{1, 2\} \cup [3, 4]"),
    (r"x + 1 \le 2", r"x < 3"),
    (r"\sin^2 x + \log_2 y", r"\sqrt[3]{x} + |y|"),
    (
        r"\begin{pmatrix} 1 & x \\ y & 2 \end{pmatrix}",
        r"\begin{pmatrix} 1 & x \\ y & 3 \end{pmatrix}",
    ),
    (r"\int_0^1 f(x) dx", r"\int_0^1 g(y) dy"),
    (r"e^{i x}", r"\cos x + i \sin x"),
)
"""One pair of each kind: what sympy imports and caches for it is then inherited by every fork."""


def _expressions(text: str, parsed: list[Any]) -> list[Any]:
    """Keep what math-verify understood as a whole: no bare text, and no name left out.

    It reads ``\\gcd(m,n)`` as 1 and ``x \\to 3`` as 3.
    """
    names = set(re.findall(r"[a-z]", _NOT_NAMES.sub(" ", text).lower())) - set("eid")
    return [p for p in parsed if not isinstance(p, str) and names <= set(str(p).lower())]


_NOT_NAMES = re.compile(
    r"\\(?:text|mathrm|mathbf|mbox|operatorname|begin|end)\s*\{[^{}]*\}|\\[a-zA-Z]+"
    r"|\b(?:and|or|if|for)\b"
)


def in_child(work: Callable[[], Outcome], cpu_s: float) -> Outcome:
    """Run ``work`` in a fork that the kernel ends after so much CPU time."""
    read_end, write_end = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _work_and_exit(work, cpu_s, write_end, parent)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        reply = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        # SIGPROF: its time is up. Anything else: it crashed or ran out of memory, its own doing.
        return "checker_timeout" if os.WTERMSIG(status) == signal.SIGPROF else "checker_crashed"
    if reply.startswith("error "):
        raise RuntimeError(reply)
    return cast(Outcome, reply)


def _work_and_exit(work: Callable[[], Outcome], cpu_s: float, pipe: int, parent: int) -> NoReturn:
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the worker
        if os.getppid() == parent:
            gc.disable()  # a collection would copy every page that it looks at
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_PROF, cpu_s)
            reply = str(work())
            signal.setitimer(signal.ITIMER_PROF, 0)
            os.write(pipe, reply.encode())
    except (MemoryError, RecursionError):
        os.write(pipe, b"checker_memory")
    except BaseException as error:  # noqa: BLE001 - raised again in the parent
        os.write(pipe, f"error {type(error).__name__}: {error}"[:300].encode())
    finally:
        os._exit(0)


class OverLimit(BaseException):
    """The comparison used up its CPU time. No Exception, since libraries catch those."""


def limited(work: Callable[[], _T], cpu_s: float) -> _T:
    """Run ``work`` on this thread; raise ``OverLimit`` in it after so much CPU time.

    It is raised again and again, since libraries have bare ``except`` clauses. What holds the
    interpreter lock (one huge multiplication) is not stopped here but by the pool's kill; the
    caps keep such work away.
    """
    done = threading.Event()
    thread = threading.get_ident()
    clock = time.pthread_getcpuclockid(thread)
    begun = time.clock_gettime(clock)

    def watch() -> None:
        while not done.wait(0.02):
            if time.clock_gettime(clock) - begun > cpu_s:
                _raise_in(thread, OverLimit)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        return work()
    finally:
        _finish(done, watcher, thread)


def _finish(done: threading.Event, watcher: threading.Thread, thread: int) -> None:
    """End the watch; an exception that was still under way must not hit our caller."""
    while True:
        try:
            done.set()
            watcher.join()
            _raise_in(thread, None)
            return
        except OverLimit:
            continue


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), None if kind is None else ctypes.py_object(kind)
    )
