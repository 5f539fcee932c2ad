"""A server that speaks the OpenAI API from a record, and misbehaves on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from factory.records import Sampling, ids
from tests.helpers_run import answers, problems

Behave = Callable[[int, dict[str, Any]], str]
"""(number of the request, its body) → what to do with it, see ``Handler``."""


def recorded(
    n: int, n_samples: int, *, model: str, revision: str, sampling: Sampling
) -> dict[int, dict[str, Any]]:
    """Return the recorded answers by the seed that their requests carry."""
    rows = answers(n, n_samples)
    out = {}
    for prompt, _ in problems(n):
        keys = ids.trace_ids(
            prompt_id=prompt.prompt_id, model=model, revision=revision,
            sampling_id=sampling.sampling_id, n=n_samples,
        )  # fmt: skip
        for i, key in enumerate(keys):
            seed = ids.seed_of(base=sampling.seed, trace_id=key)
            out[seed] = {**rows[f"{prompt.prompt_id}:{i}"], "trace_id": key}
    return out


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None: ...


class Server:
    """``with Server(record) as server: server.url``; ``server.asked`` holds the keys asked for."""

    def __init__(
        self, record: dict[int, dict[str, Any]], *, behave: Behave | None = None, port: int = 0,
        seconds_per_token: float = 0.0, split: bool = False,
    ) -> None:  # fmt: skip
        self.record, self.behave, self.split = record, behave, split
        self.seconds_per_token = seconds_per_token
        self.asked: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.n_now = self.n_most = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._http = _Http(("127.0.0.1", port), Handler)
        self._http.owner = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> Server:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None: ...

    def do_GET(self) -> None:
        self._raw(b"ok") if self.path == "/health" else self._status(404, "")

    def do_POST(self) -> None:
        owner: Server = self.server.owner  # type: ignore[attr-defined]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        row = owner.record.get(body.get("seed", -1))
        with owner.lock:
            number = len(owner.bodies)
            owner.bodies.append(body)
            owner.headers.append({k.lower(): v for k, v in self.headers.items()})
            owner.asked.append(row["trace_id"] if row else "")
            owner.n_now += 1
            owner.n_most = max(owner.n_most, owner.n_now)
        try:
            what = owner.behave(number, body) if owner.behave else "answer"
            name, _, argument = what.partition(" ")
            if name.isdigit():
                self._status(int(name), argument)
            else:
                getattr(self, f"_do_{name}")(row, body, argument)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with owner.lock:
                owner.n_now -= 1

    # ---- what it may do

    def _status(self, status: int, argument: str) -> None:
        data = json.dumps({"error": {"message": f"status {status} {argument}"}}).encode()
        self.send_response(status)
        if status == 429 and argument == "date":
            self.send_header("Retry-After", formatdate(time.time() + 1.5, usegmt=True))
        elif status == 429 and argument:
            self.send_header("Retry-After", argument)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _do_answer(self, row: Any, body: Any, argument: str) -> None:
        owner: Server = self.server.owner  # type: ignore[attr-defined]
        if row is None:
            self._status(400, "not recorded")
            return
        n = row["n_completion_tokens"]
        if owner.seconds_per_token:
            time.sleep(n * owner.seconds_per_token)
        if body.get("stream"):
            self._stream(row, body)
        else:
            self._json(self._response(row, n))

    def _do_half(self, row: Any, body: Any, argument: str) -> None:
        if body.get("stream"):
            self._stream(row, body, half=True)
            return
        data = json.dumps(self._response(row, 3)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self.close_connection = True

    def _do_garbage(self, row: Any, body: Any, argument: str) -> None:
        self._raw(b"<html>a proxy's page</html>")

    def _do_empty(self, row: Any, body: Any, argument: str) -> None:
        self._json({"choices": []})

    def _do_error(self, row: Any, body: Any, argument: str) -> None:
        self._json({"error": {"message": "overloaded", "code": 503}})

    def _do_two(self, row: Any, body: Any, argument: str) -> None:
        response = self._response(row, 3)
        response["choices"] *= 2
        self._json(response)

    def _do_blank(self, row: Any, body: Any, argument: str) -> None:
        self._json(self._response({**row, "completion": ""}, 0))

    def _do_hang(self, row: Any, body: Any, argument: str) -> None:
        self.server.owner.closing.wait(30)  # type: ignore[attr-defined]
        self.close_connection = True

    def _do_reset(self, row: Any, body: Any, argument: str) -> None:
        self.close_connection = True
        self.connection.close()

    def _do_loris(self, row: Any, body: Any, argument: str) -> None:
        """Bytes for ever, tokens never."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while not self.server.owner.closing.wait(0.05):  # type: ignore[attr-defined]
            self._chunk(b": still here\n\n")

    # ---- parts of answers

    def _response(self, row: Any, n: int) -> dict[str, Any]:
        message = {"role": "assistant", **self._parts(row["completion"])}
        return {
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": n},
        }

    def _parts(self, text: str) -> dict[str, str]:
        if not self.server.owner.split:  # type: ignore[attr-defined]
            return {"content": text}
        reasoning, _, answer = text.partition("</think>")
        return {"reasoning_content": reasoning, "content": answer}

    def _json(self, value: Any) -> None:
        self._raw(json.dumps(value).encode())

    def _raw(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _stream(self, row: Any, body: Any, *, half: bool = False) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        events: list[dict[str, Any]] = []
        for name, text in self._parts(row["completion"]).items():
            for i in range(0, len(text), 16):
                delta = {name: text[i : i + 16]}
                events.append({"choices": [{"index": 0, "delta": delta}]})
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage = {"prompt_tokens": 9, "completion_tokens": row["n_completion_tokens"]}
        events.append({"choices": [], "usage": usage})
        if half:
            events = events[: len(events) // 2]
        data = b"".join(b"data: " + json.dumps(e).encode() + b"\n\n" for e in events)
        self._chunk(data + (b"" if half else b"data: [DONE]\n\n"))
        if half:
            self.close_connection = True  # without the closing chunk
        else:
            self._chunk(b"")
