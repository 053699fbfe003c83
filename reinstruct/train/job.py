"""One training job, as JSON or as a value, and `run`, which does it.

The one rule: everything that can be wrong with a job is checked before torch is imported and before a row is read.

    python -m reinstruct.train --config job.json
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

from reinstruct.bundled import BUNDLED, bundled_folder
from reinstruct.errors import RecipeError, TrainingError, expect
from reinstruct.settings import presets_of
from reinstruct.store import open_store
from reinstruct.train.alone import alone
from reinstruct.train.bases import expect_model, expect_trainable
from reinstruct.train.finished import expect_out
from reinstruct.train.outside import told
from reinstruct.train.profiles import CUT_WEIGHTS, DEEPSPEED, PROFILES, announce
from reinstruct.train.settings import Pretrain, Sft

AnySettings = Sft | Pretrain
S = TypeVar("S", bound=AnySettings, covariant=True)
Progress = Callable[[int, int], None]  # (steps done, steps in all)

LIBRARIES = ("torch", "transformers", "trl", "accelerate", "datasets", "safetensors")
TRACKERS = {"tensorboard": ("tensorboard", "tensorboardX"), "mlflow": ("mlflow",), "wandb": ("wandb",)}
ENVIRONMENT = {  # what libraries read when they are first imported
    "GOMP_SPINCOUNT": "2000",  # waiting threads soon sleep: on busy cores, spinning costs up to 15 times the work
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # as fast here as Arrow's own, which keeps 15 to 50 MB more for itself
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


class Job(Struct, Generic[S], frozen=True, kw_only=True):
    """What to train or measure, from what, and where to.

    `data` are Parquet files: of Example rows for sft and loss, of rows with a `text` for base. `base` is a model
    folder or hub id, of a decoder or of encoder and decoder (sft and loss only); `make_job` takes bundled models too.
    `work` keeps checkpoints between attempts; `out` appears when all is done. `settings` are Pretrain for base, else
    Sft, of which loss uses `max_tokens` alone.
    `checkpoint_s` is the least number of seconds between two checkpoints, `loader_workers` the number of processes that
    make batches (0: the training process itself), `pass_tokens` the most tokens of a forward pass, unless one row has
    more (0: as many as pay off here); none changes the model. `checkpoints` is the store of
    checkpoints, if not `work`; the newest `keep_checkpoints` are kept. `profile` says how
    several processes divide a model (`profiles`).
    """

    kind: Literal["sft", "base", "loss"]
    data: tuple[str, ...]
    work: str
    out: str
    settings: S
    base: str = ""
    checkpoint_s: float = 60.0
    loader_workers: int = 0
    pass_tokens: int = 0
    checkpoints: str = ""
    keep_checkpoints: int = 2
    profile: str = "ddp"


AnyJob = Job[AnySettings]


def read_job(path: str | Path, preset: str = "") -> AnyJob:
    """The job in a JSON file; RecipeError naming what is missing, unknown or of the wrong type.

    Its settings lie on top of those of `preset`, or of the preset they name themselves.
    """
    try:
        fields = msgspec.json.decode(Path(path).read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise RecipeError(f"cannot read the job {path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise RecipeError(f"the job {path} is not a JSON object: {error}") from error
    settings = fields.get("settings", {})
    if preset and isinstance(settings, dict):
        fields["settings"] = {"preset": preset, **settings}
    return make_job(fields)


def make_job(fields: dict[str, Any]) -> AnyJob:
    """A job from plain JSON values. RecipeError as for `read_job`."""
    _expect_known("job", fields, Job.__struct_fields__)
    settings_type: type[AnySettings] = Pretrain if fields.get("kind") == "base" else Sft
    fields = {"settings": {}, **fields}
    if str(fields.get("base", "")).startswith(BUNDLED):
        fields["base"] = str(bundled_folder(fields["base"]))
    if isinstance(fields["settings"], dict):
        fields["settings"] = _on_preset(fields["settings"], settings_type)
        _expect_known("settings", fields["settings"], tuple(settings_type.__dataclass_fields__))
    try:
        return msgspec.convert(fields, Job[settings_type])
    except msgspec.ValidationError as error:
        raise RecipeError(f"the job is wrong: {error}") from error


def run(job: AnyJob, progress: Progress | None = None) -> dict[str, Any]:
    """Do the job and return what `metrics.json` in `out` says.

    Interrupted at any moment, the same job run again goes on from its newest complete checkpoint.
    Raises RecipeError for wrong settings, TrainingError for a base, data or installation that cannot be trained with.
    """
    check(job)
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
    announce(job.profile)
    with told(job.work), alone(job.work):
        return _run(job, progress)


def _run(checked: Job[Any], progress: Progress | None) -> dict[str, Any]:
    if checked.kind == "base":
        from reinstruct.train.scratch import train_base

        return train_base(checked, progress)
    if checked.kind == "sft":
        from reinstruct.train.sft import train_sft

        return train_sft(checked, progress)
    from reinstruct.train.loss import measure

    return measure(checked, progress)


def check(job: AnyJob, find: Callable[[str], object] = importlib.util.find_spec) -> None:
    """Everything about a job that can be told without reading its data. `find` looks a library up."""
    _check_settings(job)
    data = {f"data {number}": path for number, path in enumerate(job.data, start=1)}
    expect_out(job.out, {"work": job.work, "base": job.base, "checkpoints": job.checkpoints, **data})
    missing_files = [path for path in job.data if not Path(path).is_file()]
    if missing_files or not job.data:
        raise TrainingError(f"no training data at {', '.join(missing_files) or '(no path given)'}")
    expect_libraries(find)
    if job.profile in DEEPSPEED and find("deepspeed") is None:
        raise TrainingError(f'profile {job.profile} needs deepspeed: pip install "reinstruct[deepspeed]"')
    if job.checkpoints:
        open_store(job.checkpoints)
    if isinstance(job.settings, Sft):
        _expect_able(job.settings, find)
        expect_trainable(job.base, job.settings, job.profile)
    if job.kind == "base":
        expect(job.base == "", "base", job.base, 'nothing for a job of kind "base"')
    else:
        expect_model(job.base)


def expect_libraries(find: Callable[[str], object] = importlib.util.find_spec) -> None:
    """TrainingError naming what training needs and is not installed."""
    missing = [name for name in LIBRARIES if find(name) is None]
    if missing:
        raise TrainingError(f'training needs {", ".join(missing)}: pip install "reinstruct[train]"')


def _expect_able(settings: Sft, find: Callable[[str], object]) -> None:
    """TrainingError naming what a setting needs and this machine has not."""
    if settings.lora_rank and find("peft") is None:
        raise TrainingError('lora_rank needs peft: pip install "reinstruct[train]"')
    for tracker in settings.report_to:
        if not any(find(name) for name in TRACKERS[tracker]):
            raise TrainingError(f"report_to {tracker} needs {TRACKERS[tracker][0]}: pip install {TRACKERS[tracker][0]}")
    if settings.quantize:
        if find("bitsandbytes") is None:
            raise TrainingError("quantize 4bit needs bitsandbytes: pip install bitsandbytes")
        import torch

        if not torch.cuda.is_available():
            raise TrainingError("quantize 4bit needs a GPU with CUDA; without one use lora_rank alone")


def _check_settings(job: AnyJob) -> None:
    settings = job.settings
    expect(job.profile in PROFILES, "profile", job.profile, " or ".join(PROFILES))
    if isinstance(settings, Sft) and settings.quantize:  # packed in bytes, which cannot be cut like numbers
        whole = [profile for profile in PROFILES if profile not in CUT_WEIGHTS]
        expect(
            job.profile in whole, "profile", job.profile, f"{' or '.join(whole)}, where quantize is {settings.quantize}"
        )
    expect(job.keep_checkpoints > 0, "keep_checkpoints", job.keep_checkpoints, "a number above 0")
    for name in ("loader_workers", "pass_tokens"):
        expect(getattr(job, name) >= 0, name, getattr(job, name), "0 or more")
    expect(isinstance(settings, Pretrain) == (job.kind == "base"), "settings", settings, f"those of kind {job.kind}")


def _on_preset(settings: dict[str, Any], settings_type: type[AnySettings]) -> dict[str, Any]:
    """Settings on top of those of the preset they name, such as {"preset": "humpback", "epochs": 2}."""
    name, own = settings.get("preset"), {key: value for key, value in settings.items() if key != "preset"}
    if name is None:
        return own
    presets = presets_of(settings_type)
    accepted = ", ".join(presets) or f"none for {settings_type.__name__}"
    expect(isinstance(name, str) and name in presets, "preset", name, accepted)
    return {**asdict(presets[name]()), **own}


def _expect_known(where: str, fields: dict[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise RecipeError(f"unknown {where} fields: {', '.join(unknown)} (known: {', '.join(known)})")
