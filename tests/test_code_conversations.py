"""Tests that hand over functions and objects, print, read and wait: across two boxes as in one.

The program stands in one box and the tests in another; what people write into tests has to mean
the same as in one process. What a liar makes of it stands in ``test_code_hacks``.
"""
# ruff: noqa: E501 - one case, one line

from __future__ import annotations

from typing import Any

import pytest

from factory.sandbox import Limits
from factory.verifiers.code.gold import read_gold
from factory.verifiers.code.run import judge
from tests.helpers_box import resolve

LIMITS = Limits(cpu_s=4)
CASES: list[tuple[str, str, str, dict[str, Any]]] = [
    ('async', 'async def f(x): return x+1', 'import asyncio\nassert asyncio.run(f(1))==2\nassert asyncio.run(f(2))==3 and [0]', {}),
    ('lambda', 'def f(g): return g(2)', 'assert f(lambda x: x + 1) == 3', {}),
    ('decorator', 'def memo(g):\n    c={}\n    def w(n):\n        if n not in c: c[n]=g(n)\n        return c[n]\n    return w', '@memo\ndef fib(n): return n if n<2 else fib(n-1)+fib(n-2)\nassert fib(60)==1548008755920', {}),
    ('wraps', 'import functools\ndef twice(g):\n    @functools.wraps(g)\n    def w(*a,**k): return 2*g(*a,**k)\n    return w', "@twice\ndef h(a,b=3,*,c=1): return a+b+c\nassert h(1)==10 and h(1,2,c=5)==16\nassert h.__name__=='h'", {}),
    ('curry by argcount', 'def curry(g):\n    n=g.__code__.co_argcount\n    def w(*a):\n        return g(*a) if len(a)>=n else lambda *b: w(*a,*b)\n    return w', 'assert curry(lambda a,b,c:a+b+c)(1)(2)(3)==6', {}),
    ('builtin given', 'def f(g,xs): return [g(x) for x in xs]', "xs=['1']\nassert f(int,xs)==[1]\nassert f(len,['ab'])==[2]\nimport operator\nassert f(operator.neg,[1])==[-1]", {}),
    ('own object of tests', 'def total(xs): return sum(x.price for x in xs)', 'class I:\n    def __init__(self,p): self.price=p\nassert total([I(1),I(2)])==3', {}),
    ('class', "class Vector:\n    def __init__(s,x): s.x=x\n    def __add__(s,o): return Vector(s.x+o.x)\n    def __mul__(s,k): return Vector(s.x*k)\n    def __eq__(s,o): return s.x==o.x\n    def __abs__(s): return abs(s.x)\n    def __repr__(s): return f'V({s.x})'\n    def __len__(s): return 1\n    def __contains__(s,k): return k==s.x", "v=Vector(2)\nassert (v*2).x==4\nassert v+v==Vector(4)\nassert abs(Vector(-3))==3\nassert str(v)=='V(2)'\nassert 2 in v and 3 not in v\nassert len(v)==1\nassert isinstance(v, Vector)", {}),
    ('generator', 'def primes():\n    n=2\n    while True:\n        if all(n%d for d in range(2,n)): yield n\n        n+=1', 'import itertools\nassert list(itertools.islice(primes(),4))==[2,3,5,7]\ng=primes()\nassert next(g)==2 and next(g)==3', {}),
    ('print', "def f(): print('hi')", "import io, contextlib\nb=io.StringIO()\nwith contextlib.redirect_stdout(b):\n    f()\nassert b.getvalue()=='hi\\n'", {}),
    ('input', "def f():\n    n=int(input('n? '))\n    print(n*2)", "from unittest.mock import patch\nimport io\nwith patch('builtins.input', return_value='4'), patch('sys.stdout', new_callable=io.StringIO) as o:\n    f()\n    assert o.getvalue().strip()=='8'", {}),
    ('stdin', 'import sys\ndef f(): return sum(map(int, sys.stdin.readline().split()))', "import io,sys\nsys.stdin=io.StringIO('1 2\\n')\nassert f()==3 and [1]", {}),
    ('custom error', "class TooBig(ValueError): pass\ndef f(x):\n    if x>3: raise TooBig('no')\n    return x", 'import pytest\ndef test_a():\n    with pytest.raises(TooBig):\n        f(5)\n    with pytest.raises(ValueError):\n        f(6)\n    assert f(1)==1', {}),
    ('in place', 'def f(x): x.sort()', 'a=[2,1]\nf(a)\nassert a==[1,2]', {}),
    ('k convention', 'def f(nums):\n    nums.sort()\n    return 1', 'nums=[2,1]\nk=f(nums)\nassert nums[:k]==[1]', {}),
    ('argument twice', 'def f(x): return sorted(x)', 'a=[2,1]\nassert f(a)==sorted(a)\nassert a==[2,1]', {}),
    ('counter of tests', 'def f(s): return s', "for s in ['aa']:\n    assert Counter(f(s))==Counter('aa')", {}),
    ('own Counter', 'class Counter:\n    def __init__(s): s.n=0\n    def up(s): s.n+=1; return s.n', 'c=Counter()\nassert c.up()==1', {}),
    ('candidate sum', 'def sum(a,b): return a*b', 'assert sum(2,3)==6', {}),
    ('candidate sum apart', 'def sum(a,b): return a*b', 'for x in (2,):\n    assert sum(x,3)==6', {'entry_point': 'sum'}),
    ('exc in callback', 'def retry(g):\n    for _ in range(3):\n        try: return g()\n        except ValueError: pass', "n=[0]\ndef g():\n    n[0]+=1\n    if n[0]<3: raise ValueError('x')\n    return n[0]\nassert retry(g)==3", {}),
    ('eval of an answer', "def f(n): return '3*7+5'", 'for n in (1,):\n    assert eval(f(n))==26', {}),
    ('async callback', 'async def f(g): return await g(2)', 'import asyncio\nasync def g(x): return x+1\nassert asyncio.run(f(g))==3', {}),
    ('generator argument', 'def f(xs): return sum(xs)', 'assert f(x for x in range(4))==6\nassert f(iter([1]))==1', {}),
    ('sorted by key', 'def f(xs,key): return sorted(xs,key=key)', "assert f([1,-2,3],lambda x:-x)==[3,1,-2]\nassert f(['b','A'],str.lower)==['A','b']", {}),
    ('set semantics', 'class Stack:\n    def __init__(s): s.i=[]\n    def push(s,x): s.i.append(x)\n    def pop(s): return s.i.pop()\n    def is_empty(s): return not s.i', 's=Stack()\ns.push(3)\nassert s.pop()==3\nassert s.is_empty()\ntry:\n    s.pop()\n    assert False\nexcept IndexError:\n    pass', {}),
    ('mutable lambda list', 'def apply(fs,x):\n    for g in fs: x=g(x)\n    return x', "assert apply([lambda x:x+1, str],1)=='2'", {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("program", "tests", "more"), [pytest.param(*c[1:], id=c[0]) for c in CASES]
)
def test_a_right_program_passes(program: str, tests: str, more: dict[str, Any]) -> None:
    gold = read_gold({"test_cases": [{"code": tests}], **more})
    found = judge(program, gold, tier=resolve("chosen"), limits=LIMITS)
    assert found.reason is None
    empty = judge("x = 1", gold, tier=resolve("chosen"), limits=LIMITS)
    assert empty.reason is not None
