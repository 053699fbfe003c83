"""Replies are kept as they arrive, so that no answer is ever paid for twice.

Each attempt at a shard appends to a log of its own; a later attempt first reads all of them. A reply is found again by
a hash of model, prompt, sampling and seed: a changed prompt asks again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from reinstruct.identity import digest
from reinstruct.llm import Reply, Request, Sampling
from reinstruct.store import Store


class _Kept(Struct):
    key: str
    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int


class ReplyLog:
    """The replies of one shard. `append` returns once the operating system has the bytes, so a kill loses none."""

    def __init__(self, store: Store, step_id: str, shard: int, attempt: str) -> None:
        self._folder = f"steps/{step_id}/replies/{shard:05d}"
        self._known = _read_logs(store, self._folder)
        path = store.path(f"{self._folder}/{attempt}.jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: str) -> Reply | None:
        kept = self._known.get(key)
        return kept and Reply(kept.text, kept.finish, kept.prompt_tokens, kept.completion_tokens)

    def append(self, replies: Iterable[tuple[str, Reply]]) -> None:
        """Keep (key, reply) pairs in one write: a killed process has kept all of them or none."""
        lines = [msgspec.json.encode(_Kept(key, *_fields(reply))) + b"\n" for key, reply in replies]
        if lines:
            os.write(self._log, b"".join(lines))

    def close(self) -> None:
        os.close(self._log)


def _fields(reply: Reply) -> tuple[str, str, int, int]:
    return reply.text, reply.finish, reply.prompt_tokens, reply.completion_tokens


def request_key(model_id: str, request: Request, sampling: Sampling) -> str:
    """Hash of everything that decides the reply."""
    content: list[Any] = [model_id, msgspec.to_builtins(request.prompt), msgspec.to_builtins(sampling), request.key]
    return digest([*content, request.seed])[:32]


def _read_logs(store: Store, folder: str) -> dict[str, _Kept]:
    known: dict[str, _Kept] = {}
    for name in store.names(folder):
        for line in (store.get(name) or b"").split(b"\n"):
            try:
                kept = msgspec.json.decode(line, type=_Kept)
            except msgspec.DecodeError:
                continue  # the last line of a killed attempt, or the end of the file
            known[kept.key] = kept
    return known
