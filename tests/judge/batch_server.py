"""A server on loopback with files and batches as the OpenAI API has them, and faults by script.

    with BatchServer() as server:
        Endpoint(base_url=server.url, model="judge")

A batch ends at the second look; `server.end` says how: it takes the batch's requests and the batch's number, and
returns an `End`. Chat completions are answered at once, with the same verdicts.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
Request = dict[str, Any]


@dataclass
class End:
    """How a batch ends."""

    status: str = "completed"
    output: list[bytes] | None = None  # lines; None: no such file
    errors: list[bytes] | None = None
    said: list[dict[str, Any]] = field(default_factory=list)


def completion(body: dict[str, Any], content: Any = None, **changes: Any) -> dict[str, Any]:
    """A chat completion; by default with a verdict that depends on the messages and the repeat alone."""
    if content is None:
        repeat = (body.get("seed") or 0) % 1_000_000
        byte = hashlib.sha256(json.dumps([body["messages"], repeat]).encode()).digest()[0]
        content = json.dumps({"reason": f"byte {byte}", "score": byte % 2})
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop", **changes}
    head = {"id": "c", "object": "chat.completion", "created": 0, "model": f"{body['model']}-2024"}
    return {**head, "choices": [choice], "usage": USAGE}


def answered(request: Request, content: Any = None, **changes: Any) -> bytes:
    """An output line with a completion."""
    body = completion(request["body"], content, **changes)
    response = {"status_code": 200, "request_id": "r", "body": body}
    return _line({"id": "b", "custom_id": request["custom_id"], "response": response, "error": None})


def refused(request: Request, status: int, message: str, param: str | None = None) -> bytes:
    """An error line as the API writes it for a request that it did not take."""
    body = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}}
    response = {"status_code": status, "request_id": "r", "body": body}
    return _line({"id": "b", "custom_id": request["custom_id"], "response": response, "error": None})


def expired(request: Request) -> bytes:
    """An error line as the API writes it for a request that the day was too short for."""
    error = {"code": "batch_expired", "message": "not executed before the completion window ended"}
    return _line({"id": "b", "custom_id": request["custom_id"], "response": None, "error": error})


def all_answered(requests: list[Request], number: int) -> End:
    """Everything is answered, last request first."""
    return End(output=[answered(request) for request in reversed(requests)])


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


class BatchServer:
    """Serves between `with` and its end.

    `fault` is asked before every request is answered, with method and path; it returns None, a status to be answered
    with, "cut" to close the connection instead, or "lose" to do what was asked and then close it.
    """

    def __init__(self, end: Callable[[list[Request], int], End] = all_answered) -> None:
        self.end = end
        self.fault: Callable[[str, str], int | str | None] = lambda method, path: None
        self.looks = 1  # that find a batch under way
        self.page = 2  # batches in a page of the list
        self.files: dict[str, bytes] = {}
        self.batches: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []  # bodies of chat completions
        self.requests: list[str] = []

    def __enter__(self) -> BatchServer:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def sent(self, number: int = -1) -> list[Request]:
        """The requests of a batch."""
        return self._requests(self.batches[number])

    def answer(self, method: str, path: str, query: dict[str, list[str]], raw: bytes, kind: str) -> Any:
        """What is said to one request; bytes are a file, None is 404."""
        match method, path.strip("/").split("/")[1:]:
            case "POST", ["files"]:
                return self._upload(raw, kind)
            case "GET", ["files", name, "content"]:
                return self.files.get(name)
            case "POST", ["batches"]:
                return self._make(json.loads(raw))
            case "GET", ["batches"]:
                return self._list(query.get("after", [""])[0])
            case "GET", ["batches", name]:
                found = [batch for batch in self.batches if batch["id"] == name]
                return self._look(found[0]) if found else None
            case "POST", ["chat", "completions"]:
                body = json.loads(raw)
                self.asked.append(body)
                return completion(body)
        return None

    def _upload(self, raw: bytes, kind: str) -> dict[str, Any]:
        message = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + raw)
        parts = {part.get_param("name", header="content-disposition"): part for part in message.get_payload()}
        assert parts["purpose"].get_payload().strip() == "batch"
        name = f"file-{len(self.files)}"
        self.files[name] = parts["file"].get_payload(decode=True)
        return {"id": name, "object": "file", "purpose": "batch", "bytes": len(self.files[name])}

    def _make(self, asked: dict[str, Any]) -> dict[str, Any]:
        number = len(self.batches)
        batch = {
            "id": f"batch-{number}",
            "object": "batch",
            "status": "validating",
            "created_at": 2_000_000_000 + number,
        }
        self.batches.append({**batch, **asked, "looks": 0})
        return self.batches[-1]

    def _list(self, after: str) -> dict[str, Any]:
        newest_first = self.batches[::-1]
        start = next((i + 1 for i, batch in enumerate(newest_first) if batch["id"] == after), 0)
        shown = newest_first[start : start + self.page]
        return {"object": "list", "data": shown, "has_more": start + self.page < len(newest_first)}

    def _requests(self, batch: dict[str, Any]) -> list[Request]:
        return [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]

    def _look(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch["looks"] += 1
        if batch["looks"] <= self.looks:
            batch["status"] = "in_progress"
        elif batch["status"] in ("validating", "in_progress"):
            end = self.end(self._requests(batch), self.batches.index(batch))
            batch["status"] = end.status
            for key, lines in (("output_file_id", end.output), ("error_file_id", end.errors)):
                if lines is not None:
                    batch[key] = f"{batch['id']}-{key}"
                    self.files[batch[key]] = b"".join(lines)
            batch["errors"] = {"object": "list", "data": end.said} if end.said else None
        return batch


def _handler(server: BatchServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            address = urlsplit(self.path)
            server.requests.append(f"{self.command} {address.path}")
            fault = server.fault(self.command, address.path)
            if isinstance(fault, int):
                return self._send(fault, {"error": {"message": f"scripted, said to {self.headers['Authorization']}"}})
            if fault != "cut":
                kind = self.headers.get("Content-Type", "")
                said = server.answer(self.command, address.path, parse_qs(address.query), raw, kind)
            if fault:
                self.close_connection = True
                return self.connection.close()
            if said is None:
                return self._send(404, {"error": {"message": f"no {address.path}"}})
            return self._send(200, said)

        def _send(self, status: int, said: Any) -> None:
            data = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/octet-stream" if data is said else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    return Handler
