"""Plan time: what a corpus or seed URI names, as a Source. Nothing is read but names, sizes and fingerprints.

open_source("docs/", Document)                       a folder of text, or of data files
open_source("data/*.jsonl.gz", Document)             a glob
open_source("seed.parquet", Pair, columns={"output": "answer_text"})
open_source("hf://datasets/org/name", Document)      a dataset on the Hugging Face hub
open_source("lines:big.txt.zst", Document)           one document per line
open_source("-", Document)                           standard input
open_source("pydoc:json,numpy", Document)            documentation of installed packages
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reinstruct.corpus.fields import columns_of
from reinstruct.corpus.files import Listing, fingerprint, list_files
from reinstruct.corpus.kinds import ACCEPTED, LINES, first_of_each, kind_of, of_kind
from reinstruct.corpus.pydoc import list_packages
from reinstruct.corpus.source import Source
from reinstruct.corpus.stdin import STDIN, spooled
from reinstruct.errors import CorpusError
from reinstruct.records import Document

_PYDOC = "pydoc:"
_HUB = "hf://"
SHOWN = 3  # names of files that are passed over
_WITHOUT_COLUMNS = {"text": "a file that is one document", "lines": "lines:", "warc": "a web archive"}


def open_source(uri: str, record_type: type[Any], *, columns: Mapping[str, str] | None = None) -> Source:
    """What `uri` names, fingerprinted. `columns` maps fields of the record to columns of the files.

    `Source.uri` becomes the folder that file names are relative to, so a corpus that moves stays the same corpus.
    Raises CorpusError when nothing readable is there, several kinds of file are, or the kind cannot give such records.
    """
    mapping = dict(columns or {})
    if uri.startswith(_PYDOC):
        _expect_documents("pydoc:", record_type, mapping)
        names = [name.strip() for name in uri.removeprefix(_PYDOC).split(",")]
        return Source(_PYDOC, "pydoc", record_type, list_packages(dict.fromkeys(filter(None, names))))
    if not uri.strip():
        raise CorpusError(f"an empty path was given; accepted are {ACCEPTED}")
    if uri == STDIN:
        uri = str(spooled())
    by_line = uri.startswith(LINES)
    listing = list_files(uri.removeprefix(LINES))
    kind = "lines" if by_line else _one_kind(uri, listing)
    if kind in _WITHOUT_COLUMNS:
        _expect_documents(_WITHOUT_COLUMNS[kind], record_type, mapping)
    else:
        columns_of(record_type, mapping)
    files = tuple(fingerprint(listing, name) for name in (listing.found if by_line else of_kind(listing.found, kind)))
    unread = [] if by_line else [name for name in listing.found if not kind_of(name)]
    return Source(listing.root, kind, record_type, files, tuple(sorted(mapping.items())), _passed_over(unread))


def _one_kind(uri: str, listing: Listing) -> str:
    if not listing.found:
        raise CorpusError(f"{uri} is an empty folder; accepted are {ACCEPTED}")
    kinds = first_of_each(listing.found, on_hub=uri.startswith(_HUB))
    if not kinds:
        raise CorpusError(f"{uri} has no file that can be read ({_some(listing.found)}); accepted are {ACCEPTED}")
    if len(kinds) > 1:
        both = " and ".join(f"{kind} files (such as {name})" for kind, name in kinds.items())
        suffix = next(iter(kinds.values())).rpartition("/")[2].partition(".")[2]
        raise CorpusError(f"{uri} holds {both}: choose with a glob such as {listing.root}**/*.{suffix}")
    return next(iter(kinds))


def _expect_documents(what: str, record_type: type[Any], mapping: Mapping[str, str]) -> None:
    if record_type is not Document:
        raise CorpusError(
            f"{what} gives Document records, not {record_type.__name__}: use .jsonl or .parquet for those"
        )
    if mapping:
        raise CorpusError(f"{what} has no columns, but a mapping was given for {', '.join(sorted(mapping))}")


def _passed_over(names: list[str]) -> str:
    """How many files have an ending that is not known, and some of them; empty where all are read."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    files = "file" if len(names) == 1 else "files"
    return f"{len(names):,} {files} of other endings ({', '.join(names[:SHOWN])}{more})" if names else ""


def _some(names: Iterable[str]) -> str:
    first, *rest = list(names)
    return f"{first} and {len(rest)} more" if rest else first
