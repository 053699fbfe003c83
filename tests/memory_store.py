"""A bucket in memory: whole objects, nothing that grows. What the store's contract asks, and no more."""

from __future__ import annotations

import hashlib
import shutil
import threading
from pathlib import Path

from reinstruct.errors import AlreadyCommitted, StoreError


class MemoryStore:
    """`path` is a place of scratch, where a sealed blob is brought back from memory when it is gone."""

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
            for each in [each for each in self.objects if each == name or each.startswith(name + "/")]:
                del self.objects[each]
        local = self._scratch / name
        if local.is_dir():
            shutil.rmtree(local)
        local.unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        local = self._scratch / name
        if name in self.objects and not local.exists():
            local.parent.mkdir(parents=True, exist_ok=True)
            local.write_bytes(self.objects[name])
        return local

    def sealed(self, name: str) -> tuple[int, str]:
        data = self.path(name).read_bytes()
        with self._lock:
            self.objects[name] = data
        return len(data), hashlib.sha256(data).hexdigest()
