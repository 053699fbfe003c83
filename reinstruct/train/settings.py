"""What a training step is told. No torch in here: plans are made on machines that never train."""

from __future__ import annotations

from dataclasses import dataclass

from reinstruct.errors import expect

SCHEDULES = ("constant", "cosine", "linear")
SIZES = ("tiny", "small")
LEAST_CHARACTERS = 20_000  # of the documents a base is trained on


@dataclass(frozen=True)
class Sft:
    """Supervised fine-tuning, loss on the target alone.

    Defaults are REInstruct's where it states them (lr 2e-5 constant, 128 sequences a step, 2048 tokens:
    released train/sft.py) and three epochs (methods with a stated number use three).
    A batch is never larger than a quarter of the data, so that a small seed still gets some steps.

    `lora_rank` above 0 trains adapters of that rank on all linear layers, merged into full weights when saved; alpha
    and dropout are those of the re-implementation of Cycle-Instruct, which uses them with rank 8.
    """

    epochs: float = 3.0
    learning_rate: float = 2e-5
    schedule: str = "constant"  # constant | cosine | linear
    warmup_ratio: float = 0.0
    batch_size: int = 128  # sequences per optimizer step
    max_tokens: int = 2048  # of prompt and target together
    seed: int = 0
    lora_rank: int = 0  # 0: all weights are trained
    lora_alpha: int = 16
    lora_dropout: float = 0.05

    def __post_init__(self) -> None:
        expect(self.epochs > 0, "epochs", self.epochs, "a number above 0")
        expect(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number above 0")
        expect(self.schedule in SCHEDULES, "schedule", self.schedule, " or ".join(SCHEDULES))
        expect(0 <= self.warmup_ratio < 1, "warmup_ratio", self.warmup_ratio, "0 or more and below 1")
        expect(self.batch_size > 0, "batch_size", self.batch_size, "1 or more")
        expect(self.max_tokens > 1, "max_tokens", self.max_tokens, "2 or more")
        expect(self.lora_rank >= 0, "lora_rank", self.lora_rank, "0 (all weights) or more")
        expect(self.lora_alpha > 0, "lora_alpha", self.lora_alpha, "1 or more")
        expect(0 <= self.lora_dropout < 1, "lora_dropout", self.lora_dropout, "0 or more and below 1")


@dataclass(frozen=True)
class Pretrain:
    """A tokenizer and a small Llama trained on the corpus itself, for machines where no model can be had."""

    size: str = "tiny"  # tiny | small
    seed: int = 0

    def __post_init__(self) -> None:
        expect(self.size in SIZES, "size", self.size, " or ".join(SIZES))
