"""Standard input as a corpus: written to a file that is named by its content, so that a run can be resumed.

The one rule: the same bytes are the same corpus, whichever pipe they came through.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

from reinstruct.corpus.files import BLOCK
from reinstruct.corpus.kinds import kind_of
from reinstruct.corpus.streams import BOM, decompressed
from reinstruct.errors import CorpusError

STDIN = "-"
_HEAD = 64 << 10
_PACKED = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\x28\xb5\x2f\xfd": ".zst"}


def spooled(stream: BinaryIO | None = None, folder: Path | None = None) -> Path:
    """A file with all that comes in, below the user's cache folder. CorpusError when nothing does."""
    stream = stream or cast(BinaryIO, sys.stdin.buffer)
    folder = folder or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reinstruct" / "stdin"
    if stream.isatty():
        raise CorpusError("- reads a corpus from standard input, but nothing is piped in: COMMAND | reinstruct run ...")
    folder.mkdir(parents=True, exist_ok=True)
    total, head = hashlib.sha256(), b""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as file:
        while block := stream.read(BLOCK):
            head = head or block[:_HEAD]
            total.update(block)
            file.write(block)
    if not head:
        os.unlink(file.name)
        raise CorpusError("- reads a corpus from standard input, but it is empty")
    try:
        path = folder / f"{total.hexdigest()[:16]}{ending(head)}"
        os.replace(file.name, path)
    except CorpusError:
        os.unlink(file.name)
        raise
    return path


def ending(head: bytes) -> str:
    """How a file that begins so is called: .jsonl, .json, .csv, .tsv, .parquet, .warc, .html, .pdf or .txt, or one of
    them packed. CorpusError for what is not read where it is packed.
    """
    packed = next((end for magic, end in _PACKED.items() if head.startswith(magic)), "")
    if packed:
        found = next(filter(None, decompressed([head], f"stdin{packed}")), b"")
        name = ending(found) + packed if isinstance(found, bytes) else packed
        if not kind_of(name):
            inside = name.removesuffix(packed) or "nothing that unpacks"
            raise CorpusError(f"standard input is {packed} and holds {inside}, which is read unpacked only: unpack it")
        return name
    text = head.removeprefix(BOM).lstrip().lower()
    if head.startswith(b"PAR1"):
        return ".parquet"
    known = {b"{": ".jsonl", b"[": ".json", b"warc/": ".warc", b"%pdf": ".pdf", b"<!doctype html": ".html"}
    return next((end for begins, end in known.items() if text.startswith(begins)), _columns(text) or ".txt")


def _columns(text: bytes) -> str:
    """.tsv or .csv where the first line names several columns, one of them `text`; else empty."""
    header = [name.strip(b' "') for name in re.split(rb"[,;\t|]", text.partition(b"\n")[0].rstrip())]
    if len(header) < 2 or b"text" not in header:
        return ""
    return ".tsv" if b"\t" in text.partition(b"\n")[0] else ".csv"
