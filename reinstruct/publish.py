"""What people take away from a run: the dataset, the models, the report. Made from the store, at its root.

The rule: each is built beside its place and moved there whole, so a reader finds the old one or the new one.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from reinstruct.card import dataset_card
from reinstruct.commit import result_of
from reinstruct.layout import output_parts
from reinstruct.planfile import Plan, steps_of
from reinstruct.records import Pair
from reinstruct.repeated import RepeatedIds
from reinstruct.report import write_report
from reinstruct.store import Store
from reinstruct.tables import read_parts

if TYPE_CHECKING:
    import polars as pl

ROWS_PER_FILE = 100_000
SUMMARY = "run.json"


def publish(store: Store, plan: Plan, folder: str = "") -> dict[str, Any]:
    """Publish a finished plan; what is where, as `run.json` says it too. Nothing is done a second time.

    `folder` of the store holds it all, for a store with several plans; empty: the store's root does.
    """
    place = f"{folder}/" if folder else ""
    before = store.get(place + SUMMARY)
    if before is not None and (summary := msgspec.json.decode(before)).get("plan") == plan.id:
        return summary
    store.delete(place + SUMMARY)
    rows = _publish_dataset(store, plan, place)
    models = {name: _publish_model(store, f"{place}models", name, step_id) for name, step_id in plan.models.items()}
    write_report(store, plan, store.path(f"{place}report.html"))
    losses = {label: _metrics(store, step_id).get("nll") for label, step_id in plan.losses.items()}
    summary = {
        "plan": plan.id,
        "recipe": plan.recipe,
        "dataset": str(store.path(f"{place}dataset")),
        **rows,
        "models": models,
        "held_out_nll": losses,
        "report": str(store.path(f"{place}report.html")),
    }
    store.put(place + SUMMARY, msgspec.json.format(msgspec.json.encode(summary)))
    return summary


def _publish_dataset(store: Store, plan: Plan, place: str) -> dict[str, int]:
    """Parquet files `datasets.load_dataset("parquet")` opens, with a `messages` column, and a card."""
    import polars as pl

    new = _emptied(store, f"{place}.dataset.new")
    rows = synthetic = 0
    ids = RepeatedIds(("origin", "id"), ("instruction", "input", "output"))
    pending: list[pl.DataFrame] = []
    files = 0
    for chunk in read_parts(store, output_parts(store, steps_of(plan)[plan.data]), Pair):
        pending.append(with_messages(chunk.frame))
        ids.add(chunk.frame)
        rows += len(chunk)
        synthetic += int((chunk.frame["origin"] == "synthetic").sum())
        if sum(map(len, pending)) >= ROWS_PER_FILE:
            pl.concat(pending).write_parquet(new / f"train-{files:05d}.parquet")
            files, pending = files + 1, []
    if pending or not files:
        table = pl.concat(pending) if pending else with_messages(_no_rows())
        table.write_parquet(new / f"train-{files:05d}.parquet")
    (new / "README.md").write_text(dataset_card(store, plan), encoding="utf-8")
    _swap(new, store.path(f"{place}dataset"))
    return {"rows": rows, "synthetic": synthetic, "repeated_ids": ids.count()}


def with_messages(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs with their conversation: as `records.messages`, over columns."""
    import polars as pl

    asked = pl.when(pl.col("input") == "").then(pl.col("instruction"))
    asked = asked.otherwise(pl.concat_str("instruction", pl.lit("\n\n"), "input"))
    user = pl.struct(role=pl.lit("user"), content=asked)
    assistant = pl.struct(role=pl.lit("assistant"), content=pl.col("output"))
    return pairs.with_columns(messages=pl.concat_list(user, assistant))


def _publish_model(store: Store, models: str, name: str, step_id: str) -> str:
    """The model's folder under its name. Files are linked, not copied."""
    result = result_of(store, step_id)
    assert result is not None
    source = store.path(result.shards[0].model)
    new = _emptied(store, f"{models}/.{name}.new")
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        target = new / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(file, target)
    _swap(new, store.path(f"{models}/{name}"))
    return str(store.path(f"{models}/{name}"))


def _metrics(store: Store, step_id: str) -> dict[str, Any]:
    result = result_of(store, step_id)
    return result.shards[0].metrics if result else {}


def _no_rows() -> pl.DataFrame:
    from reinstruct.tables import Chunk

    return Chunk(Pair, rows=[]).frame


def _emptied(store: Store, name: str) -> Path:
    path = store.path(name)
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    return path


def _swap(new: Path, place: Path) -> None:
    old = place.with_name(f".{place.name}.old")
    if old.exists():
        shutil.rmtree(old)
    if place.exists():
        place.rename(old)
    new.rename(place)
    if old.exists():
        shutil.rmtree(old)
