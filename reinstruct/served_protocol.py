"""The OpenAI protocol: what a request looks like, and what each answer means. No sockets here.

The one rule: an answer is either a usable reply, worth another try (`TryAgain`), or final (`LLMRefused`).
"""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

import msgspec
from msgspec import Struct

from reinstruct.errors import LLMRefused
from reinstruct.llm import Reply, Request, Sampling, Token

MAX_RETRY_AFTER_S = 60.0

# How vLLM, SGLang, llama.cpp and OpenAI say that a prompt does not fit.
TOO_LONG = re.compile(
    r"context[ _](length|size|window)|maximum model length|max_model_len|fit into the model"
    r"|max_tokens must be at least 1",
    re.IGNORECASE,
)
CONTEXT = re.compile(r"maximum context length (?:is|of) (\d+)")


class Blame(Enum):
    """Whose fault a failed attempt is: what may come of trying the same again."""

    REQUEST = "request"  # perhaps; counts against its tries
    BUSY = "busy"  # the server takes no more just now: fewer at once, and the request waits
    AWAY = "away"  # nobody is there: the request waits


class TryAgain(Exception):
    """This attempt failed, another may not. `cause` is a short name to count by; `wait_s` is what the server asked
    for, 0 if it did not.
    """

    def __init__(self, cause: str, words: str, blame: Blame = Blame.REQUEST, wait_s: float = 0.0) -> None:
        super().__init__(words)
        self.cause = cause
        self.blame = blame
        self.wait_s = wait_s


def payload(request: Request, model: str, sampling: Sampling, form: dict[str, Any] | None = None) -> bytes:
    """The JSON body: text prompts for /completions, conversations for /chat/completions."""
    is_text = isinstance(request.prompt, str)
    body: dict[str, Any] = {
        "model": model,
        "prompt" if is_text else "messages": request.prompt,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if sampling.stop:
        body["stop"] = sampling.stop
    if sampling.temperature > 0:
        body["seed"] = request.seed % 2**31  # some servers take no more bits
    if sampling.logprobs:
        told = sampling.logprobs
        body.update({"logprobs": told} if is_text else {"logprobs": True, "top_logprobs": told})
    for name, unset in RARE:
        if (value := getattr(sampling, name)) != unset:
            body[name] = value
    return msgspec.json.encode({**body, **form} if form else body)


# Sent only where they are set. The first three are OpenAI's; vLLM, SGLang and llama.cpp know all of them.
RARE = (
    ("n", 1),
    ("presence_penalty", 0),
    ("frequency_penalty", 0),
    ("repetition_penalty", 1),
    ("top_k", 0),
    ("min_p", 0),
)


def forms(sampling: Sampling) -> list[dict[str, Any]]:
    """Fields that ask a server for the form, one way after the other, from vLLM's (0.12 and later) to none at all."""
    if sampling.json_schema:
        schema = msgspec.Raw(sampling.json_schema.encode())
        openai = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}}
        return [{"structured_outputs": {"json": schema}}, {"response_format": openai}, {}]
    if sampling.regex:
        return [{"structured_outputs": {"regex": sampling.regex}}, {}]
    if sampling.choice:
        return [{"structured_outputs": {"choice": sampling.choice}}, {}]
    return [{}]


class _Message(Struct):
    content: str | None = None


class _Choice(Struct):
    index: int = 0
    finish_reason: str | None = None
    text: str | None = None
    message: _Message | None = None
    logprobs: msgspec.Raw = msgspec.Raw(b"null")


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


class _TextLogprobs(Struct):
    """Of /completions."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None = None


class _TopLogprob(Struct):
    token: str
    logprob: float


class _ChatLogprob(Struct):
    token: str
    logprob: float
    top_logprobs: list[_TopLogprob] = []


class _ChatLogprobs(Struct):
    content: list[_ChatLogprob] | None = None


class _Model(Struct):
    id: str


class _Models(Struct):
    data: list[_Model]


_DECODERS: dict[type[Any], msgspec.json.Decoder[Any]] = {
    shape: msgspec.json.Decoder(shape) for shape in (_Completion, _Models, _TextLogprobs, _ChatLogprobs)
}


def _decode(body: bytes | msgspec.Raw, shape: type[Any]) -> Any:
    try:
        return _DECODERS[shape].decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TryAgain("unreadable_body", f"unreadable body of {len(bytes(body))} bytes ({error})") from error


def decode_reply(body: bytes, sampling: Sampling) -> Reply:
    """The reply in a body of status 200; TryAgain if it is not whole, LLMRefused if the server cannot do it."""
    completion: _Completion = _decode(body, _Completion)
    choices, usage = completion.choices, completion.usage or _Usage()
    if len(choices) != sampling.n:
        if len(choices) == 1:
            raise LLMRefused(f"the server gives one reply where n asks for {sampling.n}: it does not know n")
        raise TryAgain("wrong_choices", f"{len(choices)} choices where {sampling.n} were asked for")
    if len(choices) > 1:
        choices.sort(key=lambda choice: choice.index)
    first, *others = [_reply(choice, sampling.logprobs) for choice in choices]
    text, finish, tokens = first
    rest = tuple(Reply(text, finish, tokens=tokens) for text, finish, tokens in others)
    return Reply(text, finish, usage.prompt_tokens or 0, usage.completion_tokens or 0, rest, tokens)


def _reply(choice: _Choice, logprobs: int) -> tuple[str, str, tuple[Token, ...]]:
    if choice.finish_reason in ("abort", "error"):  # vLLM, when it shuts down
        raise TryAgain("aborted", f"the server ended the reply with {choice.finish_reason!r}")
    text = choice.message.content or "" if choice.message else choice.text
    if text is None:
        raise TryAgain("wrong_choices", "a choice without text")
    finish = "length" if choice.finish_reason in ("length", "content_filter") else "stop"
    return text, finish, _tokens(choice) if logprobs else ()


def _tokens(choice: _Choice) -> tuple[Token, ...]:
    """The log probabilities of a choice; LLMRefused if the server left them out."""
    if bytes(choice.logprobs) == b"null":
        raise LLMRefused("the server tells no log probabilities, but logprobs asks for them")
    if choice.message:
        content: list[_ChatLogprob] = _decode(choice.logprobs, _ChatLogprobs).content or []
        return tuple(
            Token(told.token, told.logprob, tuple((top.token, top.logprob) for top in told.top_logprobs))
            for told in content
        )
    told: _TextLogprobs = _decode(choice.logprobs, _TextLogprobs)
    tops = told.top_logprobs or [None] * len(told.tokens)
    if not len(told.tokens) == len(told.token_logprobs) == len(tops):
        raise TryAgain("unreadable_body", "log probabilities that do not fit their tokens")
    found = zip(told.tokens, told.token_logprobs, tops, strict=True)
    return tuple(Token(text, logprob or 0.0, tuple((top or {}).items())) for text, logprob, top in found)


def decode_models(body: bytes) -> list[str]:
    """Names in a listing of models."""
    return [model.id for model in _decode(body, _Models).data]


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


def blame_of(status: int) -> Blame | None:
    """Whom a status blames; None where trying again cannot help."""
    if status in (429, 503):
        return Blame.BUSY
    if status == 502:
        return Blame.AWAY
    return Blame.REQUEST if status in (408, 409, 425) or status >= 500 else None
