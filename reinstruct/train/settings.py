"""What a training step is told. No torch in here: plans are made on machines that never train."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sft:
    """Supervised fine-tuning, loss on the target alone.

    Defaults are REInstruct's where it states them (lr 2e-5 constant, 128 sequences a step, 2048 tokens:
    released train/sft.py) and three epochs (methods with a stated number use three).
    A batch is never larger than a quarter of the data, so that a small seed still gets some steps.
    """

    epochs: float = 3.0
    learning_rate: float = 2e-5
    schedule: str = "constant"  # constant | cosine | linear
    warmup_ratio: float = 0.0
    batch_size: int = 128  # sequences per optimizer step
    max_tokens: int = 2048  # of prompt and target together
    seed: int = 0


@dataclass(frozen=True)
class Pretrain:
    """A tokenizer and a small Llama trained on the corpus itself, for machines where no model can be had."""

    size: str = "tiny"  # tiny | small
    seed: int = 0
