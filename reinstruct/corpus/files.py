"""The one seam to file systems: what a path, glob or URL holds, and the bytes of one file.

Everything goes through fsspec, so a local folder and a bucket take the same road. Its errors leave here as CorpusError.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from reinstruct.corpus.kinds import ACCEPTED
from reinstruct.corpus.source import Source, SourceFile
from reinstruct.errors import CorpusError, RecipeError

BLOCK = 256 << 10  # read at once: a larger one would leave the processor's cache before it is decompressed
_SAMPLE = 2 << 20  # of the head and of the tail of a file that is too large to hash
HASH_WHOLE = 256 << 20  # larger local files are told apart by head, tail, size and time of change
_VERSION_KEYS = ("generation", "etag", "ETag", "version_id", "VersionId", "content_hash", "blob_id")
_MTIME = "mtime"
_TIME_KEYS = (_MTIME, "LastModified", "last_modified", "updated", "created")
_MAGIC = "*?["


@dataclass(frozen=True)
class Listing:
    """What was found below `root` (which ends in a slash): relative name -> fsspec's description of the file."""

    root: str
    file_system: Any
    found: dict[str, dict[str, Any]]


def list_files(uri: str) -> Listing:
    """Every file a path, folder (searched to the bottom), glob or URL names. Hidden files are left out.

    Raises CorpusError when the path does not exist or its file system cannot be reached.
    """
    with _explained(uri, f"; accepted are {ACCEPTED}"):
        file_system, path = _file_system(uri)
        file_system.invalidate_cache()
        root, paths = _find(file_system, path)
        named = {name[len(root) :]: info for name, info in paths.items() if info["type"] == "file"}
        found = {name: info for name, info in named.items() if path in paths or not _hidden(name)}
        for name in found:
            _expect_utf8(name)
        url = root if _is_local(file_system) else str(file_system.unstrip_protocol(root))
        return Listing(url, file_system, dict(sorted(found.items())))


def _expect_utf8(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(f"{name!a} is no UTF-8 name, which no plan can hold: rename the file") from error


def fingerprint(listing: Listing, name: str) -> SourceFile:
    """The file with its size and generation: the bucket's own, or a hash of the content where there is none.

    Files that are too large to hash whole (256 MB) are told apart by head, tail, size and time of change.
    """
    info, path = listing.found[name], listing.root + name
    size = int(info.get("size") or 0)
    with _explained(path):
        keys = _VERSION_KEYS if _is_local(listing.file_system) else (*_VERSION_KEYS, *_TIME_KEYS)
        key = next((key for key in keys if info.get(key)), "")
        if key:
            return SourceFile(name, size, _said(info, key), f"{key}={_said(info, key)}" if key in _VERSION_KEYS else "")
        time = _said(info, _MTIME)
        return SourceFile(name, size, _content_hash(listing.file_system, path, size, time), f"{_MTIME}={time}")


@contextmanager
def opened(source: Source, file: SourceFile) -> Generator[BinaryIO]:
    """The file as a seekable binary stream. CorpusError if it is gone, or has another size or content than when it was
    planned, as far as its file system tells: not for a time of change alone, which a copy has too.
    """
    where = source.uri + file.name
    with _explained(where):
        file_system, root = _file_system(source.uri)
        path = f"{root.rstrip('/')}/{file.name}"
        info = file_system.info(path)
        size = info.get("size")
        if size is not None and size != file.size:
            raise CorpusError(
                f"{where} changed since the plan was made: {file.size} bytes then, {size} now; plan again"
            )
        if _has_changed(file_system, path, file, info):
            raise CorpusError(
                f"{where} changed since the plan was made, though it has {size} bytes as then; plan again"
            )
        stream = file_system.open(path, "rb")
    with stream:
        yield stream


def blocks(source: Source, file: SourceFile, start: int = 0, *, size: int = BLOCK) -> Iterator[bytes]:
    """The bytes of a file from `start` on, a block at a time."""
    with opened(source, file) as stream:
        stream.seek(start)
        while True:
            with _explained(source.uri + file.name):
                block = stream.read(size)
            if not block:
                return
            yield block


def content_at(uri: str, what: str) -> bytes:
    """The bytes of the one file at a path or URL that a setting names. RecipeError, which says what it is, if not."""
    try:
        if "://" not in uri:
            return Path(uri).read_bytes()
        import fsspec  # pyright: ignore[reportMissingTypeStubs]

        with cast(Any, fsspec.open(uri, "rb")) as file:
            return file.read()
    except (OSError, ImportError, ValueError) as error:  # ValueError: fsspec knows no such protocol
        raise RecipeError(f"{what} {uri} cannot be read: {error}") from error


def _find(file_system: Any, path: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """(root with its slash, full path -> info). A path that exists as it is written is not a glob."""
    if file_system.isfile(path):
        return _folder_of(path), {path: file_system.info(path)}
    if file_system.isdir(path):
        return path.rstrip("/") + "/", file_system.find(path, detail=True)
    first_magic = min((path.index(char) for char in _MAGIC if char in path), default=-1)
    if first_magic < 0:
        raise FileNotFoundError("no such file or folder")
    found = file_system.glob(path, detail=True)
    if not found:
        raise FileNotFoundError("no file matches the pattern")
    return _folder_of(path[:first_magic]), found


def _folder_of(path: str) -> str:
    return path[: path.rindex("/") + 1] if "/" in path else ""


def _hidden(name: str) -> bool:
    """Dot files, and what other tools keep in folders such as `_temporary` and `_delta_log`."""
    *folders, _ = parts = name.split("/")
    return any(part.startswith(".") for part in parts) or any(folder.startswith("_") for folder in folders)


def _file_system(uri: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # pyright: ignore[reportMissingTypeStubs]

    return url_to_fs(uri)


def _is_local(file_system: Any) -> bool:
    return "file" in (file_system.protocol if isinstance(file_system.protocol, tuple) else (file_system.protocol,))


def _has_changed(file_system: Any, path: str, file: SourceFile, info: dict[str, Any]) -> bool:
    """Whether the file is surely another than was planned. One of another time is read, for it may be a copy."""
    key, _, planned = file.mark.partition("=")
    now = _said(info, key)
    if info.get(key) is None or now == planned:
        return False
    return key != _MTIME or _hash_now(file_system, path, file.size, planned, now) != file.generation


def _said(info: dict[str, Any], key: str) -> str:
    return str(info.get(key)).strip('"')


@lru_cache(maxsize=1024)
def _hash_now(file_system: Any, path: str, size: int, planned: str, now: str) -> str:
    """The content hash of the file as it was at time `now`, once for all ranges of it that are read."""
    return _content_hash(file_system, path, size, planned)


def _content_hash(file_system: Any, path: str, size: int, time: str) -> str:
    """Of all of a file, or of a large one's size, time of change, head and tail."""
    total = hashlib.sha256()
    with file_system.open(path, "rb") as stream:
        if size <= HASH_WHOLE:
            for block in iter(lambda: stream.read(BLOCK), b""):
                total.update(block)
        else:
            total.update(f"{size} {time}".encode())
            total.update(stream.read(_SAMPLE))
            stream.seek(size - _SAMPLE)
            total.update(stream.read(_SAMPLE))
    return total.hexdigest()[:16]


@contextmanager
def _explained(uri: str, hint: str = "") -> Generator[None]:
    try:
        yield
    except ImportError as error:
        raise CorpusError(f"cannot read {uri}: a package is missing ({error})") from error
    except (OSError, ValueError) as error:
        raise CorpusError(f"cannot read {uri}: {error}{hint}") from error
