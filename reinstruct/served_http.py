"""One request to one server over HTTP: connections, time limits, sizes, and what the server cannot do.

The one rule: nothing secret reaches an error message: neither the key, nor a password inside a URL.
"""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from reinstruct.errors import LLMRefused
from reinstruct.llm import Reply, Request, Sampling
from reinstruct.served_addresses import Address, is_loopback, without_secrets
from reinstruct.served_protocol import (
    Blame,
    TryAgain,
    blame_of,
    decode_models,
    decode_reply,
    error_text,
    forms,
    payload,
    retry_after_s,
    says_too_long,
)

MAX_BODY = 32 * 2**20  # bytes; the longest real reply is far below 1 MiB
WORDS = 300  # characters of a server's own words that an error repeats
CONNECT_S = 10.0
LIST_S = 5.0  # to list the models
TEXT, CHAT, MODELS = "/completions", "/chat/completions", "/models"
# Seconds of silence before a connection is probed, between probes, and probes: a machine that is gone answers none.
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


class Endpoint:
    """One server: its address, its connections and its key."""

    def __init__(self, address: Address, key: str, timeout_s: float) -> None:
        parts = urlsplit(address.base)
        host = urlsplit(f"//{address.host}").hostname
        self.base = address.base
        self.name = without_secrets(self.base, "")
        self._key = key
        self._timeout_s = timeout_s
        self._tls_name = host if parts.scheme == "https" else None
        self._form = 0  # how many ways to ask for a form of reply this server has refused
        self._urls = {path: URL(self.base + path) for path in (TEXT, CHAT, MODELS)}
        headers = {"Content-Type": "application/json", **({"Host": address.host} if address.host else {})}
        self._session = aiohttp.ClientSession(
            # uvicorn, and so vLLM, closes idle connections after 5 s: be first, or a request meets a closing door.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4, socket_factory=_open_socket),
            headers={**headers, "Authorization": f"Bearer {key}"} if key and not parts.username else headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=not is_loopback(parts.hostname or "") and not address.host,
        )

    async def close(self) -> None:
        await self._session.close()

    async def ask(self, request: Request, model: str, sampling: Sampling, timeout_s: float) -> Reply:
        """The reply, within `timeout_s` and the endpoint's own; TryAgain or LLMRefused otherwise."""
        timeout_s = min(timeout_s, self._timeout_s)
        path = TEXT if isinstance(request.prompt, str) else CHAT
        ways = forms(sampling)
        way = min(self._form, len(ways) - 1)
        status, body = await self._exchange("POST", path, payload(request, model, sampling, ways[way]), timeout_s)
        first_status, first_body = status, body
        while status in (400, 422) and way + 1 < len(ways) and not self._is_too_long(status, body, sampling):
            way += 1
            status, body = await self._exchange("POST", path, payload(request, model, sampling, ways[way]), timeout_s)
        if self._is_too_long(status, body, sampling):
            return Reply("", finish="prompt_too_long")
        if status >= 300:  # no other way helped, so the form was not what it minded
            self._check_status(first_status, first_body)
        self._form = max(self._form, way)
        try:
            return decode_reply(body, sampling)
        except LLMRefused as error:
            raise LLMRefused(f"{self.name}: {error}") from error

    async def models(self) -> list[str]:
        """Names of the models it serves, none if it does not tell; TryAgain after a few seconds, or LLMRefused."""
        status, body = await self._exchange("GET", MODELS, None, min(LIST_S, self._timeout_s))
        if status in (404, 405):
            return []
        self._check_status(status, body)
        return decode_models(body)

    @property
    def is_guided(self) -> bool:
        """Whether it has taken every form of reply it was asked for."""
        return not self._form

    async def _exchange(self, method: str, path: str, content: bytes | None, timeout_s: float) -> tuple[int, bytes]:
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(CONNECT_S, timeout_s))
        sent: dict[str, Any] = {"data": content, "timeout": timeout, "allow_redirects": False}
        try:
            async with self._session.request(
                method, self._urls[path], server_hostname=self._tls_name, **sent
            ) as response:
                body = await _read_within(response, MAX_BODY)
        except aiohttp.ConnectionTimeoutError as error:
            raise TryAgain("connect_failed", "no connection in time", Blame.AWAY) from error
        except TimeoutError as error:
            raise TryAgain("timed_out", "timed out") from error
        except aiohttp.ClientConnectorError as error:
            raise TryAgain("connect_failed", self._told(error), Blame.AWAY) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise TryAgain("connection_lost", self._told(error)) from error
        if blame := blame_of(response.status):
            words = f"HTTP {response.status}: {self._words(body)}"
            wait_s = retry_after_s(response.headers.get("Retry-After", ""))
            raise TryAgain(f"http_{response.status}", words, blame, wait_s)
        return response.status, body

    def _is_too_long(self, status: int, body: bytes, sampling: Sampling) -> bool:
        return status == 400 and says_too_long(self._words(body), sampling.max_tokens)

    def _check_status(self, status: int, body: bytes) -> None:
        if status >= 300:
            raise LLMRefused(f"{self.name} refused the request with HTTP {status}: {self._words(body)}")

    def _told(self, error: Exception) -> str:
        return without_secrets(f"{type(error).__name__}: {error}", self._key)[:WORDS]

    def _words(self, body: bytes) -> str:
        text = " ".join(error_text(body).split())
        return without_secrets(text, self._key)[:WORDS]


def _open_socket(address: Any) -> socket.socket:
    """A socket that notices when the machine at the other end has gone."""
    opened = socket.socket(*address[:3])
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # not on every system
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return opened


async def _read_within(response: aiohttp.ClientResponse, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():  # not read(): a compressed body may swell without end
        size += len(part)
        if size > limit:
            raise TryAgain("too_large", f"a body of more than {limit} bytes")
        parts.append(part)
    return b"".join(parts)
