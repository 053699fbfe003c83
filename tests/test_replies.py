"""No reply is paid for twice: not after a kill, not by two attempts at once, not when only what follows changed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from reinstruct.commit import Slice, result_of
from reinstruct.corpus.open import open_source
from reinstruct.errors import LLMUnavailable, ShardError, StoreError
from reinstruct.llm import Reply, Request, Sampling, Scripted
from reinstruct.plan import Model, read
from reinstruct.records import Document, Drop, Message
from reinstruct.replies import CONTENTS, LogPlace, ReplyLog, log_place, request_key
from reinstruct.reply_frames import Framer, frames_in, lines_of, packed, replies_in
from reinstruct.reply_sinks import JOINED, Growing, Segments
from reinstruct.stages.instruct import Template, WriteInstruction
from reinstruct.stages.text import KeepLengths
from reinstruct.store import LocalStore
from tests.in_process import rows
from tests.memory_store import MemoryStore
from tests.test_worker import Fragile, run

frame_of = Framer().frame
PLACE = LogPlace("Ask-1", "shard")
ASK = WriteInstruction(Model(uri="model"), Template("Request for: {response}"))
RATED = Reply("4", "length", 10, 2)


def key(number: int) -> str:
    return request_key("m", Sampling())(Request(str(number), "p"))


@pytest.fixture(params=["folder", "bucket"])
def store(request, tmp_path: Path) -> LocalStore | MemoryStore:
    return LocalStore(tmp_path / "store") if request.param == "folder" else MemoryStore(tmp_path / "scratch")


def kept(store, replies: dict[str, Reply], attempt: str = "one") -> ReplyLog:
    log = ReplyLog(store, PLACE, attempt)
    for item in replies.items():
        log.append([item])
    log.close()
    return log


def test_what_an_attempt_kept_the_next_one_finds(store):
    kept(store, {key(1): RATED, key(2): Reply("ü\n😀\ud7ff")})
    log = ReplyLog(store, PLACE, "two")
    assert log.find(key(1)) == RATED
    assert log.find(key(2)) == Reply("ü\n😀\ud7ff")
    assert log.find(key(3)) is None
    assert len(log) == 2
    log.close()


def test_packing_leaves_few_blobs_and_every_reply(store):
    rng, words = random.Random(1), ["some", "words", "that", "a", "model", "may", "say", "over", "and", "over", "again"]
    replies = {key(n): Reply(" ".join(rng.choices(words, k=300))) for n in range(300)}
    log = kept(store, replies)
    before = sum(len(store.get(name)) for name in store.names(PLACE.live))
    log.pack()
    assert store.names(PLACE.live) == []
    blob, contents = sorted(store.names(PLACE.kept), key=len)
    assert contents == blob + CONTENTS
    assert len(store.get(blob)) < before * 1.1
    assert len(list(frames_in(store.get(blob)))) > 1
    for lost in (None, contents):
        if lost:
            store.delete(lost)
        again = ReplyLog(store, PLACE, "two")
        assert {k: again.find(k) for k in replies} == replies
        again.close()


def test_two_attempts_at_once_find_each_other(store):
    now = [0.0]
    first = ReplyLog(store, PLACE, "one", lambda: now[0])
    second = ReplyLog(store, PLACE, "two", lambda: now[0])
    first.append([(key(1), RATED)])
    first.close()
    assert second.find(key(1)) is None
    now[0] = 31.0
    assert second.find(key(1)) == RATED
    first.pack()
    second.append([(key(2), RATED)])
    second.close()
    assert ReplyLog(store, PLACE, "three").find(key(2)) == RATED


def test_replies_that_another_attempt_packed_meanwhile_are_still_found(store):
    first = kept(store, {key(n): Reply(str(n)) for n in range(200)})
    second = ReplyLog(store, PLACE, "two")
    first.pack()
    assert [second.find(key(n)) for n in range(200)] == [Reply(str(n)) for n in range(200)]
    second.close()


def test_a_reply_in_a_folder_is_kept_when_append_returns(tmp_path: Path):
    log = ReplyLog(LocalStore(tmp_path), PLACE, "one")
    log.append([(key(1), RATED)])
    assert ReplyLog(LocalStore(tmp_path), PLACE, "two").find(key(1)) == RATED


def test_a_bucket_has_a_reply_soon_without_a_close(tmp_path: Path):
    store = MemoryStore(tmp_path)
    sink = Segments(store, "a/b", delay_s=0.01)
    sink.append(lines_of([(key(1), RATED)]))
    until = time.monotonic() + 10
    while not store.objects and time.monotonic() < until:
        time.sleep(0.01)
    assert [k.reply for k in replies_in(store.objects["a/b-00000.jsonl.zst"])] == [RATED]
    sink.close()


def test_small_objects_are_joined(tmp_path: Path):
    store = MemoryStore(tmp_path)
    sink = Segments(store, "a/b", delay_s=0.0)
    for number in range(JOINED):
        sink.append(lines_of([(key(number), RATED)]))
        until = time.monotonic() + 10
        while f"a/b-{number:05d}.jsonl.zst" not in store.put_names and time.monotonic() < until:
            time.sleep(0.001)
    sink.close()
    (name,) = store.names("a")
    assert [k for frame in frames_in(store.objects[name]) for k in frame.keys] == [key(n) for n in range(JOINED)]


def test_a_long_log_goes_on_in_the_next_file(tmp_path: Path):
    sink = Growing(LocalStore(tmp_path), "a/b", file_bytes=1000)
    for number in range(40):
        sink.append(lines_of([(key(number), RATED)]))
    sink.close()
    names = LocalStore(tmp_path).names("a")
    assert len(names) > 2
    logs = [LocalStore(tmp_path).get(name) or b"" for name in names]
    assert all(len(log) <= 1000 for log in logs)
    assert [k for log in logs for frame in frames_in(log) for k in frame.keys] == [key(n) for n in range(40)]


FRAMES = [frame_of(lines_of([(key(n), Reply(f"reply {n}"))])) for n in range(10)]


def test_a_half_written_end_loses_only_itself(tmp_path: Path):
    store = LocalStore(tmp_path)
    whole = b"".join(FRAMES)
    for cut in range(len(whole)):
        found = [frame.keys for frame in frames_in(whole[:cut])]
        ends = [sum(map(len, FRAMES[: n + 1])) for n in range(10)]
        assert found == [[key(n)] for n in range(sum(end <= cut for end in ends))]
    store.put(f"{PLACE.live}/old-00000.jsonl.zst", whole[:-3])
    log = ReplyLog(store, PLACE, "new")
    assert [log.find(key(n)) for n in (8, 9)] == [Reply("reply 8"), None]


def test_damage_in_the_middle_loses_only_its_frame():
    rng = random.Random(5)
    whole = b"".join(FRAMES)
    for _ in range(300):
        at = rng.randrange(len(whole))
        broken = whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :]
        assert sum(len(frame.keys) for frame in frames_in(broken)) >= 9
    assert [frame.keys for frame in frames_in(b"junk" + whole)] == [[key(n)] for n in range(10)]


def test_a_line_of_an_unknown_form_is_asked_again(tmp_path: Path):
    store = LocalStore(tmp_path)
    store.put(f"{PLACE.live}/old-00000.jsonl.zst", frame_of(b'{"key": "%s", "reply": 7}\n' % key(1).encode()))
    assert ReplyLog(store, PLACE, "new").find(key(1)) is None


def test_a_batch_is_kept_whole_or_not_at_all(store):
    log = ReplyLog(store, PLACE, "one")
    log.append([(key(n), Reply("x" * 200_000)) for n in range(8)])
    log.close()
    (name,) = store.names(PLACE.live)
    assert [len(frame.keys) for frame in frames_in(store.get(name))] == [8]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told(tmp_path: Path):
    store = LocalStore(tmp_path)
    (tmp_path / PLACE.live).mkdir(parents=True)
    (tmp_path / PLACE.live / "one-00000.jsonl.zst").symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"one-00000\.jsonl\.zst: No space left"):
        ReplyLog(store, PLACE, "one").append([(key(1), RATED)])


def test_a_full_bucket_is_told(tmp_path: Path):
    store = MemoryStore(tmp_path)
    log = ReplyLog(store, PLACE, "one")
    store.full = True
    log.append([(key(1), RATED)])
    with pytest.raises(StoreError, match="the bucket is full"):
        log.close()


def test_packed_frames_hold_the_same_lines():
    replies = [replies_in(frame) for frame in FRAMES]
    assert [kept for frame in packed(replies) for kept in replies_in(frame)] == [r for frame in replies for r in frame]


BASE = request_key("m", Sampling())(Request("r", "p"))
DRAWN = Sampling(temperature=1.0)


@pytest.mark.parametrize(
    "other",
    [
        request_key("n", Sampling())(Request("r", "p")),
        request_key("m", Sampling(max_tokens=7))(Request("r", "p")),
        request_key("m", DRAWN)(Request("r", "p")),
        request_key("m", Sampling())(Request("s", "p")),
        request_key("m", Sampling())(Request("r", "q")),
        request_key("m", Sampling())(Request("r", (Message("user", "p"),))),
    ],
    ids=["model", "max_tokens", "temperature", "record", "prompt", "chat"],
)
def test_what_decides_a_reply_is_in_its_key(other: str):
    assert other != BASE


def test_seed_and_place_matter_only_where_they_do():
    assert request_key("m", Sampling(seed=9))(Request("r", "p", seed=9, position=9)) == BASE
    drawn = request_key("m", DRAWN)
    assert drawn(Request("r", "p", seed=1)) != drawn(Request("r", "p", seed=2))
    assert drawn(Request("r", "p", seed=1)) == request_key("m", replace(DRAWN, seed=5))(Request("r", "p", seed=1))


def test_a_log_lies_where_model_stages_and_rows_say():
    slices = [Slice("p", 0, 5)]
    place = log_place("m", [ASK], slices)
    assert place == log_place("m", [replace(ASK, max_unreadable=0.1)], slices)
    assert place.group != log_place("n", [ASK], slices).group
    assert place.shard != log_place("m", [ASK], [Slice("p", 0, 6)]).shard


# Steps that ask the same, and differ in what follows.


@dataclass(frozen=True)
class ReadAsNothing(WriteInstruction):
    """Its parsing is being worked on: set `readable`."""

    readable: bool = False

    def parse(self, record: Document, reply: Reply):
        return super().parse(record, reply) if self.readable else Drop("not_read", unreadable=True)


@pytest.fixture
def documents(corpus_file: Path):
    return read(open_source(str(corpus_file), Document), name="corpus")


def asker() -> Scripted:
    return Scripted(lambda prompt: f"What of {prompt[:60]}?")


def test_mended_parsing_asks_nothing_again(store, documents):
    first, second = asker(), asker()
    broken = ReadAsNothing(Model(uri="model"), Template("Request for: {response}"))
    with pytest.raises(ShardError, match="unreadable"):
        run(store, documents.map(broken).step, lambda model: first)
    mended = documents.map(replace(broken, readable=True))
    run(store, mended.step, lambda model: second)
    assert (len(first.asked), len(second.asked)) == (40, 0)
    assert len(rows(store, mended.step)) == 40
    usage = result_of(store, mended.step.id).usage
    assert (usage.asked, usage.found, usage.calls) == (0, 40, 0)


def test_a_changed_later_stage_asks_nothing_again_and_a_changed_prompt_or_model_does(store, documents):
    def asked(*stages) -> int:
        llm = asker()
        run(store, documents.map(*stages, name="ask").step, lambda model: llm)
        return len(llm.asked)

    assert asked(ASK) == 40
    assert asked(ASK, KeepLengths("output", 1, 10**6)) == 0
    assert asked(replace(ASK, sampling=Sampling(seed=3))) == 0, "greedy replies do not depend on the seed"
    assert asked(replace(ASK, template=Template("Another: {response}"))) == 40
    assert asked(replace(ASK, model=Model(uri="model", fingerprint="2"))) == 40


def test_a_corpus_that_grew_asks_only_for_what_is_new(store, tmp_path: Path, corpus_file: Path):
    def asked(name: str, lines: list[str]) -> int:
        path = tmp_path / name
        path.write_text("\n".join(lines))
        llm = asker()
        documents = read(open_source(str(path), Document), name="corpus")
        run(store, documents.map(ASK).step, lambda model: llm, shards=3)
        return len(llm.asked)

    lines = corpus_file.read_text().splitlines()
    assert asked("one.jsonl", lines[:30]) == 30
    assert asked("two.jsonl", [*lines[35:], *lines[:35]]) == 10


def test_an_attempt_that_died_in_a_bucket_is_taken_up(tmp_path: Path, documents):
    store = MemoryStore(tmp_path)
    asked = documents.map(ASK)
    first, second = Fragile(lives=20), Fragile(lives=1000)
    with pytest.raises(LLMUnavailable):
        run(store, asked.step, lambda model: first)
    run(store, asked.step, lambda model: second)
    assert sorted(first.asked + second.asked) == sorted(f"d{n}" for n in range(40))
    usage = result_of(store, asked.step.id).usage
    assert (usage.asked, usage.found, usage.prompt_tokens, usage.finish) == (20, 20, 100, {"stop": 40})


APPENDING = """
import sys
from reinstruct.llm import Reply
from reinstruct.replies import LogPlace, ReplyLog
from reinstruct.store import LocalStore
log = ReplyLog(LocalStore(sys.argv[1]), LogPlace("g", "s"), sys.argv[2])
for number in range(10**9):
    log.append([(f"{number:08x}" * 4, Reply("word " * (number % 300)))])
    print(number, flush=True)
"""


@pytest.mark.slow
def test_a_killed_writer_has_kept_all_it_said(tmp_path: Path):
    rng = random.Random(11)
    for attempt in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", APPENDING, str(tmp_path / str(attempt)), "a"], stdout=subprocess.PIPE, text=True
        )
        time.sleep(rng.uniform(0.3, 1.2))
        os.kill(process.pid, signal.SIGKILL)
        said = [json.loads(line) for line in process.communicate()[0].split("\n")[:-1]]
        log = ReplyLog(LocalStore(tmp_path / str(attempt)), LogPlace("g", "s"), "b")
        found = [log.find(f"{number:08x}" * 4) for number in range(len(said))]
        assert found == [Reply("word " * (number % 300)) for number in range(len(said))]
        assert len(log) - len(said) in (0, 1)
