"""Opening the model that a job starts from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reinstruct.architecture import ENCODER_DECODER, architecture_of, opening, positions
from reinstruct.errors import TrainingError, expect
from reinstruct.train.bases import WEIGHTS, no_model
from reinstruct.train.rows import UNBOUNDED, Shape
from reinstruct.train.tokens import file_digest
from reinstruct.train.towers import text_config


def load_tokenizer(base: str) -> Any:
    """The tokenizer, with EOS and PAD. EOS stands in for a missing PAD: padding never counts in a loss.

    Without EOS a model cannot learn to end, and no other token may be taken for it: TrainingError.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(base)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{no_model(base)} ({_first_line(error)})") from error
    if tokenizer.eos_token_id is None:
        raise TrainingError(f"the tokenizer of {base} has no end-of-text token: set eos_token in its configuration")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(base: str, tokenizer: Any, *, dropout: float = 0.0, quantize: str = "", dtype: Any = None) -> Any:
    """The language model, of either build, with weights of `dtype`, or float32: steps are too small for 16 bits.

    `dropout` is set in whatever layers of the text model have it: RecipeError if none has. `quantize` "4bit" is for
    weights that stay frozen.
    """
    import torch
    from transformers import AutoConfig

    options: dict[str, Any] = {"quantization_config": _four_bits()} if quantize else {}
    try:
        config = AutoConfig.from_pretrained(base)
        taking = _dropouts(config)
        expect(bool(taking) or not dropout, "dropout", dropout, f"0 for {base}, whose configuration names none")
        for name in taking if dropout else ():
            setattr(text_config(config), name, dropout)
        auto_class = architecture_of(config).auto_class
        model: Any = auto_class.from_pretrained(base, config=config, dtype=dtype or torch.float32, **options)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{no_model(base)} ({_first_line(error)})") from error
    embedded = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > embedded:
        raise TrainingError(f"the tokenizer of {base} has {len(tokenizer)} tokens, but the model knows {embedded}")
    if architecture_of(config) is ENCODER_DECODER and not opening(model):
        raise TrainingError(f"{base} does not say how a reply begins: set decoder_start_token_id in its configuration")
    return model


def with_dropout_of(base: str, config: Any) -> None:
    """Take back the dropout a model was trained with: it is no part of what is saved."""
    from transformers import AutoConfig

    stated = AutoConfig.from_pretrained(base)
    for name in _dropouts(stated):
        setattr(text_config(config), name, getattr(text_config(stated), name))


def stored_dtype(base: str) -> Any:
    """The number format the weights of `base` lie in, in which a tuned copy is saved too."""
    import torch
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(base).dtype or torch.float32


def state_dtype(folder: Path, dtype: Any) -> None:
    """Have config.json, and each part of it, name the type that the weights beside it were saved in.

    transformers names the type they were held in, and for the parts of a model the one they were loaded in.
    """
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for part in (config, *(each for each in config.values() if isinstance(each, dict))):
        if "dtype" in part:
            part["dtype"] = str(dtype).removeprefix("torch.")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def weights_digest(base: str, model: Any) -> str:
    """Tells the weights that a training begins with from others; of a hub id, by the commit that was fetched."""
    folder = Path(base).expanduser()
    if not folder.is_dir():
        return f"{base} {getattr(model.config, '_commit_hash', None)}"
    files = sorted({str(path) for pattern in WEIGHTS for path in folder.glob(pattern)})
    return " ".join(file_digest(files))


def shape_of(model: Any) -> Shape:
    """How this model's rows are made: as its build is asked, and no longer than its encoder and decoder can hold."""
    architecture = architecture_of(model.config)
    if architecture is not ENCODER_DECODER:
        return Shape(architecture)
    prompt, target = positions(model.config, UNBOUNDED)
    return Shape(architecture, prompt, target - len(opening(model)) + 1)


def longest_sequence(model: Any, max_tokens: int) -> int:
    """`max_tokens`, or the model's number of positions where that is less and prompt and target share them."""
    if architecture_of(model.config) is ENCODER_DECODER:
        return max_tokens
    return min(max_tokens, getattr(text_config(model.config), "max_position_embeddings", None) or max_tokens)


def quiet() -> None:
    """No bars and no advice: what happens is told through `progress`, metrics and errors."""
    import warnings

    from transformers.utils import logging

    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl")

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _dropouts(config: Any) -> list[str]:
    of_attention, of_layers = ("attention_dropout", "attn_pdrop"), ("hidden_dropout", "resid_pdrop", "embd_pdrop")
    named = (*of_attention, *of_layers, "dropout", "dropout_rate")
    return [name for name in named if isinstance(getattr(text_config(config), name, None), float | int)]


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


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
