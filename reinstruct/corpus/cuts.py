"""Where a file may be cut so that several workers read it at once.

The one rule: ranges follow each other from the file's first byte to its last, and what a range gives does not depend on
the other cuts. A file that cannot be cut is one range, and `why_whole` says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

from reinstruct.corpus.delimited import safe_to_cut
from reinstruct.corpus.files import blocks, opened
from reinstruct.corpus.members import boundary
from reinstruct.corpus.source import WHOLE, Range, Source, SourceFile
from reinstruct.corpus.streams import BOM, codec_of

LEAST = 1 << 20  # bytes of a range; a file of less than two stays whole
LARGE = 128 << 20  # bytes of a file that many workers had better share
_HEAD = 4096


def cut(source: Source, file: SourceFile, size: int) -> list[Range]:
    """Ranges of about `size` bytes each (of whole row groups, or of whole records of an archive)."""
    size = max(size, LEAST)
    pieces = round(file.size / size)
    if pieces < 2 or _why_whole(source, file):
        return [WHOLE]
    if source.kind == "parquet":
        return _of_row_groups(source, file, size)
    places = [file.size * number // pieces for number in range(1, pieces)]
    if source.kind == "warc":
        places = list(_at_records(source, file, places))
    if source.kind == "csv" and not safe_to_cut(blocks(source, file)):
        return [WHOLE]
    return _between([0, *places, file.size])


def why_whole(source: Source, file: SourceFile) -> str:
    """Why the file is one range whatever its size; empty where it is not."""
    if source.kind == "csv" and not codec_of(file.name):
        return "" if safe_to_cut(blocks(source, file)) else "its quoted fields hold newlines"
    return _why_whole(source, file)


def one_worker_each(source: Source) -> Counter[str]:
    """Why files cannot be cut that are large enough to be: how many for each reason. CSV files are not looked into."""
    large = (file for file in source.files if file.size > LARGE and source.kind not in ("text", "pydoc"))
    return Counter(reason for file in large if (reason := _why_whole(source, file)))


def _why_whole(source: Source, file: SourceFile) -> str:
    if source.kind in ("warc", "parquet"):
        return ""
    if source.kind not in ("jsonl", "csv", "lines"):
        return "it is read as one piece"
    codec = codec_of(file.name)
    if codec:
        return f"{codec.name} data has no place to begin in the middle"
    if source.kind == "jsonl" and file.name.lower().endswith(".json") and _is_array(source, file):
        return "it holds one JSON array"
    return ""


def only_from_start(source: Source, file: SourceFile) -> bool:
    """Whether a file of lines is best read from its first byte on. For CSV, telling would take all of the file."""
    return source.kind == "csv" or bool(_why_whole(source, file))


def _is_array(source: Source, file: SourceFile) -> bool:
    head = next(blocks(source, file, size=_HEAD), b"").removeprefix(BOM).lstrip()
    return not head or head.startswith(b"[")


def _of_row_groups(source: Source, file: SourceFile, size: int) -> list[Range]:
    from reinstruct.corpus.parquet import row_group_sizes

    with opened(source, file) as stream:
        sizes = row_group_sizes(stream, source.uri + file.name)
    starts, room = [0], size
    for group, bytes_of_it in enumerate(sizes):
        if room <= 0:
            starts.append(group)
            room = size
        room -= bytes_of_it
    return _between([*starts, len(sizes)]) if len(starts) > 1 else [WHOLE]


def _at_records(source: Source, file: SourceFile, wanted: list[int]) -> Iterator[int]:
    last = 0
    for place in wanted:
        if place <= last:
            continue
        found = boundary(partial(blocks, source, file), place, compressed=file.name.lower().endswith(".gz"))
        if found < 0:
            return
        last = found
        yield found


def _between(places: list[int]) -> list[Range]:
    """Ranges between neighbouring places, as long as they hold something."""
    if len(places) <= 2:
        return [WHOLE]
    return [Range(start, stop) for start, stop in pairwise(places) if start < stop]
