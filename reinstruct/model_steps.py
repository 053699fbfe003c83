"""Shards that make or measure a model: one shard each, done by the training package in this process.

The rule: a model counts as trained only once the commit names its files; checkpoints are shared by all attempts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reinstruct.commit import Count, Done, Part, Slice
from reinstruct.errors import TrainingError
from reinstruct.plan import MeasureLoss, Step, Train, TrainBase
from reinstruct.serving import location
from reinstruct.store import Store

if TYPE_CHECKING:
    from reinstruct.train.job import AnyJob, Progress
    from reinstruct.worker import Attempt


def run_model_step(attempt: Attempt, slices: list[Slice]) -> Done:
    """Train a base, fine-tune a model or measure a loss; the trainer's metrics go into the done record."""
    store, step = attempt.store, attempt.step
    if not slices:
        raise TrainingError(f"step {step.name} has nothing to learn from: its input is empty")
    model = attempt.name("model", "")
    metrics = _run(
        _job(store, step, slices, model), lambda done, total: attempt.progress.update(done=done, total=total)
    )
    files = _sealed_files(store, model)
    return attempt.done(model=model, files=files, counts=[_count(step, metrics)], metrics=metrics)


def _run(job: AnyJob, progress: Progress) -> dict[str, Any]:
    """A fine-tuning takes all GPUs of the machine; what else there is to do with models is too small for several."""
    from reinstruct.train.job import check, run
    from reinstruct.train.several import processes_here, run_by

    check(job)
    processes = processes_here() if job.kind == "sft" else 1
    return run_by(processes, job, progress) if processes > 1 else run(job, progress)


def _job(store: Store, step: Step, slices: list[Slice], model: str) -> AnyJob:
    from reinstruct.train.job import Job
    from reinstruct.train.settings import Sft

    data = tuple(str(store.path(piece.part)) for piece in slices)
    work, out = str(store.path(f"steps/{step.id}/work")), str(store.path(model))
    match step.action:
        case TrainBase(settings=settings):
            return Job(kind="base", data=data, work=work, out=out, settings=settings)
        case Train(base=base, settings=settings):
            return Job(kind="sft", data=data, work=work, out=out, base=location(base, store), settings=settings)
        case MeasureLoss(model=measured, max_tokens=max_tokens):
            base = location(measured, store)
            return Job(kind="loss", data=data, work=work, out=out, base=base, settings=Sft(max_tokens=max_tokens))
        case _:
            raise TypeError(f"not a step of a model: {step.action!r}")


def _count(step: Step, metrics: dict[str, Any]) -> Count:
    rejected: dict[str, int] = metrics.get("rejected", {})
    used = int(metrics["rows"])
    return Count(type(step.action).__name__, used + sum(rejected.values()), used, used, rejected)


def _sealed_files(store: Store, folder: str) -> list[Part]:
    return [Part(name, *store.sealed(name)) for name in store.names(folder)]
