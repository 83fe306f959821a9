"""An OpenAI-compatible server on loopback that answers as a script tells it, and remembers what it was asked.

    with Server() as server:
        Endpoint(base_url=server.url, model="judge")

    python tests/judge/server.py --latency 1      # prints its address, and serves until its standard input is closed

By default it gives a verdict that depends on the messages alone. A script is a function of the request's body and of
how often the same question has come before; it returns what to do, an `Answer` or None for the default.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PRICE_TOKENS = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


@dataclass(frozen=True)
class Answer:
    """What the server does. Without a body it sends a chat completion with `content`."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content: Any = None
    changes: dict[str, Any] = field(default_factory=dict)  # of the first choice
    message: dict[str, Any] = field(default_factory=dict)
    delay: float = 0.0
    cut: bool = False  # close the connection instead of an answer, or in the middle of a body
    drip: float = 0.0  # seconds between the bytes of the body


Script = Callable[[dict[str, Any], int], Answer | None]


def question_of(body: dict[str, Any]) -> str:
    """Tells questions apart whatever the parameters of the ask, but for the repeat, which is in the seed."""
    return json.dumps([body["messages"], (body.get("seed") or 0) % 1_000_000], sort_keys=True)


def verdict(body: dict[str, Any]) -> str:
    """A verdict that depends on the messages and the repeat alone."""
    byte = hashlib.sha256(question_of(body).encode()).digest()[0]
    return json.dumps({"reason": f"because of byte {byte}", "score": byte % 2})


def error(status: int, message: str, param: str | None = None, **headers: str) -> Answer:
    """An error as the OpenAI API words it."""
    body = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}}
    return Answer(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(body).encode()
    )


class Server:
    """Serves from a thread of its own, between `with` and its end."""

    def __init__(self, script: Script | None = None, latency: float = 0.0, keep: bool = True) -> None:
        self.script, self.latency, self._keep = script, latency, keep
        self.bodies: list[dict[str, Any]] = []
        self.raw: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.asked: Counter[str] = Counter()  # arrived
        self.answered: Counter[str] = Counter()  # given a verdict, which is what costs money
        self.under_way = self.most_under_way = self.requests = 0
        self.loop = asyncio.new_event_loop()

    def __enter__(self) -> Server:
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._main(started))
        self.loop.close()

    async def _main(self, started: threading.Event) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=256)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        started.set()
        await self._stop.wait()
        server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not reader.at_eof():
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                raw = await reader.readexactly(int(headers.get("content-length", 0)))
                self.under_way += 1
                self.most_under_way = max(self.most_under_way, self.under_way)
                try:
                    keep_open = await self._respond(writer, lines[0], headers, raw)
                finally:
                    self.under_way -= 1
                if not keep_open:
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return  # the client was killed, or the server is closing
        finally:
            writer.close()

    async def _respond(self, writer: Any, start: str, headers: dict[str, str], raw: bytes) -> bool:
        self.requests += 1
        if not start.startswith("POST /v1/chat/completions "):
            answer, body = error(404, f"no such path: {start}"), {}
        else:
            body = json.loads(raw)
            question = question_of(body)
            if self._keep:
                self.bodies.append(body)
                self.raw.append(raw)
                self.headers.append(headers)
            times = self.asked[question]
            self.asked[question] += self._keep
            answer = (self.script(body, times) if self.script else None) or Answer()
            await asyncio.sleep(self.latency + answer.delay)
            if self._keep and answer.status == 200 and not answer.cut:
                self.answered[question] += 1
        return await _send(writer, answer, _payload(answer, body))


def _payload(answer: Answer, body: dict[str, Any]) -> bytes:
    if answer.body is not None:
        return answer.body
    content = verdict(body) if answer.content is None else answer.content
    message = {"role": "assistant", "content": content, **answer.message}
    choice = {"index": 0, "message": message, "finish_reason": "stop", **answer.changes}
    completion = {"id": "c", "object": "chat.completion", "created": 0, "model": f"{body['model']}-2024"}
    return json.dumps({**completion, "choices": [choice], "usage": PRICE_TOKENS}).encode()


async def _send(writer: asyncio.StreamWriter, answer: Answer, payload: bytes) -> bool:
    """Sends the answer; returns whether the connection stays open."""
    if answer.cut:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nContent-Type: application/json\r\n\r\n{")
        await writer.drain()
        return False
    headers = {"Content-Type": "application/json", "Content-Length": str(len(payload)), **answer.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {answer.status} Scripted\r\n{head}\r\n".encode("latin-1"))
    for at in range(0, len(payload) if answer.drip else 0):
        writer.write(payload[at : at + 1])
        await writer.drain()
        await asyncio.sleep(answer.drip)
    writer.write(b"" if answer.drip else payload)
    await writer.drain()
    return True


def main() -> None:
    """Serve until standard input is closed, then print how often each question was asked, as a histogram."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--forget", action="store_true", help="keep nothing, for long runs")
    arguments = parser.parse_args()
    with Server(latency=arguments.latency, keep=not arguments.forget) as server:
        print(server.url, flush=True)
        sys.stdin.read()
        counts = Counter(server.asked.values())
        print(json.dumps({"requests": server.requests, "asked": dict(counts), "most": server.most_under_way}))


if __name__ == "__main__":
    main()
