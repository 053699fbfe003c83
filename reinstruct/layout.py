"""Cut a step's input into shards: once per step and kept, so that every attempt agrees; never part of an identity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from reinstruct.commit import Layout, Part, Slice, layout_of, result_of
from reinstruct.corpus.cuts import cut
from reinstruct.corpus.source import Source
from reinstruct.errors import AlreadyCommitted, StoreError
from reinstruct.plan import Concat, Map, Read, Step
from reinstruct.store import Store

BYTES_PER_SHARD = 64 << 20  # of source files


def ensure_layout(store: Store, step: Step, *, shards: int, min_rows: int) -> Layout:
    """The step's layout, made now if nobody has: about `shards` shards, of at least `min_rows` rows each."""
    layout = layout_of(store, step.id)
    if layout is None:
        layout = Layout(_cut(store, step, shards, min_rows))
        try:
            store.create(f"steps/{step.id}/layout.json", msgspec.json.encode(layout))
        except AlreadyCommitted:
            return ensure_layout(store, step, shards=shards, min_rows=min_rows)
    return layout


def input_parts(store: Store, step: Step) -> list[Part]:
    """All parts a step reads, in order. A concatenation has no parts of its own: it is its inputs'."""
    return [part for needed in step.inputs for part in output_parts(store, needed)]


def output_parts(store: Store, step: Step) -> list[Part]:
    """All parts a finished step made. StoreError if it is not finished."""
    if isinstance(step.action, Concat):
        return input_parts(store, step)
    result = result_of(store, step.id)
    if result is None:
        raise StoreError(f"step {step.id} is needed, but not finished")
    return result.parts


def _cut(store: Store, step: Step, shards: int, min_rows: int) -> list[list[Slice]]:
    if isinstance(step.action, Read):
        source = step.action.source
        whole = [[Slice(file.name) for file in source.files]]
        return whole if step.action.limit else list(_source_shards(source, shards))
    parts = input_parts(store, step)
    if not isinstance(step.action, Map):
        return [[Slice(part.name, 0, part.rows) for part in parts]]
    rows = sum(part.rows for part in parts)
    wanted = max(1, min(shards, rows // max(1, min_rows)))
    size = -(-rows // wanted) or 1
    return list(_pieces(parts, size)) or [[]]


def _source_shards(source: Source, shards: int) -> Iterator[list[Slice]]:
    """Files in order, small ones together and large ones in pieces, as far as their kind can be cut.

    A shard for every few bytes would cost more than the reading, and one for a huge file would keep one worker busy.
    """
    enough = min(BYTES_PER_SHARD, sum(file.size for file in source.files) // max(1, shards))
    group: list[Slice] = []
    size = 0
    for file in source.files:
        ranges = cut(source, file, enough)
        if len(ranges) > 1 and group:
            yield group
            group, size = [], 0
        for within in ranges:
            group.append(Slice(file.name, within.start, within.stop - within.start))
            size += file.size // len(ranges)
            if size >= enough or len(ranges) > 1:
                yield group
                group, size = [], 0
    if group:
        yield group


def _pieces(parts: Sequence[Part], size: int) -> Iterator[list[Slice]]:
    piece: list[Slice] = []
    room = size
    for part in parts:
        start = 0
        while start < part.rows:
            rows = min(room, part.rows - start)
            piece.append(Slice(part.name, start, rows))
            start, room = start + rows, room - rows
            if not room:
                yield piece
                piece, room = [], size
    if piece:
        yield piece
