"""What people take away: a dataset others can open, the models, and a summary that is made once."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import polars as pl
import pytest
from rich.progress import Progress

from reinstruct import records
from reinstruct.commit import Done, Layout, Part, close, commit
from reinstruct.console import ProgressWatcher, finished, most_lost
from reinstruct.corpus.open import open_source
from reinstruct.plan import Dataset, Model, read
from reinstruct.planfile import Plan, save, specs
from reinstruct.publish import publish, with_messages
from reinstruct.records import Document, Pair
from reinstruct.stage import Transform
from reinstruct.stages.instruct import Repeat, TeachInstruction, Template
from reinstruct.stages.text import KeepLengths
from reinstruct.store import LocalStore
from tests.in_process import make_rows, no_model
from tests.scripted_world import write

PAIRS = [
    {"id": "1", "instruction": "Add.", "input": "2 and 2", "output": "4"},
    {"id": "2", "instruction": 'Say "tea".', "output": "Thé\n\n{tea}"},
]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def seed(folder: Path) -> Dataset[Pair]:
    return read(open_source(write(folder / "seed.jsonl", *PAIRS), Pair), name="seed")


def finished_plan(store: LocalStore, data: Dataset[Pair], model: Model | None = None) -> Plan:
    """A plan whose rows are made, and whose model is a folder with two files."""
    make_rows(store, data.step, no_model)
    targets = [data.step]
    if model is not None and model.step is not None:
        folder = f"steps/{model.step.id}/model/00000-a"
        for name in ("config.json", "nested/weights.safetensors"):
            store.put(f"{folder}/{name}", name.encode())
        store.put(f"steps/{model.step.id}/layout.json", msgspec.json.encode(Layout([[]])))
        files = [Part(name, *store.sealed(name)) for name in store.names(folder)]
        commit(store, Done(step=model.step.id, shard=0, attempt="a", owner="me", model=folder, files=files))
        close(store, model.step.id)
        targets.append(model.step)
    models = {model.step.name: model.step.id} if model is not None and model.step is not None else {}
    plan = Plan(recipe="test", steps=specs(*targets), data=data.step.id, models=models)
    save(store, plan)
    return plan


def trained(data: Dataset[Pair]) -> Model:
    return Model(uri="org/base").train(data.map(TeachInstruction(Template("{response}"))), "tuned")


def stamps(store: LocalStore) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in Path(store.root).rglob("*")}


def test_a_summary_says_what_is_where_and_publishing_again_changes_nothing(store, tmp_path):
    data = seed(tmp_path)
    plan = finished_plan(store, data, trained(data))
    summary = publish(store, plan)
    assert (summary["plan"], summary["recipe"], summary["rows"], summary["synthetic"]) == (plan.id, "test", 2, 0)
    assert summary == msgspec.json.decode(store.get("run.json"))
    for path in (summary["dataset"], summary["report"], *summary["models"].values()):
        assert Path(path).exists()
    before = stamps(store)
    assert publish(store, plan) == summary
    assert stamps(store) == before


def test_another_plan_replaces_what_was_published(store, tmp_path):
    publish(store, finished_plan(store, seed(tmp_path)))
    second = publish(store, finished_plan(store, seed(tmp_path).map(Repeat(3))))
    assert second["rows"] == 6
    assert pl.read_parquet(store.path("dataset") / "*.parquet").height == 6
    assert not [path.name for path in Path(store.root).iterdir() if path.name.startswith(".")]


def test_models_are_linked_not_copied(store, tmp_path):
    data = seed(tmp_path)
    model = trained(data)
    publish(store, finished_plan(store, data, model))
    made = store.path(f"steps/{model.step.id}/model/00000-a")
    for name in ("config.json", "nested/weights.safetensors"):
        assert (store.path("models/tuned") / name).samefile(made / name)


def test_the_messages_column_is_records_messages(store, tmp_path):
    publish(store, finished_plan(store, seed(tmp_path)))
    rows = pl.read_parquet(store.path("dataset") / "*.parquet")
    for row in rows.to_dicts():
        said = row.pop("messages")
        assert said == [msgspec.to_builtins(turn) for turn in records.messages(msgspec.convert(row, Pair))]
    assert rows["messages"][0].to_list()[0]["content"] == "Add.\n\n2 and 2"


def test_an_empty_dataset_is_published_with_all_its_columns(store, tmp_path):
    summary = publish(store, finished_plan(store, seed(tmp_path).map(KeepLengths("output", min_chars=1000))))
    assert (summary["rows"], summary["synthetic"]) == (0, 0)
    rows = pl.read_parquet(store.path("dataset") / "*.parquet")
    assert rows.height == 0
    assert rows.schema == with_messages(pl.DataFrame(records.to_table([], Pair))).schema
    assert {"instruction", "output", "messages", "lineage"} <= set(rows.columns)


@dataclass(frozen=True)
class AsPair(Transform[Document, Pair]):
    def apply(self, record: Document) -> Pair:
        return Pair(id=record.id, instruction="Why?", output=record.text)


def test_the_step_and_reason_that_cost_most_rows_are_told(store, tmp_path, corpus_file):
    corpus: Dataset[Document] = read(open_source(str(corpus_file), Document), name="corpus")
    kept = corpus.map(KeepLengths(min_chars=20), name="first").map(KeepLengths(min_chars=10_000), name="second")
    plan = finished_plan(store, kept)
    plan.corpus = corpus.step.id
    said = most_lost(store, plan)
    assert said == "second (KeepLengths) turned away 39 of 39 rows, most often as too_short (39)"


def test_rows_the_seed_lost_are_not_blamed(store, tmp_path, corpus_file):
    corpus: Dataset[Document] = read(open_source(str(corpus_file), Document), limit=3, name="corpus")
    few = corpus.map(KeepLengths(min_chars=10_000), AsPair(), name="few")
    data = seed(tmp_path).map(Repeat(100)).map(KeepLengths("output", min_chars=1000), name="seeds") + few
    plan = finished_plan(store, data)
    plan.corpus = corpus.step.id
    assert most_lost(store, plan).startswith("few (KeepLengths) turned away 3 of 3 rows")


@pytest.mark.slow
def test_ids_of_several_pairs_are_counted_and_told(store, tmp_path, capsys):
    """Not those of a pair that is there twice."""
    uri = write(tmp_path / "pairs.jsonl", PAIRS[0], {**PAIRS[0], "output": "Four."}, PAIRS[1], PAIRS[1])
    plan = finished_plan(store, read(open_source(uri, Pair), name="seed"))
    summary = publish(store, plan)
    assert summary["repeated_ids"] == 1
    finished({**summary, "synthetic": 1}, ProgressWatcher(Progress(), 1), store, plan)
    assert "1 id stands for several pairs" in capsys.readouterr().out
    alone = finished_plan(store, seed(tmp_path))
    summary = publish(store, alone)
    assert summary["repeated_ids"] == 0
    finished({**summary, "synthetic": 1}, ProgressWatcher(Progress(), 1), store, alone)
    assert "stand for" not in capsys.readouterr().out


def test_other_libraries_open_the_dataset(store, tmp_path):
    datasets = pytest.importorskip("datasets")
    publish(store, finished_plan(store, seed(tmp_path)))
    files = str(store.path("dataset") / "*.parquet")
    opened = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert opened[0]["messages"] == [
        {"role": "user", "content": "Add.\n\n2 and 2"},
        {"role": "assistant", "content": "4"},
    ]
    assert opened[1]["output"] == PAIRS[1]["output"]
