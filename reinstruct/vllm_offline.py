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
from reinstruct.llm import Batch, Reply, Request, Sampling
from reinstruct.prefixes import by_prefix
from reinstruct.prompting import prompt_ids
from reinstruct.served_protocol import payload

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


def expect_able(sampling: Sampling) -> None:
    """RecipeError if this engine cannot draw so. To be asked before anything is spent."""
    plain = {"n": 1, "logprobs": 0, "json_schema": "", "regex": "", "choice": ()}
    for name, unset in plain.items():
        value = getattr(sampling, name)
        expect(value == unset, name, value, f"{unset!r} with vllm-offline; take --engine vllm or name a server")


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
    outputs = engine.generate(
        [{"prompt_token_ids": prompts[number]} for number in fitting],
        [_parameters(requests[number], replace(sampling, max_tokens=room[number])) for number in fitting],
        use_tqdm=False,
    )
    replies = [Reply("", "prompt_too_long", prompt_tokens=len(ids)) for ids in prompts]
    for number, output in zip(fitting, outputs, strict=True):
        replies[number] = _reply(output)
    return list(zip(requests, replies, strict=True))


def _parameters(request: Request, sampling: Sampling) -> Any:
    """vLLM's form of what the client sends to a server."""
    from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

    body = msgspec.json.decode(payload(replace(request, prompt=""), "", sampling), type=dict[str, Any])
    return SamplingParams(**{name: value for name, value in body.items() if name not in ("model", "prompt")})


def _reply(output: Any) -> Reply:
    (said,) = output.outputs
    finish = "length" if said.finish_reason == "length" else "stop"
    return Reply(said.text, finish, len(output.prompt_token_ids), len(said.token_ids))
