"""Opening the model that a job starts from.

The one rule: a base that cannot be trained is refused with what was expected, before anything is spent.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from reinstruct.errors import TrainingError

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_NO_DECODER = "{base} is a model of encoder and decoder; a base must be a decoder alone, one that goes on with a text"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")


def expect_model(base: str) -> None:
    """TrainingError unless `base` is a complete model folder or could be a hub id. Looks at files only."""
    folder = Path(base).expanduser()
    if not base or base.startswith("scratch:") or not (folder.exists() or _could_be_hub_id(base)):
        raise TrainingError(_no_model(base))
    if not folder.exists():
        return
    wanted = {"config.json": ("config.json",), "weights": WEIGHTS, "tokenizer files": TOKENIZERS}
    if _encodes_and_decodes(folder / "config.json"):
        raise TrainingError(_NO_DECODER.format(base=base))
    missing = [name for name, patterns in wanted.items() if not any(any(folder.glob(p)) for p in patterns)]
    if missing:
        raise TrainingError(f"{_no_model(base)} (missing: {', '.join(missing)})")


def load_tokenizer(base: str) -> Any:
    """The tokenizer, with EOS and PAD. EOS stands in for a missing PAD: padding never counts in a loss.

    Without EOS a model cannot learn to end, and no other token may be taken for it: TrainingError.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(base)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{_no_model(base)} ({_first_line(error)})") from error
    if tokenizer.eos_token_id is None:
        raise TrainingError(f"the tokenizer of {base} has no end-of-text token: set eos_token in its configuration")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(base: str, tokenizer: Any, *, dropout: float = 0.0, quantize: str = "") -> Any:
    """The causal language model with float32 weights: optimizer steps are too small for 16 bits.

    `dropout` is set in whatever layers the architecture has it. `quantize` "4bit" is for weights that stay frozen.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    options: dict[str, Any] = {"quantization_config": _four_bits()} if quantize else {}
    try:
        config = AutoConfig.from_pretrained(base)
        if getattr(config, "is_encoder_decoder", False):
            raise TrainingError(_NO_DECODER.format(base=base))
        for name in _dropouts(config) if dropout else ():
            setattr(config, name, dropout)
        model: Any = AutoModelForCausalLM.from_pretrained(base, config=config, dtype=torch.float32, **options)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{_no_model(base)} ({_first_line(error)})") from error
    embedded = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > embedded:
        raise TrainingError(f"the tokenizer of {base} has {len(tokenizer)} tokens, but the model knows {embedded}")
    return model


def with_dropout_of(base: str, config: Any) -> None:
    """Take back the dropout a model was trained with: it is no part of what is saved."""
    from transformers import AutoConfig

    stated = AutoConfig.from_pretrained(base)
    for name in _dropouts(stated):
        setattr(config, name, getattr(stated, name))


def stored_dtype(base: str) -> Any:
    """The number format the weights of `base` lie in, in which a tuned copy is saved too."""
    import torch
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(base).dtype or torch.float32


def longest_sequence(model: Any, max_tokens: int) -> int:
    """`max_tokens`, or the model's number of positions where that is less."""
    return min(max_tokens, getattr(model.config, "max_position_embeddings", None) or max_tokens)


def quiet() -> None:
    """No bars and no advice: what happens is told through `progress`, metrics and errors."""
    import warnings

    from transformers.utils import logging

    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl")

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _dropouts(config: Any) -> list[str]:
    named = ("attention_dropout", "hidden_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop", "dropout")
    return [name for name in named if isinstance(getattr(config, name, None), float | int)]


def _four_bits() -> Any:
    """QLoRA's number format: normal floats, their scales quantized too, computed in bf16."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _could_be_hub_id(base: str) -> bool:
    return not base.startswith(("/", ".", "~")) and base.count("/") <= 1 and "\\" not in base


def _encodes_and_decodes(config: Path) -> bool:
    """Whether a configuration, if it is there and can be read, is one of T5's kind."""
    try:
        told: Any = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and bool(cast(dict[str, Any], told).get("is_encoder_decoder"))


def _no_model(base: str) -> str:
    return (
        f"no model at {base!r}: expected a folder with config.json, weights and tokenizer files, "
        "a hub id, bundled:mini, or scratch:tiny"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
