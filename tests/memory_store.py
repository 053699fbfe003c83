"""A bucket in memory: whole objects, nothing that grows. What the store's contract asks, and no more."""

from __future__ import annotations

import threading
from pathlib import Path

from reinstruct.errors import AlreadyCommitted, StoreError


class MemoryStore:
    """`path` and `sealed` are a folder's, as for parts of rows; every other blob is an object in memory."""

    def __init__(self, scratch: Path) -> None:
        self.root = "memory://bucket"
        self.objects: dict[str, bytes] = {}
        self.put_names: list[str] = []
        self.full = False
        self._scratch = scratch
        self._lock = threading.Lock()

    def create(self, name: str, data: bytes) -> None:
        with self._lock:
            if name in self.objects:
                raise AlreadyCommitted(f"{name} was already committed")
            self.objects[name] = data

    def put(self, name: str, data: bytes) -> None:
        if self.full:
            raise StoreError(f"cannot write {name}: the bucket is full")
        with self._lock:
            self.objects[name] = data
            self.put_names.append(name)

    def get(self, name: str) -> bytes | None:
        return self.objects.get(name)

    def names(self, prefix: str) -> list[str]:
        with self._lock:
            return sorted(name for name in self.objects if name.startswith(prefix + "/"))

    def delete(self, name: str) -> None:
        with self._lock:
            self.objects.pop(name, None)
        (self._scratch / name).unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        return self._scratch / name

    def sealed(self, name: str) -> tuple[int, str]:
        return self.path(name).stat().st_size, ""
