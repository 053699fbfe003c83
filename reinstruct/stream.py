"""Run the stages of one map over a stream of chunks, and account for every row.

The rule: rows leave in the order they came, whatever order replies arrive in, so a retried shard equals the first try.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace

from reinstruct.commit import Count
from reinstruct.draw import draw_int
from reinstruct.errors import ShardError
from reinstruct.form import WrongForm, formed
from reinstruct.identity import describe, digest
from reinstruct.llm import LLM, Reply, Request
from reinstruct.records import Drop, Made, Rejected
from reinstruct.rejected import rejected_row, split_by_reason
from reinstruct.replies import ReplyLog, request_key
from reinstruct.stage import Ask, Filter, Transform, record_types
from reinstruct.tables import ROWS, Chunk, joined, of_frame
from reinstruct.usage import Meter

if TYPE_CHECKING:
    import polars as pl

FILTERED_ROWS, FILTERED_BYTES = 4096, 8 << 20  # that a filter judges at once: each call has a price of its own


@dataclass
class Tally:
    """What happened in a shard so far. `reject` stores rows; `asked` is told of each reply (for progress)."""

    step_id: str
    reject: Callable[[Chunk], None]
    asked: Callable[[Reply], None] = lambda reply: None
    counts: list[Count] = field(default_factory=list[Count])
    meter: Meter = field(default_factory=Meter)
    prompt_tokens: int = 0
    completion_tokens: int = 0


def run_stages(
    stages: Sequence[Any], chunks: Iterator[Chunk], tally: Tally, llm: LLM | None, log: ReplyLog | None
) -> Iterator[Chunk]:
    """The chunks after all stages, one after the other, nothing held back."""
    for number, stage in enumerate(stages):
        count = Count(label(stages, number))
        tally.counts.append(count)
        match stage:
            case Filter():
                as_stored = all(isinstance(earlier, Filter) for earlier in stages[:number])
                chunks = _filtered(stage, chunks, count, tally, in_input=as_stored)
            case Transform():
                chunks = _transformed(stage, chunks, count, tally)
            case Ask():
                assert llm is not None
                assert log is not None
                chunks = _asked(stage, chunks, count, tally, llm, log)
            case _:
                raise TypeError(f"not a stage of a map: {stage!r}")
    return chunks


def label(stages: Sequence[Any], number: int) -> str:
    """A stage's name in counts: its class, numbered from the second of the same class on."""
    name = type(stages[number]).__name__
    earlier = sum(type(stage).__name__ == name for stage in stages[:number])
    return f"{name}-{earlier + 1}" if earlier else name


def _filtered(
    stage: Filter[Any], chunks: Iterator[Chunk], count: Count, tally: Tally, *, in_input: bool
) -> Iterator[Chunk]:
    reason = stage.reason().alias("reason")
    for chunk in joined(chunks, FILTERED_ROWS, FILTERED_BYTES):
        judged = chunk.frame.with_columns(reason)
        judged = judged.unnest("reason") if judged.schema["reason"].is_nested() else judged
        yield judge_chunk(judged, chunk.record_type, count, tally, in_input=in_input)


def judge_chunk(
    judged: pl.DataFrame, record_type: type[Any], count: Count, tally: Tally, *, in_input: bool = True
) -> Chunk:
    """The rows of a frame without a reason; those with one go to the tally."""
    kept, rejected = split_by_reason(judged, count.stage, in_input=in_input)
    tally.reject(Chunk(Rejected, table=rejected))
    reasons: dict[str | None, int] = dict(judged.get_column("reason").value_counts().rows())
    for name in sorted(name for name in reasons if name is not None):
        count.rejected[name] = count.rejected.get(name, 0) + reasons[name]
    count.read += len(judged)
    count.kept += len(kept)
    count.written += len(kept)
    return of_frame(kept, record_type)


def _transformed(stage: Transform[Any, Any], chunks: Iterator[Chunk], count: Count, tally: Tally) -> Iterator[Chunk]:
    for chunk in chunks:
        out: list[Any] = []
        for record in chunk.records:
            out.extend(_taken(stage.apply(record), record, count, tally))
        yield Chunk(_type_after(stage, chunk.record_type), rows=out)


def _asked(
    stage: Ask[Any, Any], chunks: Iterator[Chunk], count: Count, tally: Tally, llm: LLM, log: ReplyLog
) -> Iterator[Chunk]:
    made = Made(step=tally.step_id, stage=count.stage, model=stage.model.id, prompt=_prompt_version(stage))
    record_type: Any = None
    out: list[Any] = []
    for record, answer in _in_order(stage, count.stage, chunks, tally, llm, log):
        result = answer if isinstance(answer, Drop) else _parsed(stage, record, answer)
        count.unreadable += isinstance(result, Drop) and result.unreadable
        record_type = record_type or _type_after(stage, type(record))
        out.extend(_stamped(item, made) for item in _taken(result, record, count, tally))
        if len(out) >= ROWS:
            yield Chunk(record_type, rows=out)
            out = []
    if count.read and count.unreadable > stage.max_unreadable * count.read:
        raise ShardError(
            f"{count.stage}: {count.unreadable} of {count.read} replies were unreadable, more than the allowed share "
            f"of {stage.max_unreadable:g}: {_commonest(count.rejected)}"
        )
    if out:
        yield Chunk(record_type, rows=out)


def _parsed(stage: Ask[Any, Any], record: Any, reply: Reply) -> Any:
    if reply.finish == "prompt_too_long":
        return Drop("prompt_too_long", f"{reply.prompt_tokens} prompt tokens")
    if stage.sampling.has_form:
        try:
            reply = formed(reply, stage.sampling)
        except WrongForm as error:
            is_cut = reply.finish == "length"
            return Drop("cut_off" if is_cut else "wrong_form", str(error), unreadable=not is_cut)
    return stage.parse(record, reply)


def _in_order(
    stage: Ask[Any, Any], name: str, chunks: Iterator[Chunk], tally: Tally, llm: LLM, log: ReplyLog
) -> Iterator[tuple[Any, Reply]]:
    """(record, reply) in the records' order: replies already kept first-hand, the others as the model gives them."""
    waiting: dict[int, Any] = {}
    ready: dict[int, Reply] = {}
    keys: dict[int, str] = {}
    key_of = request_key(stage.model.id, stage.sampling)

    def missing() -> Iterator[Request]:
        for position, record in enumerate(record for chunk in chunks for record in chunk.records):
            seed = record_seed(stage.sampling.seed, name, record.id)
            request = Request(record.id, stage.prompt(record), seed, position)
            key = key_of(request)
            waiting[position] = record
            kept = log.find(key)
            if kept is not None:
                ready[position] = kept
                tally.meter.found(kept)
                continue
            keys[position] = key
            tally.meter.handed()
            yield request

    next_out = 0
    for batch in chain(llm.complete(missing(), stage.sampling), [()]):
        log.append([(keys.pop(request.position), reply) for request, reply in batch])
        for request, reply in batch:
            ready[request.position] = reply
            tally.meter.answered(reply)
            tally.asked(reply)
        while next_out in ready:
            yield waiting.pop(next_out), _counted(ready.pop(next_out), tally)
            next_out += 1
    if waiting:
        raise ShardError(f"{name}: the model left {len(waiting)} records without a reply")


def _counted(reply: Reply, tally: Tally) -> Reply:
    tally.prompt_tokens += reply.prompt_tokens
    tally.completion_tokens += reply.completion_tokens
    return reply


def record_seed(run_seed: int, stage: str, record_id: str) -> int:
    """A seed of the record's own, so that no choice depends on the order of records."""
    return draw_int(run_seed, stage, record_id) >> 33


def _taken(result: Any, record: Any, count: Count, tally: Tally) -> list[Any]:
    count.read += 1
    if isinstance(result, Drop):
        count.rejected[result.reason] = count.rejected.get(result.reason, 0) + 1
        tally.reject(Chunk(Rejected, rows=[rejected_row(record, count.stage, result)]))
        return []
    count.kept += 1
    rows = cast(list[Any], result) if isinstance(result, list) else [result]
    count.written += len(rows)
    return rows


def _stamped(record: Any, made: Made) -> Any:
    return replace(record, lineage=(*record.lineage, made)) if hasattr(record, "lineage") else record


def _type_after(stage: Any, record_type: type[Any]) -> type[Any]:
    _, gives = record_types(stage)
    return gives if isinstance(gives, type) else record_type


def _prompt_version(stage: Ask[Any, Any]) -> str:
    return digest(describe(stage, identity=True))[:12]


def _commonest(reasons: dict[str, int]) -> str:
    ranked = sorted(reasons.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{reason} {n}" for reason, n in ranked)
