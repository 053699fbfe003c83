"""Where one training keeps what, and how its processes share the work. The one rule: none of it changes the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from reinstruct.store import Store, open_store
from reinstruct.train.profiles import effective
from reinstruct.train.turns import Turns

if TYPE_CHECKING:
    from reinstruct.train.job import AnyJob, Progress


@dataclass(frozen=True)
class Place:
    """Folders of one training, and what else its job says of machines. `store` is that of the checkpoints."""

    work: Path
    out: Path
    store: Store
    checkpoint_s: float = 60.0
    keep_checkpoints: int = 2
    loader_workers: int = 0
    pass_tokens: int = 0
    profile: str = "ddp"
    progress: Progress | None = None
    turns: Turns = field(default_factory=Turns)

    @classmethod
    def of(cls, job: AnyJob, out: Path, progress: Progress | None, turns: Turns) -> Place:
        """As a job says; the model is saved in `out`."""
        return cls(
            work=Path(job.work),
            out=out,
            store=open_store(job.checkpoints or job.work),
            checkpoint_s=job.checkpoint_s,
            keep_checkpoints=job.keep_checkpoints,
            loader_workers=job.loader_workers,
            pass_tokens=job.pass_tokens,
            profile=effective(job.profile),
            progress=progress,
            turns=turns,
        )
