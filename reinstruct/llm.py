"""The one seam to a language model: requests in, replies out, in any order, as a stream.

`Served` (served.py) speaks the OpenAI protocol, `InProcess` (engine.py) runs transformers here,
`Scripted` below answers from a function. Stages never see any of them: they write prompts and parse replies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from reinstruct.errors import expect
from reinstruct.form import expect_form
from reinstruct.records import Message

Prompt = str | tuple[Message, ...]
MOST_LOGPROBS = 20  # what vLLM and OpenAI allow


@dataclass(frozen=True)
class Sampling:
    """How replies are drawn, and what form they have. Temperature 0 is greedy: the likeliest token after penalties.

    `max_tokens` counts new tokens; `stop` strings end a reply and are not part of it. `seed` is the run's: each
    request draws with its own, made from this one, the stage and the record's id. `top_k` 0 is no limit; `min_p` cuts
    tokens less likely than that share of the likeliest one's probability. `repetition_penalty` divides the logits of
    tokens of prompt and reply, `presence_penalty` and `frequency_penalty` are subtracted from those of the reply's,
    once and per occurrence. `n` replies are drawn at once: see `Reply.others`. With `logprobs`, each token of a reply
    comes with its log probability and the so many likeliest in its place: see `Reply.tokens`.

    At most one of `json_schema` (its JSON text), `regex` and `choice` holds each reply to a form: form.py.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    repetition_penalty: float = 1.0
    seed: int = 0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    n: int = 1
    logprobs: int = 0
    json_schema: str = ""
    regex: str = ""
    choice: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        expect(self.temperature >= 0, "temperature", self.temperature, "0 or more")
        expect(0 < self.top_p <= 1, "top_p", self.top_p, "above 0, at most 1")
        expect(self.max_tokens > 0, "max_tokens", self.max_tokens, "1 or more")
        expect(self.repetition_penalty > 0, "repetition_penalty", self.repetition_penalty, "above 0")
        expect(self.top_k >= 0, "top_k", self.top_k, "0 (no limit) or more")
        expect(0 <= self.min_p <= 1, "min_p", self.min_p, "0 to 1")
        expect(abs(self.presence_penalty) <= 2, "presence_penalty", self.presence_penalty, "-2 to 2")
        expect(abs(self.frequency_penalty) <= 2, "frequency_penalty", self.frequency_penalty, "-2 to 2")
        expect(self.n > 0, "n", self.n, "1 or more")
        expect(self.n == 1 or self.temperature > 0, "n", self.n, "1 where temperature is 0: greedy replies are alike")
        expect(0 <= self.logprobs <= MOST_LOGPROBS, "logprobs", self.logprobs, f"0 to {MOST_LOGPROBS}")
        expect_form(self.json_schema, self.regex, self.choice)

    @property
    def has_form(self) -> bool:
        """Whether replies are held to a form."""
        return bool(self.json_schema or self.regex or self.choice)


@dataclass(frozen=True)
class Request:
    """One question. `seed` is derived from the record, never from the order of asking.

    `position` is the record's place in its shard. It stays the same when a killed shard is taken up again and only
    part of it is asked, so an engine that batches by it batches as the first time.
    """

    key: str
    prompt: Prompt
    seed: int = 0
    position: int = 0


@dataclass(frozen=True)
class Token:
    """A token of a reply with its log probability, and the likeliest tokens in its place with theirs.

    Probabilities are the model's own, before temperature and penalties.
    """

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Reply:
    """What came back. `finish` is "stop" (the model ended), "length" (cut off) or "prompt_too_long" (not asked).

    Where `Sampling.n` asks for several, the first is the reply and `others` holds the rest. The tokens of all of them
    are counted in the first, because that is how servers tell them; `others` count none. `tokens` are there where
    `Sampling.logprobs` asks for them.
    """

    text: str
    finish: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    others: tuple[Reply, ...] = ()
    tokens: tuple[Token, ...] = ()


Batch = Sequence[tuple[Request, Reply]]


class LLM(Protocol):
    """Anything that answers. Reads `requests` lazily and yields replies as they arrive, in any order, in batches:
    what is computed together is yielded together, so that it is kept or lost together.
    """

    def complete(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Batch]: ...


@dataclass
class Scripted:
    """Answers from a function of the prompt: for tests, and to try a recipe without any model."""

    answer: Callable[[str], str]
    asked: list[Prompt] = field(default_factory=list[Prompt])

    def complete(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Batch]:
        for request in requests:
            self.asked.append(request.prompt)
            text = request.prompt if isinstance(request.prompt, str) else request.prompt[-1].content
            yield [(request, Reply(self.answer(text)))]
