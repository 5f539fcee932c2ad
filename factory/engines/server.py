"""A server program that we start: waited for, started again when it dies, never left behind.

Between us and the server stands a guard (``python -m factory.engines.server FD … -- COMMAND``): it
starts the server in a process group of its own, and ends the whole group when the pipe to us
closes, which also happens when we are killed with -9.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.errors import EngineError, UsageError

_LOOK_S = 0.25
_END_S = 10.0
TAIL_LINES = 8


class Served:
    """One server program.

    Args:
        command: program and arguments; ``{port}`` in any of them is replaced. Or what returns
            them and environment variables, asked at the first start: it may read a model's files.
        start_s: longest time from its start to its first healthy answer.
        restarts: times that it is started again after it died.
        log: file for what it writes; default: one in the temporary folder.
        env: further environment variables.
    """

    def __init__(
        self,
        command: Sequence[str] | Callable[[], tuple[list[str], dict[str, str]]],
        *,
        start_s: float = 900.0,
        restarts: int = 3,
        log: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._command, self._env = command, dict(env or {})
        self.start_s, self._restarts = start_s, restarts
        self.port = _free_port()
        self.log = Path(log) if log else Path(tempfile.gettempdir(), f"server-{self.port}.log")
        self.url = f"http://127.0.0.1:{self.port}"
        self.n_deaths = 0
        self._guard: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._starts_since: float | None = None

    def ensure(self) -> None:
        """Start the server, unless it runs, and wait until it answers: ``starting`` to its end."""
        for _ in self.starting():
            pass

    def starting(self) -> Iterator[None]:
        """Start the server, unless it runs; yield several times a second until it answers.

        Raises:
            EngineError: it ends, or is not healthy in time; with the last lines of its log.
        """
        if self._guard is not None:
            return
        guard = self._start()
        begun = self._starts_since = time.monotonic()
        while not self._is_healthy():
            if guard.poll() is not None:
                self._restarts = 0  # what does not come up once will not the next time
            self.check()
            if time.monotonic() > begun + self.start_s:
                self.close()
                raise EngineError(
                    f"the server was not healthy after {self.start_s:.0f} s{self._tail()}",
                    f"see {self.log}, or raise serve.start_s",
                )
            yield
            time.sleep(_LOOK_S)
        self._starts_since = None

    def waits_for(self) -> str | None:
        """Say how long the server has been starting; None where it does not."""
        if self._starts_since is None:
            return None
        seconds = time.monotonic() - self._starts_since
        return f"the server starts: {seconds:.0f} s of at most {self.start_s:.0f} s"

    def check(self) -> None:
        """Start the server again where it has died; whoever asks it waits meanwhile.

        Raises:
            EngineError: it has died too often; with the last lines of its log.
        """
        if self._guard is None or self._guard.poll() is None:
            return
        status = self._guard.returncode
        self.close()
        self.n_deaths += 1
        if self.n_deaths > self._restarts:
            raise EngineError(
                f"the server ended with status {status}"
                + (f", {self.n_deaths} times" if self.n_deaths > 1 else "")
                + self._tail(),
                f"see {self.log}; what was committed is kept",
            )
        self._start()

    def close(self) -> None:
        """End the server and all that it started."""
        if self._guard is None:
            return
        os.close(self._pipe)
        try:
            self._guard.wait(_END_S + 5)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        self._guard = None

    def _start(self) -> subprocess.Popen[bytes]:
        theirs, self._pipe = os.pipe()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if callable(self._command):
            self._command, defaults = self._command()
            self._env = {**defaults, **self._env}
        command = [part.replace("{port}", str(self.port)) for part in self._command]
        with self.log.open("ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-m", "factory.engines.server", str(theirs), "--", *command],
                pass_fds=[theirs],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
                    **self._env,
                },
                start_new_session=True,  # Ctrl-C is for us, who drain first
            )
        os.close(theirs)
        return self._guard

    def _is_healthy(self) -> bool:
        import httpx

        try:
            # No proxy of the environment stands between us and our own machine.
            with httpx.Client(trust_env=False, timeout=1.0) as client:
                return client.get(f"{self.url}/health").status_code == 200
        except httpx.HTTPError:
            return False

    def _tail(self) -> str:
        with contextlib.suppress(OSError):
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - 8192))
                lines = file.read().decode("utf-8", "replace").splitlines()
            last = [line.strip()[:300] for line in lines if line.strip()][-TAIL_LINES:]
            if last:
                return "; the last that it said: " + " | ".join(last)
        return ""


def served(model: str, options: Mapping[str, Any]) -> Served:
    """Return the server that the option ``serve`` describes; nothing is started.

    Args:
        model: what it serves, where ``options`` name no other.
        options: ``model``; ``args``: of the vLLM server, name → value (True: a flag alone, False:
            left out); ``command`` instead of vLLM; and those of ``Served``.

    Raises:
        UsageError: an option that there is not.
    """
    given = dict(options)
    path, args = str(given.pop("model", model)), dict(given.pop("args", None) or {})
    command = given.pop("command", None)
    env = dict(given.pop("env", None) or {})
    if any(name.replace("_", "-") == "trust-remote-code" and args[name] for name in args):
        raise UsageError("serve.args.trust-remote-code", "models run without code of their own")
    if command is not None and args:
        raise UsageError("serve has both command and args", "write the arguments into command")
    try:
        made = [str(part) for part in command] if command else lambda: vllm_command(path, args)
        return Served(made, env=env, **given)
    except TypeError as error:
        raise UsageError(
            f"serve: {error}", "it takes model, args, command, start_s, restarts, log, env"
        ) from None


def vllm_command(model: str, args: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Return the command that serves ``model`` with vLLM, and its environment."""
    from factory.engines.vllm_cpu import cpu_settings
    from factory.engines.vllm_start import has_cuda

    settings: dict[str, Any] = {"load-format": "safetensors"}
    env = {"VLLM_NO_USAGE_STATS": "1"}
    if not has_cuda():
        given = {k.replace("-", "_"): v for k, v in args.items()}
        asked = {k: given[k] for k in ("max_model_len", "max_num_seqs", "dtype") if k in given}
        settings |= {k.replace("_", "-"): v for k, v in cpu_settings(model, **asked).items()}
        env |= {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        env["TORCHDYNAMO_DISABLE"] = "1"
    settings |= {k.replace("_", "-"): v for k, v in args.items()}
    settings.pop("trust-remote-code", None)
    words: list[str] = []
    for name, value in settings.items():
        if value is True:
            words.append(f"--{name}")
        elif value is False:
            words += [f"--no-{name}"] if name == "enable-chunked-prefill" else []
        elif value is not None:
            words += [f"--{name}", str(value)]
    # Not `vllm serve`: the CPU build's own command asks for a package that it is not.
    program = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    where = ["--host", "127.0.0.1", "--port", "{port}"]
    return [*program, "--model", model, "--served-model-name", model, *where, *words], env


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---- the guard's side


def _guard(pipe: int, command: list[str]) -> int:
    """Run the command until it ends or the pipe closes; leave nothing of its group behind."""
    server = subprocess.Popen(command, process_group=0)
    try:
        while server.poll() is None:
            if select.select([pipe], [], [], _LOOK_S)[0]:
                _signal(server.pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(_END_S)
                break
    finally:
        _signal(server.pid, signal.SIGKILL)
    return server.wait()


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    # A guard that is asked to end takes the server with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(_guard(int(sys.argv[1]), sys.argv[3:]) & 0xFF)
    except FileNotFoundError as error:
        sys.exit(f"cannot start {error.filename}")
