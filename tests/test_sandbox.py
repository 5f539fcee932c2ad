"""The attack suite of the sandbox, in every tier that this machine can run.

After each attack the invariants are checked: no process survives, canaries are untouched and
unread, the next job runs as usual, nothing is left behind, the harness does not grow.
"""
# ruff: noqa: E501 - one attack, one row

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from factory import sandbox
from factory.errors import Refused
from factory.processes import below, started_at
from factory.sandbox import TIERS, Box, BoxError, Limits, borrow, retrying, tiers
from factory.verifiers.code.gold import read_gold
from factory.verifiers.code.run import judge
from tests.helpers_box import TIER_PARAMS, Guarded, cpu_share, resolve

ROOT = Path(__file__).parents[1]


# Every attack again behind the walls that plain programs get: an attacker can look plain.
@pytest.fixture(
    scope="module", params=[*TIER_PARAMS, pytest.param("plain", marks=pytest.mark.slow)]
)
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    plain = True if request.param == "plain" else None
    tier = resolve("bwrap" if plain else request.param)
    held = Guarded(tier, tmp_path_factory.mktemp("box"), plain=plain)
    yield held
    held.close()


TRY = """
def attempt(work):
    try:
        return work()
    except BaseException as e:
        print("denied", type(e).__name__)
        return None
"""


def holding(body: str) -> str:
    """Each of six children holds what ``body`` returns, 200 MB, and says so.

    The parent tells whether too many of these live on at once.
    """
    return f"""{TRY}
import mmap,os,time
def held():
{textwrap.indent(body, "    ")}
pids=[]
r,w=os.pipe()
def work():
    for _ in range(6):
        p=os.fork()
        if p==0:
            try:
                kept=held()
                os.write(w,b'%d ' % os.getpid())
            except BaseException: os._exit(1)
            time.sleep(20)
            os._exit(0)
        pids.append(p)
attempt(work)
time.sleep(1.5)
os.write(w,b'0 ')
told=os.read(r,4096).split()
alive=sum(b'%d' % p in told and os.waitpid(p,os.WNOHANG)[0]==0 for p in pids)
print('ESCAPED' if alive*200>1.2*512 else alive)
"""


PAGES = "m=mmap.mmap(-1,200<<20)\nfor a in range(0,200<<20,4096): m[a]=1\nreturn m"
PAGES_LEFT = """
m=[]
for _ in range(3):
    m.append(mmap.mmap(-1,64<<20))
    if os.fork()==0:
        for a in range(0,64<<20,4096): m[-1][a]=1
        os._exit(0)
    os.wait()
return m
"""
EXITED = ("exited",)
ATTACKS: list[tuple[str, str, tuple[str, ...]]] = [
    ("S-01 four threads", "import threading\nout=[]\nts=[threading.Thread(target=out.append,args=(i,)) for i in range(4)]\n[t.start() for t in ts];[t.join() for t in ts]\nassert len(out)==4\nimport json,heapq,re,decimal", EXITED),
    ("S-02 read passwords", TRY + "for p in ('/etc/passwd','/etc/shadow'):\n    if attempt(lambda: open(p).read()): print('ESCAPED')", EXITED),
    ("S-03 read the canary", TRY + "for n in ('secret.txt','expected.json'):\n    if attempt(lambda: open(T['folder']+'/'+n).read()): print('ESCAPED')", EXITED),
    ("S-03 walk to the canary", TRY + "import os\nif attempt(lambda: os.listdir(T['folder'])): print('ESCAPED')\nif attempt(lambda: os.chdir(T['folder']) or open('secret.txt').read()): print('ESCAPED')", EXITED),
    ("S-04 environment", TRY + "import os,ctypes\nif 'FACTORY_CANARY' in os.environ or 'canary-' in str(os.environ): print('ESCAPED')\ng=ctypes.CDLL(None).getenv\ng.restype=ctypes.c_char_p\nif g(b'FACTORY_CANARY'): print('ESCAPED')", EXITED),
    ("S-04 environments of others", TRY + "import os\nfor p in ('self','1',os.getppid(),T['harness'],T['pid']):\n    d=attempt(lambda: open(f'/proc/{p}/environ','rb').read())\n    print(d)\n    if d and b'FACTORY' in d: print('ESCAPED')", EXITED),
    ("S-07 TCP", TRY + "import socket\ns=attempt(lambda: socket.create_connection(('127.0.0.1',T['port']),timeout=1))\nif s: print('ESCAPED')", EXITED),
    ("S-07 raw connect", TRY + "import ctypes\nl=ctypes.CDLL(None)\nif l.socket(2,1,0)>=0: print('ESCAPED')\nif l.socket(10,1,0)>=0: print('ESCAPED')\nif l.socket(16,3,0)>=0: print('ESCAPED')", EXITED),
    ("S-08 UDP and DNS", TRY + "import socket\nif attempt(lambda: socket.socket(socket.AF_INET,socket.SOCK_DGRAM).sendto(b'x',('127.0.0.1',T['port']))): print('ESCAPED')\nif attempt(lambda: socket.gethostbyname('example.org')): print('ESCAPED')", EXITED),
    ("S-10 UNIX sockets", TRY + "import socket\nfor a in (T['unix'],T['abstract']):\n    if attempt(lambda: socket.socket(socket.AF_UNIX).connect(a) or True): print('ESCAPED')", EXITED),
    ("S-10 pairs of datagrams and packets", TRY + "import socket as s\nfor k in (s.SOCK_DGRAM,s.SOCK_SEQPACKET,s.SOCK_RAW,s.SOCK_DGRAM|s.SOCK_CLOEXEC|s.SOCK_NONBLOCK):\n    if attempt(lambda: s.socketpair(s.AF_UNIX,k)): print('ESCAPED pair')\n    if attempt(lambda: s.socketpair(s.AF_INET,k)): print('ESCAPED inet')", EXITED),
    ("S-10 messages and addresses", TRY + "import socket,ctypes,errno\nl=ctypes.CDLL(None,use_errno=True)\na,b=socket.socketpair()\na.send(b'x');assert b.recv(1)==b'x'\nif attempt(lambda: a.sendmsg([b'x'])): print('ESCAPED sendmsg')\nfor p in (T['unix'].encode(),T['abstract'].encode()):\n    w=b'\\x01\\x00'+p\n    if l.sendto(a.fileno(),b'x',1,0,w,len(w))!=-1 or ctypes.get_errno()!=errno.EPERM: print('ESCAPED sendto')\nif l.sendto(a.fileno(),b'x',1,0,ctypes.c_void_p(1<<40),16)!=-1 or ctypes.get_errno()!=errno.EPERM: print('ESCAPED high half')\nif l.sendmmsg(a.fileno(),None,0,0)!=-1 or ctypes.get_errno()!=errno.EPERM: print('ESCAPED sendmmsg')", EXITED),
    ("S-11 write outside", TRY + "import os,sys\nfor p in (T['folder']+'/new','/etc/x','/usr/lib/x','/x','/dev/x',os.path.dirname(os.__file__)+'/x.py',T['file']):\n    if attempt(lambda: open(p,'w').write('x')): print('ESCAPED',p)", EXITED),
    ("S-11 change what is there", TRY + "import os\nf=T['file']\nfor w in (lambda: os.chmod(f,0),lambda: os.chown(f,0,0),lambda: os.utime(f,(0,0)),lambda: os.truncate(f,0),lambda: os.unlink(f),lambda: os.rename(f,f+'2'),lambda: os.setxattr(f,'user.x',b'1'),lambda: os.rmdir(T['folder']),lambda: os.mkdir(T['folder']+'/d'),lambda: os.mkfifo(T['folder']+'/p')):\n    attempt(w)", EXITED),
    ("S-12 links", TRY + "import os\nfor d in ('/tmp',T['folder']):\n    attempt(lambda: os.symlink('/etc/passwd',d+'/l'))\n    if attempt(lambda: open(d+'/l').read()): print('ESCAPED')\n    attempt(lambda: os.link(T['file'],d+'/h'))\n    if attempt(lambda: open(d+'/h').read()): print('ESCAPED')", EXITED),
    ("S-14 kill the canary and the harness", TRY + "import os,signal\nfor p in (T['pid'],T['harness'],os.getppid()):\n    if p and p!=os.getpid(): attempt(lambda: os.kill(p,signal.SIGKILL))", EXITED),
    ("S-14 stop by other doors", TRY + "import os,signal,ctypes,fcntl,resource\nl=ctypes.CDLL(None,use_errno=True)\nfor p in (T['pid'],T['harness']):\n    if p!=os.getpid():\n        if l.ptrace(16,p,0,0)==0: print('ESCAPED ptrace')\n        attempt(lambda: resource.prlimit(p,resource.RLIMIT_CPU,(0,0)))\n        attempt(lambda: os.sched_setaffinity(p,{0}))\n        attempt(lambda: os.setpriority(os.PRIO_PROCESS,p,19))\n        attempt(lambda: signal.pidfd_send_signal(os.pidfd_open(p),9))\n        attempt(lambda: (fcntl.fcntl(1,fcntl.F_SETOWN,p),fcntl.fcntl(1,10,9)))\n        if attempt(lambda: open(f'/proc/{p}/mem','rb+')): print('ESCAPED mem')", EXITED),
    ("S-14 by a socket that another owns", TRY + "import os,socket,struct,fcntl\na,b=socket.socketpair()\nfor p in (T['pid'],T['harness'],os.getppid(),-os.getppid()):\n    for n in (0x8901,0x8902):\n        if attempt(lambda: fcntl.ioctl(a,n,struct.pack('i',p))) is not None: print('ESCAPED')\nattempt(lambda: fcntl.ioctl(a,0x5452,struct.pack('i',1)))\nb.send(b'x')", EXITED),
    ("S-16 fork bomb", "import os,time\nn=0\ntry:\n    for _ in range(400):\n        if os.fork()==0:\n            time.sleep(20); os._exit(0)\n        n+=1\nexcept OSError: pass\nprint('ESCAPED' if n>64 else n)", EXITED),
    ("S-16 thread bomb", "import threading,time\nn=0\ntry:\n    for _ in range(400):\n        threading.Thread(target=time.sleep,args=(2,),daemon=True).start(); n+=1\nexcept BaseException: pass\nimport os; os._exit(0)", EXITED),
    ("S-18 memory bomb", "x=[]\nwhile True: x.append(bytearray(64<<20))", ("memory_limit",)),
    ("S-18 memory bomb of many", holding("return bytearray(200<<20)"), ("memory_limit", "exited")),
    ("S-18 shared pages of many", holding(PAGES), ("memory_limit", "exited")),
    ("S-18 shared pages that a child leaves behind", holding(PAGES_LEFT), ("memory_limit", "exited")),
    ("S-18 memory files", TRY + "import os\nn=0\nfor _ in range(60):\n    f=attempt(lambda: os.memfd_create('x'))\n    if f is None: break\n    n+=attempt(lambda: os.write(f,bytes(15<<20))) or 0\nprint('ESCAPED' if n>600<<20 else n)", ("memory_limit", "exited")),
    ("S-18 written into what it reads", TRY + "import os\nfor f in (0,):\n    if attempt(lambda: os.write(f,b'x'*4096)): print('ESCAPED')\n    if attempt(lambda: os.ftruncate(f,1<<20) is None): print('ESCAPED')", EXITED),
    ("S-20 one huge file", TRY + "def w():\n    f=open('/tmp/big','wb')\n    n=0\n    while n<(1<<30): n+=f.write(b'x'*(1<<20)); f.flush()\n    print('ESCAPED')\nattempt(w)", ("exited", "output_limit")),
    ("S-21 many files", TRY + "import os\ndef w():\n    for i in range(200):\n        with open(f'/tmp/f{i}','wb') as f: f.write(b'x'*(8<<20))\n    print('ESCAPED')\nattempt(w)", EXITED),
    ("S-21 many names", TRY + "def w():\n    for i in range(100000): open(f'/tmp/n{i}','w').close()\n    print('ESCAPED')\nattempt(w)", EXITED),
    ("S-22 endless loop", "while True: pass", ("time_limit",)),
    ("S-23 sleep", "import time\ntime.sleep(1000)", ("time_limit",)),
    ("S-24 ignore signals", "import signal,time\nfor s in range(1,65):\n    try: signal.signal(s,signal.SIG_IGN)\n    except (OSError,ValueError): pass\ntime.sleep(1000)", ("time_limit",)),
    ("S-25 flood stdout", "import sys\nwhile True:\n    try: sys.stdout.write('x'*65536); sys.stdout.flush()\n    except OSError: pass", ("output_limit",)),
    ("S-25 flood stderr", "import os\nwhile True:\n    try: os.write(2,b'x'*65536)\n    except OSError: pass", ("output_limit",)),
    ("S-25 flood both", "import os\nwhile True:\n    try: os.write(2,b'x'*4096); os.write(1,b'x'*4096)\n    except OSError: pass", ("output_limit",)),
    ("S-27 daemon", TRY + "import os,time\ndef d():\n    if os.fork()==0:\n        os.setsid()\n        if os.fork()==0:\n            for f in range(3): os.close(f)\n            time.sleep(100)\n        os._exit(0)\nattempt(d)\nprint('out')", EXITED),
    ("S-28 grandchild holds stdout", TRY + "import os,time\ndef d():\n    if os.fork()==0:\n        time.sleep(30); os._exit(0)\nattempt(d)\nos._exit(0)", EXITED),
    ("S-30 descriptors", "import os\nfor fd in range(3,1024):\n    try: os.fstat(fd); print('ESCAPED',fd)\n    except OSError: pass", EXITED),
    ("S-31 type into the terminal", TRY + "import fcntl\nfor fd in (0,1,2):\n    if attempt(lambda: fcntl.ioctl(fd,0x5412,b'x')) is not None: print('ESCAPED')\nif attempt(lambda: open('/dev/tty')): print('ESCAPED')", EXITED),
    ("S-32 more power", TRY + "import os,ctypes\nl=ctypes.CDLL(None)\nfor f in (0x10000000,0x20000,0x20000000,0x40000000):\n    if l.unshare(f)==0: print('ESCAPED unshare')\nif l.mount(b'x',b'/tmp',b'tmpfs',0,None)==0: print('ESCAPED mount')\nif l.syscall(155,b'/',b'/')==0: print('ESCAPED pivot')\nif l.chroot(b'/')==0: print('ESCAPED chroot')\nif os.getuid()!=0 and attempt(lambda: os.setuid(0) or True): print('ESCAPED setuid')\nattempt(lambda: os.mknod('/tmp/disk',0o60666,os.makedev(8,0)))\nif attempt(lambda: open('/tmp/disk','rb').read(1)): print('ESCAPED mknod')", EXITED),
    ("S-32 a new namespace by clone", "import ctypes\nl=ctypes.CDLL(None,use_errno=True)\nfor f in (0x10000000,0x20000,0x20000000):\n    r=l.syscall(56,f|17,0,0,0,0)\n    if r==0:\n        import os; os._exit(0)\n    if r>0: print('ESCAPED')\nif l.syscall(435,0,0)==0: print('ESCAPED')", EXITED),
    ("S-34 memfd", TRY + "import os,sys\nm=attempt(lambda: os.memfd_create('x'))\nif m is not None: print('ESCAPED')\nd=attempt(lambda: open(sys.executable,'rb').read())\nif d and os.write(m,d) and attempt(os.fork)==0:\n    os.execve(m,['x','-S','-c','open(\"/etc/passwd\")'],{})", EXITED),
    ("clear the signal of its parent's death", TRY + "import ctypes\nl=ctypes.CDLL(None)\nif l.prctl(1,0,0,0,0)==0 or l.syscall(157,1,0,0,0,0)==0: print('ESCAPED')\nl.prctl(15,b'name',0,0,0)", EXITED),
    ("asyncio has its pair of streams", "import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    return 5\nassert asyncio.run(f())==5", EXITED),
    ("S-35 segfault", "import ctypes\nctypes.string_at(0)", EXITED),
    ("S-35 abort", "import os\nos.abort()", EXITED),
    ("S-35 recursion", "import sys\nsys.setrecursionlimit(10**7)\ndef f(n): return f(n+1)+1\nf(0)", ("exited", "memory_limit", "time_limit")),
    ("keys, clocks, rare calls", "import ctypes,os\nl=ctypes.CDLL(None)\nfor n in (250,248,249,321,298,323,425,246,175,304,303,227,29,64,68,240,450,460):\n    if l.syscall(n,0,0,0,0,0)>=0: print('ESCAPED',n)", EXITED),
    ("memory of the server", TRY + "import gc,sys\nif any('control' in str(type(o)) and hasattr(o,'recv') for o in gc.get_objects()): pass\nif attempt(lambda: open('/proc/self/maps').read()): pass\nprint(len(sys.modules))", EXITED),
]  # fmt: skip
BOUNDED = Limits(cpu_s=2, wall_s=4.0, memory_bytes=512 << 20)
_SLOW = ("S-22", "S-23", "S-24", "S-16 thread", "S-35 recursion")


def _cases(slow: bool) -> list[object]:
    chosen = [case for case in ATTACKS if case[0].startswith(_SLOW) == slow]
    return [pytest.param(*case[1:], id=case[0]) for case in chosen]


@pytest.mark.parametrize(("program", "ended"), _cases(slow=False))
def test_attack_is_contained(guarded: Guarded, program: str, ended: tuple[str, ...]) -> None:
    outcome = guarded.attack(program, BOUNDED)
    assert outcome.ended in ended, outcome


@pytest.mark.slow
@pytest.mark.parametrize(("program", "ended"), _cases(slow=True))
def test_long_attack_is_contained(guarded: Guarded, program: str, ended: tuple[str, ...]) -> None:
    outcome = guarded.attack(program, BOUNDED)
    assert outcome.ended in ended, outcome


def test_cpu_limit_holds_within_a_fifth(guarded: Guarded) -> None:
    outcome = guarded.attack("while True: pass", Limits(cpu_s=1, wall_s=8.0))
    assert outcome.ended == "time_limit"
    assert 0.8 <= outcome.cpu_s <= 1.2


def test_cpu_limit_is_of_all_processes_together(guarded: Guarded) -> None:
    spin = "import os\nfor _ in range(3): os.fork()\nwhile True: pass"
    outcome = guarded.attack(spin, Limits(cpu_s=1, wall_s=20.0))
    assert outcome.ended == "time_limit" or b"PermissionError" in outcome.stderr


def test_time_without_a_core_is_not_counted(guarded: Guarded) -> None:
    """A right program that gets a fifth of a core ends as it does alone."""
    busy = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(8)]
    try:
        program = "import time\nwhile time.process_time() < 0.5: pass\nprint('done')"
        limits = Limits(cpu_s=1, wall_s=0.8)
        outcome = guarded.box.run("program", {"program": program}, limits=limits)
        assert (outcome.ended, outcome.stdout) == ("exited", b"done\n"), outcome
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_wall_limit_ends_a_sleeper(guarded: Guarded) -> None:
    share = cpu_share()
    outcome = guarded.attack("import time\ntime.sleep(100)", Limits(cpu_s=1, wall_s=0.5))
    assert outcome.ended == "time_limit"
    assert 0.4 <= outcome.wall_s <= 1.5 / min(share, cpu_share()) ** 2


def test_output_flood_ends_within_a_second(guarded: Guarded) -> None:
    share = cpu_share()
    outcome = guarded.attack(
        "import os\nwhile True:\n    try: os.write(1, b'x' * 65536)\n    except OSError: pass"
    )
    assert outcome.ended == "output_limit"
    assert outcome.wall_s <= 1.0 / min(share, cpu_share())


def test_a_job_finds_nothing_of_the_one_before(guarded: Guarded) -> None:
    leave = """
    import os, builtins, sys
    builtins.left = "left-behind"
    sys.left = "left-behind"
    for place in ("/tmp", "/dev/shm", "/dev", "/", "/var/tmp"):
        try:
            open(place + "/left-behind", "w").write("left-behind")
        except OSError:
            pass
    """
    find = """
    import os, sys, builtins, gc
    for place in ("/tmp", "/dev/shm", "/dev", "/", "/var/tmp"):
        try:
            if "left-behind" in os.listdir(place):
                print("ESCAPED", place)
        except OSError:
            pass
    if hasattr(builtins, "left") or hasattr(sys, "left"):
        print("ESCAPED")
    needle = "left-" + "behind"
    if sum(needle in o for o in gc.get_objects() if type(o) is list) > 0:
        print("ESCAPED")
    """
    guarded.attack(textwrap.dedent(leave))
    guarded.attack(textwrap.dedent(find))


def test_thirty_two_boxes_with_ten_threads_each(guarded: Guarded) -> None:
    program = "import threading,time\nts=[threading.Thread(target=time.sleep,args=(0.2,)) for _ in range(10)]\n[t.start() for t in ts];[t.join() for t in ts]\nprint('ok')"
    said: list[bytes] = []

    def one() -> None:
        with borrow(guarded.tier) as box:
            said.append(box.run("program", {"program": program}, limits=Limits(wall_s=30)).stdout)

    threads = [threading.Thread(target=one) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sandbox.close_all()
    assert said == [b"ok\n"] * 32


def test_compilers_run_inside_the_box() -> None:
    if _choice() != "bwrap" or not Path("/usr/bin/g++").exists():
        pytest.skip("needs the bwrap tier and g++")
    gold = read_gold({"language": "cpp", "test_cases": [{"input": "2 3", "output": "5"}]})
    good = "#include <iostream>\nint main(){int a,b;std::cin>>a>>b;std::cout<<a+b;}"
    hostile = [
        '#include "/etc/passwd"\n' + good,
        f'#include "{Path(__file__)}"\n' + good,
        '__asm__(".incbin \\"/etc/shadow\\"");\n' + good,
        '#include <cstdlib>\nint main(){ return system("echo 5"); }\n#pragma GCC system("id")\nint x = ;',
        "template<int N> struct A { static const int v = A<N-1>::v + A<N-2>::v + A<N-3>::v; A<N+1>* p; int q = sizeof(A<N+1>); };\nint main(){ return A<900>::v; }",
    ]
    assert judge(good, gold, tier="bwrap", limits=Limits()).reason is None
    for program in hostile:
        found = judge(program, gold, tier="bwrap", limits=Limits())
        assert found.reason in ("compile_error", "time_limit", "memory_limit", "output_limit")
    wrong = judge(good.replace("a+b", "a-b"), gold, tier="bwrap", limits=Limits())
    assert wrong.reason == "wrong"


def _choice() -> str:
    try:
        return sandbox.choose()
    except Refused:
        return ""


# --- refusal -------------------------------------------------------------------------------------

_WITHOUT = """
import ctypes, errno, os, struct, sys
sys.path.insert(0, {root!r})
from factory.sandbox.inside import kernel
# numbers to refuse, as a container's filter does: namespaces, Landlock, or both
deny = {numbers!r}
lines = [(0x20, 0, 0, 0)]
for number, error in deny:
    lines += [(0x15, 0, 1, number), (0x06, 0, 0, 0x50000 | error)]
lines.append((0x06, 0, 0, 0x7FFF0000))
kernel.no_new_privileges()
kernel.prepared_seccomp(b"".join(struct.pack("HBBI", *line) for line in lines))()
from factory import sandbox
from factory.processes import below, started_at
from factory.errors import Refused
try:
    print("chose", sandbox.choose())
except Refused as refused:
    print("refused:", refused)
    sys.exit(refused.exit_code)
"""
_NAMESPACES = [
    (272, 1),
    (435, 38),
]  # unshare, clone3; clone is refused by unshare's absence in bwrap
_CLONE = [(56, 1)]
_LANDLOCK = [(444, 38)]


def _choose_without(numbers: list[tuple[int, int]], **env: str) -> subprocess.CompletedProcess[str]:
    code = _WITHOUT.format(root=str(ROOT), numbers=numbers)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        cwd=ROOT, env={**os.environ, **env}, timeout=120,
    )  # fmt: skip


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
def test_without_namespaces_the_next_tier_is_chosen() -> None:
    done = _choose_without(_NAMESPACES)
    assert done.stdout.strip() == ("chose slot" if os.geteuid() == 0 else "chose landlock"), done


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
def test_without_any_tier_work_is_refused_with_each_error_and_fix() -> None:
    done = _choose_without([*_NAMESPACES, *_LANDLOCK])
    assert done.returncode != 0
    assert done.stdout.startswith("refused: no sandbox tier holds here")
    for tier in TIERS:
        assert f"{tier}: " in done.stdout
    assert done.stdout.count("(fix: ") == 3


def test_a_tier_can_be_named_and_an_unknown_one_is_refused() -> None:
    assert "names no tier" in _choose_without([], FACTORY_SANDBOX="none").stdout


@pytest.mark.slow
def test_doctor_has_one_row_per_tier() -> None:
    rows = sandbox.doctor()
    assert [row["tier"] for row in rows] == list(TIERS)
    for row in rows:
        assert row["available"] == (row["error"] == "") == (row["fix"] == "")


def test_a_self_test_that_gets_through_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "escapes", lambda box: ["read a file"])
    sandbox.forget_probes()
    with pytest.raises(Refused, match="self-test: read a file got through"):
        sandbox.choose()
    sandbox.forget_probes()


# --- our own failures ----------------------------------------------------------------------------


def test_a_dead_box_is_replaced_and_never_a_verdict(guarded: Guarded) -> None:
    with borrow(guarded.tier) as box:

        def until_it_dies() -> None:  # a moment later, in a namespace of its own
            for _ in range(50):
                box.run("program", {"program": "print(1)"}, limits=Limits(wall_s=1))

        box.launched.kill()
        with pytest.raises(BoxError):
            until_it_dies()
        box.close()
    sandbox.close_all()

    def again() -> bytes:
        with borrow(guarded.tier) as fresh:
            return fresh.run("program", {"program": "print(1)"}).stdout

    assert retrying(again) == b"1\n"


def test_failing_boxes_are_tried_again_and_then_said() -> None:
    tries = []

    def fails(times: int) -> str:
        tries.append(1)
        if len(tries) <= times:
            raise BoxError("broken")
        return "fine"

    assert retrying(lambda: fails(2)) == "fine"
    tries.clear()
    with pytest.raises(BoxError):
        retrying(lambda: fails(3))


def test_the_box_ends_with_the_process_that_holds_it(guarded: Guarded) -> None:
    code = f"""
import sys, time
from factory.sandbox import Box
box = Box({guarded.tier!r})
print(box.launched.process.pid, flush=True)
time.sleep(100)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    assert holder.stdout is not None
    pid = int(holder.stdout.readline())
    holder.kill()
    holder.wait()
    holder.stdout.close()
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        threading.Event().wait(0.05)
    raise AssertionError("the box outlived its holder")


_HOLDER = """
import sys, threading, time
from factory.sandbox import Box, Limits
box = Box({tier!r})
sample = {{"program": "import time\\ntime.sleep(60)"}}
limits = Limits(wall_s=60)
threading.Thread(target=box.run, args=("program", sample), kwargs={{"limits": limits}}, daemon=True).start()
time.sleep(0.5)
print(box.launched.server, flush=True)
time.sleep(100)
"""


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for what a busy machine does late."""
    for _ in range(600):
        if holds():
            return
        threading.Event().wait(0.05)
    raise AssertionError(what)


def test_nothing_outlives_a_double_kill(guarded: Guarded) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER.format(tier=guarded.tier)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert holder.stdout is not None
    server = int(holder.stdout.readline())
    samples = list(below(server))
    assert samples
    os.kill(server, signal.SIGKILL)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    until(lambda: not any(map(started_at, samples)), "a sample outlived its server and its holder")


def test_what_outlives_its_holder_is_ended_at_the_next_start() -> None:
    """By its command line: whatever kept it alive, the next box ends it; a living holder's stays."""
    space = Path("/proc/self/ns/pid").readlink()
    own = f"factory-box:{space}:{os.getpid()}:{started_at(os.getpid())}"
    left = f"factory-box:{space}:{os.getpid()}:1"
    sleeps = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    kept, ended = (subprocess.Popen([*sleeps, word]) for word in (own, left))
    try:
        lines = [Path(f"/proc/{process.pid}/cmdline") for process in (kept, ended)]
        until(lambda: all(b"factory-box" in p.read_bytes() for p in lines), "no command line")
        tiers.end_survivors.cache_clear()
        assert tiers.end_survivors() >= 1
        assert ended.wait(30) == -signal.SIGKILL
        assert kept.poll() is None
    finally:
        for process in (kept, ended):
            process.kill()
            process.wait()


@pytest.mark.parametrize("name", TIERS)
def test_every_tier_withstands_the_self_test(name: str) -> None:
    box = Box(resolve(name))
    try:
        assert [*sandbox.escapes(box), *sandbox.overruns(box)] == []
    finally:
        box.close()
