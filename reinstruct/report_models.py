"""What asking models took, step by step, as the report shows it.

The one rule: what was paid for in this run and what was found from earlier ones stand side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from reinstruct import report_figures as figures
from reinstruct.commit import Result
from reinstruct.report_rows import Run
from reinstruct.report_text import THIN, number, share
from reinstruct.server_metrics import ServerUse
from reinstruct.usage import Point, Usage

PLOTTED = 4  # steps that get figures: those that asked for the most tokens
FEWEST_POINTS = 4  # below which a figure shows nothing that the table does not


@dataclass(frozen=True)
class AskedStep:
    """One step that asked a model; `failed` and `finishes` are written out, `unreadable` is a share of all replies."""

    step: str
    model: str
    replies: int
    found: int
    calls: int
    failed: str
    prompt_tokens: int
    completion_tokens: int
    tokens_per_s: float | None
    finishes: str
    unreadable: str
    server: str
    figures: tuple[tuple[str, Markup], ...] = ()


def asked_steps(run: Run) -> tuple[AskedStep, ...]:
    """The finished steps that asked a model, in the plan's order."""
    used = {step_id: usage for step_id, result in run.results.items() if (usage := result.usage)}
    most = sorted(used, key=lambda step_id: -used[step_id].completion_tokens)[:PLOTTED]
    return tuple(
        _asked_step(spec.id, spec.name, run.results[spec.id], used[spec.id], plotted=spec.id in most)
        for spec in run.plan.steps
        if spec.id in used
    )


def _asked_step(step_id: str, name: str, result: Result, usage: Usage, *, plotted: bool) -> AskedStep:
    return AskedStep(
        step=step_id,
        model=usage.model,
        replies=usage.replies,
        found=usage.found,
        calls=usage.calls,
        failed=_failed(usage),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        tokens_per_s=usage.tokens_per_s,
        finishes=_finishes(usage),
        unreadable=share(sum(count.unreadable for count in result.counts), usage.replies),
        server=server_sentence(usage.server) if usage.server else "",
        figures=_figures(name, usage.points) if plotted else (),
    )


def _failed(usage: Usage) -> str:
    causes = sorted(usage.retries.items(), key=lambda item: -item[1])
    return ", ".join(f"{cause} {number(n)}" for cause, n in causes) or "none"


def _finishes(usage: Usage) -> str:
    """How the replies ended that did not end by themselves."""
    others = sorted((n, reason) for reason, n in usage.finish.items() if reason != "stop")
    return ", ".join(f"{reason} {share(n, usage.replies)}" for n, reason in reversed(others)) or "none"


def server_sentence(server: ServerUse) -> str:
    """What the servers told of themselves."""
    told = [f"{number(server.running, 1)} requests running and {number(server.waiting, 1)} waiting on average"]
    if server.fullest_cache:
        mean, most = 100 * server.cache, 100 * server.fullest_cache
        told.append(f"key-value cache {mean:.0f}{THIN}% full on average and {most:.0f}{THIN}% at most")
    if server.prefix_hit_rate is not None:
        told.append(f"{100 * server.prefix_hit_rate:.0f}{THIN}% of prompt tokens found in the prefix cache")
    if server.tokens_per_s:
        told.append(f"{number(server.tokens_per_s)} tokens written a second")
    if server.preemptions:
        told.append(f"{number(server.preemptions)} requests put back for want of memory")
    return "; ".join(told)


def _figures(name: str, points: Sequence[Point]) -> tuple[tuple[str, Markup], ...]:
    if len(points) < FEWEST_POINTS:
        return ()
    flying = [(point.seconds, float(point.in_flight)) for point in points]
    rates = [
        (after.seconds, (after.tokens - before.tokens) / (after.seconds - before.seconds))
        for before, after in pairwise(points)
        if after.seconds > before.seconds
    ]
    drawn = [(f"{name}: calls in flight", flying, "calls in flight")]
    if any(rate for _, rate in rates):
        drawn.append((f"{name}: new tokens a second", rates, "tokens / s"))
    return tuple(
        (title, figures.line_chart(title, line, "seconds", label, from_zero=True)) for title, line, label in drawn
    )
