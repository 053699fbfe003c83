"""One request to one server speaking the OpenAI protocol: what is sent, and what each answer means.

The one rule: an answer is either a usable body, worth another try (`TryAgain`), or final (`LLMRefused`).
Nothing secret reaches an error message: neither the key, nor a password inside a URL.
"""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from msgspec import Struct

from reinstruct.errors import LLMRefused, RecipeError
from reinstruct.llm import Reply, Request, Sampling

MAX_BODY = 32 * 2**20  # bytes; the longest real reply is far below 1 MiB
MAX_RETRY_AFTER_S = 60.0
WORDS = 300  # characters of a server's own words that an error repeats
CONNECT_S = 10.0
LIST_S = 5.0  # to list the models

# How vLLM, SGLang, llama.cpp and OpenAI say that a prompt does not fit.
TOO_LONG = re.compile(
    r"context[ _](length|size|window)|maximum model length|max_model_len|fit into the model"
    r"|max_tokens must be at least 1",
    re.IGNORECASE,
)
CONTEXT = re.compile(r"maximum context length (?:is|of) (\d+)")


class TryAgain(Exception):
    """This attempt failed, another may not. `wait_s` is what the server asked for, 0 if it did not."""

    def __init__(self, cause: str, wait_s: float = 0.0) -> None:
        super().__init__(cause)
        self.wait_s = wait_s


class Endpoint:
    """One server: its address, its connections and its key."""

    def __init__(self, url: str, key: str, timeout_s: float) -> None:
        self.base = base_url(url)
        self.name = without_secrets(self.base, "")
        self._key = key
        self._timeout_s = timeout_s
        parts = urlsplit(self.base)
        self._session = aiohttp.ClientSession(
            # uvicorn, and so vLLM, closes idle connections after 5 s: be first, or a request meets a closing door.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4),
            headers={"Authorization": f"Bearer {key}"} if key and not parts.username else {},
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=not is_loopback(parts.hostname or ""),
        )

    async def close(self) -> None:
        await self._session.close()

    async def ask(self, request: Request, model: str, sampling: Sampling) -> Reply:
        """The reply; TryAgain or LLMRefused otherwise."""
        path = "/completions" if isinstance(request.prompt, str) else "/chat/completions"
        status, body = await self._exchange("POST", path, payload(request, model, sampling), self._timeout_s)
        if status == 400 and says_too_long(self._words(body), sampling.max_tokens):
            return Reply("", finish="prompt_too_long")
        self._check_status(status, body)
        return decode_reply(body)

    async def models(self) -> list[str]:
        """Names of the models it serves, none if it does not tell; TryAgain after a few seconds, or LLMRefused."""
        status, body = await self._exchange("GET", "/models", None, min(LIST_S, self._timeout_s))
        if status in (404, 405):
            return []
        self._check_status(status, body)
        return [model.id for model in _decode(body, _Models).data]

    async def _exchange(self, method: str, path: str, content: bytes | None, timeout_s: float) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"} if content else None
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(CONNECT_S, timeout_s))
        try:
            async with self._session.request(
                method, self.base + path, data=content, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                body = await _read_within(response, MAX_BODY)
        except TimeoutError as error:
            raise TryAgain("timed out") from error
        except (aiohttp.ClientError, OSError) as error:
            raise TryAgain(without_secrets(f"{type(error).__name__}: {error}", self._key)[:WORDS]) from error
        if _is_passing(response.status):
            words = f"HTTP {response.status}: {self._words(body)}"
            raise TryAgain(words, retry_after_s(response.headers.get("Retry-After", "")))
        return response.status, body

    def _check_status(self, status: int, body: bytes) -> None:
        if status >= 300:
            raise LLMRefused(f"{self.name} refused the request with HTTP {status}: {self._words(body)}")

    def _words(self, body: bytes) -> str:
        text = " ".join(error_text(body).split())
        return without_secrets(text, self._key)[:WORDS]


def payload(request: Request, model: str, sampling: Sampling) -> bytes:
    """The JSON body: text prompts for /completions, conversations for /chat/completions."""
    body: dict[str, Any] = {
        "model": model,
        "prompt" if isinstance(request.prompt, str) else "messages": request.prompt,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if sampling.stop:
        body["stop"] = sampling.stop
    if sampling.repetition_penalty != 1.0:
        body["repetition_penalty"] = sampling.repetition_penalty  # not OpenAI's; vLLM and SGLang know it
    if sampling.temperature > 0:
        body["seed"] = request.seed % 2**31  # some servers take no more bits
    return msgspec.json.encode(body)


class _Message(Struct):
    content: str | None = None


class _Choice(Struct):
    finish_reason: str | None = None
    text: str | None = None
    message: _Message | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


class _Model(Struct):
    id: str


class _Models(Struct):
    data: list[_Model]


_DECODERS: dict[type[Any], msgspec.json.Decoder[Any]] = {
    shape: msgspec.json.Decoder(shape) for shape in (_Completion, _Models)
}


def _decode(body: bytes, shape: type[Any]) -> Any:
    try:
        return _DECODERS[shape].decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TryAgain(f"unreadable body of {len(body)} bytes ({error})") from error


def decode_reply(body: bytes) -> Reply:
    """The first choice as a Reply; TryAgain if there is none or the server gave up halfway."""
    completion: _Completion = _decode(body, _Completion)
    if not completion.choices:
        raise TryAgain("empty choices")
    choice, usage = completion.choices[0], completion.usage or _Usage()
    if choice.finish_reason in ("abort", "error"):  # vLLM, when it shuts down
        raise TryAgain(f"the server ended the reply with {choice.finish_reason!r}")
    text = choice.message.content or "" if choice.message else choice.text
    if text is None:
        raise TryAgain("a choice without text")
    finish = "length" if choice.finish_reason in ("length", "content_filter") else "stop"
    return Reply(text, finish, usage.prompt_tokens or 0, usage.completion_tokens or 0)


def says_too_long(words: str, max_tokens: int) -> bool:
    """Whether a refusal blames the prompt's length; not when `max_tokens` alone already fills the context."""
    context = CONTEXT.search(words)
    if context and max_tokens >= int(context[1]):
        return False
    return bool(TOO_LONG.search(words))


def error_text(body: bytes) -> str:
    """The message (and code) inside the error shapes in use, else the body itself."""
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body[:4096].decode(errors="replace")
    error: Any = found.get("error", found) if isinstance(found, dict) else found
    if not isinstance(error, dict):
        return str(error)
    parts = (error.get(name) for name in ("message", "detail", "code", "type"))
    return " ".join(str(part) for part in parts if part)


def retry_after_s(value: str) -> float:
    """Seconds of a Retry-After header, in either of its two forms, at most MAX_RETRY_AFTER_S; 0 if unreadable."""
    try:
        seconds = float(value) if re.fullmatch(r"\s*\d+(\.\d+)?\s*", value) else _until(value)
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def _until(http_date: str) -> float:
    return parsedate_to_datetime(http_date).timestamp() - time.time()


def _is_passing(status: int) -> bool:
    return status in (408, 409, 425, 429) or status >= 500


async def _read_within(response: aiohttp.ClientResponse, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():  # not read(): a compressed body may swell without end
        size += len(part)
        if size > limit:
            raise TryAgain(f"a body of more than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


def base_url(url: str) -> str:
    """The address up to and with /v1; RecipeError if it is none."""
    base = url.rstrip("/")
    if not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", base):
        raise RecipeError(
            f"server {without_secrets(url, '')!r}: give an address such as http://127.0.0.1:8000, with or without /v1"
        )
    return base if base.endswith("/v1") else base + "/v1"


def is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def without_secrets(text: str, key: str) -> str:
    """The text without the key and without passwords in URLs."""
    text = text.replace(key, "***") if key else text
    return re.sub(r"//[^/@\s]+@", "//", text)
