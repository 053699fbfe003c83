"""The two builds of language model: a decoder alone, which goes on with a text, and an encoder with a decoder, which
answers to one (T5, BART). What differs between them wherever a model is trained, asked or described.

The one rule: a model is asked after exactly the tokens it was trained after, whatever its build. No torch in here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from reinstruct.errors import RecipeError
from reinstruct.llm import Prompt
from reinstruct.prompting import ENCODED_TEMPLATE, PLAIN_TEMPLATE, encoded_prompts_ids, prompts_ids


@dataclass(frozen=True)
class Architecture:
    """`auto` is the class of transformers that loads such a model, `task` peft's name for it, `tag` that of model hubs.

    `template` is that of conversations where the tokenizer has none.
    """

    name: str
    auto: str
    task: str
    tag: str
    template: str
    prompts_ids: Callable[[Any, Sequence[Prompt]], list[list[int]]]

    def prompt_ids(self, tokenizer: Any, prompt: Prompt) -> list[int]:
        """As `prompts_ids` for one."""
        return self.prompts_ids(tokenizer, [prompt])[0]

    @property
    def auto_class(self) -> Any:
        import transformers

        return getattr(transformers, self.auto)


DECODER = Architecture("decoder", "AutoModelForCausalLM", "CAUSAL_LM", "text-generation", PLAIN_TEMPLATE, prompts_ids)
ENCODER_DECODER = Architecture(
    "encoder-decoder",
    "AutoModelForSeq2SeqLM",
    "SEQ_2_SEQ_LM",
    "text2text-generation",
    ENCODED_TEMPLATE,
    encoded_prompts_ids,
)


def architecture_of(config: Any) -> Architecture:
    """The build that a configuration of transformers says."""
    return ENCODER_DECODER if getattr(config, "is_encoder_decoder", False) else DECODER


def stated_architecture(model: str) -> Architecture | None:
    """The build of a folder, a bucket or a hub id that was fetched before; None if nothing here tells.

    Asks no hub: what is not at hand stays unknown.
    """
    if not model:
        return None
    try:
        told: Any = json.loads(_configuration(model))
    except (OSError, ValueError, ImportError):
        return None
    if not isinstance(told, dict):
        return None
    return ENCODER_DECODER if cast(dict[str, Any], told).get("is_encoder_decoder") else DECODER


def expect_decoder(model: str, instead: str) -> None:
    """RecipeError if files at hand say that vLLM is to serve a model of encoder and decoder, which it does not know."""
    if stated_architecture(model) is ENCODER_DECODER:
        raise RecipeError(f"vLLM serves no model of encoder and decoder such as {model}; accepted: {instead}")


def opening(model: Any) -> tuple[int, ...]:
    """The tokens a model's decoder begins with when it generates: its start, and a first token that is forced (BART's
    <s>, a language). Empty if its configuration states no start."""
    for stated in (model.generation_config, model.config):
        start = getattr(stated, "decoder_start_token_id", None)
        if start is not None:
            forced = getattr(model.generation_config, "forced_bos_token_id", None)
            return (start,) if forced is None else (start, forced)
    return ()


def positions(config: Any, unstated: int) -> tuple[int, int]:
    """Most tokens of an encoder and of a decoder; `unstated` where relative positions set no bound (T5)."""
    encoder, decoder = (_positions(config, side) or unstated for side in ("encoder", "decoder"))
    return encoder, decoder


def _positions(config: Any, side: str) -> int | None:
    stated: int | None = getattr(config, f"max_{side}_position_embeddings", None)
    own = getattr(config, side, None)  # a configuration of its own
    return stated or getattr(own or config, "max_position_embeddings", None)


def _configuration(model: str) -> str:
    """The text of a model's config.json. OSError or ValueError where there is none at hand."""
    if "://" in model:
        import fsspec

        opened: Any = fsspec.open(f"{model.rstrip('/')}/config.json", "rt", encoding="utf-8")
        with opened as file:
            return file.read()
    path = Path(model).expanduser() / "config.json"
    if not path.exists():
        from huggingface_hub import try_to_load_from_cache

        path = Path(str(try_to_load_from_cache(model, "config.json") or path))
    return path.read_text(encoding="utf-8")
