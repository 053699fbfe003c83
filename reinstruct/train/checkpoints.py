"""Checkpoints of one training, in a store: files of all its processes, and a manifest that names them.

The one rule: a checkpoint counts once its manifest is there, which is created last, and every file has the size and the
SHA-256 that it says. Written half or spoilt later, it is passed over, with a word, for the one before.
Those of one training lie in a folder of its own, and no other training touches them.
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
from reinstruct.identity import digest
from reinstruct.store import Store
from reinstruct.train.tokens import file_digest

FOLDER = "checkpoints"
MANIFEST = "manifest.json"
STAMP = f"{FOLDER}/fingerprint"  # of the training that is going on
OTHER = "it is of another training, and stays: base, data, settings, profile or the number of processes differ"
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
        self._fingerprint = b""

    @property
    def home(self) -> str:
        """Where those of the training that is going on lie in the store, as `prepare` has it, here or elsewhere."""
        fingerprint = self._fingerprint or self.store.get(STAMP) or b""
        return f"{FOLDER}/{digest(fingerprint.decode())[:12]}"

    def folder(self, step: int) -> Path:
        return self.store.path(self._name(step))

    def prepare(self, fingerprint: str) -> Found:
        """The newest sound checkpoint of the training with this fingerprint. Half-written and damaged ones of it are
        removed; complete ones of other trainings are told of."""
        self._fingerprint = fingerprint.encode()
        self.store.put(STAMP, self._fingerprint)
        sound, skipped = list[int](), dict.fromkeys(self._others(), OTHER)
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
        return sorted(step for step in self._present() if self.store.get(f"{self._name(step)}/{MANIFEST}") is not None)

    def fetch(self, step: int) -> Path:
        """The folder of a complete checkpoint, with its files at hand."""
        for part in self._manifest(step).files:
            self.store.path(part.name)
        return self.folder(step)

    def commit(self, step: int, rank: int, best: int | None = None) -> bool:
        """Make durable what process `rank` wrote for a step. Whoever is last creates the manifest: was it this one?"""
        parts = [Part(name, *self.store.sealed(name)) for name in self._written_by(rank, step)]
        self.store.put(self._record(step, rank), msgspec.json.encode(parts))
        records = [self.store.get(self._record(step, each)) for each in range(self.processes)]
        if None in records:
            return False
        files = [part for record in records if record for part in _PARTS.decode(record)]
        try:
            self.store.create(f"{self._name(step)}/{MANIFEST}", msgspec.json.encode(Manifest(step, files, best)))
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

    def _others(self) -> list[str]:
        """Complete checkpoints of other trainings."""
        end, home = f"/{MANIFEST}", f"{self.home}/"
        found = [name.removesuffix(end) for name in self.store.names(FOLDER) if name.endswith(end)]
        return sorted(name.removeprefix(f"{FOLDER}/") for name in found if not name.startswith(home))

    def _present(self) -> set[int]:
        folder = self.store.path(self.home)
        named = [name.removeprefix(f"{self.home}/").split("/")[0] for name in self.store.names(self.home)]
        local = [path.name for path in folder.glob("*-*")] if folder.is_dir() else []
        return {int(found[1]) for name in (*named, *local) if (found := re.fullmatch(r"\w+-(\d+)", name))}

    def _name(self, step: int) -> str:
        return f"{self.home}/checkpoint-{step}"

    def _record(self, step: int, rank: int) -> str:
        return f"{self.home}/records-{step}/{rank}.json"

    def _manifest(self, step: int) -> Manifest:
        return _MANIFEST.decode(self.store.get(f"{self._name(step)}/{MANIFEST}") or b"")

    def _fault(self, step: int, sound: list[int]) -> str | None:
        """What is wrong with a checkpoint, given the older ones that are sound; None if nothing is."""
        if self.store.get(f"{self._name(step)}/{MANIFEST}") is None:
            return "it was not finished"
        try:
            manifest = self._manifest(step)
        except msgspec.DecodeError:
            return f"{MANIFEST} is damaged"
        if manifest.best not in (None, step, *sound):
            return f"the best one so far, checkpoint-{manifest.best}, is gone"
        faults = (self._fault_of(part, part.name.removeprefix(f"{self._name(step)}/")) for part in manifest.files)
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
        self.store.delete(f"{self._name(step)}/{MANIFEST}")  # first: what is half removed counts no more
        self.store.delete(self._name(step))
        self.store.delete(f"{self.home}/records-{step}")

    def _written_by(self, rank: int, step: int) -> Iterator[str]:
        folder = self.folder(step)
        for path in sorted(folder.rglob("*")):
            if path.is_file() and owner(path.name) == rank and (path.name[0] != "." or path.name == HIDDEN):
                yield f"{self._name(step)}/{path.relative_to(folder).as_posix()}"


def owner(name: str) -> int:
    """The process that writes a file of a checkpoint: the first one, but for those that every process writes."""
    found = RANKED.search(name)
    return int(found[1]) if found else 0
