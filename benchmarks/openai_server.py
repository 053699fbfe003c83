"""A server that speaks just enough of the OpenAI protocol, as fast as Python can, and fails as often as told.

    python benchmarks/openai_server.py [--latency-ms 200] [--share-500 0.05] [--share-429 0.05] [--share-dropped 0.01]

Prints its port. /stats tells what it saw and forgets it: calls, the seconds from the first call's arrival to the last
answer, and the most calls in flight. With uvloop where that is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import time

REPLY = "A quiet river runs past the mill, and the miller counts his sacks before dusk. " * 8
CHOICE = {"index": 0, "message": {"role": "assistant", "content": REPLY}, "text": REPLY, "finish_reason": "stop"}
USAGE = {"prompt_tokens": 210, "completion_tokens": 120, "total_tokens": 330}
MODELS = {"object": "list", "data": [{"id": "instant", "object": "model"}]}
CLOSES = re.compile(rb"connection: *close", re.IGNORECASE)
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def response(content: object, status: str = "200 OK", headers: str = "") -> bytes:
    body = json.dumps(content).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


ANSWER = response({"id": "1", "object": "chat.completion", "model": "instant", "choices": [CHOICE], "usage": USAGE})
BROKEN = response({"error": {"message": "out of luck"}}, "500 Internal Server Error")
LIMITED = response({"error": {"message": "too many requests"}}, "429 Too Many Requests", "retry-after: 1\r\n")


class Seen:
    """What came since the latest /stats."""

    def __init__(self) -> None:
        self.calls = self.answered = self.in_flight = self.most_in_flight = 0
        self.first = self.last = 0.0

    def began(self) -> None:
        self.first = self.first or time.perf_counter()
        self.calls += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def ended(self) -> None:
        self.in_flight -= 1
        self.last = time.perf_counter()

    def told(self) -> dict[str, float]:
        found = {"calls": self.calls, "answered": self.answered, "most_in_flight": self.most_in_flight}
        window_s = self.last - self.first
        self.__init__()
        return {**found, "window_s": window_s}


class Connection(asyncio.Protocol):
    """One client connection; requests on it come one after the other."""

    def __init__(self, options: argparse.Namespace, seen: Seen, chance: random.Random) -> None:
        self._options = options
        self._seen = seen
        self._chance = chance
        self._buffer = b""
        self._closes = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = LENGTH.search(self._buffer, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            self._closes = bool(CLOSES.search(self._buffer, 0, end))
            path, self._buffer = self._buffer.split(b" ", 2)[1], self._buffer[whole:]
            self._handle(path)

    def _handle(self, path: bytes) -> None:
        if b"/stats" in path:
            self._transport.write(response(self._seen.told()))
        elif b"/completions" in path:
            self._seen.began()
            if self._options.latency_ms:
                asyncio.get_running_loop().call_later(self._options.latency_ms / 1000, self._answer)
            else:
                self._answer()
        else:
            self._transport.write(response(MODELS))

    def _answer(self) -> None:
        options, draw = self._options, self._chance.random()
        self._seen.ended()
        if self._transport.is_closing():
            return
        if draw < options.share_dropped:
            self._transport.close()
        elif draw < options.share_dropped + options.share_500:
            self._transport.write(BROKEN)
        elif draw < options.share_dropped + options.share_500 + options.share_429:
            self._transport.write(LIMITED)
        else:
            self._seen.answered += 1
            self._transport.write(ANSWER)
        if self._closes:
            self._transport.close()


async def serve(options: argparse.Namespace) -> None:
    seen, chance = Seen(), random.Random(7)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(options, seen, chance), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("latency-ms", "share-500", "share-429", "share-dropped"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    options = parser.parse_args()
    try:
        import uvloop

        uvloop.run(serve(options))
    except ImportError:
        asyncio.run(serve(options))


if __name__ == "__main__":
    main()
