"""The one seam to a language model: requests in, replies out, in any order, as a stream.

`Served` (served.py) speaks the OpenAI protocol, `InProcess` (engine.py) runs transformers here,
`Scripted` below answers from a function. Stages never see any of them: they write prompts and parse replies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from reinstruct.errors import expect
from reinstruct.records import Message

Prompt = str | tuple[Message, ...]


@dataclass(frozen=True)
class Sampling:
    """How replies are drawn. Temperature 0 is greedy: the likeliest token, after the repetition penalty.

    `max_tokens` counts new tokens; `stop` strings end a reply and are not part of it. `seed` is the run's: each
    request draws with its own, made from this one, the stage and the record's id.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        expect(self.temperature >= 0, "temperature", self.temperature, "0 or more")
        expect(0 < self.top_p <= 1, "top_p", self.top_p, "above 0, at most 1")
        expect(self.max_tokens > 0, "max_tokens", self.max_tokens, "1 or more")
        expect(self.repetition_penalty > 0, "repetition_penalty", self.repetition_penalty, "above 0")


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
class Reply:
    """What came back. `finish` is "stop" (the model ended), "length" (cut off) or "prompt_too_long" (not asked)."""

    text: str
    finish: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0


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
