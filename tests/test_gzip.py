"""However gzip data is read, nothing that is whole is lost, and damage is told."""

import gzip
import random
import struct
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from reinstruct.corpus.gunzip import GZIP_ERROR, Gunzip
from reinstruct.corpus.streams import Again, decompressed
from reinstruct.errors import CorpusError
from reinstruct.records import Drop

NOISE = random.Random(1).randbytes(200_000)
CONTENTS = [b"", b"a", b"some text\n" * 9000, NOISE[:300], NOISE[:70_000], NOISE]
EXTRA, NAMED, COMMENTED, CHECKED = 4, 8, 16, 2


def in_blocks(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def read(blocks, name: str = "x.gz") -> tuple[bytes, Drop | None]:
    """The content and the damage, which has to be last."""
    content, damage = [], None
    for chunk in decompressed(blocks, name):
        assert damage is None
        if isinstance(chunk, Drop):
            damage = chunk
        else:
            content.append(chunk)
    return b"".join(content), damage


def member(content: bytes, flags: int = 0) -> bytes:
    """A member with the optional fields of a header that the flags say."""
    head = b"\x1f\x8b\x08" + bytes([flags]) + bytes(6)
    head += struct.pack("<H", 5) + b"extra" if flags & EXTRA else b""
    head += b"a name\0" if flags & NAMED else b""
    head += b"a comment\0" if flags & COMMENTED else b""
    head += struct.pack("<H", zlib.crc32(head) & 0xFFFF) if flags & CHECKED else b""
    machine = zlib.compressobj(wbits=-15)
    packed = machine.compress(content) + machine.flush()
    return head + packed + struct.pack("<II", zlib.crc32(content), len(content))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    contents=some.lists(some.sampled_from(CONTENTS), min_size=1, max_size=4),
    padding=some.sampled_from([0, 0, 1, 512, 20_000]),
    behind=some.sampled_from([b"", b"", b"garbage", b"\x1f\x8b\x08", b"\0\0\x1f"]),
    cut=some.one_of(some.just(0), some.integers(1, 400_000)),
    changed=some.one_of(some.none(), some.integers(0, 400_000)),
    size=some.sampled_from([1000, 16 << 10, 65_536, 256 << 10, 1 << 30]),
)
@example([NOISE, b"a"], 512, b"garbage", 0, None, 1000)
@example([b"some text\n" * 9000], 0, b"", 4, None, 1000)
def test_both_ways_tell_the_same_damage_and_the_faster_gives_no_less(contents, padding, behind, cut, changed, size):
    data = b"".join(gzip.compress(content) + bytes(padding) for content in contents) + behind
    data = data[: len(data) - cut % len(data)]
    if changed is not None and changed % len(data) > 1:
        at = changed % len(data)
        data = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
    blocks = in_blocks(data, size)
    content, damage = read(blocks)
    slow_content, slow_damage = read(iter(blocks))
    assert damage == slow_damage
    assert content.startswith(slow_content)
    assert content == slow_content or damage
    if damage is None:
        assert content == gzip.decompress(data)


@pytest.mark.parametrize("lost", [1, 8, 9, 5000])
def test_a_file_that_ends_early_gives_all_that_it_holds(lost):
    content = b"".join(b"%d some text\n" % n for n in range(60_000))
    data = gzip.compress(content)[:-lost]
    found, damage = read(in_blocks(data, 10_000))
    assert found == zlib.decompressobj(wbits=31).decompress(data)
    assert damage == Drop("truncated_file", f"the file ends inside its gzip data, at byte {len(data)}")


def test_good_members_before_damage_are_given_whole():
    content = NOISE * 3
    found, damage = read(in_blocks(gzip.compress(content) + b"garbage behind it", 50_000))
    assert found == content
    assert damage is not None
    assert damage.reason == "corrupt_file"


@pytest.mark.parametrize("flags", range(0, 32, 2))
@pytest.mark.parametrize("size", [1, 3, 16, 60])
def test_headers_may_come_in_pieces(flags, size):
    data = member(b"first", flags) + member(b"second", flags)
    for blocks in (in_blocks(data, size), iter(in_blocks(data, size))):
        assert read(blocks) == (b"firstsecond", None)


def test_a_member_says_where_it_ends():
    machine, data = Gunzip(), member(b"content", NAMED | COMMENTED)
    found = b"".join(machine.decompress(piece) for piece in in_blocks(data + b"more", 7))
    assert (found, machine.eof) == (b"content", True)
    assert Gunzip().decompress(b"\x1f") == b""
    with pytest.raises(GZIP_ERROR):
        Gunzip().decompress(b"not gzip data at all")


def test_a_header_without_end_is_refused():
    endless = b"\x1f\x8b\x08" + bytes([NAMED]) + bytes(6) + b"x" * 300_000
    assert read(in_blocks(endless, 1000))[1] is not None


def test_a_file_that_changes_between_two_readings_is_an_error():
    damaged = gzip.compress(NOISE)[:-8] + bytes(8)
    readings = [in_blocks(damaged, 1000), in_blocks(gzip.compress(b"short"), 1000)]

    def begin() -> Iterator[bytes]:
        return iter(readings.pop(0))

    with pytest.raises(CorpusError, match=r"x\.gz changed while it was read"):
        read(Again(begin))


def test_what_fails_while_it_is_read_fails_the_reading():
    def begin() -> Iterator[bytes]:
        yield gzip.compress(NOISE)[:1000]
        raise CorpusError("the bucket is gone")

    with pytest.raises(CorpusError, match="the bucket is gone"):
        read(Again(begin))
