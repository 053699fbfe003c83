"""Whether a job can start from a base, as far as its files tell.

The one rule: a base that cannot be trained is refused with what was expected, before anything is spent. No torch and no
numpy in here: whoever starts a run looks too, and may have the core alone installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reinstruct.architecture import ENCODER_DECODER, architecture_of, stated_architecture
from reinstruct.errors import TrainingError, expect
from reinstruct.train.profiles import PROFILES
from reinstruct.train.settings import Sft

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")


def expect_model(base: str) -> None:
    """TrainingError unless `base` is a complete model folder or could be a hub id. Looks at files only."""
    folder = Path(base).expanduser()
    if not base or base.startswith("scratch:") or not (folder.exists() or _could_be_hub_id(base)):
        raise TrainingError(no_model(base))
    if not folder.exists():
        return
    wanted = {"config.json": ("config.json",), "weights": WEIGHTS, "tokenizer files": TOKENIZERS}
    missing = [name for name, patterns in wanted.items() if not any(any(folder.glob(p)) for p in patterns)]
    if missing:
        raise TrainingError(f"{no_model(base)} (missing: {', '.join(missing)})")


def expect_trainable(base: str, settings: Sft, profile: str = "ddp", model: Any = None) -> None:
    """RecipeError for what this build of model cannot be trained with, as far as files here tell its build.

    Encoder and decoder share embeddings: noise put on them reaches neither, and FSDP2 cannot cut them layer by layer.
    """
    architecture = architecture_of(model.config) if model else stated_architecture(base)
    if architecture is ENCODER_DECODER:
        alpha, kind = settings.neftune_alpha, f"for {base}, a model of encoder and decoder"
        expect(not alpha, "neftune_alpha", alpha, f"0 {kind}")
        whole = [name for name in PROFILES if name != "fsdp"]
        expect(profile in whole, "profile", profile, f"{', '.join(whole)} {kind}")


def _could_be_hub_id(base: str) -> bool:
    return not base.startswith(("/", ".", "~")) and base.count("/") <= 1 and "\\" not in base


def no_model(base: str) -> str:
    """What is said of a base that is none."""
    return (
        f"no model at {base!r}: expected a folder with config.json, weights and tokenizer files, "
        "a hub id, or bundled:mini"
    )
