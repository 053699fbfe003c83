"""What the command line shows: recipes, the graph of a plan, the progress of a run."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.tree import Tree

from reinstruct import recipes
from reinstruct.commit import Count, Result, done_shards, layout_of, result_of
from reinstruct.plan import Concat, Read, Step, models_in, walk
from reinstruct.planfile import Plan, passed_over, steps_of
from reinstruct.settings import presets_of
from reinstruct.store import Store
from reinstruct.usage import Usage

out = Console(highlight=False)


def print_recipes() -> None:
    """One line per recipe."""
    table = Table(box=None, pad_edge=False)
    table.add_column("recipe", no_wrap=True)
    table.add_column("method")
    for name in recipes.names():
        table.add_row(name, recipes.find(name).summary)
    out.print(table)


def print_recipe(name: str) -> None:
    """Inputs and settings of a recipe, with types and defaults."""
    recipe = recipes.find(name)
    out.print(f"[bold]{recipe.name}[/]  {recipe.summary}\n")
    table = Table(box=None, pad_edge=False)
    for column in ("flag", "takes", "default"):
        table.add_column(column, no_wrap=column == "flag")
    for given in recipe.inputs:
        takes = f"{given.record_type.__name__} records" if given.record_type else "a model"
        table.add_row(f"--{given.name}", takes, "required" if given.required else "none")
    for setting in recipe.settings:
        for flag, kind, default in _flags(setting.name, setting.type, setting.default):
            table.add_row(f"--{flag.replace('_', '-')}", kind, default)
    out.print(table)


def _flags(name: str, kind: Any, default: Any) -> Generator[tuple[str, str, str]]:
    if not dataclasses.is_dataclass(kind):
        yield name, getattr(kind, "__name__", str(kind)), _short(default)
        return
    if hasattr(kind, "read"):  # made from what the flag says, not field by field
        yield name, getattr(kind, "__name__", str(kind)), ""
        return
    if default is None and isinstance(kind, type):  # a setting whose class stands below the recipe
        default = kind()
    presets = presets_of(kind) if isinstance(kind, type) else {}
    if presets:
        yield name, f"preset: {', '.join(presets)}", ""
    for part in dataclasses.fields(kind):
        value = getattr(default, part.name)
        if dataclasses.is_dataclass(value) and not hasattr(value, "read"):
            yield from _flags(f"{name}.{part.name}", type(value), value)
        else:
            yield f"{name}.{part.name}", str(part.type), _short(value)


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 48 else f"{text[:45]}..."


def print_plan(plan: Plan, store: Store) -> None:
    """The graph: every step with its inputs, its models and how far it is."""
    tree = Tree(f"[bold]{plan.recipe}[/]  plan {plan.id}")
    for step in steps_of(plan).values():
        if isinstance(step.action, Concat):
            continue
        branch = tree.add(f"[bold]{step.name}[/]  {_action(step)}  [dim]{step.id}[/]  {_state(store, step)}")
        sources = ", ".join(_input_names(step))
        models = ", ".join(dict.fromkeys(m.step.name if m.step else m.uri for m in models_in(step.action)))
        if sources:
            branch.add(f"from {sources}")
        if models:
            branch.add(f"model {models}")
    out.print(tree)


def tell_passed_over(plan: Plan) -> None:
    """On standard error, the files beside the inputs that are not read, where there are some."""
    for files in passed_over(plan):
        Console(stderr=True, highlight=False).print(f"passed over in {escape(files)}", style="dim", soft_wrap=True)


def _input_names(step: Step) -> list[str]:
    """Names of what a step reads, looking through concatenations."""
    names: list[str] = []
    for given in step.inputs:
        names += _input_names(given) if isinstance(given.action, Concat) else [given.name]
    return names


def _action(step: Step) -> str:
    stages = getattr(step.action, "stages", None) or (getattr(step.action, "stage", None),)
    named = [type(stage).__name__ for stage in stages if stage is not None]
    return " > ".join(named) or type(step.action).__name__


def _state(store: Store, step: Step) -> str:
    result = result_of(store, step.id)
    if result is not None:
        return f"[green]done[/] {_made(result)}"
    layout = layout_of(store, step.id)
    if layout is None:
        return "[dim]to do[/]"
    return f"[yellow]{len(done_shards(store, step.id))} of {len(layout.shards)} shards[/]"


def _made(result: Result) -> str:
    rejected = sum(sum(count.rejected.values()) for count in result.counts)
    metrics = result.shards[0].metrics if result.shards else {}
    if "nll" in metrics:
        return f"nll {metrics['nll']:.3f}"
    if "loss" in metrics:
        return f"loss {metrics['loss']:.3f}"
    return f"{result.rows:,} rows" + (f", {rejected:,} rejected" if rejected else "") + _asked(result.usage)


def _asked(usage: Usage | None) -> str:
    """Replies found in the log, failed calls and speed, each only where there is something to tell."""
    if usage is None:
        return ""
    failed = sum(usage.retries.values())
    found = f", {usage.found:,} of {usage.replies:,} replies found" if usage.found else ""
    speed = f", {usage.tokens_per_s:,.0f} tokens/s" if usage.tokens_per_s else ""
    return found + (f", {failed:,} failed calls" if failed else "") + speed


@dataclass
class _Bar:
    """A step at work."""

    task: TaskID
    left: int
    started: float = field(default_factory=time.monotonic)
    shards: dict[int, tuple[int, int, int]] = field(default_factory=dict[int, tuple[int, int, int]])


class ProgressWatcher:
    """Shows a run: a bar for each step at work, a line for each that is finished."""

    def __init__(self, progress: Progress, steps: int) -> None:
        self.ran = self.found = 0
        self._progress = progress
        self._steps = steps
        self._bars: dict[str, _Bar] = {}

    def step_found(self, step: Step, result: Result) -> None:
        self.found += 1
        self._line(step, f"{_made(result)} [dim](already done)[/]")

    def step_started(self, step: Step, shards: int, left: int) -> None:
        task = self._progress.add_task(step.name, total=None, shards=f"{left} of {shards} shards left", rate="")
        self._bars[step.id] = _Bar(task, left)

    def shard_moved(self, step: Step, shard: int, done: int, total: int, tokens: int) -> None:
        bar = self._bars[step.id]
        bar.shards[shard] = (done, total, tokens)
        counts = list(bar.shards.values())
        whole = sum(total for _, total, _ in counts) if all(total for _, total, _ in counts) else None
        seconds = max(time.monotonic() - bar.started, 0.1)
        made, said = sum(done for done, _, _ in counts), sum(tokens for _, _, tokens in counts)
        rate = f"{made / seconds:,.0f}/s" + (f" {said / seconds:,.0f} tokens/s" if said else "")
        self._progress.update(bar.task, completed=made, total=whole, rate=rate)

    def shard_finished(self, step: Step, shard: int) -> None:
        bar = self._bars[step.id]
        bar.left -= 1
        self._progress.update(bar.task, shards=f"{bar.left} shards left")

    def step_finished(self, step: Step, result: Result) -> None:
        self.ran += 1
        bar = self._bars.pop(step.id)
        self._progress.remove_task(bar.task)
        self._line(step, f"{_made(result)} [dim]in {time.monotonic() - bar.started:.1f} s[/]")

    def _line(self, step: Step, text: str) -> None:
        done = self.ran + self.found
        self._progress.console.print(f"\\[{done}/{self._steps}] {step.name:<16} {text}")


@contextmanager
def watching(plan: Plan) -> Generator[ProgressWatcher]:
    """A progress display for as long as the plan runs."""
    steps = sum(not isinstance(step.action, Concat) for step in steps_of(plan).values())
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[shards]}  {task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out, transient=True) as progress:
        yield ProgressWatcher(progress, steps)


def finished(summary: dict[str, Any], watcher: ProgressWatcher, store: Store, plan: Plan) -> None:
    """Say what a run made and where it is; where nothing was made of the corpus, what became of it."""
    out.print(f"\n{watcher.ran} steps run, {watcher.found} found finished.")
    out.print(f"dataset  {summary['dataset']}  ({summary['rows']:,} pairs, {summary['synthetic']:,} of them synthetic)")
    for name, path in summary["models"].items():
        out.print(f"model    {path}  [dim]({name})[/]", soft_wrap=True)
    for label, nll in summary["held_out_nll"].items():
        out.print(f"held-out loss, {label:<10} {nll:.4f}")
    out.print(f"report   {summary['report']}", soft_wrap=True)
    if repeated := summary.get("repeated_ids"):  # absent where an earlier version published
        several = "1 id stands" if repeated == 1 else f"{repeated:,} ids stand"
        out.print(f"[yellow]{several} for several pairs:[/] the corpus or the seed repeats them", soft_wrap=True)
    if not summary["synthetic"]:
        out.print(f"[yellow]No synthetic pair was made:[/] {most_lost(store, plan)}", soft_wrap=True)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows of numbers; the first is the heading, and so is the first column."""
    heading, *rows = rows
    table = Table(box=None, pad_edge=False)
    for title in heading:
        table.add_column(title, justify="right" if title else "left")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def most_lost(store: Store, plan: Plan) -> str:
    """Which step between the corpus and the dataset left no row, or else turned away most, and for which reason."""
    after_corpus: set[str] = {plan.corpus}
    lost: list[tuple[int, Step, Count]] = []
    for step in walk(steps_of(plan)[plan.data]):
        if step.id not in after_corpus and not after_corpus & {needed.id for needed in step.inputs}:
            continue
        after_corpus.add(step.id)
        result = result_of(store, step.id)
        lost += [(sum(count.rejected.values()), step, count) for count in result.counts] if result else []
    emptied = [found for found in lost if found[2].read and not found[2].written]
    most, step, count = emptied[0] if emptied else max(lost, key=lambda found: found[0])
    if not most:
        return "no row was turned away, so there were none to begin with"
    reason, times = max(count.rejected.items(), key=lambda item: item[1])
    stage = "" if isinstance(step.action, Read) else f" ({count.stage})"
    return f"{step.name}{stage} turned away {most:,} of {count.read:,} rows, most often as {reason} ({times:,})"
