"""How each tier is started on this machine, and the interpreter that it runs.

bwrap     namespaces made by bubblewrap; every sample in its own process and mount namespace.
slot      started by root: every sample under a user id of its own, Landlock and seccomp.
landlock  no special right needed: Landlock and seccomp under the user's own id.

In the tiers without namespaces a sample finds no writable directory. It can make processes only in
``bwrap``, and there only where the box has a memory cgroup of its own (see ``cgroups``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

from factory.processes import below, started_at
from factory.sandbox import cgroups, libraries
from factory.sandbox import launcher as launcher_module

Tier = Literal["bwrap", "slot", "landlock"]
TIERS: tuple[Tier, ...] = ("bwrap", "slot", "landlock")

SLOT_UIDS = range(64001, 64129)
"""User ids of the tier ``slot``, outside of every range that distributions hand out."""
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_FILES = (
    "plain_data",
    "inside.kernel",
    "inside.pytest_names",
    "inside.harness",
    "inside.crossing",
    "inside.program_calls",
    "inside.remote_tests",
    "inside.server",
)
_START_S = 20.0
_MARK = "factory-box:"
_LIBRARIES = "/libraries"
# Modules that model-written programs import most: loaded once, before the fork. Not threading and
# random: their work after every fork costs each sample half a millisecond.
_PRELOAD = (
    "abc", "array", "bisect", "collections", "copy", "datetime", "decimal", "enum", "fractions",
    "functools", "heapq", "io", "itertools", "json", "math", "operator", "re", "string", "time",
    "typing",
)  # fmt: skip
# The files of the box arrive over the control socket (descriptor 0), under the names by which they
# import each other.
_BOOT = """
import json, socket, sys, types
sys.path[:] = [p for p in sys.path if p]
control = socket.socket(fileno=0)
for name in ("factory", "factory.sandbox", "factory.sandbox.inside"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
config = json.loads(control.recv(1 << 17))
for name in config["files"]:
    module = types.ModuleType("factory.sandbox." + name)
    sys.modules[module.__name__] = module
    parent, _, own = module.__name__.rpartition(".")
    setattr(sys.modules[parent], own, module)
    exec(compile(control.recv(1 << 17), name + ".py", "exec"), module.__dict__)
sys.modules["factory.sandbox.inside.server"].serve(control, config)
"""


class TierError(Exception):
    """A tier cannot be started here; the text is the exact probe error."""


@dataclasses.dataclass(frozen=True)
class Interpreter:
    """A Python for the box: its executable and the prefix that its library lies under."""

    executable: str
    prefix: str


@dataclasses.dataclass
class Launched:
    """A started box: its processes outside, the control socket, what to give back.

    Attributes:
        server: the process whose children are the samples.
        group: its memory cgroup, where it has one: then samples may make processes.
    """

    process: subprocess.Popen[bytes]
    control: socket.socket
    slot: int | None = None
    server: int = 0
    group: cgroups.Group | None = None

    def close(self) -> None:
        """End the box. Its server leaves at the end of the socket; what does not is killed."""
        self.control.close()
        try:
            self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.kill()
        if self.group is not None:
            self.group.close()
            self.group = None
        if self.slot is not None:
            os.close(self.slot)
            self.slot = None

    def kill(self) -> None:
        """Kill the process and its children: of bwrap, the first process of the namespace."""
        pid = self.process.pid
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
        self.process.kill()
        self.process.wait()


def fix_of(tier: Tier) -> str:
    """Say what makes a tier available."""
    return {
        "bwrap": "install bubblewrap >= 0.8 and allow user namespaces (in a container: "
        "--security-opt seccomp=unconfined; on Ubuntu: sysctl "
        "kernel.apparmor_restrict_unprivileged_userns=0)",
        "slot": "run as root on Linux >= 5.13 with Landlock in the active security modules",
        "landlock": "run on Linux >= 5.13 with Landlock in the active security modules (lsm=)",
    }[tier]


@functools.cache
def interpreter(*, world_readable: bool) -> Interpreter:
    """Return the Python that samples run under: this one's base, or the system's.

    Args:
        world_readable: it must be readable to every user (the box's user is another one).

    Raises:
        TierError: there is none.
    """
    own = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    if not world_readable or (_open_to_all(own) and _open_to_all(Path(sys.base_prefix) / "lib")):
        return Interpreter(str(own), sys.base_prefix)
    for found in ("/usr/bin/python3", "/usr/local/bin/python3"):
        path = Path(found).resolve()
        if path.exists() and _open_to_all(path):
            return Interpreter(str(path), str(path.parent.parent))
    raise TierError(f"no Python that other users can read ({own} is private)")


def _open_to_all(path: Path) -> bool:
    return all(part.stat().st_mode & 0o001 for part in (path, *path.parents))


@functools.cache
def _bwrap_path() -> str:
    found = shutil.which("bwrap", path="/usr/bin:/usr/local/bin:/bin")
    if found is None:
        raise TierError("bwrap: not installed")
    return found


def readable_paths(python: Interpreter) -> list[str]:
    """Return what the Landlock tiers may read: the interpreter and the system's libraries."""
    return [
        python.executable, f"{python.prefix}/lib", "/usr/lib", "/usr/lib64", "/lib", "/lib64",
        "/etc/ld.so.cache", "/usr/share/zoneinfo", "/dev/urandom",
    ]  # fmt: skip


def _bwrap_argv(
    python: Interpreter, *, compilers: bool, prefix_seen_at: str, shown: tuple[str, ...]
) -> list[str]:
    argv = [
        # no --disable-userns: it puts the server into a second user namespace, which has no power
        # over the process namespace; samples are kept from new namespaces by the filter
        _bwrap_path(), "--unshare-all", "--unshare-user",
        "--uid", "65534", "--gid", "65534", "--new-session", "--clearenv",
        # for the server alone, inside its own user namespace: every sample loses it before it runs
        "--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN",
        "--ro-bind", "/usr/lib", "/usr/lib", "--ro-bind-try", "/usr/lib64", "/usr/lib64",
        "--ro-bind-try", "/usr/share/zoneinfo", "/usr/share/zoneinfo",
        "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache",
    ]  # fmt: skip
    if compilers:
        for folder in ("/usr/bin", "/usr/include", "/usr/libexec", "/etc/alternatives"):
            argv += ["--ro-bind-try", folder, folder]
    for folder in ("/lib", "/lib64", "/bin"):
        path = Path(folder)
        if path.is_symlink():
            argv += ["--symlink", str(path.readlink()), folder]
        elif path.is_dir() and folder != "/bin":
            argv += ["--ro-bind", folder, folder]
    if python.prefix == "/usr":
        if not compilers:
            argv += ["--ro-bind", python.executable, python.executable]
    else:
        argv += ["--ro-bind", prefix_seen_at, python.prefix]
    argv += _library_binds(shown)
    argv += ["--tmpfs", "/dev", "--dir", "/tmp", "--symlink", "/tmp", "/dev/shm"]
    argv += ["--symlink", "/tmp/.stdin", "/dev/stdin"]
    for device in _DEVICES:
        argv += ["--dev-bind", device, device]
    argv += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]
    argv += ["--setenv", "PYTHONHASHSEED", "0"]  # sets print in one order: one verdict
    return argv


def _take_slot() -> tuple[int, int]:
    """Return an exclusive user id and the descriptor that holds its lock."""
    folder = Path("/run/factory-slots")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        folder = Path(tempfile.gettempdir()) / "factory-slots-0"
        folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != 0:
        raise TierError(f"{folder} does not belong to root")
    for uid in SLOT_UIDS:
        held = os.open(folder / str(uid), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(held)
            continue
        return uid, held
    raise TierError(f"all {len(SLOT_UIDS)} slot users are in use")


def _token() -> str:
    """Return a word for command lines that names this process for ever, as their holder."""
    return f"{_MARK}{Path('/proc/self/ns/pid').readlink()}:{os.getpid()}:{started_at(os.getpid())}"


@functools.cache
def end_survivors() -> int:
    """Kill the processes of boxes whose holder is gone; return how many there were.

    A box ends with its holder: at the end of the socket, or by the kernel when its server is
    killed. What outlives both, by whatever means, is found by its command line, once per process.
    """
    here = _token().rpartition(":")[0].rpartition(":")[0] + ":"
    ended = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            for word in (entry / "cmdline").read_text(errors="replace").split("\0"):
                if word.startswith(here):
                    pid, started = word.removeprefix(here).split(":")
                    if started_at(int(pid)) != started:
                        os.kill(int(entry.name), signal.SIGKILL)
                        ended += 1
    return ended


def launch(tier: Tier, *, compilers: bool = False, shown: tuple[str, ...] = ()) -> Launched:
    """Start a box and wait until it is ready for jobs.

    Args:
        tier: how it is confined.
        compilers: let it see the system's compilers (bwrap only).
        shown: libraries that its programs may import, of ``libraries.LIBRARIES``.

    Raises:
        TierError: with the exact error.
    """
    if tier == "slot" and os.geteuid() != 0:
        raise TierError("not root: the user id of a sample cannot be changed")
    end_survivors()
    group = cgroups.make() if tier == "bwrap" else None
    if group is None:
        return _launch(tier, None, compilers=compilers, shown=shown)
    try:
        return _launch(tier, group, compilers=compilers, shown=shown)
    except _NoGroup:
        return _launch(tier, None, compilers=compilers, shown=shown)
    except BaseException:
        group.close()
        raise


class _NoGroup(Exception):
    """The kernel made a cgroup and lets nobody in."""


def _launch(
    tier: Tier, group: cgroups.Group | None, *, compilers: bool, shown: tuple[str, ...]
) -> Launched:
    shown = libraries.with_needs(shown)
    uid, held = None, None
    # real root is never counted against RLIMIT_NPROC, so bwrap starts under a slot user too
    if os.geteuid() == 0 and tier != "landlock":
        uid, held = _take_slot()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with tempfile.TemporaryFile() as errors:
            python, command = _command(tier, uid, compilers=compilers, shown=shown)
            process: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=errors.fileno(),
                # nothing of ours: bwrap's own environment can be read inside the box
                env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0"},
                cwd="/",
                start_new_session=True,
            )
            theirs.close()
            box = Launched(process=process, control=ours, slot=held, group=group)
            reason = _handshake(box, tier, uid, python, shown)
            if reason is None:
                _enter_group(box)
                return box
            box.kill()
            errors.seek(0)
            said = errors.read(4000).decode(errors="replace").strip()
            raise TierError(said.splitlines()[-1] if said else f"{tier}: {reason}")
    except BaseException as error:
        for end in (ours, theirs):
            end.close()
        if held is not None:
            os.close(held)
        if isinstance(error, OSError):
            raise TierError(f"{tier}: {error}") from error
        raise


def _enter_group(box: Launched) -> None:
    """Find the server, and put all of the box into its cgroup before any sample runs."""
    pids = [box.process.pid, *below(box.process.pid)]
    box.server = pids[-1]
    if box.group is not None:
        try:
            box.group.take(pids)
        except OSError:
            box.kill()
            box.group.close()
            raise _NoGroup from None


def _command(
    tier: Tier, uid: int | None, *, compilers: bool, shown: tuple[str, ...]
) -> tuple[Interpreter, list[str]]:
    """Return the interpreter of the box and the command that starts it."""
    try:
        python = interpreter(world_readable=False)
        private = uid is not None and interpreter(world_readable=True) != python
    except TierError:
        private = True
    if private and tier == "slot":  # its samples read the library under their own user id
        python = interpreter(world_readable=True)
    if (
        shown
        and f"python{sys.version_info[0]}.{sys.version_info[1]}" != Path(python.executable).name
    ):
        raise TierError(f"{', '.join(shown)}: built for another Python than {python.executable}")
    server = [python.executable, "-S", "-s", "-B", "-c", _BOOT, _token()]
    if tier != "bwrap":
        return python, server
    seen_at = launcher_module.SEEN if private else python.prefix
    argv = _bwrap_argv(python, compilers=compilers, prefix_seen_at=seen_at, shown=shown) + server
    if uid is not None:
        launcher = str(Path(launcher_module.__file__).resolve())
        start = [python.executable, "-S", "-s", "-B", launcher, str(uid), python.prefix]
        argv = [*start, *argv]
    return python, argv


def _library_binds(shown: tuple[str, ...]) -> list[str]:
    found = [folder for name in shown for folder in libraries.folders(name)]
    return [x for f in found for x in ("--ro-bind", str(f), f"{_LIBRARIES}/{f.name}")]


def _handshake(
    box: Launched, tier: Tier, uid: int | None, python: Interpreter, shown: tuple[str, ...]
) -> str | None:
    """Send the box its files; return None when it is ready, else what it says."""
    held = [folder for name in shown for folder in libraries.folders(name)]
    config = {
        "tier": tier,
        "slot_uid": uid,
        "files": _FILES,
        "preload": _PRELOAD,
        "readable": [*readable_paths(python), *map(str, held)],
        "libraries": shown,
        "library_paths": [_LIBRARIES] if tier == "bwrap" else sorted({str(f.parent) for f in held}),
        "devices": _DEVICES,
        "forks": box.group is not None,
    }
    box.control.settimeout(_START_S)
    try:
        box.control.send(json.dumps(config).encode())
        for name in _FILES:
            path = Path(__file__).parent / f"{name.replace('.', '/')}.py"
            box.control.send(path.read_bytes())
        answer = box.control.recv(1 << 16)
    except OSError as error:
        return str(error)
    if not answer:
        return "ended at once"
    reason: str | None = json.loads(answer).get("refused")
    box.control.settimeout(None)
    return reason
