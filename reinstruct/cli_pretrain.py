"""`reinstruct pretrain`: make a base model of one's own.

reinstruct pretrain CORPUS... --out FOLDER [--licence PART] [--model-licence NAME] [--size SIZE] [--tokens N] [--seed N]
"""

from __future__ import annotations

from typing import Annotated

import typer


def pretrain(
    corpora: Annotated[
        list[str], typer.Argument(metavar="CORPUS...", help="files, folders, globs or URLs; pydoc: or lines:FILE")
    ],
    out: Annotated[str, typer.Option(help="folder for everything that is made; the model comes to FOLDER/model")],
    size: Annotated[str, typer.Option(help="tiny, mini or small")] = "mini",
    licence: Annotated[
        list[str] | None, typer.Option(help="keep documents whose licence holds this, in any case; may be repeated")
    ] = None,
    model_licence: Annotated[
        str, typer.Option(help="the licence you give the model, for its card; none is guessed")
    ] = "",
    tokens: Annotated[int, typer.Option(help="train on so many tokens, repeats counted; 0: the size's own")] = 0,
    seed: Annotated[int, typer.Option(help="another seed: other weights, order and held-out sources")] = 0,
    limit: Annotated[int, typer.Option(help="take only that many documents of each corpus; 0 takes all")] = 0,
    held_out: Annotated[float, typer.Option(help="share of the sources (books, pages) that are only measured")] = 0.02,
    workers: Annotated[int, typer.Option(min=0, help="processes at a time; 0: one per core")] = 0,
) -> None:
    """Train a tokenizer and a small base model on the English prose of a corpus, and write its card.

    Run it again after any interruption: it goes on from the newest checkpoint.
    """
    from reinstruct.console import out as console
    from reinstruct.console import tell_passed_over, watching
    from reinstruct.machine import cores
    from reinstruct.model_card import publish_model
    from reinstruct.preflight import check_data
    from reinstruct.pretrain import Wanted, plan_pretraining
    from reinstruct.runner import LocalRunner
    from reinstruct.store import expect_folder, open_store
    from reinstruct.train.job import expect_libraries
    from reinstruct.train.settings import Pretrain

    wanted = Wanted(corpora, tuple(licence or ()), Pretrain(size, seed, tokens), limit, held_out, model_licence)
    plan = plan_pretraining(wanted)
    store = open_store(out)
    expect_folder(out, store)
    tell_passed_over(plan)
    check_data(plan)
    expect_libraries()
    with watching(plan) as watcher:
        LocalRunner(store, watcher, workers or cores()).run(plan)
    place, figures = publish_model(store, plan)
    measured = figures["held_out"]
    console.print(f"\n{watcher.ran} steps run, {watcher.found} found finished.")
    console.print(f"model  {place}  ({figures['parameters']:,} parameters)", soft_wrap=True)
    console.print(
        f"held-out loss {measured['nll_per_token']:.4f} a token, {measured['bits_per_byte']:.4f} bits a byte; "
        f"use it with --base {place}",
        soft_wrap=True,
    )
