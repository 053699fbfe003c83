"""Texts as vectors: a sentence-embedding model in this process, or one behind an OpenAI-compatible server.

The one rule: vectors have length one, so that their product is their cosine.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from reinstruct.errors import LLMRefused, LLMUnavailable, RecipeError, expect

if TYPE_CHECKING:
    import numpy as np

    Vectors = np.ndarray[Any, np.dtype[np.float32]]

_TIMEOUT_S, _TRIES, _IN_FLIGHT = 120, 4, 8


@dataclass(frozen=True)
class Embedder:
    """`model` is a folder or hub id of a transformers encoder (token vectors are averaged, as most of
    sentence-transformers' do), or the name of a model behind `url`, such as http://127.0.0.1:8000/v1.

    Texts are cut at `max_tokens`, or by the server as it does. The key is read from the environment: OPENAI_API_KEY.
    """

    model: str
    url: str = field(default="", metadata={"where": True})
    batch: int = field(default=32, metadata={"where": True})
    max_tokens: int = 256

    def __post_init__(self) -> None:
        expect(bool(self.model), "Embedder: model", self.model, "a folder, a hub id, or a served model's name")
        is_url = self.url.startswith(("http://", "https://"))
        expect(is_url or not self.url, "Embedder: url", self.url, "http://... or https://...")
        expect(self.batch >= 1, "Embedder: batch", self.batch, "1 or more texts")

    def vectors(self, texts: Iterator[str]) -> Iterator[Vectors]:
        """The texts as unit vectors [at most `batch`, size], in order. RecipeError where a library is missing."""
        import numpy as np

        pieces = ([*piece] for piece in _batched(texts, self.batch))
        for found in self._served(pieces) if self.url else map(_local(self.model, self.max_tokens), pieces):
            lengths = np.linalg.norm(found, axis=1, keepdims=True)
            yield (found / np.where(lengths > 0, lengths, 1)).astype(np.float32)

    def _served(self, pieces: Iterator[list[str]]) -> Iterator[Vectors]:
        with ThreadPoolExecutor(_IN_FLIGHT) as pool:
            for together in _batched(pieces, _IN_FLIGHT):
                yield from pool.map(partial(asked, self.url, self.model), together)


def asked(url: str, model: str, texts: Sequence[str]) -> Vectors:
    """The server's vectors, in the order of the texts. LLMUnavailable after all tries, LLMRefused for a 4xx."""
    import numpy as np

    body = json.dumps({"model": model, "input": [*texts], "encoding_format": "float"}).encode()
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("OPENAI_API_KEY", "").strip():
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(f"{url.rstrip('/')}/embeddings", body, headers)
    answer = _answer(request)
    try:
        rows = sorted(answer["data"], key=lambda row: row["index"])
        found = np.array([row["embedding"] for row in rows], dtype=np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise LLMRefused(f"{request.full_url} gave no list of embeddings: {str(answer)[:200]}") from error
    if len(found) != len(texts):
        raise LLMRefused(f"{request.full_url} gave {len(found)} embeddings of {len(texts)} texts")
    return found


def _answer(request: urllib.request.Request) -> Any:
    problem = ""
    for attempt in range(_TRIES):
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            said = error.read()[:200].decode(errors="replace")
            if error.code < 500 and error.code not in (408, 429):
                raise LLMRefused(f"{request.full_url} refused ({error.code}): {said}") from error
            problem = f"{error.code}: {said}"
        except (OSError, ValueError) as error:  # no connection, a cut one, or half an answer
            problem = str(error)
        time.sleep(0.2 * 4**attempt if attempt < _TRIES - 1 else 0)
    raise LLMUnavailable(f"{request.full_url} gave no embeddings in {_TRIES} tries: {problem}")


def _local(model: str, max_tokens: int) -> Callable[[list[str]], Vectors]:
    """A function from texts to the averages of their tokens' last vectors."""
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise RecipeError('embedding in this process needs torch and transformers: pip install "reinstruct[train]"')
    import torch
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = cast(Any, AutoTokenizer).from_pretrained(model)
        encoder = cast(Any, AutoModel).from_pretrained(model).eval()
    except (OSError, ValueError) as error:
        raise RecipeError(f"Embedder: model {model!r} cannot be loaded: {str(error).splitlines()[0]}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token

    def embed(texts: list[str]) -> Vectors:
        options: Any = {"padding": True, "truncation": True, "max_length": max_tokens, "return_tensors": "pt"}
        tokens = tokenizer([text or " " for text in texts], **options)
        with torch.inference_mode():
            states = encoder(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)
        return ((states * mask).sum(1) / mask.sum(1).clamp(min=1)).float().numpy()

    return embed


def _batched(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while piece := list(islice(items, size)):
        yield piece
