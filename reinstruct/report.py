"""One self-contained HTML page about a run, made from what the store holds.

The one rule: what is missing, unfinished or empty is said in its place; only a damaged store is an error.

    reinstruct report
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from reinstruct import report_figures as figures
from reinstruct import report_text as text
from reinstruct.commit import done_shards, layout_of
from reinstruct.errors import StoreError
from reinstruct.planfile import Plan, StepSpec, passed_over
from reinstruct.records import Made, Pair
from reinstruct.report_funnel import Funnel, funnel_of, main_path
from reinstruct.report_models import AskedStep, asked_steps
from reinstruct.report_rows import LOOKED_AT, Run, kind_of, model_ids, open_run
from reinstruct.report_text import Clip
from reinstruct.report_trainings import TrainingView, trainings
from reinstruct.store import Store

SAMPLES = 30
EXAMPLES = 3  # rejected rows shown for each reason

KINDS = {"Read": "read", "GatherAll": "gather", "Concat": "join", "MeasureLoss": "measure"}


@dataclass(frozen=True)
class StepView:
    """One step: its place in the graph, and what it took. `state` is empty once it is finished."""

    id: str
    name: str
    kind: str
    main: bool
    depth: int
    state: str
    inputs: tuple[str, ...]
    models: tuple[str, ...]
    settings: str
    shards: int = 0
    rows: int = 0
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    speed: float | None = None  # new tokens a second for models that write, tokens a second for those that learn


@dataclass(frozen=True)
class SampleView:
    """A pair beside the document it was made from. `link` is empty unless it leads to a web page."""

    id: str
    document: Clip
    instruction: Clip
    response: Clip
    lineage: tuple[Made, ...]
    scores: tuple[tuple[str, str], ...]
    source: str
    url: str
    link: str
    licence: str


@dataclass(frozen=True)
class LossView:
    """One measured model; `nll` in nats per token, None while not measured."""

    label: str
    step: str
    nll: float | None
    perplexity: float | None
    tokens: float | None
    rows: float | None


@dataclass(frozen=True)
class Report:
    """Everything the page shows."""

    recipe: str
    settings: tuple[tuple[str, str], ...]
    written: str
    store: str
    funnel: Funnel
    steps: tuple[StepView, ...]
    samples: tuple[SampleView, ...]
    lengths: tuple[tuple[str, Markup], ...]
    looked_at: int
    asked: tuple[AskedStep, ...]
    trainings: tuple[TrainingView, ...]
    losses: tuple[LossView, ...]
    verdict: str

    @property
    def unfinished(self) -> list[StepView]:
        return [step for step in self.steps if step.state]

    @property
    def step_ids(self) -> set[str]:
        return {step.id for step in self.steps}

    @property
    def base_models(self) -> list[str]:
        """Models that no step trains."""
        return sorted({model for step in self.steps for model in step.models} - self.step_ids)

    @property
    def trained(self) -> int:
        return sum(not training.state for training in self.trainings)

    @property
    def highest_loss(self) -> float:
        return max((loss.nll for loss in self.losses if loss.nll is not None), default=0.0)

    @property
    def tokens(self) -> int:
        return sum(step.prompt_tokens + step.completion_tokens for step in self.steps)


def write_report(store: Store, plan: Plan, path: Path) -> None:
    """Write the page to `path`. StoreError if the store is damaged or the page cannot be written."""
    page = render(report_of(store, plan))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        raise StoreError(f"cannot write the report to {path}: {error.strerror}") from error


def render(report: Report) -> str:
    """The page as HTML."""
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    filters: dict[str, Callable[..., Any]] = {"number": text.number, "duration": text.duration, "share": text.share}
    page.filters.update(filters)
    template = files("reinstruct").joinpath("report.html").read_text(encoding="utf-8")
    return page.from_string(template).render(report=report)


def report_of(store: Store, plan: Plan, now: datetime | None = None) -> Report:
    """The numbers, samples and figures of a run, as far as it has come."""
    run = open_run(store, plan)
    losses = tuple(_loss(run, label, step_id) for label, step_id in plan.losses.items())
    known = {loss.label: loss.nll for loss in losses if loss.nll is not None}
    return Report(
        recipe=plan.recipe,
        settings=(
            *((name, _plain(value)) for name, value in plan.settings.items()),
            *(("passed over", files) for files in passed_over(plan)),
        ),
        written=(now or datetime.now(UTC)).strftime("%-d %B %Y, %H:%M UTC"),
        store=store.root,
        funnel=funnel_of(run, examples=EXAMPLES),
        steps=_steps(run),
        samples=tuple(_sample(pair) for pair in run.sample(SAMPLES)),
        lengths=_histograms(run),
        looked_at=LOOKED_AT,
        asked=asked_steps(run),
        trainings=trainings(run, lambda spec: _state(run, spec)),
        losses=losses,
        verdict=text.loss_sentence(known, {loss.label: loss.tokens for loss in losses}, len(losses) - len(known)),
    )


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _steps(run: Run) -> tuple[StepView, ...]:
    path = main_path(run.plan)
    depths: dict[str, int] = {}
    views: list[StepView] = []
    for spec in run.plan.steps:
        models = model_ids(spec)
        depths[spec.id] = 1 + max((depths.get(needed, -1) for needed in (*spec.inputs, *models)), default=-1)
        views.append(_step(run, spec, models, main=spec.id in path, depth=depths[spec.id]))
    return tuple(views)


def _step(run: Run, spec: StepSpec, models: tuple[str, ...], *, main: bool, depth: int) -> StepView:
    settings = json.dumps(spec.action, ensure_ascii=False, indent=2)
    kind = KINDS.get(kind_of(spec), "train" if "Train" in kind_of(spec) else "ask" if models else "map")
    state, cost = _state(run, spec), _cost(run, spec)
    return StepView(spec.id, spec.name, kind, main, depth, state, tuple(spec.inputs), models, settings, **cost)


def _cost(run: Run, spec: StepSpec) -> dict[str, Any]:
    result = run.results.get(spec.id)
    if result is None:
        return {"rows": sum(part.rows for parts in run.datasets(spec.id) for part in parts)}
    seconds = sum(done.seconds for done in result.shards)
    completion = sum(done.completion_tokens for done in result.shards)
    metrics = result.shards[0].metrics if result.shards else {}
    writing = completion / seconds if seconds and completion else None
    used = text.measured(metrics, "rows") if not result.parts else None
    return {
        "shards": len(result.shards),
        "rows": result.rows if used is None else int(used),
        "seconds": seconds,
        "prompt_tokens": sum(done.prompt_tokens for done in result.shards),
        "completion_tokens": completion,
        "speed": text.measured(metrics, "tokens_per_s") or writing,
    }


def _state(run: Run, spec: StepSpec) -> str:
    if spec.id in run.results:
        return ""
    if kind_of(spec) == "Concat":
        waiting = [run.specs[needed].name for needed in spec.inputs if _state(run, run.specs[needed])]
        return f"waits for {', '.join(waiting)}" if waiting else ""
    layout = layout_of(run.store, spec.id)
    if layout is None:
        return "not started"
    return f"{len(done_shards(run.store, spec.id))} of {len(layout.shards)} shards done"


def _sample(pair: Pair) -> SampleView:
    return SampleView(
        id=pair.id,
        document=text.clip(pair.document),
        instruction=text.clip(f"{pair.instruction}\n\n{pair.input}" if pair.input else pair.instruction),
        response=text.clip(pair.output),
        lineage=pair.lineage,
        scores=tuple((score.name, f"{score.value:g}") for score in pair.scores),
        source=pair.source,
        url=pair.url,
        link=text.safe_link(pair.url),
        licence=pair.licence,
    )


def _histograms(run: Run) -> tuple[tuple[str, Markup], ...]:
    found = run.lengths()
    drawn: list[tuple[str, Markup]] = []
    for what in ("document", "instruction", "response"):
        series = {origin: found[origin][what] for origin in ("synthetic", "seed") if found.get(origin, {}).get(what)}
        if series:
            title = f"{what.capitalize()} lengths"
            drawn.append((title, figures.histogram(title, series, "characters")))
    return tuple(drawn)


def _loss(run: Run, label: str, step_id: str) -> LossView:
    result = run.results.get(step_id)
    metrics = result.shards[0].metrics if result and result.shards else {}
    nll, perplexity, tokens, rows = (text.measured(metrics, name) for name in ("nll", "perplexity", "tokens", "rows"))
    return LossView(label, step_id, nll, perplexity, tokens, rows)
