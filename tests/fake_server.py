"""A real HTTP server on 127.0.0.1 that speaks the OpenAI protocol and misbehaves as its script says."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(frozen=True)
class Call:
    """One request as the server saw it; `tries` counts earlier calls with the same prompt."""

    path: str
    body: dict
    headers: dict
    tries: int

    @property
    def prompt(self) -> str:
        return asked(self.body)


@dataclass(frozen=True)
class Status:
    code: int
    body: str = ""
    headers: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Half:
    """Promise a long body, send a bit of it, hang up."""


@dataclass(frozen=True)
class HangUp:
    """Close the connection without a word."""


@dataclass(frozen=True)
class Slow:
    seconds: float


@dataclass(frozen=True)
class Raw:
    """These bytes instead of HTTP, then hang up."""

    data: bytes


@dataclass(frozen=True)
class Flood:
    """A reply of so many bytes, sent as a stream without saying its length."""

    size: int


Fault = Status | Half | HangUp | Slow | Raw | Flood


def no_fault(call: Call) -> Fault | None:
    return None


@dataclass
class FakeServer:
    """`with FakeServer(script) as server: server.url`. Without a fault it answers "re: PROMPT" after `latency_s`."""

    script: Callable[[Call], Fault | None] = no_fault
    models: tuple[str, ...] = ("tiny",)
    latency_s: float = 0.0
    finish: str = "stop"
    say: Callable[[Call], str] = lambda call: f"re: {call.prompt}"
    limit: int = 0  # more at once are turned away with 429; 0 takes all
    knows: tuple[str, ...] = ("n", "logprobs")  # what it heeds of what not every server does
    refuses: tuple[str, ...] = ()  # fields it answers with 400
    port: int = 0
    remembers: bool = True
    calls: list[Call] = field(default_factory=list)
    tries: Counter[str] = field(default_factory=Counter)
    listings: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    turned_away: int = 0
    sent: int = 0  # bytes of floods

    def __enter__(self) -> FakeServer:
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve(ready)))
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self, ready: threading.Event) -> None:
        app = web.Application()
        app.router.add_get("/v1/models", self._list)
        app.router.add_post("/v1/completions", self._answer)
        app.router.add_post("/v1/chat/completions", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"
        ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _list(self, request: web.Request) -> web.Response:
        self.listings += 1
        return web.json_response(
            {"object": "list", "data": [{"id": model, "object": "model"} for model in self.models]}
        )

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        prompt = asked(body)
        call = Call(request.path, body, dict(request.headers), self.tries[prompt])
        if self.limit and self.in_flight >= self.limit:
            self.turned_away += 1
            return web.Response(status=429)
        self.tries[prompt] += 1
        if self.remembers:
            self.calls.append(call)
        for name in self.refuses:
            if name in body:
                return web.Response(status=400, text=error(f"{name}: extra inputs are not permitted"))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency_s)
            return await self._respond(request, call)
        finally:
            self.in_flight -= 1

    async def _respond(self, request: web.Request, call: Call) -> web.StreamResponse:
        match self.script(call):
            case Status(code, text, headers):
                return web.Response(status=code, text=text, headers=headers)
            case HangUp():
                request.transport.close()
            case Half():
                request.transport.write(b'HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{"choices": [{"te')
                request.transport.close()
            case Raw(data):
                request.transport.write(data)
                request.transport.close()
            case Flood(size):
                return await self._flood(request, size)
            case Slow(seconds):
                await asyncio.sleep(seconds)
        return web.json_response(self.answer(call))

    async def _flood(self, request: web.Request, size: int) -> web.StreamResponse:
        stream = web.StreamResponse()
        await stream.prepare(request)
        await stream.write(b'{"choices": [{"finish_reason": "stop", "text": "')
        while self.sent < size:
            await stream.write(b"a" * 2**16)
            self.sent += 2**16
        await stream.write(b'"}]}')
        return stream

    def answer(self, call: Call) -> dict:
        n = call.body.get("n", 1) if "n" in self.knows else 1
        choices = [self._choice(call, index) for index in reversed(range(n))]  # servers promise no order
        return {"id": "1", "choices": choices, "usage": {"prompt_tokens": 7, "completion_tokens": 3 * n}}

    def _choice(self, call: Call, index: int) -> dict:
        text = self.say(call) + (f" #{index}" if index else "")
        chat = "messages" in call.body
        said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choice = {"index": index, "finish_reason": self.finish, "logprobs": None, **said}
        if call.body.get("logprobs") is not None and "logprobs" in self.knows:
            likely = {"re": -0.5, "no": -1.5}
            tops = [{"token": token, "logprob": logprob} for token, logprob in likely.items()]
            told = {"tokens": ["re"], "token_logprobs": [-0.5], "top_logprobs": [likely], "text_offset": [0]}
            content = [{"token": "re", "logprob": -0.5, "bytes": None, "top_logprobs": tops}]
            choice["logprobs"] = {"content": content} if chat else told
        return choice


def asked(body: dict) -> str:
    """The prompt of a request, or the last message of its conversation."""
    return body["prompt"] if "prompt" in body else body["messages"][-1]["content"]


def error(message: str) -> str:
    """An error body in OpenAI's shape."""
    return json.dumps({"error": {"message": message, "type": "BadRequestError", "code": 400}})
