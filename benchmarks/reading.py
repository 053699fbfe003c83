"""Reading C4's form (json.gz lines of text, timestamp, url) into columns of documents, against the floor.

    python benchmarks/reading.py [FOLDER]

The floor decompresses with ISA-L and parses with msgspec into typed rows, and does nothing with them; there is no
faster way in Python that we know of. Ours also hashes an id for each document and lays it all out as Arrow columns.
FOLDER (or REINSTRUCT_TEST_DATA, or ../shared/data) holds corpus/en.jsonl.gz, which is rewritten in C4's form. Both
sides run in turn, seven times; processor seconds, medians.
"""

import gzip
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from isal import isal_zlib

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from reinstruct.corpus.open import open_source  # noqa: E402
from reinstruct.corpus.read import read_range  # noqa: E402
from reinstruct.corpus.source import Source  # noqa: E402
from reinstruct.records import Document  # noqa: E402

RUNS, GOAL = 7, 1.75


class Row(msgspec.Struct, gc=False):
    text: str
    timestamp: str
    url: str


def in_c4_form(folder: Path) -> Path:
    path = ROOT / ".bench" / "c4-form.json.gz"
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        with gzip.open(folder / "corpus" / "en.jsonl.gz") as rows, gzip.open(path, "wb") as made:
            for row in map(json.loads, rows):
                kept = {"text": row["text"], "timestamp": "2019-04-25T12:57:54Z", "url": row["url"]}
                made.write(json.dumps(kept, ensure_ascii=False).encode() + b"\n")
    return path


def floor(path: Path) -> int:
    decode, machine = msgspec.json.Decoder(Row).decode_lines, isal_zlib.decompressobj(wbits=31)
    rows, rest = 0, b""
    with path.open("rb") as packed:
        while block := packed.read(1 << 20):
            content = rest + machine.decompress(block)
            end = content.rfind(b"\n") + 1
            rows, rest = rows + len(decode(content[:end])), content[end:]
    return rows


def ours(source: Source) -> int:
    return sum(len(batch.split(Document)[0]) for batch in read_range(source, source.files[0]))


def seconds(run: Callable[[], int]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def main() -> None:
    given = (
        sys.argv[1] if len(sys.argv) > 1 else os.environ.get("REINSTRUCT_TEST_DATA", ROOT.parent / "shared" / "data")
    )
    path = in_c4_form(Path(given))
    source = open_source(str(path), Document)
    rows = ours(source)
    assert rows == floor(path)
    times = [(seconds(lambda: floor(path)), seconds(lambda: ours(source))) for _ in range(RUNS)]
    least, measured = (statistics.median(side) for side in zip(*times, strict=True))
    size = path.stat().st_size
    print(f"{rows:,} documents, {size / 1e6:.0f} MB packed\n{'':<28}{'seconds':>9}{'documents/s':>13}")
    for name, taken in (("decompress and parse alone", least), ("reinstruct", measured)):
        print(f"{name:<28}{taken:>9.3f}{rows / taken:>13,.0f}")
    ratio = measured / least
    print(json.dumps({"benchmark": "reading", "ratio": round(ratio, 3), "goal": GOAL, "holds": ratio <= GOAL}))


if __name__ == "__main__":
    main()
