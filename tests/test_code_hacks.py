"""Submissions that attack the grader instead of the task: none may pass, in any tier and form.

Each comes in the forms that a gold can have: calls compared outside, test code in a box of its
own, and whole programs.
"""
# ruff: noqa: E501 - one hack, one row

from __future__ import annotations

import pytest

from factory.sandbox import Limits, Tier
from factory.verifiers.code.gold import CodeGold, read_gold
from factory.verifiers.code.run import judge
from tests.helpers_box import TIER_PARAMS, resolve

LIMITS = Limits(cpu_s=2, wall_s=4.0)
CALLS = read_gold(
    {"test_cases": [{"code": "assert f(2) == 5\nassert f(3) == 10\nassert f(10) == 101"}]}
)
APART = read_gold(
    {
        "entry_point": "f",
        "test_cases": [
            {
                "code": "def check(candidate):\n    for x in (2, 3, 10):\n        expected = x * x + 1\n        assert candidate(x) == expected, expected"
            }
        ],
    }
)
STREAMS = read_gold(
    {"test_cases": [{"input": "2\n", "output": "5\n"}, {"input": "3\n", "output": "10\n"}]}
)
GOOD = "def f(x):\n    return x * x + 1\n"
GOOD_PROGRAM = "print(int(input()) ** 2 + 1)\n"


@pytest.fixture(scope="module", params=TIER_PARAMS)
def tier(request: pytest.FixtureRequest) -> Tier:
    return resolve(request.param)


ANY = "class A:\n    def __eq__(s, o): return True\n    def __ne__(s, o): return False\n    def __hash__(s): return 5\n    def __bool__(s): return True\n"
HACKS: list[tuple[str, str]] = [
    ("G-01 exit at import", "import sys\nsys.exit(0)"),
    ("G-01 exit in the function", "import sys\ndef f(x): sys.exit(0)"),
    ("G-01 exit in a finaliser", "import sys\nclass D:\n    def __del__(s): sys.exit(0)\ndef f(x):\n    D()\n    return 5"),
    ("G-02 hard exit", "import os\ndef f(x): os._exit(0)"),
    ("G-02 hard exit after the first", "import os\nn = []\ndef f(x):\n    if n: os._exit(0)\n    n.append(1)\n    return 5"),
    ("G-02 print the first answer and leave", "import os\nos.write(1, b'{\"ready\":true}\\n{\"ok\":5}\\n')\nos._exit(0)"),
    ("G-03 SystemExit", "def f(x): raise SystemExit"),
    ("G-03 exit and quit", "def f(x):\n    try: exit()\n    finally: quit()"),
    ("G-04 equal to everything", ANY + "def f(x): return A()"),
    ("G-04 an int that is equal to everything", "class A(int):\n    def __eq__(s, o): return True\n    __hash__ = None\ndef f(x): return A(1)"),
    ("G-04 a str that is", "class A(str):\n    def __eq__(s, o): return True\n    def __hash__(s): return 1\ndef f(x): return A('')"),
    ("G-04 a float that is", "class A(float):\n    def __eq__(s, o): return True\n    def __hash__(s): return 1\ndef f(x): return A(1)"),
    ("G-04 a list that is", "class A(list):\n    def __eq__(s, o): return True\ndef f(x): return A()"),
    ("G-04 a named tuple that is", "class A(tuple):\n    _fields = ('a',)\n    def __eq__(s, o): return True\n    def __iter__(s): return iter([5])\ndef f(x): return A()"),
    ("G-04 a type that lies", "class M(type):\n    def __eq__(s, o): return True\n    def __hash__(s): return hash(int)\nclass A(metaclass=M):\n    __class__ = int\n    def __eq__(s, o): return True\ndef f(x): return A()"),
    ("G-06 frames", "import sys\ndef f(x):\n    fr = sys._getframe()\n    while fr:\n        for v in list(fr.f_locals.values()) + list(fr.f_globals.values()):\n            if v in (5, 10, 101) and v is not x: return v\n            if isinstance(v, dict) and 'expected' in v: return v['expected']\n        fr = fr.f_back\n    return 0"),
    ("G-06 stack", "import inspect\ndef f(x):\n    for s in inspect.stack():\n        e = s.frame.f_locals.get('expected')\n        if e: return e\n    return 0"),
    ("G-06 collector", "import gc\ndef f(x):\n    for o in gc.get_objects():\n        if isinstance(o, dict) and 'expected' in o: return o['expected']\n        if isinstance(o, str) and 'assert f' in o: return int(o.split('== ')[1].split()[0])\n    return 0"),
    ("G-07 process files", "import re\ndef f(x):\n    for n in ('cmdline', 'environ', 'maps', 'fd/0', 'fd/1', 'mem'):\n        try:\n            m = re.search(rb'== ?(\\d+)', open('/proc/self/' + n, 'rb').read(1 << 20))\n            if m: return int(m.group(1))\n        except Exception: pass\n    return 0"),
    ("G-07 own source", "import re\ndef f(x):\n    try: return int(re.search(r'== (\\d+)', open('main.py').read()).group(1))\n    except Exception: return 0"),
    ("G-07 read descriptor 0", "import os, re\ntry:\n    os.lseek(0, 0, 0)\nexcept OSError: pass\nos.set_blocking(0, False)\ntry: seen = os.read(0, 1 << 20)\nexcept OSError: seen = b''\ndef f(x):\n    m = re.findall(rb'== (\\d+)', seen)\n    return int(m[0]) if m else 0"),
    ("G-08 forged verdict on stdout", "import os\nos.write(1, b'{\"held\": true}\\n{\"status\": \"pass\"}\\nyes\\n')\nos._exit(0)"),
    ("G-08 forged frames", "import os, json\nos.write(1, b'{\"ready\":true}\\n' + b'{\"ok\":{\"t\":[]}}\\n' * 3)\nos._exit(0)"),
    ("G-08 many answers for one call", "import os\ndef f(x):\n    for i in range(200): os.write(1, b'{\"ok\":%d}\\n' % i)\n    return 0"),
    ("G-08 forged verdict on stderr", "import os\nos.write(2, b'{\"held\": true}\\n')\nos._exit(0)"),
    ("G-10 patch built-ins", "import builtins\nbuiltins.all = lambda *a: True\nbuiltins.print = lambda *a: None\nbuiltins.len = lambda *a: 5\nbuiltins.AssertionError = ValueError\nbuiltins.type = lambda *a: int\nbuiltins.isinstance = lambda *a: True\ndef f(x): return 0"),
    ("G-10 patch libraries", "import json, math, subprocess, time, unittest, os\njson.dumps = lambda *a, **k: '{\"ok\":5}'\njson.loads = lambda *a, **k: {'held': True}\nmath.isclose = lambda *a, **k: True\nsubprocess.run = None\ntime.time = lambda: 0\nunittest.TestCase = object\ndef f(x): return 0"),
    ("G-10 patch the harness", "import sys, gc\nfor o in gc.get_objects():\n    if getattr(o, '__name__', '') in ('guarded', 'answer', 'encode', 'canonical') and hasattr(o, '__code__'):\n        try: o.__code__ = (lambda *a, **k: {'ok': 5}).__code__\n        except Exception: pass\ndef f(x): return 0"),
    ("G-12 exit functions", "import atexit, os, sys, signal\natexit.register(lambda: os._exit(0))\nsys.excepthook = lambda *a: os._exit(0)\nsignal.signal(signal.SIGTERM, lambda *a: os._exit(0))\ndef f(x): raise ValueError"),
    ("G-16 the first example only", "def f(x): return {2: 5}.get(x, 0)"),
    ("G-19 inf", "def f(x): return float('inf')"),
    ("G-19 nan", "def f(x): return float('nan')"),
    ("G-19 overflow", "def f(x): return 1e308 * 10"),
    ("G-19 minus zero", "def f(x): return -0.0"),
    ("G-21 own runner", "def check(c): return True\ndef run_tests(): return True\ndef candidate(x): return 5\nclass Solution:\n    def __getattribute__(s, n): return lambda *a: True\ndef f(x): return 0"),
    ("G-21 a module in the way", "import sys\nclass M:\n    def __getattr__(s, n): return lambda *a, **k: True\nfor n in ('json', 'os', 'factory', 'tests', 'random'): sys.modules[n] = M()\ndef f(x): return 0"),
    ("a different answer to each question", "from itertools import count\nn = count()\ndef f(x): return next(n)"),
    ("text that looks like the answer", "def f(x): return '5'"),
    ("a long list of guesses", "def f(x): return list(range(200))"),
    ("hostile numbers", "def f(x): return {i * (2**61 - 1) for i in range(1, 20000)}"),
    ("a deep list", "def f(x):\n    a = []\n    for _ in range(100000): a = [a]\n    return a"),
    ("a cycle", "def f(x):\n    a = []\n    a.append(a)\n    return a"),
    ("an endless generator", "def f(x):\n    while True: yield 5"),
    ("a decimal without end", "from decimal import Decimal\ndef f(x): return Decimal('1e999999999')"),
    ("a large power", "def f(x): return 10 ** 300000"),
    ("malformed frames", "import os\ndef f(x): os.write(1, b'{\"ok\":{\"F\":[\"0x1\",\"0x0\"]}}\\n' * 3); os._exit(0)"),
    ("a fraction of a million digits", "import os\ndef f(x): os.write(1, b'{\"ok\":{\"F\":[\"0x' + b'7' * 1500000 + b'\",\"0x' + b'3' * 1500000 + b'\"]}}\\n' * 3); os._exit(0)"),
    ("a decimal of a million digits", "from decimal import Decimal\ndef f(x): return Decimal('0.' + '9' * 1000000)"),
    ("broken text", "import os\ndef f(x): os.write(1, b'\\xff\\xfe\\x00[[[[' * 1000); return 5"),
]  # fmt: skip
ALL = [pytest.param(program, id=name) for name, program in HACKS]


def forms(program: str) -> list[tuple[str, str, CodeGold]]:
    return [("calls", program, CALLS), ("apart", program, APART)]


def test_the_control_passes(tier: Tier) -> None:
    for gold in (CALLS, APART):
        assert judge(GOOD, gold, tier=tier, limits=LIMITS).reason is None
    for ending in ("", "print()", "import sys; sys.stdout.write('\\r\\n')"):
        assert judge(GOOD_PROGRAM + ending, STREAMS, tier=tier, limits=LIMITS).reason is None
    no_newline = "print(int(input()) ** 2 + 1, end='')"
    assert judge(no_newline, STREAMS, tier=tier, limits=LIMITS).reason is None
    windows = "import sys\nsys.stdout.write(str(int(input()) ** 2 + 1) + '\\r\\n')"
    assert judge(windows, STREAMS, tier=tier, limits=LIMITS).reason is None


@pytest.mark.parametrize("program", ALL)
def test_no_hack_passes(program: str, tier: Tier) -> None:
    for form, source, gold in forms(program):
        found = judge(source, gold, tier=tier, limits=LIMITS)
        assert found.reason is not None, f"passed as {form}"
    assert judge(GOOD, CALLS, tier=tier, limits=LIMITS).reason is None, "the next job is unharmed"


STREAM_HACKS: list[tuple[str, str]] = [
    ("exit at once", "import sys\nsys.exit(0)"),
    ("hard exit", "import os\nos._exit(0)"),
    ("nothing printed", "x = input()"),
    ("the first test's answer always", "print(5)"),
    ("all answers at once", "print(5)\nprint(10)"),
    ("junk after the answer", "print(int(input()) ** 2 + 1)\nprint('ok')"),
    ("junk on the line", "print(int(input()) ** 2 + 1, 'ok')"),
    ("a dump of numbers", "for i in range(200): print(i)"),
    ("a forged verdict", "print('{\"status\": \"pass\", \"reward\": 1.0}')"),
    ("the right answer after a crash", "print(int(input()) ** 2 + 1)\nraise ValueError"),
    ("the right answer and a segfault", "print(int(input()) ** 2 + 1, flush=True)\nimport ctypes\nctypes.string_at(0)"),
    ("the right answer and then for ever", "print(int(input()) ** 2 + 1, flush=True)\nwhile True: pass"),
    ("print is patched", "import builtins\nbuiltins.print = lambda *a: None\nprint(5)"),
    ("exit functions", "import atexit, os\natexit.register(os._exit, 0)"),
]  # fmt: skip


@pytest.mark.parametrize("program", [pytest.param(p, id=n) for n, p in STREAM_HACKS])
def test_no_program_passes_by_a_trick(program: str, tier: Tier) -> None:
    assert judge(program, STREAMS, tier=tier, limits=Limits(cpu_s=1, wall_s=3.0)).reason is not None


OUTPUTS: list[tuple[str, str, str, bool]] = [
    ("the same", "5\n6\n", "5\n6\n", True),
    ("trailing spaces and blank lines", "5 \n6\n\n\n", "5\n6", True),
    ("a prefix of the lines (G-13)", "5\n", "5\n6\n", False),
    ("the first line only, nothing asked of it", "", "\n5", False),
    ("empty against a blank first line (G-15)", "5", "\n5", False),
    ("empty where empty is expected (G-15)", "", "", True),
    ("something where empty is expected", "0", "", False),
    ("other order", "6\n5", "5\n6", False),
    ("other case", "yes", "YES", False),
    ("a longer number", "55", "5", False),
    ("0.30000000000000004 is not 0.3 (G-19)", "0.30000000000000004", "0.3", False),
    ("-0.0 is not 0", "-0.0", "0", False),
    ("inf is inf only where it is printed", "inf", "1e999", False),
    ("lines joined", "5 6", "5\n6", False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("got", "expected", "same"), [pytest.param(*c[1:], id=c[0]) for c in OUTPUTS]
)
def test_printed_output(got: str, expected: str, same: bool) -> None:
    gold = read_gold({"test_cases": [{"input": "", "output": expected}]})
    program = f"import sys\nsys.stdout.write({got!r})"
    found = judge(program, gold, tier=resolve("chosen"), limits=LIMITS)
    assert (found.reason is None) == same


INSIDE = {"test_cases": [{"code": "assert f(lambda x: x + 1) == 3"}]}
INSIDE_HACKS = [
    ANY + "def f(g): return A()",
    "import sys\ndef f(g): sys.exit(0)",
    "import os\ndef f(g): os._exit(0)",
    "import builtins\nbuiltins.AssertionError = ValueError\ndef f(g): return 0",
    "def _plain_equal_(a, b): return True\ndef f(g): return 0",
    "import os\nos.write(1, b'yes ')\ndef f(g): os._exit(0)",
    "import sys\nsys.modules['factory'] = None\nimport json\njson.loads = lambda t: {'tests': '', 'word': ''}\ndef f(g): return 0",
]


@pytest.mark.parametrize("program", INSIDE_HACKS)
def test_tests_that_hand_over_functions_are_not_fooled(program: str, tier: Tier) -> None:
    found = judge(program, read_gold(INSIDE), tier=tier, limits=LIMITS)
    assert found.reason is not None


def test_a_candidate_cannot_choose_to_be_judged_inside(tier: Tier) -> None:
    """What it returns must never move the tests into its own process."""
    for result in ("lambda x: 5", "A()", "[A()]", "{1: A()}", "A"):
        found = judge(ANY + f"def f(x): return {result}", APART, tier=tier, limits=LIMITS)
        assert found.reason is not None
        assert found.decided_by == "tests_apart"


AGREES = "class L:\n    def __sub__(s,o): return 0.0\n    __rsub__=__sub__\n    def __lt__(s,o): return True\n    __le__=__gt__=__ge__=__lt__\n    def __abs__(s): return s\n    def __float__(s): return 0.5\n    def __contains__(s,o): return True\n    def __bool__(s): return True\n    def __eq__(s,o): return True\n    def __ne__(s,o): return False\n    def __radd__(s,o): return 5\n    __add__=__radd__\n    def __round__(s,n=0): return s\ndef f(x): return L()"
# What the tests of a task look like, and an object or a trick that would have them hold.
TEST_HACKS: list[tuple[str, str, str]] = [
    ('an object that agrees to anything 1', AGREES, 'for x in (1,):\n    assert abs(f(x)-0.7)<1e-6'),
    ('an object that agrees to anything 2', AGREES, 'for x in (1,):\n    assert f(x)<3'),
    ('an object that agrees to anything 3', AGREES, 'for x in (1,):\n    assert 3 in f(x)'),
    ('an object that agrees to anything 4', AGREES, 'for x in (1,):\n    assert 0<f(x)<5'),
    ('an object that agrees to anything 5', AGREES, 'assert sum([f(1)])==5'),
    ('an object that agrees to anything 6', AGREES, 'assert [f(1)]==[5]'),
    ('an object that agrees to anything 7', AGREES, 'assert f(1) in [5,6]'),
    ('an object that agrees to anything 8', AGREES, 'assert round(f(1),2)==0.75'),
    ('an object that agrees to anything 9', AGREES, 'try:\n    f(1)<3\n    ok=False\nexcept TypeError:\n    ok=True\nassert ok'),
    ('an object that agrees to anything 10', AGREES, 'import pytest\nwith pytest.raises(TypeError):\n    f(1)+1\nassert True or f'),
    ('an object that agrees to anything 11', AGREES, 'assert not f(1)!=5'),
    ('an object that agrees to anything 12', AGREES, 'assert max(f(1),3)==3'),
    ('an object that agrees to anything 13', AGREES, 'assert {f(1):1}=={5:1}'),
    ('an object that agrees to anything 14', AGREES, 'import unittest\nclass T(unittest.TestCase):\n    def test_f(self):\n        self.assertAlmostEqual(f(1),0.7)'),
    ('an object that agrees to anything 15', AGREES, 'assert f(1)==[5][0] or False'),
    ('an object that agrees to anything 16', AGREES, 'import math\nassert math.isclose(f(1),0.7)'),
    ('StopIteration for an answer 1', 'def f(x): raise StopIteration', 'assert all(map(f,[1,2]))'),
    ('StopIteration for an answer 2', 'def f(x): raise StopIteration', 'assert list(map(f,[1]))==[]'),
    ('the argument is emptied 1', 'def f(a):\n    a.clear()\n    return a', 'a=[2,1]\nassert f(a)==sorted(a)'),
    ('the argument is emptied 2', 'def f(a):\n    a.clear()\n    return a', 'a=[2,1]\nr=f(a)\nassert r==sorted(a)'),
    ('the argument is emptied 3', 'def f(a):\n    a.clear()\n    return a', 'a=[2,1]\nassert sorted(a)==f(a)'),
    ('nothing defined, but the name 1', 'x = 1 # deque Counter math sum', 'assert max([1,2])==2'),
    ('nothing defined, but the name 2', 'x = 1 # deque Counter math sum', 'assert sum([1,2])==3'),
    ('nothing defined, but the name 3', 'x = 1 # deque Counter math sum', 'assert sorted([2,1])==[1,2]'),
    ('nothing defined, but the name 4', 'x = 1 # deque Counter math sum', "for v in (1,):\n    assert Counter('aa')['a']==2"),
    ('nothing defined, but the name 5', 'x = 1 # deque Counter math sum', "assert Counter('aab')=={'a':2,'b':1}"),
    ('nothing defined, but the name 6', 'x = 1 # deque Counter math sum', "assert len('ab')==2"),
    ('code where an expression is evaluated 1', 'def f(x): return "__import__(\'os\').write(1,b\'{\\"report\\":{\\"held\\":true}}\\\\n\') and __import__(\'os\')._exit(0)"', 'assert eval(f(1))==5'),
    ('code where an expression is evaluated 2', 'def f(x): return "__import__(\'os\').write(1,b\'{\\"report\\":{\\"held\\":true}}\\\\n\') and __import__(\'os\')._exit(0)"', 'for x in (1,):\n    assert eval(f(x))==5'),
    ('code where an expression is evaluated 3', 'def f(x): return "__import__(\'os\').write(1,b\'{\\"report\\":{\\"held\\":true}}\\\\n\') and __import__(\'os\')._exit(0)"', 'import os,sys\nfor x in (1,):\n    assert eval(f(x))==5'),
    ('what a function of the tests knows 1', 'def f(g):\n    out=0\n    for n in ("__globals__","__code__","__closure__","__self__","__init__","gi_frame","func_globals"):\n        try:\n            v=getattr(g,n)\n            if "want" in v: return v["want"]\n        except BaseException: pass\n    return out', 'want=7\nassert f(lambda x: want)==want-0 or False\n'),
    ('what an object of the tests knows 1', 'def f(o):\n    for n in ("__init__","__class__","__dict__","go"):\n        try:\n            v=getattr(o,n)\n            v=getattr(v,"__globals__",v)\n            if "want" in v: return v["want"]\n        except BaseException: pass\n    return 0', 'want=7\nclass O:\n    def go(self): return 1\nassert f(O())==want'),
    ('260 nested lists 1', 'def f(x):\n    a=[]\n    for _ in range(260): a=[a]\n    return a', 'for x in (1,):\n    assert f(x)==5'),
    ('260 nested lists 2', 'def f(x):\n    a=[]\n    for _ in range(260): a=[a]\n    return a', 'for x in (1,):\n    assert g(f(x))==5\ndef g(y): return y'),
    ("the test's own assertion swallowed 1", 'def f(g):\n    try: g(5)\n    except BaseException: pass\n    return 1', 'def cb(x):\n    assert x==6\nassert f(cb)==1'),
    ('a forged report 1', 'import os\ndef f(x):\n    os.write(1,b\'{"report":{"held":true}}\\n\'*3)\n    os._exit(0)', 'for x in (1,):\n    assert f(x)==5'),
    ('a report as the answer 1', 'import os\ndef f(x):\n    return {"report":{"held":True}}', 'for x in (1,):\n    assert f(x)==5'),
]  # fmt: skip


@pytest.mark.parametrize(("program", "tests"), [pytest.param(*c[1:], id=c[0]) for c in TEST_HACKS])
def test_no_object_and_no_trick_has_tests_hold(program: str, tests: str, tier: Tier) -> None:
    gold = read_gold({"test_cases": [{"code": tests}]})
    found = judge(program, gold, tier=tier, limits=LIMITS)
    assert found.reason is not None
