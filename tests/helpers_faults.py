"""What servers do wrong, or in a way of their own: a table, and a server that does it on demand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from factory.engines.openai import Engine
from factory.records import Sampling, ids
from factory.stages.generate import Generated, generate
from factory.stages.generate.policy import Policy
from factory.store import Store
from tests.helpers_run import answers, problems
from tests.helpers_server import Handler, Server

MODEL, REVISION = "m", "label"
SAMPLING = Sampling(temperature=0.7, max_tokens=64)
FIXED = Policy(kind="fixed", n=4)
QUICK: dict[str, Any] = {"backoff_s": 0.01, "max_backoff_s": 0.05, "stall_s": 1.0, "tries": 8}
Row = dict[str, Any]
EVENTS = "text/event-stream"
LS, NEL = "\u2028", "\u0085"


def record(n: int, *, text: Callable[[str], str] = str) -> dict[int, Row]:
    """Recorded answers by seed."""
    rows, out = answers(n, 4), {}
    for prompt, _ in problems(n):
        keys = ids.trace_ids(
            prompt_id=prompt.prompt_id, model=MODEL, revision=REVISION,
            sampling_id=SAMPLING.sampling_id, n=4,
        )  # fmt: skip
        for i, key in enumerate(keys):
            row = rows[f"{prompt.prompt_id}:{i}"]
            seed = ids.seed_of(base=SAMPLING.seed, trace_id=key)
            out[seed] = {**row, "trace_id": key, "completion": text(row["completion"])}
    return out


def engine_for(url: str | list[str], **options: Any) -> Engine:
    return Engine(MODEL, base_url=url, revision=REVISION, **{**QUICK, **options})


def run(store: Store, engine: Engine, n: int = 3, **options: Any) -> Generated:
    options = {"policy": FIXED, "verify": False, **options}
    return generate(store, problems(n), engine, sampling=SAMPLING, **options)


def usage_of(row: dict[str, Any]) -> dict[str, Any]:
    return {"prompt_tokens": 9, "completion_tokens": row["n_completion_tokens"]}


def whole(row: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A whole response; ``changes`` of ``message``, of the choice (``finish_reason``) or of it."""
    message = changes.pop("message", {"role": "assistant", "content": row["completion"]})
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    choice |= {k: changes.pop(k) for k in ("finish_reason", "index", "logprobs") if k in changes}
    return {"choices": [choice], "usage": usage_of(row), **changes}


def pieces(row: dict[str, Any], n: int = 16, name: str = "content") -> list[dict[str, Any]]:
    """The events of a stream; an empty delta with the finish reason, then the usage."""
    text = row["completion"]
    found: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {name: text[i : i + n]}}]}
        for i in range(0, len(text), n)
    ]
    found.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return [*found, {"choices": [], "usage": usage_of(row)}]


def halves(text: str) -> tuple[str, str]:
    thought, _, answer = text.partition("</think>")
    return thought, answer


def sse(events: list[Any], end: bytes = b"\n", *, space: bytes = b" ") -> bytes:
    """Events as bytes, raw characters kept."""
    blocks = [json.dumps(e, ensure_ascii=False).encode() for e in events]
    return b"".join(b"data:" + space + b + end + end for b in (*blocks, b"[DONE]"))


class FaultHandler(Handler):
    """Does what the words of ``faults.py`` say; see ``BEHAVIOURS``."""

    def do_GET(self) -> None:
        owner: FaultServer = self.server.owner  # type: ignore[attr-defined]
        if self.path.endswith("/models"):
            self._json({"data": [{"id": "m", "owned_by": owner.owned_by}]})
        else:
            super().do_GET()

    def _send(self, data: bytes, kind: str, cut: int) -> None:
        """Send a body in pieces of ``cut`` bytes."""
        self.send_response(200)
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for i in range(0, len(data), cut or len(data)):
            self._chunk(data[i : i + (cut or len(data))])
        self._chunk(b"")

    def _refuse(self, status: int, value: Any, **headers: str) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _do_value(self, row: Any, body: Any, argument: str) -> None:
        """A whole response, made by the test; ``argument``: NAME, or NAME|."""
        owner: FaultServer = self.server.owner  # type: ignore[attr-defined]
        self._json(owner.make[argument.partition("|")[0]](row))

    def _do_stream(self, row: Any, body: Any, argument: str, *, kind: str = EVENTS) -> None:
        """Raw bytes of a stream, made by the test; ``argument``: NAME, or NAME|BYTES of a piece."""
        owner: FaultServer = self.server.owner  # type: ignore[attr-defined]
        name, _, cut = argument.partition("|")
        self._send(owner.make[name](row), kind, int(cut or 0))

    def _do_untyped(self, row: Any, body: Any, argument: str) -> None:
        self._do_stream(row, body, argument, kind="")

    def _do_refuse(self, row: Any, body: Any, argument: str) -> None:
        """A status with a body and headers, made by the test."""
        owner: FaultServer = self.server.owner  # type: ignore[attr-defined]
        status, value, headers = owner.make[argument](row)
        self._refuse(status, value, **headers)


class FaultServer(Server):
    """A server whose answers are made by the functions in ``make``, by name."""

    owned_by = "somebody"

    def __init__(self, record: Any, *, make: dict[str, Any], **options: Any) -> None:
        super().__init__(record, **options)
        self.make = make
        self._http.RequestHandlerClass = FaultHandler
