"""A shard is done exactly once, every row is accounted for, and no reply is asked for twice."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest

from reinstruct.commit import layout_of, result_of
from reinstruct.corpus.open import open_source
from reinstruct.errors import LLMUnavailable, ShardError
from reinstruct.layout import ensure_layout
from reinstruct.llm import Reply, Request, Sampling, Scripted
from reinstruct.plan import Dataset, Model, Step, read
from reinstruct.records import Document, Drop, Pair
from reinstruct.rows import Rows
from reinstruct.stage import Ask, Filter, Gather, Transform
from reinstruct.stages.gather import DropDuplicates, all_kept
from reinstruct.stages.instruct import Template, WriteInstruction
from reinstruct.stages.text import KeepLengths
from reinstruct.store import LocalStore
from reinstruct.worker import run_shard
from tests.in_process import make_rows, no_model, rejected, rows

ASK = WriteInstruction(Model(uri="model"), Template("Request for: {response}"))


def run(store: LocalStore, step: Step, open_llm=no_model, shards: int = 1) -> None:
    make_rows(store, step, open_llm, shards)


@pytest.fixture
def documents(corpus_file: Path) -> Dataset[Document]:
    return read(open_source(str(corpus_file), Document), name="corpus")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def test_rows_pass_filters_and_gathers_with_a_reason_for_each_rejection(store, documents):
    kept = documents.map(KeepLengths("text", 50, 10_000), name="lengths").gather(DropDuplicates())
    run(store, kept.step)
    assert [r.id for r in rows(store, kept.step)] == [f"d{n}" for n in range(38)]
    (duplicate,) = rejected(store, kept.step)
    assert (duplicate.id, duplicate.stage, duplicate.reason) == ("d38", "DropDuplicates", "duplicate")
    (short,) = rejected(store, kept.step.inputs[0])
    assert (short.id, short.reason) == ("d39", "too_short")
    assert "Too short." in short.record
    counts = result_of(store, kept.step.id).counts
    assert (counts[0].read, counts[0].kept, counts[0].rejected) == (39, 38, {"duplicate": 1})


def test_a_limit_takes_the_first_documents(store, corpus_file):
    limited = read(open_source(str(corpus_file), Document), limit=7, name="corpus")
    run(store, limited.step)
    assert [r.id for r in rows(store, limited.step)] == [f"d{n}" for n in range(7)]


def test_shards_cut_the_rows_without_loss_and_stay_as_first_cut(store, documents):
    kept = documents.map(KeepLengths())
    run(store, kept.step, shards=3)
    assert len(layout_of(store, kept.step.id).shards) == 3
    assert ensure_layout(store, kept.step, shards=9, min_rows=1) == layout_of(store, kept.step.id)
    assert [r.id for r in rows(store, kept.step)] == [f"d{n}" for n in range(40)]


def test_a_second_attempt_at_a_shard_leaves_the_first_alone(store, documents):
    kept = documents.map(KeepLengths())
    run(store, kept.step)
    before = store.names(f"steps/{kept.step.id}")
    assert run_shard(store, kept.step, 0, no_model) is None
    assert store.names(f"steps/{kept.step.id}") == before, "the loser removes its parts"


@dataclass
class Fragile:
    """A model that answers `lives` requests, out of order in twos, then is gone."""

    lives: int
    asked: list[str] = field(default_factory=list)

    def complete(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[list[tuple[Request, Reply]]]:
        held: list[Request] = []
        for request in requests:
            held.append(request)
            if len(held) == 2:
                yield [self._answer(r) for r in reversed(held)]
                held = []
        if held:
            yield [self._answer(r) for r in held]

    def _answer(self, request: Request) -> tuple[Request, Reply]:
        if len(self.asked) == self.lives:
            raise LLMUnavailable("gone")
        self.asked.append(request.key)
        return request, Reply(f"What of {request.key}?", prompt_tokens=5, completion_tokens=3)


def test_replies_that_arrived_are_never_asked_for_again_and_rows_keep_their_order(store, documents):
    asked = documents.map(ASK)
    first, second = Fragile(lives=20), Fragile(lives=1000)
    with pytest.raises(LLMUnavailable):
        run(store, asked.step, lambda model: first)
    assert result_of(store, asked.step.id) is None
    run(store, asked.step, lambda model: second)
    assert len(first.asked) == 20
    assert sorted(first.asked + second.asked) == sorted(f"d{n}" for n in range(40))
    made = rows(store, asked.step)
    assert [pair.id for pair in made] == [f"d{n}" for n in range(40)]
    assert made[3].instruction == "What of d3?"
    assert made[3].lineage[0].stage == "WriteInstruction"
    assert made[3].lineage[0].step == asked.step.id
    assert made[3].lineage[0].model == "model"


def test_tokens_of_kept_replies_are_counted_too(store, documents):
    asked = documents.map(ASK)
    with pytest.raises(LLMUnavailable):
        run(store, asked.step, lambda model: Fragile(lives=20))
    run(store, asked.step, lambda model: Fragile(lives=1000))
    (done,) = result_of(store, asked.step.id).shards
    assert (done.prompt_tokens, done.completion_tokens) == (200, 120)


def test_a_changed_prompt_asks_again(store, documents):
    again = documents.map(WriteInstruction(Model(uri="model"), Template("Another: {response}")))
    first, second = Scripted(lambda prompt: "one"), Scripted(lambda prompt: "two")
    run(store, documents.map(ASK).step, lambda model: first)
    run(store, again.step, lambda model: second)
    assert len(second.asked) == 40
    assert {pair.instruction for pair in rows(store, again.step)} == {"two"}


@dataclass(frozen=True)
class Rate(WriteInstruction):
    def parse(self, record: Document, reply: Reply) -> Drop:
        return Drop("no_score", unreadable=True)


def test_too_many_unreadable_replies_fail_the_shard_and_commit_nothing(store, documents):
    asked = documents.map(Rate(Model(uri="model"), Template("Rate: {response}")))
    with pytest.raises(ShardError, match=r"40 of 40 replies were unreadable.*no_score 40"):
        run(store, asked.step, lambda model: Scripted(lambda prompt: "fine"))
    assert store.names(f"steps/{asked.step.id}/done") == []
    assert store.names(f"steps/{asked.step.id}/parts") == []


def test_a_model_that_skips_a_record_fails_the_shard(store, documents):
    @dataclass
    class Forgetful:
        def complete(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[list[tuple[Request, Reply]]]:
            for number, request in enumerate(requests):
                if number != 5:
                    yield [(request, Reply("x"))]

    with pytest.raises(ShardError, match="without a reply"):
        run(store, documents.map(ASK).step, lambda model: Forgetful())


@dataclass(frozen=True)
class Halve(Transform[Document, Document]):
    def apply(self, record: Document) -> list[Document]:
        return [Document(id=f"{record.id}.{side}", text=record.text) for side in "ab"]


def test_a_stage_that_expands_must_say_so(store, documents):
    with pytest.raises(ShardError, match="does not say it expands"):
        run(store, documents.map(Halve()).step)


@dataclass(frozen=True)
class Miscount(Gather[Document]):
    more: int

    def verdicts(self, rows: Rows) -> Iterator[pl.DataFrame]:
        for frame in rows.read("id"):
            yield all_kept(frame.height)
        yield all_kept(2) if self.more > 0 else all_kept(0)


@dataclass(frozen=True)
class LoseOne(Gather[Document]):
    def verdicts(self, rows: Rows) -> Iterator[pl.DataFrame]:
        yield all_kept(rows.height - 1)


def test_a_gather_that_miscounts_is_caught(store, documents):
    with pytest.raises(ShardError, match="no verdict on 1 rows"):
        run(store, documents.gather(LoseOne()).step)
    with pytest.raises(ShardError, match="2 verdicts more"):
        run(store, documents.gather(Miscount(2)).step)
    run(store, documents.gather(Miscount(0)).step)


@dataclass(frozen=True)
class Explained(Gather[Document]):
    def verdicts(self, rows: Rows) -> Iterator[pl.DataFrame]:
        for frame in rows.read("id", "text"):
            last = pl.col("id") == "d3"
            yield frame.select(
                reason=pl.when(last).then(pl.lit("third")), detail=pl.when(last).then(pl.col("text").str.slice(0, 5))
            )


def test_a_gather_may_say_more_of_a_rejected_row(store, documents):
    dropped = documents.gather(Explained())
    run(store, dropped.step)
    (row,) = rejected(store, dropped.step)
    assert (row.id, row.reason, row.detail) == ("d3", "third", "Notes")
    assert len(row.record) > 100


@dataclass(frozen=True)
class Odd(Transform[Document, Document]):
    def apply(self, record: Document) -> Document | Drop:
        return Drop("odd", "why not") if int(record.id[1:]) % 2 else record


@dataclass(frozen=True)
class NoThrees(Filter[Document]):
    def reason(self) -> pl.Expr:
        return pl.when(pl.col("id").str.contains("3")).then(pl.lit("three"))


def test_stages_of_one_map_hand_on_what_they_keep(store, documents):
    kept = documents.map(NoThrees(), Odd(), Odd())
    run(store, kept.step)
    counts = {count.stage: (count.read, count.kept, count.rejected) for count in result_of(store, kept.step.id).counts}
    assert counts["NoThrees"] == (40, 27, {"three": 13})
    assert counts["Odd"] == (27, 15, {"odd": 12})
    assert counts["Odd-2"] == (15, 15, {})
    assert {row.detail for row in rejected(store, kept.step) if row.reason == "odd"} == {"why not"}


def test_prompts_that_are_too_long_are_rejected_with_that_reason(store, documents):
    @dataclass(frozen=True)
    class Short(Ask[Document, Pair]):
        def prompt(self, record: Document) -> str:
            return record.text

        def parse(self, record: Document, reply: Reply) -> Drop:
            raise AssertionError("never parsed")

    class Full:
        def complete(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[list[tuple[Request, Reply]]]:
            yield [(request, Reply("", "prompt_too_long", 9000)) for request in requests]

    asked = documents.map(Short(Model(uri="m")))
    run(store, asked.step, lambda model: Full())
    assert result_of(store, asked.step.id).counts[0].rejected == {"prompt_too_long": 40}
