"""What a training step is told. No torch in here: plans are made on machines that never train."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from reinstruct.errors import RecipeError, expect

SCHEDULES = ("constant", "cosine", "linear", "wsd")
ORDERS = ("shuffled", "given", "shortest")
PRECISIONS = ("auto", "bf16", "float32")
CHECKPOINTING = ("auto", "yes", "no")
SIZES = ("tiny", "mini", "small")
TRACKERS = ("tensorboard", "mlflow", "wandb")
LEAST_CHARACTERS = 20_000  # of the documents a base is trained on


@dataclass(frozen=True)
class Sft:
    """Supervised fine-tuning, loss on the target alone.

    Defaults are REInstruct's where it states them (lr 2e-5 constant, 128 sequences a step, 2048 tokens:
    released train/sft.py) and three epochs (methods with a stated number use three).
    A batch is never larger than a quarter of the data, so that a small seed still gets some steps.
    After the warmup the learning rate falls to `end_ratio` of itself (cosine, linear); "wsd" holds it and falls in the
    last `decay_ratio` of the steps alone, by 1 - sqrt, so that the steps before are those of any longer training too
    (Hägele et al. 2024, https://arxiv.org/abs/2405.18392).

    `weights` says how often an epoch shows the rows of an origin ("seed=2": twice; "web=0.5": half of them, drawn anew
    each epoch); `order` how an epoch goes: shuffled, as given, or from short to long rows.
    `neftune_alpha` above 0 adds noise to embeddings (Jain et al. 2023, https://arxiv.org/abs/2310.05914; 5 there).

    `lora_rank` above 0 trains adapters of that rank on all linear layers, merged into full weights when saved; alpha
    and dropout are those of the re-implementation of Cycle-Instruct, which uses them with rank 8. `lora_continue` goes
    on from the adapters the base was made with. `quantize` "4bit" keeps the frozen weights in four bits (QLoRA,
    Dettmers et al. 2023, https://arxiv.org/abs/2305.14314).

    `held_out` is the share of rows that are not trained on, chosen by id; each `eval_steps` steps their loss is
    measured. `keep` "best" saves the weights of the step where it was lowest, and `patience` above 0 stops after so
    many measurements without a lower one.
    """

    epochs: float = 3.0
    learning_rate: float = 2e-5
    schedule: str = "constant"  # constant | cosine | linear | wsd
    warmup_ratio: float = 0.0  # of all steps
    end_ratio: float = 0.0
    decay_ratio: float = 0.1  # of all steps; of wsd alone
    batch_size: int = 128  # sequences per optimizer step
    max_tokens: int = 2048  # of prompt and target together
    weight_decay: float = 0.0
    beta2: float = 0.999  # of Adam
    dropout: float = 0.0  # in the attention and hidden layers, where the architecture has any
    seed: int = 0
    weights: tuple[str, ...] = ()
    order: str = "shuffled"  # shuffled | given | shortest
    neftune_alpha: float = 0.0
    lora_rank: int = 0  # 0: all weights are trained
    lora_alpha: int = 16
    lora_dropout: float = 0.05
    lora_continue: bool = False
    quantize: str = ""  # 4bit
    held_out: float = 0.0
    eval_steps: int = 50
    keep: str = "last"  # last | best
    patience: int = 0
    precision: str = "auto"  # of the computation; auto: bf16 where the hardware has it
    checkpointing: str = field(default="auto", metadata={"where": True})  # of activations; auto: large models on GPUs
    report_to: tuple[str, ...] = field(default=(), metadata={"where": True})  # tensorboard, mlflow, wandb

    @classmethod
    def reinstruct(cls) -> Sft:
        """REInstruct's released train/sft.py; its number of epochs is not stated."""
        return cls()

    @classmethod
    def humpback(cls) -> Sft:
        """The paper's: 500 steps of 32 for 3,200 rows, the rate falling linearly from 1e-5 to 9e-6."""
        falling = cls(learning_rate=1e-5, schedule="linear", end_ratio=0.9)
        return replace(falling, epochs=5, batch_size=32, weight_decay=0.1, dropout=0.1)

    @classmethod
    def back_and_forth(cls) -> Sft:
        """The paper's for 7B and 25,600 rows: the best of up to 1,200 steps of 32 (there 600, 900 and 1,200)."""
        best = cls(held_out=0.02, eval_steps=300, keep="best", learning_rate=1e-5, schedule="cosine")
        return replace(best, epochs=1.53, batch_size=32, weight_decay=0.1, dropout=0.1)

    @classmethod
    def kun(cls) -> Sft:
        """The release's for the answer model; its label model takes 6 epochs."""
        return cls(epochs=4, learning_rate=1e-5)

    @classmethod
    def wizardlm(cls) -> Sft:
        """The release's for 7B: 64 sequences a step, cosine after two steps of some 3,300."""
        return cls(epochs=3, learning_rate=2e-5, schedule="cosine", warmup_ratio=0.0006, batch_size=64)

    @classmethod
    def self_lengthen(cls) -> Sft:
        """The release's LoRA for documents of 16,384 tokens; the rank is the default of its trainer. Later iterations
        go on from the adapters of the one before: add `lora_continue`."""
        adapters = cls(lora_rank=8, lora_dropout=0.0, learning_rate=1e-4, schedule="cosine", warmup_ratio=0.1)
        return replace(adapters, epochs=4, batch_size=1, max_tokens=16_384, precision="bf16")

    @classmethod
    def cycle_instruct(cls) -> Sft:
        """Those of the unofficial implementation; the paper states only LoRA."""
        adapters = cls(lora_rank=8, lora_alpha=16, lora_dropout=0.05)
        return replace(adapters, epochs=3, learning_rate=1e-4, schedule="cosine", warmup_ratio=0.03, batch_size=8)

    @classmethod
    def crab(cls) -> Sft:
        """Four epochs (the model card); forward rows are 70 % of the release's mixture, reverse rows the rest."""
        return cls(epochs=4, weights=("reverse=0.43",))

    def __post_init__(self) -> None:
        self._expect_numbers()
        self._expect_names()
        expect(self.lora_rank > 0 or not self.quantize, "quantize", self.quantize, "nothing without lora_rank")
        expect(not (self.quantize and self.lora_continue), "quantize", self.quantize, "nothing with lora_continue")
        expect(self.lora_rank > 0 or not self.lora_continue, "lora_continue", True, "false without lora_rank")
        expect(self.held_out > 0 or self.keep == "last", "keep", self.keep, "last, where held_out is 0")
        for name, needed in (("end_ratio", ("cosine", "linear", "wsd")), ("decay_ratio", ("wsd",))):
            given, default = getattr(self, name), type(self).__dataclass_fields__[name].default
            accepted = f"{default}, where schedule is {self.schedule}"
            expect(self.schedule in needed or given == default, name, given, accepted)
        expect(self.keep == "best" or not self.patience, "patience", self.patience, '0, where keep is not "best"')
        _ = self.weighted

    def _expect_numbers(self) -> None:
        for name in ("epochs", "learning_rate", "lora_alpha", "eval_steps", "batch_size"):
            expect(0 < getattr(self, name) < math.inf, name, getattr(self, name), "a number above 0")
        for name in ("warmup_ratio", "end_ratio", "decay_ratio", "lora_dropout", "dropout", "held_out", "beta2"):
            expect(0 <= getattr(self, name) < 1, name, getattr(self, name), "0 or more and below 1")
        for name in ("weight_decay", "neftune_alpha", "lora_rank", "patience", "seed"):
            expect(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        expect(self.max_tokens > 1, "max_tokens", self.max_tokens, "2 or more")

    def _expect_names(self) -> None:
        accepted = {
            "schedule": SCHEDULES,
            "order": ORDERS,
            "precision": PRECISIONS,
            "checkpointing": CHECKPOINTING,
            "quantize": ("", "4bit"),
            "keep": ("last", "best"),
        }
        for name, values in accepted.items():
            expect(getattr(self, name) in values, name, getattr(self, name), " or ".join(filter(None, values)))
        for tracker in self.report_to:
            expect(tracker in TRACKERS, "report_to", tracker, ", ".join(TRACKERS))

    @property
    def weighted(self) -> dict[str, float]:
        """`weights` as numbers by origin. RecipeError for one that is none."""
        return dict(map(_weight, self.weights))

    def weight_of(self, origin: str) -> float:
        """How often an epoch shows a row of this origin."""
        return self.weighted.get(origin, 1.0)


@dataclass(frozen=True)
class Pretrain:
    """A tokenizer and a small Llama trained on the corpus itself, for machines where no model can be had.

    `tokens` are those trained on, repeats counted; 0: as many as the size states (`scratch.SIZES`).
    """

    size: str = "tiny"  # tiny | mini | small
    seed: int = 0
    tokens: int = 0

    def __post_init__(self) -> None:
        expect(self.size in SIZES, "size", self.size, ", ".join(SIZES))
        for name in ("tokens", "seed"):
            expect(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")


def _weight(entry: str) -> tuple[str, float]:
    origin, _, number = entry.partition("=")
    wrong = RecipeError(f"weights is {entry!r}; accepted: ORIGIN=NUMBER, 0 or more, such as seed=2")
    try:
        weight = float(number)
    except ValueError as error:
        raise wrong from error
    if not (origin and 0 <= weight < 1e6):
        raise wrong
    return origin, weight
