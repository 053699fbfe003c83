"""One `complete()` of the model client: a thread with an event loop asks, the caller's thread reads and is answered.

The one rule: requests are read in the caller's thread, only as slots come free, and replies leave as they arrive.
So memory stays constant, nothing waits for a batch to fill, and what the requests' source raises reaches the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from reinstruct.errors import LLMError, LLMUnavailable
from reinstruct.llm import Batch, Reply, Request, Sampling
from reinstruct.served_fleet import Fleet, Server
from reinstruct.served_http import Endpoint
from reinstruct.served_protocol import Blame, TryAgain
from reinstruct.served_stats import ClientCounters
from reinstruct.served_terms import Terms, backoff_s, pause_before_retry_s


@dataclass(eq=False)
class _Job:
    request: Request
    tries: int = 0  # that may have failed because of the request
    waits: int = 0  # for servers that had no room, or were away
    failed_at: Server | None = None
    until: float = 0.0  # on the loop's clock; 0 before the first try


class Talk:
    """The caller's thread puts jobs in `_todo` and takes from `_replies`; the loop does the rest."""

    def __init__(self, terms: Terms, sampling: Sampling, stats: ClientCounters) -> None:
        self.model = terms.model
        self._terms = terms
        self._sampling = sampling
        self._stats = stats
        self._todo: deque[_Job] = deque()
        self._replies: SimpleQueue[list[tuple[Request, Reply]] | BaseException] = SimpleQueue()
        self._arriving: list[tuple[Request, Reply]] = []  # on the loop's side, until they are handed over together
        self._hungry = True  # servers have room and `_todo` is empty: whoever puts something there says so
        self._stopped = False
        self._exhausted = False
        self._ready = False  # servers and model are known
        self._ill_since: float | None = None  # since when no server is well
        self._attempts = 0
        self._open: set[Endpoint] = set()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._fleet = Fleet(terms.max_in_flight, terms.timeout_s, self._loop.time)
        self._thread = threading.Thread(target=self._run, name="model-client", daemon=True)
        self._thread.start()

    def answers(self, requests: Iterable[Request]) -> Iterator[Batch]:
        source = iter(requests)
        outstanding, more = 0, True
        while True:
            while more and outstanding < self._most_outstanding() and self._replies.empty():
                more = self._take(source)
                outstanding += more
            if not outstanding and self._exhausted:
                return
            if not outstanding and self._replies.empty():  # else it failed before anything was asked
                raise self._was_stopped()
            batch, failure = self._arrived()
            if batch:
                yield batch
            if failure is not None:
                raise failure
            outstanding -= len(batch)
            for _ in batch:
                more = more and self._take(source)
                outstanding += more

    def stop(self, drain_s: float) -> None:
        """From any thread: ask nothing more, and fail in `drain_s` or as soon as nothing is in flight."""
        self._stopped = True
        self._tell(self._stop, drain_s)

    def close(self) -> None:
        """Drop what is in flight and end the thread."""
        self._tell(self._over.set)
        self._thread.join()

    def _most_outstanding(self) -> int:
        """As many as in flight wait in line, so that servers stay busy while the caller works on a reply."""
        return 2 * self._terms.max_in_flight * max(self._terms.servers, len(self._fleet.servers))

    def _arrived(self) -> tuple[list[tuple[Request, Reply]], BaseException | None]:
        """Waits for a reply, and takes all that are there, up to a failure."""
        batch: list[tuple[Request, Reply]] = []
        for _ in range(max(1, self._replies.qsize())):
            answer = self._replies.get()
            if isinstance(answer, BaseException):
                return batch, answer
            batch += answer
        return batch, None

    def _take(self, source: Iterator[Request]) -> bool:
        if self._stopped:
            return False
        request = next(source, None)
        if request is None:
            self._exhausted = True
            return False
        self._todo.append(_Job(request))
        if self._hungry:
            self._hungry = False
            self._tell(self._start_jobs)
        return True

    def _tell(self, callback: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(callback, *args)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()
            self._replies.put(LLMError("the model client has stopped"))  # nobody may wait for ever

    async def _serve(self) -> None:
        self._stats.replicas = self._fleet.stats
        if self._terms.deadline_s:
            self._loop.call_later(self._terms.deadline_s, self._fail, self._out_of_time())
        self._spawn(self._settle())
        await self._over.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(endpoint.close() for endpoint in self._open))
        await asyncio.sleep(0)  # a transport closes its socket one round of the loop after it is told to

    def _out_of_time(self) -> LLMUnavailable:
        return LLMUnavailable(f"not all requests were answered within the deadline of {self._terms.deadline_s:g} s")

    async def _settle(self) -> None:
        """Find the servers and the model; then go on looking for servers, where they may change."""
        began, tries = self._loop.time(), 0
        while not self._ready:
            try:
                await self._look_up()
                if not self.model:
                    self.model = await self._terms.settle([server.endpoint for server in self._fleet.servers], "")
                self._ready = True
            except LLMUnavailable:
                pause_s = backoff_s(self._terms.backoff_s, "", tries)
                if self._loop.time() + pause_s - began > self._terms.patience_s:
                    raise
                await asyncio.sleep(pause_s)
                tries += 1
        self._start_jobs()
        while self._terms.resolve_s:
            await asyncio.sleep(self._terms.resolve_s)
            with contextlib.suppress(LLMUnavailable):
                await self._look_up()
            self._start_jobs()

    async def _look_up(self) -> None:
        """Let servers that are new join, and those that are gone leave."""
        found = {address.base: address for address in await self._terms.find()}
        known = {server.endpoint.base for server in self._fleet.servers}
        new = [self._terms.open(address) for base, address in found.items() if base not in known]
        self._open.update(new)
        self._fleet.join(new)
        for server in self._fleet.leave(known - found.keys()):
            self._close_if_left(server)

    def _close_if_left(self, server: Server) -> None:
        if server.leaving and not server.in_flight:
            self._open.discard(server.endpoint)
            self._spawn(server.endpoint.close())

    def _start_jobs(self) -> None:
        """Hand out what waits while some server is free. Called whenever either may have changed."""
        while self._ready and (server := self._fleet.pick(self._todo[0].failed_at if self._todo else None)):
            if not self._todo:
                self._hungry = True
                if not self._todo:  # still: what is put there from now on is told
                    return
            server.in_flight += 1
            self._attempts += 1
            self._spawn(self._attempt(self._todo.popleft(), server))

    async def _attempt(self, job: _Job, server: Server) -> None:
        server.calls += 1
        sent_in, began = server.window.round, self._stats.began()
        job.until = job.until or self._loop.time() + self._terms.request_deadline_s
        room_s = max(job.until - self._loop.time(), 0.001)
        try:
            reply = await server.endpoint.ask(job.request, self.model, self._sampling, room_s)
        except TryAgain as error:
            if error.blame is Blame.BUSY or error.cause == "timed_out":
                server.window.refused(sent_in)
            self._stats.failed(error.cause)
            self._retry(job, server, error)
        else:
            self._ill_since = None
            self._fleet.succeeded(server)
            took_s = self._stats.replied(began, reply.prompt_tokens, reply.completion_tokens)
            server.window.replied(sent_in, took_s)
            self._hand_over(job.request, reply)
        finally:
            self._stats.ended()
            self._attempts -= 1
            server.in_flight -= 1
        self._close_if_left(server)
        self._stop_if_idle()
        self._start_jobs()

    def _retry(self, job: _Job, server: Server, error: TryAgain) -> None:
        """Put the job back in line after a pause; LLMUnavailable if it has had its tries or there is no hope."""
        terms, now, name = self._terms, self._loop.time(), server.endpoint.name
        if rest_s := self._fleet.failed(server, error.wait_s):
            self._loop.call_later(rest_s, self._start_jobs)
        self._ill_since = None if self._fleet.some_well() else self._ill_since or now
        is_own = error.blame is Blame.REQUEST
        pause_s = pause_before_retry_s(terms.backoff_s, job.request.key, job.tries if is_own else job.waits, error)
        job.tries += is_own
        job.waits += not is_own
        job.failed_at = server
        if job.tries > terms.retries:
            raise LLMUnavailable(f"{name} gave no answer in {job.tries} tries; the last: {error}")
        if now + pause_s > job.until:
            within = f"request {job.request.key} had no answer within {terms.request_deadline_s:g} s"
            raise LLMUnavailable(f"{within}; the last, of {name}: {error}")
        if self._ill_since is not None and now - self._ill_since > terms.patience_s:
            raise LLMUnavailable(f"no server has answered for {terms.patience_s:g} s; the last, {name}: {error}")
        self._loop.call_later(pause_s, self._rejoin, job)

    def _rejoin(self, job: _Job) -> None:
        if not self._stopped:
            self._todo.appendleft(job)
            self._start_jobs()

    def _stop(self, drain_s: float) -> None:
        self._todo.clear()
        self._loop.call_later(drain_s, self._end)
        self._stop_if_idle()

    def _stop_if_idle(self) -> None:
        if self._stopped and not self._attempts:
            self._end()

    def _end(self) -> None:
        self._fail(self._was_stopped())

    def _hand_over(self, request: Request, reply: Reply) -> None:
        """To the caller, with what else arrives in this round of the loop: to wake a thread costs as much as a call."""
        self._arriving.append((request, reply))
        if len(self._arriving) == 1:
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        if self._arriving:
            self._replies.put(self._arriving)
            self._arriving = []

    def _fail(self, error: BaseException) -> None:
        self._deliver()
        self._replies.put(error)

    def _was_stopped(self) -> LLMError:
        return LLMError("the model client was stopped before all requests were answered")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._fail(error)
