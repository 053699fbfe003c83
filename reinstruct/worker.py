"""Run one shard of one step. Every data container of every job ends up here, and every process on a laptop.

The rule: parts are written first, then the shard is committed once; until then nothing of it can be seen.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from reinstruct.commit import Count, Done, Slice, commit, layout_of
from reinstruct.errors import AlreadyCommitted, ShardError, StoreError
from reinstruct.llm import LLM, Reply
from reinstruct.plan import GatherAll, Map, Model, Read, Step
from reinstruct.records import Rejected
from reinstruct.replies import ReplyLog, log_place
from reinstruct.rows import Pieces, StoredRows
from reinstruct.stage import Ask
from reinstruct.store import Store
from reinstruct.stream import Tally, judge_chunk, label, run_stages
from reinstruct.tables import Chunk, PartWriter, read_slices
from reinstruct.usage import Meter, Recorder

OpenLLM = Callable[[Model], LLM]
_TRIMMED = 2  # chunks of a gather after which freed memory goes back to the system; after each, the step takes longer


@dataclass
class Progress:
    """How far a shard is. `total` is 0 while unknown; `meter` and `counts` grow while it is at work."""

    done: int = 0
    total: int = 0
    tokens: int = 0
    step: str = ""
    shard: int = 0
    meter: Meter = field(default_factory=Meter)
    counts: list[Count] = field(default_factory=list[Count])
    tell: Callable[[Progress], None] = lambda progress: None

    def update(self, *, done: int | None = None, total: int | None = None, tokens: int = 0) -> None:
        self.done = self.done if done is None else done
        self.total = self.total if total is None else total
        self.tokens += tokens
        self.tell(self)

    def restart(self) -> None:
        """Be that of a shard not begun."""
        self.done = self.total = self.tokens = 0
        self.step, self.meter, self.counts = "", Meter(), []


@dataclass
class Attempt:
    """One try at one shard: its names in the store, and what it has so far."""

    store: Store
    step: Step
    shard: int
    open_llm: OpenLLM
    progress: Progress = field(default_factory=Progress)
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    started: float = field(default_factory=time.monotonic)
    log: ReplyLog | None = None
    recorder: Recorder | None = None

    def name(self, kind: str, ending: str = ".parquet") -> str:
        return f"steps/{self.step.id}/{kind}/{self.shard:05d}-{self.id}{ending}"

    def done(self, **found: Any) -> Done:
        owner = f"{socket.gethostname()}:{os.getpid()}"
        seconds = round(time.monotonic() - self.started, 3)
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        named = {"step": self.step.id, "shard": self.shard, "attempt": self.id, "owner": owner}
        return Done(**named, seconds=seconds, finished=finished, **found)


def run_shard(store: Store, step: Step, shard: int, open_llm: OpenLLM, progress: Progress | None = None) -> Done | None:
    """Do one shard and commit it; None if another attempt had committed it first."""
    layout = layout_of(store, step.id)
    if layout is None or shard >= len(layout.shards):
        raise StoreError(f"step {step.id} has no shard {shard}: it was not laid out")
    attempt = Attempt(store, step, shard, open_llm, progress or Progress())
    slices = layout.shards[shard]
    match step.action:
        case Read() | Map() | GatherAll():
            done = _run_rows(attempt, slices)
        case _:
            from reinstruct.model_steps import run_model_step

            done = run_model_step(attempt, slices)
    try:
        commit(store, done)
    except AlreadyCommitted:
        for part in (*done.parts, *done.rejected, *done.files):
            store.delete(part.name)
        return None
    finally:
        if attempt.log is not None:
            attempt.log.pack()
    return done


def _run_rows(attempt: Attempt, slices: list[Slice]) -> Done:
    step = attempt.step
    kept = PartWriter(attempt.store, attempt.name("parts"), step.record_type)
    rejected = PartWriter(attempt.store, attempt.name("rejected"), Rejected)
    tally = Tally(step.id, rejected.write, lambda reply: _count_tokens(attempt.progress, reply))
    attempt.progress.step, attempt.progress.shard, attempt.progress.counts = step.id, attempt.shard, tally.counts
    with ExitStack() as open_files:
        open_files.enter_context(kept)
        open_files.enter_context(rejected)
        for chunk in _chunks(attempt, slices, tally, open_files):
            kept.write(chunk)
            attempt.progress.update(done=tally.counts[0].read)
    _check(step, tally.counts, kept.rows, rejected.rows)
    return attempt.done(
        parts=kept.parts(),
        rejected=rejected.parts(),
        counts=tally.counts,
        prompt_tokens=tally.prompt_tokens,
        completion_tokens=tally.completion_tokens,
        usage=attempt.recorder.usage() if attempt.recorder else None,
    )


def _count_tokens(progress: Progress, reply: Reply) -> None:
    progress.update(done=progress.done + 1, tokens=reply.completion_tokens)


def _chunks(attempt: Attempt, slices: list[Slice], tally: Tally, open_files: ExitStack) -> Iterator[Chunk]:
    step = attempt.step
    match step.action:
        case Read():
            return _read_source(step.action, slices, tally)
        case GatherAll():
            return _gathered(attempt, slices, tally)
        case Map(stages=stages):
            attempt.progress.update(total=sum(piece.rows for piece in slices))
            rows = read_slices(attempt.store, slices, step.inputs[0].record_type)
            asking = [stage for stage in stages if isinstance(stage, Ask)]
            llm = _opened(attempt, asking, slices, tally, open_files) if asking else None
            return run_stages(stages, rows, tally, llm, attempt.log)
        case _:
            raise TypeError(f"no rows come from {step.action!r}")


def _opened(
    attempt: Attempt, asking: list[Ask[Any, Any]], slices: list[Slice], tally: Tally, open_files: ExitStack
) -> LLM:
    """The model of a map, with the log of its replies and what counts them; both are closed before the parts are."""
    model = asking[0].model
    llm = attempt.open_llm(model)
    attempt.log = ReplyLog(attempt.store, log_place(model.id, asking, slices), attempt.id)
    open_files.callback(attempt.log.close)
    tally.meter = attempt.progress.meter = Meter(model.id, llm)
    attempt.recorder = open_files.enter_context(Recorder(tally.meter))
    return llm


def _read_source(action: Read, slices: list[Slice], tally: Tally) -> Iterator[Chunk]:
    from reinstruct.corpus.read import read_range
    from reinstruct.corpus.source import WHOLE, Range

    count = Count("Read")
    tally.counts.append(count)
    files = {file.name: file for file in action.source.files}
    for piece in slices:
        within = Range(piece.start, piece.start + piece.rows) if piece.rows else WHOLE
        for batch in read_range(action.source, files[piece.part], within):
            room = action.limit - count.kept if action.limit else 0
            good, bad = batch.split(action.source.record_type, room)
            _add(count, len(good), bad, tally)
            yield good
            if action.limit and count.kept >= action.limit:
                return


def _add(count: Count, good: int, bad: list[Rejected], tally: Tally) -> None:
    count.read += good + len(bad)
    count.kept += good
    count.written += good
    if bad:
        tally.reject(Chunk(Rejected, rows=bad))
    for row in bad:
        count.rejected[row.reason] = count.rejected.get(row.reason, 0) + 1


def _gathered(attempt: Attempt, slices: list[Slice], tally: Tally) -> Iterator[Chunk]:
    """Two passes: the stage reads what it needs to judge every row, then the rows are copied or rejected."""
    step = attempt.step
    assert isinstance(step.action, GatherAll)
    stage, record_type = step.action.stage, step.inputs[0].record_type
    count = Count(label((stage,), 0))
    tally.counts.append(count)
    with tempfile.TemporaryDirectory(prefix="reinstruct-") as scratch:
        rows = StoredRows(attempt.store, slices, record_type, Path(scratch))
        verdicts = Pieces(stage.verdicts(rows))
        for number, chunk in enumerate(read_slices(attempt.store, slices, record_type)):
            judged = chunk.frame.hstack(verdicts.take(len(chunk)))
            yield judge_chunk(judged, record_type, count, tally)
            if number % _TRIMMED == 0:
                pa.default_memory_pool().release_unused()  # what is read and written fits badly into each other's holes
        verdicts.expect_end()


def _check(step: Step, counts: list[Count], kept: int, rejected: int) -> None:
    stages: tuple[Any, ...] = step.action.stages if isinstance(step.action, Map) else ()
    for number, count in enumerate(counts):
        expands = number < len(stages) and bool(getattr(stages[number], "expands", False))
        count.check(expands=expands)
        following = counts[number + 1].read if number + 1 < len(counts) else kept
        if following != count.written:
            raise ShardError(f"{step.id}: {count.stage} wrote {count.written} rows, but {following} arrived after it")
    counted = sum(sum(count.rejected.values()) for count in counts)
    if counted != rejected:
        raise ShardError(f"{step.id}: {counted} rows were rejected, but {rejected} are stored with a reason")
