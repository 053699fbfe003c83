"""The bucket: named blobs, written whole, some of them create-only.

The one rule: a reader trusts only what a create-only record names. Parts are written first, under names no other
attempt uses; then one `done` record per shard is created, and the second attempt to create it loses.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

from reinstruct.errors import AlreadyCommitted, RecipeError, StoreError


class Store(Protocol):
    """What a bucket must do. Names are relative, with forward slashes. All errors are StoreError."""

    root: str

    def create(self, name: str, data: bytes) -> None:
        """Write a blob that must not exist yet; AlreadyCommitted if it does. All or nothing."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Write or replace a blob. All or nothing."""
        ...

    def get(self, name: str) -> bytes | None:
        """A blob's bytes, or None where there is none."""
        ...

    def names(self, prefix: str) -> list[str]:
        """Every blob whose name starts with the folder `prefix`, sorted."""
        ...

    def delete(self, name: str) -> None:
        """Remove a blob, or a folder with all that is in it; nothing need be there."""
        ...

    def path(self, name: str) -> Path:
        """A local path to write a large blob or a folder to, or to read one from."""
        ...

    def sealed(self, name: str) -> tuple[int, str]:
        """Make a blob written through `path` durable; its size in bytes and SHA-256."""
        ...


@runtime_checkable
class Grows(Protocol):
    """What a folder can do and a bucket cannot: add to a blob."""

    def append(self, name: str, data: bytes) -> None:
        """Add to the end of a blob, which need not exist yet, and return once a killed process cannot lose it."""
        ...


class LocalStore:
    """A folder. Create-only by hard link, which the file system makes atomic."""

    def __init__(self, root: str | Path) -> None:
        self.root = str(Path(root).absolute())

    def create(self, name: str, data: bytes) -> None:
        temporary = self._written(name, data)
        try:
            os.link(temporary, self.path(name))
        except FileExistsError as error:
            raise AlreadyCommitted(f"{name} was already committed") from error
        finally:
            temporary.unlink()
        _sync_folder(self.path(name).parent)

    def put(self, name: str, data: bytes) -> None:
        os.replace(self._written(name, data), self.path(name))

    def append(self, name: str, data: bytes) -> None:
        """A full disk may leave the beginning of `data`: readers must tell what is whole."""
        target = f"{self.root}/{name}"  # not a Path: this is done for every reply
        try:
            blob = _opened_to_append(target)
            try:
                while data:
                    data = data[os.write(blob, data) :]
            finally:
                os.close(blob)
        except OSError as error:
            raise StoreError(f"cannot write {target}: {error.strerror}") from error

    def get(self, name: str) -> bytes | None:
        try:
            return self.path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"cannot read {self.path(name)}: {error.strerror}") from error

    def names(self, prefix: str) -> list[str]:
        base = self.path(prefix)
        return sorted(f"{prefix}/{path.relative_to(base).as_posix()}" for path in _files(base))

    def delete(self, name: str) -> None:
        path = self.path(name)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        return Path(self.root) / name

    def sealed(self, name: str) -> tuple[int, str]:
        checksum = hashlib.sha256()
        with self.path(name).open("rb") as blob:
            while chunk := blob.read(1 << 20):
                checksum.update(chunk)
            os.fsync(blob.fileno())
            return blob.tell(), checksum.hexdigest()

    def _written(self, name: str, data: bytes) -> Path:
        target = self.path(name)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as blob:
                blob.write(data)
                blob.flush()
                os.fsync(blob.fileno())
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise StoreError(f"cannot write {target}: {error.strerror}") from error
        return temporary


def open_store(uri: str) -> Store:
    """The store at a plain path or a file:// URI."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return LocalStore(uri)
    if scheme == "file":
        return LocalStore(rest)
    raise StoreError(f"no store for {uri!r}: this version takes a plain path or a file:// URI")


def expect_folder(out: str, store: Store) -> None:
    """RecipeError where --out is, or lies in, what is no folder."""
    place = store.path("")
    found = next(path for path in (place, *place.parents) if path.exists())
    if not found.is_dir():
        raise RecipeError(f"--out is {out}, but {found} is a file; accepted: a folder, which is made if it is missing")


def _opened_to_append(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        return os.open(path, flags, 0o644)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, flags, 0o644)


def _files(base: Path) -> Iterator[Path]:
    """Files below; a folder that another process removes meanwhile (an old checkpoint) has none."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    for folder, _, names in os.walk(base, onerror=refuse):
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
