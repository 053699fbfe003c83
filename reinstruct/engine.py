"""The in-process engine: answers with a transformers model in this very process, for machines without a model server.

The one rule: a reply depends on its own request alone, not on the company it is batched with. Greedy replies agree up
to float rounding; sampled ones draw from a generator seeded by the request.

The loops (batching.py, batching_encoded.py) are ours, because `generate()` takes one seed for a whole batch and carries
rows that have ended until the last one has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reinstruct.architecture import ENCODER_DECODER, architecture_of, opening, positions
from reinstruct.errors import LLMError, RecipeError, expect
from reinstruct.llm import Batch, Prompt, Reply, Request, Sampling, Token

if TYPE_CHECKING:
    from reinstruct.batching import Row

DEFAULT_CONTEXT = 2048  # tokens, for the rare model that does not state its own
RELATIVE_CONTEXT = 16_384  # tokens of a prompt and of a reply, for encoders and decoders whose positions have no end
TOKENS_PER_CHARACTER = 4  # at most, in byte-level vocabularies: how far back a stop string may begin


@dataclass
class InProcess:
    """A transformers language model as an `LLM`: a decoder, or an encoder with a decoder.

    `model` is a folder or a hub id. Requests are read `window` positions at a time and answered the longest first,
    at most `max_batch` at once and no more than `batch_tokens` tokens, prompts and replies together. `device`: empty
    picks cuda, mps, cpu.
    """

    model: str
    batch_tokens: int = 32_768
    max_batch: int = 32
    window: int = 128
    device: str = ""
    _loaded: _Loaded | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("batch_tokens", "max_batch", "window"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} must be at least 1, not {getattr(self, name)}")

    def complete(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Batch]:
        """Replies window by window; LLMError if the model cannot be loaded.

        Windows follow the requests' positions, and each is yielded as a whole. So a shard that was killed is taken up
        with the very windows that are left, and every reply is the same to the bit.
        RecipeError for what only servers can do: see `expect_able`.
        """
        expect_able(sampling)
        for _, window in groupby(requests, key=lambda request: request.position // self.window):
            self._loaded = self._loaded or _load(self.model, self.device)
            yield list(_answers(self._loaded, window, sampling, self.max_batch, self.batch_tokens))

    def check(self) -> None:
        """LLMError if torch is missing or a folder holds no model; a hub id is only tried when it is first used."""
        _import_torch()
        check_folder(self.model)


@dataclass(frozen=True)
class _Loaded:
    model: Any
    tokenizer: Any
    ends: frozenset[int]  # ids that end a reply
    prompt_ids: Callable[[Any, Prompt], list[int]]
    room: Callable[[int], int]  # tokens that may follow a prompt of so many
    decode: Callable[..., Iterator[Row]]  # rows, sampling, finish, limits


def _answers(
    loaded: _Loaded, window: Iterable[Request], sampling: Sampling, max_batch: int, batch_tokens: int
) -> Iterator[tuple[Request, Reply]]:
    """A window's requests with their replies, first those that leave no room for one."""
    from reinstruct.batching import Limits, Row

    special = set(loaded.tokenizer.all_special_tokens) & set(sampling.stop)  # decoding would hide these
    ends = loaded.ends | set(loaded.tokenizer.convert_tokens_to_ids(sorted(special)))
    rows: list[Row] = []
    for request in window:
        ids = loaded.prompt_ids(loaded.tokenizer, request.prompt)
        room = min(sampling.max_tokens, loaded.room(len(ids)))
        if room >= 1 and ids:
            rows.append(Row(request, ids, room))
        else:
            yield request, Reply("", "prompt_too_long" if ids else "stop", prompt_tokens=len(ids))
    finish = partial(_finish, tokenizer=loaded.tokenizer, stop=sampling.stop, ends=ends)
    for row in loaded.decode(rows, sampling, finish, Limits(max_batch, batch_tokens)):
        kept = row.new[:-1] if row.new[-1] in ends else row.new
        text = _text(loaded.tokenizer, kept).rstrip("\ufffd")  # half a character at the end, as vLLM leaves it out
        reply = Reply(text[: first_stop(text, sampling.stop)], row.finish, len(row.ids), len(row.new))
        yield row.request, replace(reply, tokens=_tokens(loaded.tokenizer, row)) if row.told else reply


def expect_able(sampling: Sampling) -> None:
    """RecipeError if this engine cannot draw so. To be asked before anything is spent."""
    expect(sampling.n == 1, "n", sampling.n, "1 in this process; name a server with --server for more")
    for name in ("json_schema", "regex", "choice"):
        value = getattr(sampling, name)
        expect(not value, name, value, "nothing in this process; name a server with --server to hold replies to a form")


def check_folder(model: str) -> None:
    """LLMError if `model` looks like a folder but is no model; hub ids pass."""
    folder = Path(model)
    if not folder.exists() and not model.startswith((".", "/", "~")) and model.count("/") <= 1:
        return
    needs = {"config.json": "config.json", "weights (*.safetensors)": "*.safetensors", "a tokenizer": "tokenizer*"}
    missing = [what for what, pattern in needs.items() if not any(folder.glob(pattern))]
    if missing:
        raise LLMError(f"no model in {model}: it lacks {', '.join(missing)}")


def _import_torch() -> Any:
    try:
        import torch
        import transformers  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise LLMError('running a model here needs torch and transformers: pip install "reinstruct[train]"') from error
    return torch


def _load(name: str, device: str) -> _Loaded:
    torch = _import_torch()
    from transformers import AutoConfig, AutoTokenizer

    check_folder(name)
    try:
        device = device or _best_device(torch)
        config = AutoConfig.from_pretrained(name)
        dtype = _dtype(torch, device, getattr(config, "dtype", None))
        auto_class = architecture_of(config).auto_class
        model: Any = auto_class.from_pretrained(name, dtype=dtype, use_safetensors=True)
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
        model = model.to(device).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise LLMError(f"cannot load the model {name}: {error}") from error
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends]) | {tokenizer.eos_token_id}
    build = _encoder_decoder if architecture_of(config) is ENCODER_DECODER else _decoder
    return _Loaded(model, tokenizer, frozenset(ends - {None}), architecture_of(config).prompt_ids, *build(model))


def _decoder(model: Any) -> tuple[Callable[[int], int], Callable[..., Iterator[Row]]]:
    """The room and the loop of a model that goes on with its prompt."""
    from reinstruct.batching import decode

    context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or DEFAULT_CONTEXT
    return lambda prompt: context - prompt, partial(decode, model, context)


def _encoder_decoder(model: Any) -> tuple[Callable[[int], int], Callable[..., Iterator[Row]]]:
    """The same of a model whose decoder has positions of its own. LLMError if nothing says how a reply begins."""
    from reinstruct.batching_encoded import decode

    first = opening(model)
    if not first:
        raise LLMError(f"{model.name_or_path} does not say how a reply begins: it has no decoder_start_token_id")
    prompts, replies = positions(model.config, RELATIVE_CONTEXT)
    return lambda prompt: replies - len(first) + 1 if prompt <= prompts else 0, partial(decode, model, first)


def _best_device(torch: Any) -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _dtype(torch: Any, device: str, stored: Any) -> Any:
    """bfloat16 where the model is stored in half precision and the hardware computes in it, else float32."""
    if stored not in (torch.bfloat16, torch.float16):
        return torch.float32
    if device.startswith("cuda"):
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        asked = getattr(torch.cpu, "get_capabilities", None)  # newer torch only
        found = asked() if asked and device == "cpu" else {}
        able = found.get("amx_bf16") or found.get("avx512_bf16")
    return torch.bfloat16 if able else torch.float32


def _finish(row: Row, tokenizer: Any, stop: tuple[str, ...], ends: frozenset[int]) -> str:
    """Why the row ends with its latest token; empty if it goes on."""
    if row.new[-1] in ends:
        return "stop"
    if stop:
        tail = row.new[-TOKENS_PER_CHARACTER * (max(map(len, stop)) + 1) :]
        if first_stop(_text(tokenizer, tail), stop) is not None:
            return "stop"
    return "length" if len(row.new) >= row.room else ""


def _tokens(tokenizer: Any, row: Row) -> tuple[Token, ...]:
    """The row's tokens with their log probabilities; special ones by name."""

    def word(token: int) -> str:
        return tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)

    told = zip(row.new, row.told, strict=True)
    return tuple(Token(word(new), taken, tuple((word(i), lp) for i, lp in tops)) for new, (taken, tops) in told)


def _text(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def first_stop(text: str, stop: tuple[str, ...]) -> int | None:
    """Where the earliest stop string begins."""
    return min((at for s in stop if s and (at := text.find(s)) >= 0), default=None)
