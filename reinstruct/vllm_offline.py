"""The offline engine: vLLM in this very process, for steps of very many requests that are all alike.

The rule: requests are answered a chunk at a time, and a chunk is what is kept or lost together. Prompts become tokens
as in training and in the other in-process engine; sampling is put to vLLM as it is to a server.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import msgspec

from reinstruct.errors import LLMError, RecipeError, expect
from reinstruct.llm import Batch, Reply, Request, Sampling, Token
from reinstruct.prefixes import by_prefix
from reinstruct.prompting import prompt_ids
from reinstruct.served_protocol import forms, payload

ENVIRONMENT = {  # unless it is set already
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine ends with this process, however that ends
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # standard output is for results
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB
}


@dataclass
class Offline:
    """`vllm.LLM` as an `LLM`. `model` is a folder or hub id, `flags` are vLLM's own, `chunk` counts requests."""

    model: str
    flags: tuple[str, ...] = ()
    chunk: int = 2048
    _engine: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        expect(self.chunk >= 1, "chunk", self.chunk, "1 or more")

    def complete(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Batch]:
        """Replies chunk by chunk. LLMError if vLLM cannot load the model, RecipeError if it does not know a flag.

        Chunks follow the requests' positions, so a shard that was killed is taken up with the chunks that are left.
        """
        for _, chunk in groupby(by_prefix(requests, self.chunk), key=lambda request: request.position // self.chunk):
            self._engine = self._engine or _load(self.model, self.flags)
            yield _answer(self._engine, list(chunk), sampling)


def _load(model: str, flags: Sequence[str]) -> Any:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from vllm import LLM  # pyright: ignore[reportMissingImports]
        from vllm.engine.arg_utils import EngineArgs  # pyright: ignore[reportMissingImports]
        from vllm.utils.argparse_utils import FlexibleArgumentParser  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise LLMError("the offline engine runs vLLM in this process: pip install vllm") from error
    parser = EngineArgs.add_cli_args(FlexibleArgumentParser())
    try:
        args = parser.parse_args(["--model", model, "--generation-config", "vllm", *flags])
    except SystemExit as error:
        raise RecipeError(f"vLLM does not take the flags {' '.join(flags)!r}; its words are in the log") from error
    try:
        return LLM.from_engine_args(EngineArgs.from_cli_args(args))
    except (OSError, ValueError, RuntimeError) as error:
        raise LLMError(f"vLLM cannot load {model}: {error}") from error


def _answer(engine: Any, requests: list[Request], sampling: Sampling) -> list[tuple[Request, Reply]]:
    """A reply for each request; those that leave no room for one are not asked."""
    tokenizer, context = engine.get_tokenizer(), engine.llm_engine.model_config.max_model_len
    prompts = [prompt_ids(tokenizer, request.prompt) for request in requests]
    room = [min(sampling.max_tokens, context - len(ids)) for ids in prompts]
    fitting = [number for number, most in enumerate(room) if most >= 1]
    asked = [(requests[number], replace(sampling, max_tokens=room[number])) for number in fitting]
    outputs = _generated(engine, [prompts[number] for number in fitting], asked, forms(sampling)[0])
    replies = [Reply("", "prompt_too_long", prompt_tokens=len(ids)) for ids in prompts]
    for number, output in zip(fitting, outputs, strict=True):
        replies[number] = _reply(output, sampling.logprobs)
    return list(zip(requests, replies, strict=True))


def _generated(
    engine: Any, prompts: list[list[int]], asked: list[tuple[Request, Sampling]], form: dict[str, Any]
) -> list[Any]:
    """vLLM's outputs. A form it cannot hold replies to is left out, as with a server: replies are checked anyway."""
    ids = [{"prompt_token_ids": prompt} for prompt in prompts]
    try:
        return engine.generate(ids, [_parameters(*one, form) for one in asked], use_tqdm=False)
    except _refusals() as error:
        if form:
            return _generated(engine, prompts, asked, {})
        raise LLMError(f"vLLM refused the requests: {error}") from error


def _refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises for requests it does not take: ValueError, or in newer releases errors of its own."""
    try:
        from vllm.exceptions import VLLMClientError  # pyright: ignore[reportMissingImports]
    except ImportError:
        return (ValueError,)
    return (ValueError, VLLMClientError)


def _parameters(request: Request, sampling: Sampling, form: dict[str, Any]) -> Any:
    """vLLM's form of what the client sends to a server."""
    from vllm import SamplingParams  # pyright: ignore[reportMissingImports]
    from vllm.sampling_params import StructuredOutputsParams  # pyright: ignore[reportMissingImports]

    body = msgspec.json.decode(payload(replace(request, prompt=""), "", sampling, form), type=dict[str, Any])
    wanted = {name: value for name, value in body.items() if name not in ("model", "prompt")}
    if form:
        wanted["structured_outputs"] = StructuredOutputsParams(**wanted["structured_outputs"])
    return SamplingParams(**wanted)


def _reply(output: Any, logprobs: int) -> Reply:
    """vLLM's output for one request; the first of several replies counts the tokens of all."""
    said = sorted(output.outputs, key=lambda one: one.index)
    first, *others = [
        Reply(one.text, "length" if one.finish_reason == "length" else "stop", tokens=_tokens(one, logprobs))
        for one in said
    ]
    tokens = sum(len(one.token_ids) for one in said)
    return replace(first, prompt_tokens=len(output.prompt_token_ids), completion_tokens=tokens, others=tuple(others))


def _tokens(said: Any, most: int) -> tuple[Token, ...]:
    """The log probabilities of one reply, the likeliest tokens first. vLLM tells the token taken even if it is none."""
    found: list[Token] = []
    logprobs: list[dict[int, Any]] = said.logprobs or []
    for token_id, told in zip(said.token_ids, logprobs, strict=False):
        likeliest = sorted((one.rank, one.decoded_token, one.logprob) for one in told.values() if one.rank <= most)
        top = tuple((text, logprob) for _, text, logprob in likeliest)
        found.append(Token(told[token_id].decoded_token, told[token_id].logprob, top))
    return tuple(found)
