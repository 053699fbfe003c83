"""The kinds of files that are read, by the ends of their names. A new kind is an entry here and a road in read.py."""

from __future__ import annotations

from collections.abc import Iterable

from reinstruct.corpus.streams import content_name

# Those marked True may also be compressed (.gz, .zst, .bz2).
SUFFIXES: dict[str, tuple[bool, tuple[str, ...]]] = {
    "jsonl": (True, (".jsonl", ".ndjson", ".json")),
    "parquet": (False, (".parquet",)),
    "csv": (True, (".csv", ".tsv")),
    "warc": (False, (".warc", ".warc.gz", ".wet", ".wet.gz")),
    "arrow": (False, (".arrow", ".feather")),
    "text": (False, (".txt", ".md", ".markdown", ".html", ".htm", ".xhtml", ".pdf")),
}
ACCEPTED = (
    ".jsonl, .ndjson, .json, .csv or .tsv (plain, .gz, .zst or .bz2), .parquet, .arrow, .warc or .wet (plain or .gz), "
    ".txt, .md, .html or .pdf files, as a file, a folder, a glob or a URL (gs://, s3://, hf://, ...), lines:FILE for a "
    "document on each line, - for standard input, or pydoc: for installed Python packages"
)
LINES = "lines:"
# What Hugging Face's `save_to_disk` and its hub lay beside the files of a data set.
_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json")


def kind_of(name: str) -> str:
    """A key of SUFFIXES; empty for a file that is not read."""
    whole, content = name.lower(), content_name(name)
    for kind, (may_be_packed, suffixes) in SUFFIXES.items():
        if (content if may_be_packed else whole).endswith(suffixes):
            return kind
    return ""


def of_kind(names: Iterable[str], kind: str) -> list[str]:
    """The files that a source of that kind reads: no descriptions, unless there is nothing else."""
    found = [name for name in names if kind_of(name) == kind]
    return [name for name in found if not _is_description(name)] or found


def first_of_each(names: Iterable[str], *, on_hub: bool = False) -> dict[str, str]:
    """kind -> the first file of it. Descriptions that lie beside data sets count for nothing."""
    kinds: dict[str, str] = {}
    for name in sorted(names, key=_is_description):
        kinds.setdefault(kind_of(name), name)
    kinds.pop("", None)
    if len(kinds) > 1 and _is_description(kinds.get("jsonl", "")):
        del kinds["jsonl"]
    if on_hub and len(kinds) > 1:
        kinds.pop("text", None)  # the dataset's card
    return kinds


def _is_description(name: str) -> bool:
    return name.rpartition("/")[2] in _DESCRIPTIONS
