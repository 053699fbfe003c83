"""Checkpoints of one training, in a store: files of all its processes, and a manifest that names them.

The one rule: a checkpoint counts once its manifest is there, which is created last, and every file has the size and the
SHA-256 that it says. Written half or spoilt later, it is passed over, with a word, for the one before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from reinstruct.commit import Part
from reinstruct.errors import AlreadyCommitted
from reinstruct.store import Store
from reinstruct.train.tokens import file_digest

FOLDER = "checkpoints"
MANIFEST = "manifest.json"
STAMP = f"{FOLDER}/fingerprint"
# Files that every process writes carry its number: random states, shards of FSDP, shards of ZeRO.
RANKED = re.compile(r"(?:rng_state_|rank_|__)(\d+)[_.]")
HIDDEN = ".metadata"  # the one hidden file that belongs to a checkpoint: where the shards of FSDP lie


class Manifest(Struct, frozen=True):
    """A complete checkpoint: the number of steps done, its files, and the step that would be kept as best."""

    step: int
    files: list[Part]
    best: int | None = None


class Found(NamedTuple):
    """The step to go on from (0: none), and why newer checkpoints were passed over."""

    step: int
    skipped: dict[str, str]


_MANIFEST = msgspec.json.Decoder(Manifest)
_PARTS = msgspec.json.Decoder(list[Part])


class Checkpoints:
    """The checkpoints in a store, of which `keep` are kept while it goes on; `processes` write each of them.

    Every process writes its files to `folder(step)` and then commits them; no process waits for another.
    """

    def __init__(self, store: Store, *, processes: int = 1, keep: int = 2) -> None:
        self.store = store
        self.processes = processes
        self.keep = keep

    def folder(self, step: int) -> Path:
        return self.store.path(_name(step))

    def prepare(self, fingerprint: str) -> Found:
        """The newest sound checkpoint. Those of another training (told by its fingerprint), half-written and damaged
        ones are removed."""
        sound, skipped = list[int](), dict[str, str]()
        if self.store.get(STAMP) != fingerprint.encode():
            other = "it is of another training: base, data, settings or profile have changed"
            skipped = {f"checkpoint-{step}": other for step in self.complete()}
            self.store.delete(FOLDER)
            self.store.put(STAMP, fingerprint.encode())
        for step in sorted(self._present()):
            fault = self._fault(step, sound)
            if fault is None:
                sound.append(step)
            else:
                skipped[f"checkpoint-{step}"] = fault
                self._remove(step)
        return Found(max(sound, default=0), skipped)

    def complete(self) -> list[int]:
        """Steps of the checkpoints that have a manifest, in order."""
        return sorted(step for step in self._present() if self.store.get(f"{_name(step)}/{MANIFEST}") is not None)

    def fetch(self, step: int) -> Path:
        """The folder of a complete checkpoint, with its files at hand."""
        for part in self._manifest(step).files:
            self.store.path(part.name)
        return self.folder(step)

    def commit(self, step: int, rank: int, best: int | None = None) -> bool:
        """Make durable what process `rank` wrote for a step. Whoever is last creates the manifest: was it this one?"""
        parts = [Part(name, *self.store.sealed(name)) for name in self._written_by(rank, step)]
        self.store.put(_record(step, rank), msgspec.json.encode(parts))
        records = [self.store.get(_record(step, each)) for each in range(self.processes)]
        if None in records:
            return False
        files = [part for record in records if record for part in _PARTS.decode(record)]
        try:
            self.store.create(f"{_name(step)}/{MANIFEST}", msgspec.json.encode(Manifest(step, files, best)))
        except AlreadyCommitted:
            return False
        return True

    def retire(self) -> None:
        """Remove what is older than the newest `keep`, but for what one of those would keep as best."""
        complete = self.complete()
        best = {self._manifest(step).best for step in complete[-self.keep :]}
        for step in complete[: -self.keep]:
            if step not in best:
                self._remove(step)

    def _present(self) -> set[int]:
        folder = self.store.path(FOLDER)
        named = [name.split("/")[1] for name in self.store.names(FOLDER)]
        local = [path.name for path in folder.glob("*-*")] if folder.is_dir() else []
        return {int(found[1]) for name in (*named, *local) if (found := re.fullmatch(r"\w+-(\d+)", name))}

    def _manifest(self, step: int) -> Manifest:
        return _MANIFEST.decode(self.store.get(f"{_name(step)}/{MANIFEST}") or b"")

    def _fault(self, step: int, sound: list[int]) -> str | None:
        """What is wrong with a checkpoint, given the older ones that are sound; None if nothing is."""
        if self.store.get(f"{_name(step)}/{MANIFEST}") is None:
            return "it was not finished"
        try:
            manifest = self._manifest(step)
        except msgspec.DecodeError:
            return f"{MANIFEST} is damaged"
        if manifest.best not in (None, step, *sound):
            return f"the best one so far, checkpoint-{manifest.best}, is gone"
        faults = (self._fault_of(part, part.name.removeprefix(f"{_name(step)}/")) for part in manifest.files)
        return next(filter(None, faults), None)

    def _fault_of(self, part: Part, name: str) -> str | None:
        path = self.store.path(part.name)
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != part.bytes:
            return f"{name} has {path.stat().st_size} bytes, not {part.bytes}"
        if file_digest([str(path)]) != [part.sha256]:
            return f"{name} is not what was written: its SHA-256 differs"
        return None

    def _remove(self, step: int) -> None:
        self.store.delete(f"{_name(step)}/{MANIFEST}")  # first: what is half removed counts no more
        self.store.delete(_name(step))
        self.store.delete(f"{FOLDER}/records-{step}")

    def _written_by(self, rank: int, step: int) -> Iterator[str]:
        folder = self.folder(step)
        for path in sorted(folder.rglob("*")):
            if path.is_file() and owner(path.name) == rank and (path.name[0] != "." or path.name == HIDDEN):
                yield f"{_name(step)}/{path.relative_to(folder).as_posix()}"


def owner(name: str) -> int:
    """The process that writes a file of a checkpoint: the first one, but for those that every process writes."""
    found = RANKED.search(name)
    return int(found[1]) if found else 0


def _name(step: int) -> str:
    return f"{FOLDER}/checkpoint-{step}"


def _record(step: int, rank: int) -> str:
    return f"{FOLDER}/records-{step}/{rank}.json"
