"""What transformers' Trainer is told: a schedule, a plan of passes and this machine, as its arguments."""

from __future__ import annotations

import math
from typing import Any

import torch
from accelerate import DistributedType, PartialState
from trl.trainer.sft_config import SFTConfig

from reinstruct.train.checkpoints import Checkpoints
from reinstruct.train.place import Place
from reinstruct.train.profiles import divided, in_bf16_for_shards, under_deepspeed
from reinstruct.train.schedule import Schedule
from reinstruct.train.settings import Sft

CHECKPOINTING_FROM = 1_000_000_000  # parameters; above, activations are recomputed on GPUs to save memory


def processes() -> PartialState:
    """The processes of this job, as torchrun made them; without a GPU they must be told that they compute on CPUs."""
    state = PartialState(cpu=not torch.cuda.is_available())
    if under_deepspeed() and not torch.cuda.is_available():  # accelerate leaves DeepSpeed to GPUs unless told so
        state.distributed_type = DistributedType.DEEPSPEED
    return state


def arguments(schedule: Schedule, place: Place, passes: int, parameters: int) -> SFTConfig:
    """`passes` are those of one step, in all processes; `parameters` those of the model."""
    settings, on_gpu = schedule.settings, torch.cuda.is_available()
    told = SFTConfig(
        output_dir=str(place.store.path(Checkpoints(place.store).home)),
        max_steps=schedule.steps,
        per_device_train_batch_size=1,  # one pass of the plan, with all its rows
        per_device_eval_batch_size=1,
        gradient_accumulation_steps=passes // processes().num_processes,
        train_sampling_strategy="sequential",  # the order is planned already
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        adam_beta2=settings.beta2,
        neftune_noise_alpha=settings.neftune_alpha or None,
        seed=settings.seed,
        use_cpu=not on_gpu and not under_deepspeed(),
        bf16=in_bf16(settings.precision),
        activation_checkpointing=_checkpoints_activations(settings.checkpointing, parameters),
        save_total_limit=None,  # Checkpoints retires them
        restore_callback_states_from_checkpoint=True,  # how long nothing got better, for `patience`
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss that is no number ends the training
        report_to=list(settings.report_to) or "none",
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
        dataloader_num_workers=place.loader_workers,
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        use_cache=True,  # as saved in config.json, for whoever generates; training itself asks for none
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        **_rates(schedule),
        **_evaluation(settings),
        **divided(place.profile, on_gpu=on_gpu),
    )
    plugin: dict[str, Any] | None = told.fsdp_plugin_args
    if plugin and told.bf16:
        plugin["mixed_precision_policy"] = in_bf16_for_shards()
    told._n_gpu = min(told.n_gpu, 1)  # pyright: ignore[reportPrivateUsage]; a process has one, DataParallel is not used
    return told


def _rates(schedule: Schedule) -> dict[str, Any]:
    """The learning rate over the steps, as a scheduler of transformers."""
    settings = schedule.settings
    warmup = math.ceil(settings.warmup_ratio * schedule.steps)
    rates: dict[str, Any] = {"lr_scheduler_type": settings.schedule, "warmup_steps": warmup}
    if warmup and settings.schedule == "constant":
        rates |= {"lr_scheduler_type": "constant_with_warmup"}
    elif settings.end_ratio and settings.schedule == "cosine":
        rates |= {"lr_scheduler_type": "cosine_with_min_lr"}
        rates |= {"lr_scheduler_kwargs": {"min_lr_rate": settings.end_ratio}}
    elif settings.schedule == "wsd":
        falling = {"num_decay_steps": math.ceil(settings.decay_ratio * schedule.steps), "decay_type": "1-sqrt"}
        rates |= {"lr_scheduler_type": "warmup_stable_decay"}
        rates |= {"lr_scheduler_kwargs": {**falling, "min_lr_ratio": settings.end_ratio}}
    elif settings.end_ratio and settings.schedule == "linear":
        end = settings.learning_rate * settings.end_ratio
        rates |= {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": end, "power": 1.0}}
    return rates


def _evaluation(settings: Sft) -> dict[str, Any]:
    best = settings.keep == "best"
    saving = {"save_strategy": "best" if best else "no"}  # besides those that Watch asks for
    if not settings.held_out:
        return saving
    told = {"eval_strategy": "steps", "eval_steps": settings.eval_steps, "prediction_loss_only": True}
    return saving | told | {"load_best_model_at_end": best, "metric_for_best_model": "loss"}


def in_bf16(precision: str) -> bool:
    """Whether the model computes in 16 bits.

    By itself on GPUs that have it, and on CPUs with AMX; elsewhere bf16 is emulated and slower than float32.
    """
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage]


def _checkpoints_activations(wanted: str, parameters: int) -> bool:
    if wanted != "auto":
        return wanted == "yes"
    return torch.cuda.is_available() and parameters >= CHECKPOINTING_FROM
