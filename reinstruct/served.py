"""The model client: asks any number of servers that speak the OpenAI protocol, many requests at a time.

The one rule: a request is answered once, or the caller is told why not. What is wrong with a server for a while is
waited for, what is wrong with a request is tried a few times, and neither goes on for ever.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, fields
from typing import get_type_hints

from reinstruct.errors import LLMRefused, LLMUnavailable, RecipeError, expect
from reinstruct.llm import Batch, Request, Sampling
from reinstruct.served_addresses import Address, Place, Resolve, addresses, place, resolve_host, without_secrets
from reinstruct.served_http import Endpoint
from reinstruct.served_protocol import TryAgain
from reinstruct.served_stats import ClientCounters
from reinstruct.served_talk import Talk
from reinstruct.served_terms import Terms
from reinstruct.settings import settings_from


@dataclass
class Served:
    """Servers behind the OpenAI protocol, as an `LLM`.

    `urls` with or without /v1, all serving the same `model` (empty: the only one they have). A URL that ends in `#dns`
    stands for every address its host name has, looked up again every `resolve_s` seconds. Any setting below may also
    stand there: http://host:8000#max-in-flight=128&timeout-s=60.

    `max_in_flight` is the most requests per server at once; fewer where a server turns requests away. It is above what
    a server works on at once (vLLM: 256 rows, or 1,024), so that a row that ends has a successor there. `timeout_s` is
    for one try. `retries` counts tries after the first that may have failed because of the request itself. While every
    server is away or overloaded, requests wait for `patience_s`. `request_deadline_s` is the longest a request may
    take with all its tries and waits, `deadline_s` the longest a whole `complete()` may take (0: any time). The key is
    read from the environment variable `api_key_env`.
    """

    urls: tuple[str, ...]
    model: str = ""
    max_in_flight: int = 512
    timeout_s: float = 600
    retries: int = 8
    api_key_env: str = "OPENAI_API_KEY"
    backoff_s: float = 0.2  # before the first retry; doubles with each
    patience_s: float = 300
    request_deadline_s: float = 3600
    deadline_s: float = 0
    resolve_s: float = 10
    resolve: Resolve = field(default=resolve_host, repr=False, compare=False)
    stats: ClientCounters = field(default_factory=ClientCounters, init=False, repr=False, compare=False)
    _talks: set[Talk] = field(default_factory=set[Talk], init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.urls:
            raise RecipeError("urls: name at least one server, such as http://127.0.0.1:8000")
        self._places = [place(url) for url in self.urls]
        self._take_settings()
        expect(self.max_in_flight >= 1, "max_in_flight", self.max_in_flight, "1 or more")
        expect(self.retries >= 0, "retries", self.retries, "0 or more")
        for name in ("timeout_s", "request_deadline_s", "resolve_s"):
            expect(getattr(self, name) > 0, name, getattr(self, name), "above 0")

    def complete(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Batch]:
        """Each request with its reply, as replies arrive.

        Closing the iterator cancels what is in flight. LLMUnavailable when a request has had its tries or its time,
        when no server answers for `patience_s` or when `deadline_s` is over; LLMRefused on a 4xx. What had arrived
        before is yielded first; the rest is not asked.
        """
        talk = Talk(self._terms(), sampling, self.stats)
        self._talks.add(talk)
        try:
            yield from talk.answers(requests)
        finally:
            self._talks.discard(talk)
            talk.close()
            self.model = self.model or talk.model

    def stop(self, drain_s: float = 0.0) -> None:
        """End every `complete()` under way, from any thread: nothing new is asked, replies that come within `drain_s`
        are still yielded, then the iterator raises LLMError if requests are left.
        """
        for talk in list(self._talks):
            talk.stop(drain_s)

    def check(self) -> None:
        """Before anything is spent: LLMUnavailable if no server answers, LLMRefused if none has the model."""
        with ThreadPoolExecutor(1) as thread:  # the caller may have an event loop of its own, as notebooks do
            self.model = thread.submit(asyncio.run, self._check()).result()

    async def _check(self) -> str:
        async with AsyncExitStack() as stack:
            found = await self._terms().find()
            endpoints = [self._open(address) for address in found]
            for endpoint in endpoints:
                stack.push_async_callback(endpoint.close)
            return await settle_model(endpoints, self.model)

    def _open(self, address: Address) -> Endpoint:
        return Endpoint(address, os.environ.get(self.api_key_env, "").strip(), self.timeout_s)

    def _terms(self) -> Terms:
        return Terms(
            model=self.model,
            max_in_flight=self.max_in_flight,
            servers=len(self.urls),
            timeout_s=self.timeout_s,
            retries=self.retries,
            backoff_s=self.backoff_s,
            patience_s=self.patience_s,
            request_deadline_s=self.request_deadline_s,
            deadline_s=self.deadline_s,
            resolve_s=self.resolve_s if any(where.every_address for where in self._places) else 0,
            find=Finder(self._places, self.resolve),
            open=self._open,
            settle=settle_model,
        )

    def _take_settings(self) -> None:
        """Settings in URLs win over those given otherwise; two URLs may not disagree."""
        hints = get_type_hints(Served)
        places = ("urls", "resolve")
        known = {f.name: (hints[f.name], f.default) for f in fields(Served) if f.init and f.name not in places}
        taken: dict[str, str] = {}
        for where in self._places:
            for name, value in where.settings.items():
                expect(
                    taken.get(name, value) == value, name, f"{taken.get(name)} and {value}", "one value for all URLs"
                )
                taken[name] = value
        for name, value in settings_from(taken, known).items():
            setattr(self, name, value)


class Finder:
    """Looks up which servers there are. A name that does not resolve just now keeps the addresses it had."""

    def __init__(self, places: Sequence[Place], resolve: Resolve) -> None:
        self._places = places
        self._resolve = resolve
        self._known: dict[str, list[Address]] = {}

    async def __call__(self) -> list[Address]:
        """The servers there are now; LLMUnavailable while there is none."""
        causes: list[str] = []
        for where in self._places:
            try:
                found = await addresses(where, self._resolve)
            except OSError as error:
                causes.append(f"{without_secrets(where.base, '')}: {error}")
            else:
                self._known[where.base] = found
        every = {address.base: address for found in self._known.values() for address in found}
        if not every:
            raise LLMUnavailable(f"no server has an address ({'; '.join(causes) or 'the name has none'})")
        return list(every.values())


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
            raise LLMRefused(
                f"{endpoint.name} has {wanted}: name one behind its URL, as in #model=NAME "
                f"(it serves {', '.join(listing)})"
            )
    names = ", ".join(endpoint.name for endpoint in endpoints)
    raise LLMUnavailable(
        f"no server at {names}: start one with `vllm serve MODEL`, or name another with --server ({'; '.join(causes)})"
    )
