"""The model client: asks any number of servers that speak the OpenAI protocol, many requests at a time.

The one rule: requests are read in the caller's thread, only as slots come free, and replies leave as they arrive.
So memory stays constant, nothing waits for a batch to fill, and what the requests' source raises reaches the caller.
An event loop in one background thread does the talking; it lives as long as one `complete()`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar

from reinstruct.errors import LLMError, LLMRefused, LLMUnavailable, RecipeError
from reinstruct.llm import Batch, Reply, Request, Sampling
from reinstruct.served_fleet import Fleet, Server
from reinstruct.served_http import Endpoint, TryAgain, base_url

T = TypeVar("T")
LONGEST_BACKOFF_S = 30.0


@dataclass
class Served:
    """Servers behind the OpenAI protocol, as an `LLM`.

    `urls` with or without /v1, all serving the same `model` (empty: the only one they have). `max_in_flight` counts
    requests per url, `retries` the tries after the first. The key is read from the environment variable `api_key_env`.
    """

    urls: tuple[str, ...]
    model: str = ""
    max_in_flight: int = 64
    timeout_s: float = 600
    retries: int = 6
    api_key_env: str = "OPENAI_API_KEY"
    backoff_s: float = 0.5  # before the first retry; doubles with each

    def __post_init__(self) -> None:
        if not self.urls:
            raise RecipeError("urls: name at least one server, such as http://127.0.0.1:8000")
        for url in self.urls:
            base_url(url)
        if self.max_in_flight < 1:
            raise RecipeError(f"max_in_flight must be at least 1, not {self.max_in_flight}")

    def complete(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Batch]:
        """Each request with its reply, as replies arrive.

        LLMUnavailable after the last retry of any request, LLMRefused on a 4xx; then the rest is not asked.
        """
        talk = _Talk(self, sampling)
        try:
            yield from talk.answers(requests)
        finally:
            talk.close()

    def check(self) -> None:
        """Before anything is spent: LLMUnavailable if no server answers, LLMRefused if none has the model."""
        with ThreadPoolExecutor(1) as thread:  # the caller may have an event loop of its own, as notebooks do
            thread.submit(asyncio.run, self._check()).result()

    async def _check(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            self.model = await settle_model(self.open_endpoints(stack), self.model)

    def open_endpoints(self, stack: contextlib.AsyncExitStack) -> list[Endpoint]:
        """A client per url, closed with the stack. Inside a running event loop."""
        key = os.environ.get(self.api_key_env, "").strip()
        endpoints = [Endpoint(url, key, self.timeout_s) for url in self.urls]
        for endpoint in endpoints:
            stack.push_async_callback(endpoint.close)
        return endpoints


async def settle_model(endpoints: Sequence[Endpoint], model: str) -> str:
    """`model` if it is served, or the only one there is where none is named. Believes the first server that answers.

    A server that does not tell its models is taken to have the one named.
    """
    causes: list[str] = []
    listings = await asyncio.gather(*(endpoint.models() for endpoint in endpoints), return_exceptions=True)
    for endpoint, listing in zip(endpoints, listings, strict=True):
        if isinstance(listing, TryAgain):
            causes.append(f"{endpoint.name}: {listing}")
        elif isinstance(listing, BaseException):
            raise listing
        elif (model and not listing) or model in listing:
            return model
        elif not model and len(listing) == 1:
            return listing[0]
        else:
            wanted = f"no model {model!r}" if model else f"{len(listing)} models"
            raise LLMRefused(f"{endpoint.name} has {wanted}: name one with --model (it serves {', '.join(listing)})")
    names = ", ".join(endpoint.name for endpoint in endpoints)
    raise LLMUnavailable(
        f"no server at {names}: start one with `vllm serve MODEL`, or name another with --server ({'; '.join(causes)})"
    )


def backoff_s(first_s: float, key: str, tries: int) -> float:
    """Doubling pauses, each cut by up to a half, by chance but the same for the same request."""
    pause_s = min(first_s * 2**tries, LONGEST_BACKOFF_S)
    return pause_s * random.Random(f"{key}/{tries}").uniform(0.5, 1.0)


@dataclass(eq=False)
class _Job:
    request: Request
    tries: int = 0
    failed_at: Server | None = None


@dataclass(eq=False)
class _Talk:
    """One `complete()`: the caller's thread puts jobs in `todo` and takes from `replies`; the loop does the rest."""

    settings: Served
    sampling: Sampling
    todo: deque[_Job] = field(default_factory=deque[_Job])
    replies: SimpleQueue[tuple[Request, Reply] | BaseException] = field(
        default_factory=SimpleQueue[tuple[Request, Reply] | BaseException]
    )
    fleet: Fleet | None = None
    woken: bool = False  # a _start_jobs is on its way and will see whatever is put in `todo` now

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="model-client", daemon=True)
        self._thread.start()

    def answers(self, requests: Iterable[Request]) -> Iterator[Batch]:
        source = iter(requests)
        # As many again wait in line, so that servers stay busy while the caller works on a reply.
        limit = 2 * self.settings.max_in_flight * len(self.settings.urls)
        outstanding, more = 0, True
        while True:
            while more and outstanding < limit and self.replies.empty():
                more = self._take(source)
                outstanding += more
            if not outstanding:
                return
            batch, failure = self._arrived()
            if batch:
                yield batch
            if failure is not None:
                raise failure
            outstanding -= len(batch)
            for _ in batch:
                more = more and self._take(source)
                outstanding += more

    def _arrived(self) -> tuple[list[tuple[Request, Reply]], BaseException | None]:
        """Waits for a reply, and takes all that are there, up to a failure."""
        batch: list[tuple[Request, Reply]] = []
        for _ in range(max(1, self.replies.qsize())):
            answer = self.replies.get()
            if isinstance(answer, BaseException):
                return batch, answer
            batch.append(answer)
        return batch, None

    def close(self) -> None:
        """Drop what is in flight and end the thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _take(self, source: Iterator[Request]) -> bool:
        request = next(source, None)
        if request is None:
            return False
        self.todo.append(_Job(request))
        if not self.woken:
            self.woken = True
            self._loop.call_soon_threadsafe(self._start_jobs)
        return True

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()
            self.replies.put(LLMError("the model client has stopped"))  # nobody may wait for ever

    async def _serve(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            endpoints = self.settings.open_endpoints(stack)
            self._spawn(self._settle(endpoints))
            await self._over.wait()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _settle(self, endpoints: list[Endpoint]) -> None:
        settings, tries = self.settings, 0
        while not settings.model:
            try:
                settings.model = await settle_model(endpoints, "")
            except LLMUnavailable:
                if tries >= settings.retries:
                    raise
                await asyncio.sleep(backoff_s(settings.backoff_s, "", tries))
                tries += 1
        self.fleet = Fleet(endpoints, settings.max_in_flight, self._loop.time)
        self._start_jobs()

    def _start_jobs(self) -> None:
        """Hand out what waits while some server is free. Called whenever either may have changed."""
        self.woken = False
        while self.fleet and self.todo and (server := self.fleet.pick(self.todo[0].failed_at)):
            server.in_flight += 1
            self._spawn(self._attempt(self.todo.popleft(), server, self.fleet))

    async def _attempt(self, job: _Job, server: Server, fleet: Fleet) -> None:
        try:
            reply = await server.endpoint.ask(job.request, self.settings.model, self.sampling)
        except TryAgain as error:
            if rest_s := fleet.failed(server):
                self._loop.call_later(rest_s, self._start_jobs)
            self._retry(job, server, error)
        else:
            fleet.succeeded(server)
            self.replies.put((job.request, reply))
        finally:
            server.in_flight -= 1
        self._start_jobs()

    def _retry(self, job: _Job, server: Server, error: TryAgain) -> None:
        """Put the job back in line after a pause; LLMUnavailable if it has had its tries."""
        pause_s = max(error.wait_s, backoff_s(self.settings.backoff_s, job.request.key, job.tries))
        job.tries += 1
        job.failed_at = server
        if job.tries > self.settings.retries:
            raise LLMUnavailable(f"{server.endpoint.name} gave no answer in {job.tries} tries; the last: {error}")
        self._loop.call_later(pause_s, self._rejoin, job)

    def _rejoin(self, job: _Job) -> None:
        self.todo.appendleft(job)
        self._start_jobs()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.replies.put(error)
