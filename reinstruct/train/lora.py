"""LoRA: small trainable matrices beside frozen weights (Hu et al. 2021, https://arxiv.org/abs/2106.09685), by peft.

The one rule: a tuned model is saved merged, so every engine can load it and the next round of training starts from it.
Its adapters lie beside it in `adapter/`, to be gone on from.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from reinstruct.architecture import architecture_of
from reinstruct.errors import TrainingError
from reinstruct.train.settings import Sft
from reinstruct.train.towers import towers

# Every linear layer of the text model but the output layer, whose name differs between architectures; peft finds them.
TARGETS = "all-linear"
FOLDER = "adapter"


def held_dtype(settings: Sft, device: str, *, bf16: bool) -> Any:
    """The type of the weights a training holds on "cuda" or "cpu", given whether it computes in bf16.

    Frozen ones are never stepped, so on a GPU they lie in the type they are computed in, which is half the memory.
    Those of four bits have types of their own.
    """
    import torch

    frozen = bool(settings.lora_rank) and not settings.quantize
    return torch.bfloat16 if frozen and bf16 and device == "cuda" else torch.float32


def with_adapters(model: Any, settings: Sft, base: str) -> Any:
    """The model with frozen weights and float32 adapters: fresh ones, or with `lora_continue` those of `base`.

    The random start of fresh ones depends on the seed alone. TrainingError if `base` has no adapters of that rank,
    alpha and dropout.
    """
    from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
    from transformers import set_seed

    if settings.quantize:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if settings.lora_continue:
        continued: Any = PeftModel.from_pretrained(model, str(_adapters_of(base, settings)), is_trainable=True)
        _subtract(continued)
        return continued
    set_seed(settings.seed)
    beside = towers(model)
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=TARGETS,
        exclude_modules=rf"({'|'.join(map(re.escape, beside))})(\..*)?" if beside else None,
        task_type=architecture_of(model.config).task,
    )
    return get_peft_model(model, config)


def merged(model: Any, adapters: Path, settings: Sft, base: str) -> Any:
    """The plain model `base`, freshly loaded, with what adapters learnt added to its weights.

    The trained one will not do: its frozen weights may be rounded to four bits, or spread over processes.
    """
    from peft import PeftModel

    if settings.lora_continue:
        model = _subtract(PeftModel.from_pretrained(model, str(_adapters_of(base, settings)))).unload()
    return PeftModel.from_pretrained(model, str(adapters)).merge_and_unload()


def _adapters_of(base: str, settings: Sft) -> Path:
    from peft import LoraConfig

    folder = Path(base) / FOLDER
    if not (folder / "adapter_config.json").is_file():
        raise TrainingError(f"lora_continue: {base} has no {FOLDER}/; only a model made with lora_rank has")
    config: Any = LoraConfig.from_pretrained(str(folder))
    for name, theirs in (("rank", config.r), ("alpha", config.lora_alpha), ("dropout", config.lora_dropout)):
        ours = getattr(settings, f"lora_{name}")
        if theirs != ours:
            raise TrainingError(f"lora_{name} is {ours}; the adapters of {base} to go on from have {name} {theirs}")
    return folder


def _subtract(model: Any) -> Any:
    """Take what the adapters add out of the weights it was merged into."""
    import torch
    from peft.tuners.lora import LoraLayer

    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, LoraLayer):
                weight = layer.get_base_layer().weight
                added: Any = layer.get_delta_weight  # pyright: ignore[reportAttributeAccessIssue]
                weight -= added(layer.active_adapters[0]).to(weight)
    return model
