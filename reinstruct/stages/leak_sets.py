"""Test sets nothing may leak from: a value that names their files, and what is in them, loaded when first needed.

The one rule: the value holds what the files are, as the SHA-256 of their bytes, so that another test set makes another
step, and a file that changes after the plan stops the run.
"""

from __future__ import annotations

import gzip
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import msgspec

from reinstruct.corpus.files import content_at
from reinstruct.errors import RecipeError

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class TestSets:
    """Files of test items: JSON lines (also gzipped) or Parquet, of any columns. None by default.

    Make one with `TestSets.read("gsm8k.jsonl,hf/mmlu.parquet")`; `sha256` has the hash of each file, in order.
    """

    uris: tuple[str, ...] = field(default=(), metadata={"where": True})
    sha256: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.uris) != len(self.sha256):
            raise RecipeError("test items: every file needs its sha256; make the value with TestSets.read(uris)")

    @classmethod
    def read(cls, uris: str) -> TestSets:
        """The files at paths or URIs, with commas between them. RecipeError for one without a text."""
        names = tuple(name.strip() for name in uris.split(",") if name.strip())
        contents = [_content(name) for name in names]
        for name, content in zip(names, contents, strict=True):
            if next(_texts(name, content), None) is None:
                raise RecipeError(f"test items {name}: no text in it; accepted: {_ACCEPTED}")
        return cls(names, tuple(hashlib.sha256(content).hexdigest() for content in contents))

    def texts(self) -> Iterator[tuple[str, str]]:
        """Each text of each item, and where it is from. RecipeError if a file changed since the plan was made."""
        for uri, sha256 in zip(self.uris, self.sha256, strict=True):
            content = _content(uri)
            found = hashlib.sha256(content).hexdigest()
            if found != sha256:
                raise RecipeError(f"test items {uri} changed since the plan was made: sha256 {found}, not {sha256}")
            yield from _texts(uri, content)


_ACCEPTED = "JSON lines (.jsonl, .jsonl.gz) or Parquet, with texts in any columns"


def _texts(uri: str, content: bytes) -> Iterator[tuple[str, str]]:
    name = uri.rpartition("/")[2]
    try:
        for number, row in enumerate(_rows(content), 1):
            yield from ((text, f"{name} row {number}") for text in _strings(row))
    except (ValueError, OSError, EOFError) as error:  # of msgspec, gzip and Arrow
        raise RecipeError(f"test items {uri} cannot be read: {error}; accepted: {_ACCEPTED}") from error


def _rows(content: bytes) -> Iterator[Any]:
    if content.startswith(b"PAR1"):
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(io.BytesIO(content)).iter_batches():
            yield from batch.to_pylist()
        return
    lines = gzip.decompress(content) if content.startswith(_GZIP) else content
    yield from (msgspec.json.decode(line) for line in lines.splitlines() if line.strip())


def _strings(value: Any) -> Iterator[str]:
    """Every text in a row, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        inner = cast(list[Any], list(value.values()) if isinstance(value, dict) else value)
        for item in inner:
            yield from _strings(item)


@cache
def _content(uri: str) -> bytes:
    return content_at(uri, "test items")
