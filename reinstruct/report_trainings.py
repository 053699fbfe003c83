"""Trained models, as the report shows them: what they learnt from, how full their passes were, how the loss fell.

The one rule: a figure that a trainer did not record is a dash, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from markupsafe import Markup

from reinstruct import report_figures as figures
from reinstruct import report_text as text
from reinstruct.planfile import StepSpec
from reinstruct.report_rows import Run, kind_of

NONE = "–"


@dataclass(frozen=True)
class TrainingView:
    """One trained model, or the `state` of its step. The cells of both tables are in the order of their heads."""

    label: str
    step: str
    state: str
    numbers: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    curves: tuple[tuple[str, Markup], ...] = ()


def trainings(run: Run, state: Callable[[StepSpec], str]) -> tuple[TrainingView, ...]:
    """Every model the plan trains, in its order."""
    labels = {step_id: label for label, step_id in run.plan.models.items()}
    trained = [spec for spec in run.plan.steps if kind_of(spec) in ("Train", "TrainBase")]
    return tuple(_training(run, spec, labels.get(spec.id, spec.name), state) for spec in trained)


def _training(run: Run, spec: StepSpec, label: str, state: Callable[[StepSpec], str]) -> TrainingView:
    result = run.results.get(spec.id)
    if result is None or not result.shards:
        return TrainingView(label, spec.id, state(spec) or "nothing recorded")
    metrics = result.shards[0].metrics
    return TrainingView(label, spec.id, "", _numbers(metrics), _rows(metrics), _curves(label, metrics))


def _numbers(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Rows, steps, epochs, last loss, held-out loss of what was saved, tokens a second, time."""
    shown = [("rows", 0), ("steps", 0), ("epochs", 1), ("loss", 3)]
    numbers = [text.number(text.measured(metrics, name), digits) for name, digits in shown]
    seconds = text.measured(metrics, "seconds")
    speed = text.number(text.measured(metrics, "tokens_per_s"), 0)
    return (*numbers, _held_out(metrics), speed, NONE if seconds is None else text.duration(seconds))


def _held_out(metrics: Mapping[str, Any]) -> str:
    kept = text.measured(metrics, "kept_step")
    losses = dict(_points(metrics.get("held_out")))
    if kept is None or not losses:
        return NONE
    measured = max((step for step in losses if step <= kept), default=min(losses))
    return f"{losses[measured]:.3f} at step {text.number(measured, 0)}"


def _rows(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Refused rows by reason, tokens of a row, how full passes are and would be if padded, waiting for checkpoints."""
    packing, checkpoints = _inside(metrics, "packing"), _inside(metrics, "checkpoints")
    tokens = _inside(packing, "row_tokens")
    lengths = [text.number(text.measured(tokens, name), 0) for name in ("min", "median", "p95", "max")]
    refused = [f"{name} {text.number(count, 0)}" for name, count in _inside(metrics, "rejected").items()]
    written, lost = text.measured(checkpoints, "written"), text.measured(checkpoints, "lost_s")
    return (
        ", ".join(refused) or "none",
        " / ".join(lengths) if tokens else NONE,
        *(text.number(text.measured(packing, name), 2) for name in ("efficiency", "efficiency_if_padded")),
        NONE if written is None or lost is None else f"{text.number(written, 0)}, {lost:.1f}{text.THIN}s",
    )


def _curves(label: str, metrics: Mapping[str, Any]) -> tuple[tuple[str, Markup], ...]:
    drawn = [(label, _points(metrics.get("curve"))), (f"{label}: held-out rows", _points(metrics.get("held_out")))]
    return tuple(
        (title, figures.line_chart(f"Training loss of {title}", points, "step", "loss (nats)"))
        for title, points in drawn
        if points
    )


def _inside(metrics: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = metrics.get(name)
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _points(curve: Any) -> list[tuple[float, float]]:
    if not isinstance(curve, list):
        return []
    entries = [dict(enumerate(entry)) for entry in cast(list[list[Any]], curve)]
    points = [(text.measured(entry, 0), text.measured(entry, 1)) for entry in entries]
    return [(step, loss) for step, loss in points if step is not None and loss is not None]
