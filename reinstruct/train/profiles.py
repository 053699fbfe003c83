"""How the processes of one job divide a model between them.

The one rule: a profile changes where numbers lie, not the numbers: trained weights, their gradients and the sums of
these are float32 in each, whatever type is computed in. With one process there is nothing to divide.

- ddp: every process holds all of it.
- fsdp: weights, gradients and optimizer are cut into shards (PyTorch's FSDP2, layer by layer).
- zero2: gradients and optimizer are cut into shards (DeepSpeed's ZeRO, stage 2); zero3: weights too.
"""

from __future__ import annotations

import os
from typing import Any

PROFILES = ("ddp", "fsdp", "zero2", "zero3")
DEEPSPEED = ("zero2", "zero3")
CUT_WEIGHTS = ("fsdp", "zero3")
ANNOUNCED = "ACCELERATE_USE_DEEPSPEED"


def effective(profile: str) -> str:
    """The profile for the processes that torchrun made, known before any library is imported."""
    return profile if int(os.environ.get("WORLD_SIZE", "1")) > 1 else "ddp"


def announce(profile: str) -> None:
    """Tell accelerate, which must know of DeepSpeed when it first looks at the processes."""
    os.environ[ANNOUNCED] = str(effective(profile) in DEEPSPEED).lower()


def under_deepspeed() -> bool:
    return os.environ.get(ANNOUNCED) == "true"


def divided(profile: str, *, on_gpu: bool = True) -> dict[str, Any]:
    """Arguments of transformers' Trainer for a profile."""
    if profile == "fsdp":
        return {"fsdp": True, "fsdp_config": dict(FSDP)}
    if profile in DEEPSPEED:
        kept: dict[str, Any] = {} if on_gpu else {"accelerator_config": {"use_configured_state": True}}
        return {"deepspeed": _zero(3 if profile == "zero3" else 2), **kept}
    return {}


FSDP: dict[str, Any] = {
    "version": 2,
    "state_dict_type": "SHARDED_STATE_DICT",  # of checkpoints: each process writes its own part
    "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "reshard_after_forward": True,
}


def in_bf16_for_shards() -> Any:
    """What FSDP does to numbers where bf16 is computed in; accelerate's own policy takes bf16 for everything.

    Weights are gathered in it, or autocast would keep such copies of all at once; gradients are summed in float32.
    """
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy

    return MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.float32)


def _zero(stage: int) -> dict[str, Any]:
    """DeepSpeed's configuration; "auto" is what transformers fills in from its own arguments."""
    sharding: dict[str, Any] = {"stage": stage, "overlap_comm": True, "contiguous_gradients": True}
    if stage == 3:
        sharding |= {"stage3_gather_16bit_weights_on_model_save": True}
    return {
        "zero_optimization": sharding,
        "bf16": {"enabled": "auto"},
        "data_types": {"grad_accum_dtype": "fp32"},  # else as computed, as is what processes tell one another
        "communication_data_type": "fp32",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_allow_untested_optimizer": True,  # the Trainer's AdamW, as in every other profile
    }
