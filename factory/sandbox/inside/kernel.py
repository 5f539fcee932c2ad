"""What the box asks of the kernel: seccomp filter, Landlock rules, limits, mounts, lost powers.

Runs inside the box before any model-written code does, under whatever Python is there, so it
imports nothing but the standard library and nothing of this project. System calls are made
through ctypes: no binding of libseccomp is needed, the filter is plain BPF made here.

Numbers: ``asm/unistd_64.h`` (x86-64) and ``asm-generic/unistd.h`` (aarch64) of Linux 6.x.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
from collections.abc import Callable

# name x86-64 aarch64; "-" where the architecture has no such call
_DENIED_ALWAYS = """
ptrace 101 117; process_vm_readv 310 270; process_vm_writev 311 271; pidfd_getfd 438 438;
pidfd_open 434 434; pidfd_send_signal 424 424; kcmp 312 272; mount 165 40; umount2 166 39;
pivot_root 155 41; chroot 161 51; unshare 272 97; setns 308 268; move_mount 429 429;
open_tree 428 428; fsopen 430 430; fsconfig 431 431; fsmount 432 432; fspick 433 433;
mount_setattr 442 442; socket 41 198; connect 42 203; bind 49 200; listen 50 201;
accept 43 202; accept4 288 242; bpf 321 280; perf_event_open 298 241; userfaultfd 323 282;
io_uring_setup 425 425; io_uring_enter 426 426; io_uring_register 427 427; add_key 248 217;
request_key 249 218; keyctl 250 219; kexec_load 246 104; kexec_file_load 320 294;
init_module 175 105; finit_module 313 273; delete_module 176 106; open_by_handle_at 304 265;
name_to_handle_at 303 264; quotactl 179 60; quotactl_fd 443 443; clock_settime 227 112;
settimeofday 164 170; clock_adjtime 305 266; adjtimex 159 171; sethostname 170 161;
setdomainname 171 162; reboot 169 142; swapon 167 224; swapoff 168 225; acct 163 89;
syslog 103 116; mknod 133 -; mknodat 259 33; shmget 29 194; shmat 30 196; shmctl 31 195;
semget 64 190; semop 65 193; semctl 66 191; semtimedop 220 192; msgget 68 186; msgsnd 69 189;
msgrcv 70 188; msgctl 71 187; mq_open 240 180; mq_unlink 241 181; mq_timedsend 242 182;
mq_timedreceive 243 183; mq_notify 244 184; mq_getsetattr 245 185; setpriority 141 140;
sched_setparam 142 118; sched_setscheduler 144 119; sched_setaffinity 203 122;
sched_setattr 314 274; ioprio_set 251 30; migrate_pages 256 238; move_pages 279 239;
process_madvise 440 440; process_mrelease 448 448; vhangup 153 58; iopl 172 -; ioperm 173 -;
modify_ldt 154 -; fanotify_init 300 262; fanotify_mark 301 263; lookup_dcookie 212 18;
nfsservctl 180 42; personality 135 92; uselib 134 -; setuid 105 146; setgid 106 144;
setreuid 113 145; setregid 114 143; setresuid 117 147; setresgid 119 149; setgroups 116 159;
setfsuid 122 151; setfsgid 123 152; landlock_create_ruleset 444 444; sendmsg 46 211;
sendmmsg 307 269; memfd_create 319 279; memfd_secret 447 447
"""

_DENIED_FORKS = "fork 57 -; vfork 58 -"
_DENIED_SHARED = """
kill 62 129; tkill 200 130; tgkill 234 131; rt_sigqueueinfo 129 138;
rt_tgsigqueueinfo 297 240; chmod 90 -; fchmod 91 52; fchmodat 268 53; chown 92 -;
fchown 93 55; lchown 94 -; fchownat 260 54; utime 132 -; utimes 235 -; utimensat 280 88;
futimesat 261 -; setxattr 188 5; lsetxattr 189 6; fsetxattr 190 7; removexattr 197 14;
lremovexattr 198 15; fremovexattr 199 16; truncate 76 45; setpgid 109 154;
inotify_add_watch 254 27
"""

_MACHINE = os.uname().machine
_ARCH = {"x86_64": 0, "aarch64": 1}
_AUDIT_ARCH = (0xC000003E, 0xC00000B7)
_FIRST_UNKNOWN = 450  # calls that Linux gained later answer "not implemented": fail closed

_CLONE, _CLONE3, _IOCTL, _PRLIMIT, _FCNTL = (56, 220), (435, 435), (16, 29), (302, 261), (72, 25)
_SOCKETPAIR, _SENDTO, _PRCTL = (53, 199), (44, 206), (157, 167)
_SECCOMP, _CAPSET, _PIDFD_OPEN = (317, 277), (126, 91), 434
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_MOUNT, _UNSHARE, _SETNS = (165, 40), (272, 97), (308, 268)

CLONE_NEWNS, CLONE_NEWPID = 0x00020000, 0x20000000
_CLONE_NEW_ANY = 0x7E020080  # every namespace: time, mount, cgroup, uts, ipc, user, pid, net
_CLONE_THREAD = 0x00010000
_MS_NOSUID_NODEV = 2 | 4
_AF_UNIX, _SOCK_STREAM = 1, 1
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 4, 38, 47

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


class KernelError(OSError):
    """A confinement step failed; the sample must not run."""


def arch() -> int:
    """Return 0 for x86-64, 1 for aarch64.

    Raises:
        KernelError: on any other machine: the filter's numbers would be wrong there.
    """
    if _MACHINE not in _ARCH:
        raise KernelError(errno.ENOSYS, f"no seccomp table for {_MACHINE}")
    return _ARCH[_MACHINE]


def _call(what: str, number: int, *args: object) -> int:
    done = int(_libc.syscall(ctypes.c_long(number), *args))
    if done < 0:
        code = ctypes.get_errno()
        raise KernelError(code, f"{what}: {os.strerror(code)}")
    return done


def _prctl(what: str, *args: int) -> None:
    if _libc.prctl(*(*args, 0, 0, 0, 0)[:5]) != 0:
        code = ctypes.get_errno()
        raise KernelError(code, f"{what}: {os.strerror(code)}")


# --- seccomp -------------------------------------------------------------------------------------


_Line = tuple[int, int, int, int]
"""Code, lines to jump where it holds and where it does not, value."""


def _numbers(table: str) -> list[int]:
    machine = arch()
    out = []
    for entry in table.replace("\n", " ").split(";"):
        fields = entry.split()
        if fields and fields[1 + machine] != "-":
            out.append(int(fields[1 + machine]))
    return out


def seccomp_filter(*, allow_fork: bool, private: bool = False) -> bytes:
    """Return the BPF program that every sample runs under.

    Denied are the calls that reach other processes, the network, mounts, keys, clocks, memory that
    no limit counts (memfd) and rarely needed kernel doors. One socket is left: a pair of connected
    streams, which asyncio makes for every event loop to wake itself by; it has no address, and
    ``sendto`` with an address, datagrams and messages that carry descriptors are denied.

    Args:
        allow_fork: false denies new processes.
        private: the sample has process and mount namespaces of its own; where it has not, signals
            and calls on file attributes are denied too: Landlock does not cover attributes, and
            signals only from Linux 6.12 on.

    >>> len(seccomp_filter(allow_fork=True, private=True)) % 8
    0
    """
    machine = arch()
    program: list[_Line] = []
    load, equal, bits, above, ret = 0x20, 0x15, 0x45, 0x35, 0x06
    deny, no_call = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
    allow, kill = 0x7FFF0000, 0x80000000

    def when(code: int, value: int, action: int) -> None:
        program.append((code, 0, 1, value))
        program.append((ret, 0, 0, action))

    program.append((load, 0, 0, 4))  # seccomp_data.arch
    program.append((equal, 1, 0, _AUDIT_ARCH[machine]))
    program.append((ret, 0, 0, kill))
    program.append((load, 0, 0, 0))  # seccomp_data.nr
    when(above, _FIRST_UNKNOWN, no_call)  # also every x32 call: their numbers start at 2**30
    when(equal, _CLONE3[machine], no_call)  # libc then uses clone, whose flags can be looked at

    def look_into(number: int, argument: int, tests: list[tuple[int, int, int]]) -> None:
        # arguments are 64 bit; the low half stands first on both machines
        program.append((equal, 0, 2 + 2 * len(tests), number))
        program.append((load, 0, 0, 16 + 8 * argument))
        for code, value, action in tests:
            when(code, value, action)
        program.append((ret, 0, 0, allow))

    # TIOCSTI, TIOCLINUX; FIOSETOWN, SIOCSPGRP: SIGIO of a socket would end who is named its owner
    look_into(_IOCTL[machine], 1, [(equal, n, deny) for n in (0x5412, 0x541C, 0x8901, 0x8902)])
    look_into(_PRLIMIT[machine], 0, [(above, 1, deny)])  # limits of other processes
    look_into(_PRCTL[machine], 0, [(equal, _PR_SET_PDEATHSIG, deny)])  # it dies with its server
    if not private:
        owner = [(equal, value, deny) for value in (8, 10, 15)]  # F_SETOWN, F_SETSIG, F_SETOWN_EX
        look_into(_FCNTL[machine], 1, owner)
    if allow_fork:
        look_into(_CLONE[machine], 0, [(bits, _CLONE_NEW_ANY, deny)])
    else:
        program.append((equal, 0, 4, _CLONE[machine]))
        program.append((load, 0, 0, 16))
        program.append((bits, 1, 0, _CLONE_THREAD))
        program.append((ret, 0, 0, deny))
        program.append((ret, 0, 0, allow))
    program.append((equal, 0, 7, _SENDTO[machine]))  # an address of either half is one too many
    program.append((load, 0, 0, 16 + 8 * 4))
    program.append((equal, 1, 0, 0))
    program.append((ret, 0, 0, deny))
    program.append((load, 0, 0, 20 + 8 * 4))
    program.append((equal, 1, 0, 0))
    program.append((ret, 0, 0, deny))
    program.append((ret, 0, 0, allow))
    program.append((equal, 0, 8, _SOCKETPAIR[machine]))
    program.append((load, 0, 0, 16))
    program.append((equal, 1, 0, _AF_UNIX))
    program.append((ret, 0, 0, deny))
    program.append((load, 0, 0, 24))
    program.append((0x54, 0, 0, 0xF))  # the kind, without SOCK_CLOEXEC and SOCK_NONBLOCK
    program.append((equal, 1, 0, _SOCK_STREAM))
    program.append((ret, 0, 0, deny))
    program.append((ret, 0, 0, allow))
    denied = set(_numbers(_DENIED_ALWAYS))
    denied |= set() if allow_fork else set(_numbers(_DENIED_FORKS))
    denied |= set() if private else set(_numbers(_DENIED_SHARED))
    program += _search(denied, (ret, 0, 0, deny), (ret, 0, 0, allow))
    return b"".join(struct.pack("HBBI", *line) for line in program)


def _search(denied: set[int], deny: _Line, allow: _Line) -> list[_Line]:
    """Return the lines that find a number among those denied, by halves.

    The kernel runs a new filter once for every call there is, to know which it always allows: one
    that compares with each number in turn costs every sample a fifth of a millisecond.
    """
    edges = sorted(n for n in {0} | denied | {n + 1 for n in denied}
                   if n == 0 or (n in denied) != (n - 1 in denied))  # fmt: skip

    def lines(begin: int, end: int) -> list[_Line]:
        if end - begin == 1:
            return [deny if edges[begin] in denied else allow]
        middle = (begin + end) // 2
        below, above = lines(begin, middle), lines(middle, end)
        return [(0x35, len(below), 0, edges[middle]), *below, *above]  # not below this number

    return lines(0, len(edges))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.c_void_p))


def prepared_seccomp(program: bytes) -> Callable[[], None]:
    """Return what puts the calling process (one thread) under the filter, for ever.

    Everything is laid out beforehand: what is made after a fork is paid for by every sample.
    """
    lines = ctypes.create_string_buffer(program, len(program))
    held = _Program(len(program) // 8, ctypes.cast(lines, ctypes.c_void_p))
    number = _SECCOMP[arch()]
    args = (ctypes.c_ulong(1), ctypes.c_ulong(0), ctypes.byref(held))

    def install(kept: object = (lines, held)) -> None:
        _call("seccomp", number, *args)

    return install


# --- Landlock ------------------------------------------------------------------------------------


def landlock_abi() -> int:
    """Return the kernel's Landlock version, 0 where it has none (asked by system call)."""
    try:
        return _call("landlock", _LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    except KernelError:
        return 0


def make_landlock(readable: list[str], devices: list[str]) -> int:
    """Return a ruleset that allows reading and executing below ``readable``, and nothing else.

    Made once; each sample then only enters it. No directory is writable.

    Args:
        readable: files and folders; those that do not exist are left out.
        devices: device files that may be read and written.
    """
    abi = landlock_abi()
    if abi < 1:
        raise KernelError(errno.ENOSYS, "landlock: not in this kernel")
    n_rights = 13 + (abi >= 2) + (abi >= 3) + (abi >= 5)  # REFER, TRUNCATE, IOCTL_DEV
    all_files = (1 << n_rights) - 1
    network = 3 if abi >= 4 else 0  # TCP bind and connect
    scoped = 3 if abi >= 6 else 0  # abstract UNIX sockets, signals
    attr = struct.pack("QQQ", all_files, network, scoped)
    attr = attr[: 8 if abi < 4 else 16 if abi < 6 else 24]
    held = ctypes.create_string_buffer(attr, len(attr))
    size = ctypes.c_size_t(len(attr))
    ruleset = _call("landlock ruleset", _LANDLOCK_CREATE, held, size, ctypes.c_uint(0))
    execute, write_file, read_file, read_dir = 1, 2, 4, 8
    for path in readable:
        if os.path.exists(path):  # noqa: PTH110 - no project imports, and cheap
            folder = os.path.isdir(path)  # noqa: PTH112
            _allow(ruleset, path, execute | read_file | (read_dir if folder else 0))
    for path in devices:
        if os.path.exists(path):  # noqa: PTH110
            _allow(ruleset, path, read_file | write_file)
    return ruleset


def _allow(ruleset: int, path: str, rights: int) -> None:
    parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, parent), 12)
    try:
        _call(
            f"landlock rule {path}", _LANDLOCK_ADD,
            ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint(0),
        )  # fmt: skip
    finally:
        os.close(parent)


def enter_landlock(ruleset: int) -> None:
    """Put this process under the ruleset, for ever."""
    _call("landlock", _LANDLOCK_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint(0))


# --- powers, limits, namespaces ------------------------------------------------------------------


def no_new_privileges() -> None:
    """Make set-uid programs and file capabilities mean nothing from here on."""
    _prctl("no_new_privs", _PR_SET_NO_NEW_PRIVS, 1)


def hide_memory() -> None:
    """Keep processes of the same user from reading this one's memory and environment."""
    _prctl("dumpable", _PR_SET_DUMPABLE, 0)


def die_with_parent() -> None:
    """Ask for SIGKILL when the parent ends."""
    _prctl("pdeathsig", _PR_SET_PDEATHSIG, 9)


_CAP_HEAD = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0), 8)
_CAP_NONE = ctypes.create_string_buffer(24)


def drop_capabilities() -> None:
    """Give up every capability, the ambient ones too."""
    _prctl("ambient", _PR_CAP_AMBIENT, 4)
    _call("capset", _CAPSET[arch()], _CAP_HEAD, _CAP_NONE)


def threads_of_user() -> int:
    """Return how many threads this user has, in all of its processes."""
    count = 0
    for name in os.listdir("/proc"):  # noqa: PTH208 - no project imports, and cheap
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.getuid():  # noqa: PTH116
                count += len(os.listdir(f"/proc/{name}/task"))  # noqa: PTH208
        except OSError:
            continue  # it has just ended
    return count


_HARD = {
    name: resource.getrlimit(name)[1]
    for name in (
        resource.RLIMIT_CORE, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE,
        resource.RLIMIT_MEMLOCK, resource.RLIMIT_AS, resource.RLIMIT_NPROC,
    )
}  # fmt: skip
"""What the server itself may set at most, asked once."""


def set_limits(
    *, cpu_s: int, memory_bytes: int, file_bytes: int, processes: int, files: int = 64
) -> None:
    """Set the resource limits, soft and hard alike, so that the sample cannot raise them."""
    limits = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, files),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_NPROC, processes),
    ]
    for name, value in limits:
        hard = _HARD[name]
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (limit, limit))


def own_pidfd() -> int:
    """Return a descriptor of this process; ``next_child_in_new_pid_namespace`` needs it."""
    return os.pidfd_open(os.getpid())


def next_child_in_new_pid_namespace(own: int, *, new: bool = True) -> None:
    """Make the next fork the first process of a new process namespace, or one of the caller's own.

    ``unshare`` is refused while an earlier one is pending or used up, so the caller's children
    are first pointed back to its own namespace.
    """
    machine = arch()
    _call("setns", _SETNS[machine], ctypes.c_int(own), ctypes.c_int(CLONE_NEWPID))
    if new:
        _call("unshare pid", _UNSHARE[machine], ctypes.c_int(CLONE_NEWPID))


def fresh_scratch(path: str, *, size_bytes: int, inodes: int) -> None:
    """Give this process its own mounts, and mount an empty memory file system at ``path``."""
    machine = arch()
    _call("unshare mount", _UNSHARE[machine], ctypes.c_int(CLONE_NEWNS))
    options = f"size={size_bytes},nr_inodes={inodes},mode=700".encode()
    _call(
        "mount", _MOUNT[machine], b"scratch", path.encode(), b"tmpfs",
        ctypes.c_ulong(_MS_NOSUID_NODEV), options,
    )  # fmt: skip
