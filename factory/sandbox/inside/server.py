"""The first process of the box: forks one confined child per sample and reports how it ended.

It never reads a sample: descriptors arrive over the control socket and only the child reads them.
So nothing of one sample is left in the memory that the next one inherits.

Imports nothing of this project but the files of the box.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import time
from typing import Any

from factory.sandbox.inside import harness, kernel, program_calls, remote_tests

_MODES = {
    "program": harness.run_program,
    "calls": program_calls.run_calls,
    "command": harness.run_command,
    "tests": remote_tests.run_tests,
}


class _Wall:
    """The confinement of one tier, prepared once and entered by every sample."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.namespaces = config["tier"] == "bwrap"
        self.slot_uid = config.get("slot_uid")
        # without a cgroup nobody adds up what several processes hold; a compiler needs them
        self.install_filter = {
            (forks, private): kernel.prepared_seccomp(
                kernel.seccomp_filter(allow_fork=forks, private=private)
            )
            for forks, private in {
                (False, False), (bool(config["forks"]), self.namespaces), (self.namespaces,) * 2
            }
        }  # fmt: skip
        self.forks = bool(config["forks"])
        self.own = -1
        self.ruleset = -1
        self.pid = os.getpid()
        # counted per user, and shared with everybody where the user is not the box's own
        self.others = 0
        if self.namespaces:
            self.own = kernel.own_pidfd()
        else:
            self.ruleset = kernel.make_landlock(config["readable"], config["devices"])
            if self.slot_uid is None:
                self.others = kernel.threads_of_user() + 2048

    def fork(self, *, plain: bool) -> int:
        """Fork a sample; one that is not plain is the first of a process namespace of its own."""
        if self.namespaces:
            kernel.next_child_in_new_pid_namespace(self.own, new=not plain)
        return os.fork()

    def enter(self, limits: dict[str, Any], *, compiles: bool, plain: bool) -> None:
        """Confine this process for ever.

        Args:
            limits: what it may use.
            compiles: it makes processes.
            plain: it makes none and no files, and gets by without namespaces of its own, under the
                filter of a tier that has none: making and ending them is a tenth of its cost.
        """
        namespaces = self.namespaces and not plain
        kernel.die_with_parent()
        if namespaces:
            kernel.fresh_scratch("/tmp", size_bytes=limits["scratch_bytes"], inodes=4096)
            os.chdir("/tmp")
        else:
            os.chdir("/")
        if self.slot_uid is not None and not self.namespaces:
            os.setgroups([])
            os.setresgid(self.slot_uid, self.slot_uid, self.slot_uid)
            os.setresuid(self.slot_uid, self.slot_uid, self.slot_uid)
            kernel.die_with_parent()  # a change of user clears it
        if not namespaces and os.getppid() != self.pid:
            os._exit(0)  # the server died before the kernel knew that this should die with it
        kernel.set_limits(
            cpu_s=limits["cpu_s"],
            memory_bytes=limits["memory_bytes"],
            file_bytes=limits["file_bytes"],
            processes=limits["processes"] + self.others,
        )
        kernel.drop_capabilities()
        kernel.no_new_privileges()
        if self.ruleset >= 0:
            kernel.enter_landlock(self.ruleset)
        self.install_filter[(compiles or self.forks) and not plain, namespaces]()


def _read_all(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0)


def _child(wall: _Wall, job: dict[str, Any], fds: list[int]) -> None:
    """Never returns."""
    code = 99  # our own failure: no sample has run
    try:
        os.setsid()
        binary = job["mode"] == "binary"
        held = fds[0]
        for number, descriptor in enumerate(fds[1:4]):
            os.dup2(descriptor, number)
        if binary:
            os.dup2(held, 3)
        elif held >= 0:
            sample = json.loads(_read_all(held))
        # the ruleset and the server's sockets stay open until the walls are up
        wall.enter(job["limits"], compiles=job["mode"] == "command", plain=job["plain"])
        os.closerange(4 if binary else 3, 1024)
        if binary:
            harness.run_binary(3)
        sample["scratch"] = wall.namespaces and not job["plain"]
        gc.enable()
        code = 98
        _MODES[job["mode"]](sample)
    except BaseException as error:  # noqa: BLE001 - reported by the exit status, whatever it was
        if code == 99:
            os.write(2, f"{type(error).__name__}: {error}".encode(errors="replace"))
    os._exit(code)


def _watch(pid: int, fds: list[int], job: dict[str, Any], control: socket.socket) -> dict[str, Any]:
    """Wait for the child's end; kill it at the output cap or when told to.

    The wall clock is kept outside, where it is seen how long the sample waited for a core; the one
    here ends what outlives that.
    """
    limits = job["limits"]
    started = time.monotonic()
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(control, select.POLLIN)
    killed = None
    while True:
        left = limits["hard_s"] - (time.monotonic() - started)
        ready = poll.poll(max(0.0, min(left, 0.05)) * 1000)
        if any(descriptor == pidfd for descriptor, _ in ready):
            break
        if ready:  # a word from outside while a sample runs means: stop it; its end means: stop all
            killed = "stopped" if control.recv(16) else "orphaned"
        elif left <= 0:
            killed = "wall"
        elif any(os.fstat(fd).st_size >= limits["output_bytes"] for fd in fds[2:4]):
            killed = "output"
        if killed:
            break
    # killing the first process of a namespace ends all of it; elsewhere nothing could fork
    os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    os.close(pidfd)
    if killed == "orphaned":
        os._exit(0)
    return {
        "killed": killed,
        "code": os.waitstatus_to_exitcode(status),
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": time.monotonic() - started,
    }


def serve(control: socket.socket, config: dict[str, Any]) -> None:
    """Answer jobs until the other side closes the socket."""
    kernel.hide_memory()
    try:
        wall = _Wall(config)
    except OSError as error:
        control.send(json.dumps({"refused": str(error)}).encode())
        return
    for name in config["preload"]:
        try:
            __import__(name)
        except ImportError:
            continue
    harness.load_libraries(config["libraries"], config["library_paths"])
    harness.clear_before_forks()
    gc.collect()
    gc.disable()
    gc.freeze()  # pages stay shared with the children
    control.send(json.dumps({"ready": True}).encode())
    while True:
        data, fds, _, _ = socket.recv_fds(control, 1 << 16, 8)
        if not data:
            return
        if not fds:
            continue  # a late word to stop a sample that has ended by itself
        job = json.loads(data)
        try:
            pid = wall.fork(plain=job["plain"])
        except OSError as error:
            answer: dict[str, Any] = {"refused": str(error)}
        else:
            if pid == 0:
                _child(wall, job, fds)
            answer = _watch(pid, fds, job, control)
        for descriptor in fds:
            os.close(descriptor)
        control.send(json.dumps(answer).encode())
