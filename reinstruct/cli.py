"""The command line. The rule: a deliberate error is one sentence on standard error and exit code 2.

reinstruct recipes | show | run | compare | serve | status | report | explain | corpus | pretrain | compile
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, NoReturn, cast

import typer

from reinstruct.cli_corpus import corpus
from reinstruct.cli_pretrain import pretrain
from reinstruct.errors import RecipeError, ReinstructError

if TYPE_CHECKING:
    from reinstruct.engines import Engine
    from reinstruct.planfile import Plan
    from reinstruct.runfile import Wanted
    from reinstruct.store import Store

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turn an unlabeled text corpus into instruction-tuning data, and that data into a tuned model.",
)
app.add_typer(corpus, name="corpus")
app.command()(pretrain)
# What typer raises for flags and commands it cannot take. Its own name has moved between versions.
USAGE_ERROR = cast(type[Exception], typer.BadParameter.__mro__[1])
OPEN = {"allow_extra_args": True, "ignore_unknown_options": True}  # inputs and settings differ between recipes

Name = Annotated[str, typer.Argument(metavar="RECIPE", help="a recipe's name, or a run file (.toml)")]
Out = Annotated[str, typer.Option(help="folder or file:// URI for everything the run makes; default runs/RECIPE")]
Limit = Annotated[int | None, typer.Option(help="take only that many documents; 0 takes all")]
HeldOut = Annotated[
    str | None,
    typer.Option(help="measure models on this share of the seed, kept from them [0.1], or on a file of pairs"),
]
Server = Annotated[
    list[str] | None,
    typer.Option(help="[MODEL=]URL[,URL...]: an OpenAI-protocol server, for every model or for the one named"),
]
EngineName = Annotated[
    str, typer.Option(help="what answers for models without a --server: transformers, vllm or vllm-offline")
]
VllmFlags = Annotated[str, typer.Option(help="vLLM's own flags, quoted: '--dtype bfloat16 --max-model-len 4096'")]
TrainProcesses = Annotated[int, typer.Option(min=0, help="processes of each fine-tuning; 0: one per GPU")]
ModelsAtOnce = Annotated[int, typer.Option(help="models that --engine vllm serves at a time")]


@app.command()
def recipes(name: Annotated[str, typer.Argument(help="one recipe, with its inputs and settings")] = "") -> None:
    """List the recipes, or what one of them takes."""
    from reinstruct.console import print_recipe, print_recipes

    if name:
        print_recipe(name)
    else:
        print_recipes()


@app.command(context_settings=OPEN)
def show(context: typer.Context, name: Name, out: Out = "", limit: Limit = None, held_out: HeldOut = None) -> None:
    """Print the graph of a run: steps, inputs, models, and what is already done. Runs nothing."""
    from reinstruct.console import print_plan, tell_passed_over
    from reinstruct.planning import plan_run
    from reinstruct.store import open_store

    asked = _wanted(name, context, out, limit, held_out)
    plan = plan_run(asked.ask)
    print_plan(plan, open_store(asked.out))
    tell_passed_over(plan)


@app.command(context_settings=OPEN)
def run(
    context: typer.Context,
    name: Name,
    out: Out = "",
    limit: Limit = None,
    held_out: HeldOut = None,
    server: Server = None,
    engine: EngineName = "transformers",
    vllm_flags: VllmFlags = "",
    models_at_once: ModelsAtOnce = 1,
    workers: Annotated[int, typer.Option(min=0, help="processes at a time; 0: one per core")] = 0,
    train_processes: TrainProcesses = 0,
) -> None:
    """Run a recipe on this machine. Give its inputs and settings as --NAME VALUE; `reinstruct recipes NAME` lists them.

    Run it again after any interruption: finished steps cost nothing, and no reply of a model is asked for twice.
    """
    from reinstruct.console import finished, watching
    from reinstruct.machine import cores
    from reinstruct.model_checks import check_models
    from reinstruct.publish import publish
    from reinstruct.runner import LocalRunner
    from reinstruct.serving import parse_servers

    servers, chosen = parse_servers(server or []), _engine(engine, vllm_flags, models_at_once)
    plan, store = _planned(_wanted(name, context, out, limit, held_out))
    check_models(plan, servers, chosen)
    with watching(plan) as watcher:
        LocalRunner(store, watcher, workers or cores(), servers, chosen, train_processes=train_processes).run(plan)
    finished(publish(store, plan), watcher, store, plan)


@app.command(context_settings=OPEN)
def compare(
    context: typer.Context,
    names: Annotated[
        list[str], typer.Argument(metavar="RECIPE...", help="two recipes or run files or more, then their flags")
    ],
    out: Annotated[str, typer.Option(help="folder or file:// URI for everything the runs make")] = "runs/compare",
    limit: Limit = None,
    held_out: HeldOut = None,
    server: Server = None,
    engine: EngineName = "transformers",
    vllm_flags: VllmFlags = "",
    models_at_once: ModelsAtOnce = 1,
    workers: Annotated[int, typer.Option(min=0, help="processes at a time; 0: one per core")] = 0,
    train_processes: TrainProcesses = 0,
) -> None:
    """Run several recipes on the same inputs and tabulate what each made. What they share is done once.

    Inputs and settings go to every recipe that takes them; --RECIPE.NAME VALUE to that one alone. A run file stands for
    its recipe with what the file says. RECIPE@LABEL is a recipe once more:
    `compare back_and_forth@filter back_and_forth@both --back_and_forth@filter.variant filter ...`.
    """
    from itertools import takewhile

    from reinstruct.compare import as_rows, plan_comparison, publish_all, save_all
    from reinstruct.console import print_table, tell_passed_over, watching
    from reinstruct.machine import cores
    from reinstruct.model_checks import check_models
    from reinstruct.preflight import check_data
    from reinstruct.runner import LocalRunner
    from reinstruct.serving import parse_servers
    from reinstruct.store import expect_folder, open_store

    given = [*names, *context.args]
    chosen = list(takewhile(lambda item: not item.startswith("--"), given))
    servers, store = parse_servers(server or []), open_store(out)
    answering = _engine(engine, vllm_flags, models_at_once)
    expect_folder(out, store)
    plans = plan_comparison(chosen, given[len(chosen) :], limit=limit, held_out=held_out)
    together = save_all(store, plans)
    tell_passed_over(together)
    check_data(together)
    check_models(together, servers, answering)
    with watching(together) as watcher:
        runner = LocalRunner(store, watcher, workers or cores(), servers, answering, train_processes=train_processes)
        runner.run(together)
    print_table(as_rows(publish_all(store, plans)))


@app.command(context_settings={"allow_extra_args": True})
def serve(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="a folder with a model, such as RUN/models/NAME, or a hub id")],
    port: Annotated[int, typer.Option(help="the first replica's port; 0: any free one")] = 8000,
    replicas: Annotated[int, typer.Option(help="servers of this model, each on its share of the GPUs")] = 1,
    lora: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER: an adapter, served under its name")] = None,
    python: Annotated[str, typer.Option(help="one that has vLLM; default $REINSTRUCT_VLLM_PYTHON, or this")] = "",
) -> None:
    """Serve a model with vLLM on this machine, until interrupted. Flags after -- are vLLM's own."""
    from reinstruct.serve import serve as serve_model

    serve_model(model, port=port, replicas=replicas, loras=lora or [], python=python, flags=context.args)


@app.command()
def status(out: Annotated[str, typer.Argument(help="folder of a run")]) -> None:
    """Say how far the newest run in a folder is."""
    from reinstruct.console import print_plan
    from reinstruct.planfile import newest
    from reinstruct.store import open_store

    store = open_store(out)
    print_plan(newest(store), store)


@app.command()
def report(out: Annotated[str, typer.Argument(help="folder of a run")]) -> None:
    """Write the report of a run anew, finished or not."""
    from reinstruct.planfile import newest
    from reinstruct.report import write_report
    from reinstruct.store import open_store

    store = open_store(out)
    path = store.path("report.html")
    write_report(store, newest(store), path)
    typer.echo(path)


@app.command()
def explain(
    text: Annotated[str, typer.Argument(metavar="TEXT|FILE|-", help="a text, a file of it, or - for standard input")],
    rules: Annotated[
        str,
        typer.Option(help="general, web, gopher, c4, fineweb, air, kun, reinstruct, humpback or another"),
    ] = "general",
) -> None:
    """Show what each quality rule counts in one document, its limit and verdict, and the first reason to reject it."""
    from rich.console import Console

    from reinstruct.explain import explain as judge
    from reinstruct.explain import read_text, table, verdict

    judged = judge(read_text(text), rules)
    Console().print(table(judged))
    typer.echo(verdict(judged, rules))


@app.command(name="compile", context_settings=OPEN)
def compile_(
    context: typer.Context,
    name: Name,
    output: Annotated[str, typer.Option(help="the pipeline file to write")] = "pipeline.yaml",
    out: Out = "",
    limit: Limit = None,
    held_out: HeldOut = None,
    server: Server = None,
) -> None:
    """Compile a run to a Kubeflow pipeline. The plan is saved in the store given by --out."""
    from pathlib import Path

    from reinstruct.planfile import save
    from reinstruct.serving import parse_servers

    servers = parse_servers(server or [])
    plan, store = _planned(_wanted(name, context, out, limit, held_out))
    try:
        from pipelines.from_plan import compile_plan
    except ImportError as error:
        raise RecipeError(f'compiling needs {error.name}: pip install "reinstruct[pipelines]"') from error
    save(store, plan)
    compile_plan(plan, store=store.root, path=Path(output), servers=servers)
    typer.echo(output)


def main() -> None:
    """The command `reinstruct`."""
    try:
        sys.exit(app(standalone_mode=False))
    except ReinstructError as error:
        _fail(str(error), 2)
    except USAGE_ERROR as error:
        said = cast(typer.BadParameter, error).format_message()  # empty where help was printed instead
        _fail(f"{said.rstrip('.')} (`reinstruct --help` lists what there is)" if said else "", 2)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted; the same command goes on where it stopped", 130)


def _fail(sentence: str, code: int) -> NoReturn:
    if sentence:
        print(f"reinstruct: {sentence}", file=sys.stderr)
    sys.exit(code)


def _wanted(name: str, context: typer.Context, out: str, limit: int | None, held_out: str | None) -> Wanted:
    from reinstruct.runfile import wanted

    return wanted(name, context.args, out=out, limit=limit, held_out=held_out)


def _planned(asked: Wanted) -> tuple[Plan, Store]:
    """The plan and the store to carry it out in, once what can be checked beforehand was."""
    from reinstruct.console import tell_passed_over
    from reinstruct.planning import plan_run
    from reinstruct.preflight import check_data
    from reinstruct.store import expect_folder, open_store

    store = open_store(asked.out)
    expect_folder(asked.out, store)
    plan = plan_run(asked.ask)
    tell_passed_over(plan)
    check_data(plan)
    return plan, store


def _engine(name: str, flags: str, models: int) -> Engine:
    import shlex

    from reinstruct.engines import Engine

    try:
        return Engine(name, tuple(shlex.split(flags)), models)
    except ValueError as error:
        raise RecipeError(f"--vllm-flags is {flags!r}, which no shell can read: {error}") from error
