"""A real HTTP server on 127.0.0.1 that speaks the OpenAI protocol and misbehaves as its script says."""

from __future__ import annotations

import asyncio
import json
import threading
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
        return self.body["prompt"] if "prompt" in self.body else self.body["messages"][-1]["content"]


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


Fault = Status | Half | HangUp | Slow


def no_fault(call: Call) -> Fault | None:
    return None


@dataclass
class FakeServer:
    """`with FakeServer(script) as server: server.url`. Without a fault it answers "re: PROMPT" after `latency_s`."""

    script: Callable[[Call], Fault | None] = no_fault
    models: tuple[str, ...] = ("tiny",)
    latency_s: float = 0.0
    finish: str = "stop"
    calls: list[Call] = field(default_factory=list)
    listings: int = 0
    in_flight: int = 0
    most_in_flight: int = 0

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
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
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
        call = Call(request.path, body, dict(request.headers), 0)
        call = Call(request.path, body, dict(request.headers), sum(c.prompt == call.prompt for c in self.calls))
        self.calls.append(call)
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
            case Slow(seconds):
                await asyncio.sleep(seconds)
        return web.json_response(self.answer(call))

    def answer(self, call: Call) -> dict:
        text = f"re: {call.prompt}"
        said = {"message": {"role": "assistant", "content": text}} if "messages" in call.body else {"text": text}
        choice = {"index": 0, "finish_reason": self.finish, **said}
        return {"id": "1", "choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}


def error(message: str) -> str:
    """An error body in OpenAI's shape."""
    return json.dumps({"error": {"message": message, "type": "BadRequestError", "code": 400}})
