"""CSV and TSV files: a header line, then one row per line, or per several where a quoted field holds newlines.

The one rule: rows are what Python's csv module makes of the whole file; a range of it gives the same rows or an error.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from itertools import chain

from reinstruct.corpus.lines import MAX_LINE, TOO_LONG, Line, line_blocks
from reinstruct.corpus.rows import Block, Row, batched
from reinstruct.corpus.source import WHOLE, Range
from reinstruct.corpus.streams import BOM, content_name, decompressed
from reinstruct.errors import CorpusError
from reinstruct.records import Drop

MAX_FIELD = 16 << 20  # characters; a longer one is a quote that nobody closed
DELIMITERS = ",;\t|"


def read_blocks(
    blocks: Iterable[bytes], name: str, header: bytes | None = None, within: Range = WHOLE, *, most: int = MAX_LINE
) -> Iterator[Block]:
    """Rows of a range of the file called `name`, decompressed as its name says. Blank lines are not rows.

    `blocks` begin at `first_byte(within)`; `header` is the file's first line, where the range does not begin with it.
    A row with a line of over `most` bytes is rejected as line_too_long, and the next row begins behind that line.
    Raises CorpusError when a quoted field runs over the end of the range, as then the next one began inside a row; and
    when the first line, which names the columns, is too long.
    """
    lines = (line for block in line_blocks(decompressed(blocks, name), within, most) for line in block.split())
    yield from batched(_rows(_Feed(lines), name, header, within))


def first_line(blocks: Iterable[bytes], name: str) -> bytes:
    """The header of a plain file. CorpusError if that line is too long."""
    return _header((line for block in line_blocks(blocks) for line in block.split()), name)


def safe_to_cut(blocks: Iterable[bytes]) -> bool:
    """Whether no quoted field of the file holds a newline: every line has an even number of quotes."""
    for block in line_blocks(blocks):
        if block.damage:  # of a line that is too long: its quotes are not known
            return False
        if b'"' in block.raw and any(line.count(b'"') % 2 for line in block.raw.split(b"\n")):
            return False
    return True


def _rows(feed: _Feed, name: str, header: bytes | None, within: Range) -> Iterator[Row]:
    csv.field_size_limit(MAX_FIELD)
    header = _header(feed.lines, name) if header is None else header
    delimiter = _delimiter(header, content_name(name))
    columns = next(csv.reader([header.removeprefix(BOM).decode(errors="replace")], delimiter=delimiter), [])
    rows = csv.reader(feed, delimiter=delimiter)
    while True:
        feed.begin_row()
        try:
            value = _row(columns, next(rows))
        except StopIteration:
            break
        except csv.Error as error:
            value = feed.too_long or _unclosed(feed, str(error))
        if feed.ended and within.stop and not feed.damage:
            raise CorpusError(
                f"{name} has a row at byte {feed.at} that runs over byte {within.stop}, where the file was cut between "
                "shards: a quoted field there holds a newline; write the file as Parquet or JSON lines"
            )
        if feed.ended:
            value = (feed.damage and feed.damage.damage) or _unclosed(feed, "it is never closed")
        value = Drop("bad_utf8", feed.bad) if feed.bad else value
        if value:
            yield Row(feed.at, feed.raw, value)
    if feed.damage:
        yield Row(feed.damage.offset, feed.damage.raw, feed.damage.damage or Drop("corrupt_file"))


def _unclosed(feed: _Feed, why: str) -> Drop:
    """Why the row at hand is none. A stray quote costs the line it stands in: what it would swallow is read anew."""
    feed.read_anew()
    return Drop("not_csv", f"a quoted field begins here: {why}")


def _header(lines: Iterator[Line], name: str) -> bytes:
    line = next(lines, Line(0, b""))
    if line.damage and line.damage.reason == TOO_LONG:
        raise CorpusError(f"{name} does not begin with the names of its columns, but with {line.damage.detail}")
    return line.raw


def _row(columns: list[str], values: list[str]) -> dict[str, str] | Drop:
    if values and len(values) != len(columns):
        return Drop("wrong_columns", f"{len(values)} fields where the header has {len(columns)}")
    return dict(zip(columns, values, strict=True)) if values else {}


def _delimiter(header: bytes, name: str) -> str:
    """A tab in .tsv; else the one of the accepted that the header has most of, the comma where it has none."""
    if name.endswith(".tsv"):
        return "\t"
    return max(DELIMITERS, key=lambda mark: header.count(mark.encode()))


class _Feed:
    """Gives the csv reader its lines as text, and knows which of them the row at hand was made of."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self.lines = lines
        self.bad = ""
        self.ended = False  # the input ended while a row was being read
        self.damage: Line | None = None
        self.too_long: Drop | None = None  # of a line of the row at hand
        self._row: list[Line] = []

    @property
    def raw(self) -> bytes:
        return b"\n".join(line.raw for line in self._row)

    @property
    def at(self) -> int:
        return self._row[0].offset if self._row else 0

    def begin_row(self) -> None:
        self._row, self.bad, self.too_long, self.ended = [], "", None, False

    def read_anew(self) -> None:
        """Make a row of the first line alone; the others will be given again."""
        self.lines = chain(self._row[1:], self.lines)
        self._row, self.bad = self._row[:1], ""

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = next(self.lines, None)
        if line and line.damage and line.damage.reason == TOO_LONG:
            self.too_long = line.damage
        elif line is None or line.damage:
            self.ended, self.damage = bool(self._row), line
            raise StopIteration
        self._row.append(line)
        if self.too_long:
            raise csv.Error(self.too_long.detail)
        try:
            return line.raw.decode() + "\n"
        except UnicodeDecodeError as error:
            self.bad = f"byte {error.start} of its line is {line.raw[error.start]:#04x}: {error.reason}"
            return line.raw.decode(errors="replace") + "\n"
