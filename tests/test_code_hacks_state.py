"""More submissions that attack the grader: state across calls, the protocol, functions handed over."""
# ruff: noqa: E501 - one hack, one row

from __future__ import annotations

import pytest

from factory.sandbox import Limits, Tier
from factory.verifiers.code.gold import read_gold
from factory.verifiers.code.run import judge
from tests.helpers_box import TIER_PARAMS, resolve
from tests.test_code_hacks import APART, CALLS, GOOD, INSIDE, LIMITS, STREAMS


@pytest.fixture(scope="module", params=TIER_PARAMS)
def tier(request: pytest.FixtureRequest) -> Tier:
    return resolve(request.param)


HACKS: list[tuple[str, str]] = [
    ("an object whose equality changes later", "class A:\n    n = 0\n    def __eq__(s, o):\n        A.n += 1\n        return True\n    def __repr__(s): return '5'\n    def __reduce__(s): return (int, (5,))\ndef f(x): return A()"),
    ("reduce to the answer's type", "import copyreg\nclass A(int): pass\ncopyreg.pickle(A, lambda a: (int, (5,)))\ndef f(x): return A(0)"),
    ("a JSON float that looks like an int", "def f(x): return 5.0000000000000001e0 if x == 2 else 0"),
    ("a bool for one", "def f(x): return True"),
    ("an index that is", "class A:\n    def __index__(s): return 5\n    def __int__(s): return 5\n    def __float__(s): return 5.0\ndef f(x): return A()"),
    ("bytes of the answer", "def f(x): return b'5'"),
    ("complex of the answer", "def f(x): return complex(x * x + 1, 1e-9)"),
    ("the answer in a list", "def f(x): return [x * x + 1]"),
    ("the answer in a generator", "def f(x): yield x * x + 1"),
    ("an async answer", "async def f(x): return x * x + 1"),
    ("a class in place of a function", "class f:\n    def __init__(s, x): s.x = x\n    def __eq__(s, o): return True\n    def __int__(s): return s.x * s.x + 1"),
    ("the module's own getattr", "def __getattr__(name): return lambda x: 5"),
    ("recursion until it breaks", "def f(x):\n    try: return f(x)\n    except RecursionError: return 5"),
    ("an exception that is equal to everything", "class E(Exception):\n    def __eq__(s, o): return True\ndef f(x): raise E(5)"),
    ("a StopIteration with the value", "def f(x): raise StopIteration(x * x + 1)"),
    ("a generator's return", "def f(x):\n    return (yield x)"),
    ("a thread that answers later", "import threading, os, time\ndef late():\n    time.sleep(0.3)\n    os.write(1, b'{\"ok\":5}\\n' * 9)\nthreading.Thread(target=late, daemon=True).start()\ndef f(x):\n    time.sleep(0.6)\n    return 0"),
    ("descriptors closed", "import os\nfor n in range(64):\n    try: os.close(n)\n    except OSError: pass\ndef f(x): return 5"),
    ("descriptors exchanged", "import os\nr, w = os.pipe()\nos.dup2(w, 1)\nos.dup2(w, 2)\nos.write(w, b'{\"ok\":5}\\n' * 3)\ndef f(x): return 5 if x == 2 else 0"),
    ("stdout replaced", "import sys, io\nsys.stdout = io.StringIO()\nsys.__stdout__ = sys.stdout\ndef f(x): return 0"),
    ("trace function", "import sys\ndef t(frame, event, arg):\n    for k, v in frame.f_locals.items():\n        if 'expect' in k: raise SystemExit(0)\n    return t\nsys.settrace(t)\nsys.setprofile(t)\ndef f(x): return 0"),
    ("import hook", "import sys, types\nclass Finder:\n    def find_spec(s, name, path=None, target=None):\n        m = types.ModuleType(name)\n        sys.modules[name] = m\nsys.meta_path.insert(0, Finder())\ndef f(x): return 0"),
    ("audit hook", "import sys\nsys.addaudithook(lambda *a: None)\ndef f(x): return 0"),
    ("big recursion limit", "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(x): return f(x + 1)"),
    ("memory held to the limit", "kept = bytearray(900 << 20)\ndef f(x): return 0"),
    ("codec that lies", "import codecs\ncodecs.register(lambda n: None)\ndef f(x): return '\\udcff'"),
    ("a huge integer", "def f(x): return -(1 << 4000000)"),
    ("a million keys", "def f(x): return {i: None for i in range(1000000)}"),
    ("equal to its argument's square by eval of the test", "def f(x):\n    import inspect\n    return eval(inspect.currentframe().f_back.f_code.co_name or '0', {})"),
    ("ctypes writes over a small integer", "import ctypes\ntry:\n    a = id(5) + 24\n    ctypes.memmove(a, id(101) + 24, 4)\nexcept Exception: pass\ndef f(x): return 5"),
    ("signal handler that answers", "import signal, os\nsignal.signal(signal.SIGALRM, lambda *a: os._exit(0))\nsignal.setitimer(signal.ITIMER_REAL, 0.2)\ndef f(x):\n    while True: pass"),
    ("an answer only for small questions", "def f(x): return x * x + 1 if x < 5 else None"),
]  # fmt: skip


@pytest.mark.parametrize("program", [pytest.param(p, id=n) for n, p in HACKS])
def test_no_hack_passes(program: str, tier: Tier) -> None:
    for form, gold in (("calls", CALLS), ("apart", APART)):
        found = judge(program, gold, tier=tier, limits=LIMITS)
        assert found.reason is not None, f"passed as {form}"
    assert judge(GOOD, CALLS, tier=tier, limits=LIMITS).reason is None, "the next job is unharmed"


STREAM_HACKS: list[tuple[str, str]] = [
    ("both answers, told apart by a file", "import os\np = '/tmp/n'\nn = os.path.exists(p)\ntry: open(p, 'w').close()\nexcept OSError: pass\nprint(10 if n else 5) if n else print(5)"),
    ("both answers, told apart by time", "import time\nprint(5 if int(time.time() * 1000) % 2 else 5)"),
    ("the answer on stderr", "import sys\nprint(int(input()) ** 2 + 1, file=sys.stderr)"),
    ("the answer in other digits", "print(str(int(input()) ** 2 + 1).translate({48 + i: 0x660 + i for i in range(10)}))"),
    ("the answer between escape codes", "print('\\x1b[2J' + str(int(input()) ** 2 + 1) + '\\x1b[0m')"),
    ("the answer behind backspaces", "print('7\\b' + str(int(input()) ** 2 + 1))"),
    ("the answer behind a carriage return", "print('7\\r' + str(int(input()) ** 2 + 1))"),
    ("a zero byte behind the answer", "print(str(int(input()) ** 2 + 1) + '\\x00')"),
    ("leading zeros", "print('0' + str(int(input()) ** 2 + 1))"),
    ("a plus sign", "print('+' + str(int(input()) ** 2 + 1))"),
    ("exit status one", "print(int(input()) ** 2 + 1, flush=True)\nraise SystemExit(1)"),
    ("killed by itself", "import os, signal\nprint(int(input()) ** 2 + 1, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\nos.abort()"),
]  # fmt: skip


@pytest.mark.parametrize("program", [pytest.param(p, id=n) for n, p in STREAM_HACKS])
def test_no_program_passes_by_a_trick(program: str, tier: Tier) -> None:
    found = judge(program, STREAMS, tier=tier, limits=Limits(cpu_s=1, wall_s=3.0))
    assert found.reason is not None


INSIDE_HACKS: list[tuple[str, str]] = [
    ("assert errors swallowed by a hook", "import sys\nsys.excepthook = lambda *a: None\ndef f(g): return 0"),
    ("equality of int patched by ctypes", "import ctypes\ndef f(g):\n    try: ctypes.memmove(id(0) + 24, id(3) + 24, 4)\n    except Exception: pass\n    return 0"),
    ("the caller's frame runs on", "import sys\ndef f(g):\n    fr = sys._getframe(1)\n    fr.f_trace_lines = True\n    fr.f_globals['f'] = lambda g: 3\n    return 0"),
    ("the caller's locals", "import sys\ndef f(g):\n    fr = sys._getframe()\n    while fr:\n        fr.f_globals['_plain_equal_'] = lambda *a: True\n        fr = fr.f_back\n    return 0"),
    ("forged word of success", "import os\ndef f(g):\n    for fd in range(10):\n        try: os.write(fd, b'{\"held\": true}\\nyes\\n')\n        except OSError: pass\n    os._exit(0)"),
    ("hash and equality of a str", "class S(str):\n    def __eq__(s, o): return True\n    __hash__ = str.__hash__\ndef f(g): return S('3')"),
    ("a proxy of the question", "class P:\n    def __getattribute__(s, n): return lambda *a: True\n    def __eq__(s, o): return True\ndef f(g): return P()"),
    ("exit from a thread", "import threading, os\ndef f(g):\n    threading.Thread(target=os._exit, args=(0,)).start()\n    while True: pass"),
]  # fmt: skip


@pytest.mark.parametrize("program", [pytest.param(p, id=n) for n, p in INSIDE_HACKS])
def test_tests_that_hand_over_functions_hold(program: str, tier: Tier) -> None:
    found = judge(program, read_gold(INSIDE), tier=tier, limits=LIMITS)
    assert found.reason is not None


def test_a_stream_that_is_right_in_other_white_space_passes(tier: Tier) -> None:
    gold = read_gold({"test_cases": [{"input": "2\n3\n", "output": "5\n10\n"}]})
    program = "for _ in range(2): print(int(input()) ** 2 + 1, end=' \\n')\nprint()"
    assert judge(program, gold, tier=tier, limits=LIMITS).reason is None
