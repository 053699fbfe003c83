"""Near-duplicates by MinHash: documents a second on one core and memory, against rensa with shingles made in Python.

    python benchmarks/near_duplicates.py [--documents 20000] [--large 1000000] [--corpus FILE.jsonl.gz]

Both sides read the same Parquet file of real texts, a fifth of them again with 0.5 to 2 % of the words replaced, and
say which rows to drop: 112 permutations, 14 bands of 8, shingles of 5 words in lower case without punctuation. Each
runs in a process of its own on one core, in turns; a run's time is the processor time from opening the file to the last
verdict, without the start of the interpreter. The peer is put into an environment under .bench/.

Memory is that of a worker that runs the gather as a step, copying of the kept rows included, and again with --large
short documents, which has to take no more than 40 MB above 10,000 of the same.
"""

import argparse
import gzip
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from reinstruct.train.job import ENVIRONMENT

if TYPE_CHECKING:
    from reinstruct.commit import Slice

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("REINSTRUCT_TEST_DATA", ROOT.parent / "shared" / "data"))
RUNS = 5
GOAL, MOST_MB, MOST_GROWTH_MB = 5.0, 150.0, 40.0
FILLERS = ("notes", "bar", "word", "update", "value")

PEER = """
import json, re, sys, time
import pyarrow.parquet as pq
from rensa import RMinHash, RMinHashLSH
PUNCTUATION = re.compile(r"[^\\w\\s]")
def shingles(text):
    words = PUNCTUATION.sub("", text.lower()).split()
    return [" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))]
began = time.process_time()
table = pq.read_table(sys.argv[1], columns=["id", "text"])
ids, texts = table["id"].to_pylist(), table["text"].to_pylist()
index = RMinHashLSH(threshold=0.72, num_perm=112, num_bands=14)
dropped = []
for at, text in enumerate(texts):
    sketch = RMinHash(num_perm=112, seed=42)
    sketch.update(shingles(text))
    if index.query(sketch):
        dropped.append(ids[at])
    else:
        index.insert(at, sketch)
print(json.dumps({"seconds": time.process_time() - began, "dropped": dropped}))
"""


def texts(corpus: Path | None) -> list[str]:
    """Real texts: of the given file, or of the documentation of what is installed."""
    if corpus is not None and corpus.exists():
        with gzip.open(corpus, "rt", encoding="utf-8") as lines:
            return [json.loads(line)["text"] for line in lines]
    from reinstruct.corpus.open import open_source
    from reinstruct.corpus.read import read_batches
    from reinstruct.records import Document

    source = open_source("pydoc:json,polars,pyarrow,http,email,xml,unittest", Document)
    batches = (batch for file in source.files for batch in read_batches(source, file))
    return [record.text for batch in batches for record in batch if isinstance(record, Document)]


def with_near_duplicates(originals: list[str], count: int) -> Iterator[tuple[str, str]]:
    """(id, text): `count` originals and a fifth as many edited copies, whose ids end with -copy, in mixed order."""
    draw = random.Random(11)
    rows = [(f"d{number}", text) for number, text in enumerate(originals[:count])]
    for key, text in draw.sample(rows, len(rows) // 5):
        pieces = re.split(r"(\s+)", text)
        places = range(0, len(pieces), 2)
        for at in draw.sample(places, max(1, int(len(places) * draw.choice([0.005, 0.01, 0.02])))):
            pieces[at] = draw.choice(FILLERS)
        rows.append((f"{key}-copy", "".join(pieces)))
    draw.shuffle(rows)
    yield from rows


def recombined(originals: list[str], count: int, sentences: int = 6) -> Iterator[tuple[str, str]]:
    """`count` short texts of sentences of the originals; every tenth is the one before it, less a word."""
    draw = random.Random(5)
    pool = [part for text in originals[:3000] for part in re.split(r"(?<=[.!?])\s+", text) if 20 < len(part) < 200]
    last = ""
    for number in range(count):
        last = last.partition(" ")[2] if number % 10 == 9 else " ".join(draw.choices(pool, k=sentences))
        yield f"d{number}", last


def stored(folder: Path, name: str, rows: Iterator[tuple[str, str]]) -> int:
    """Write the rows as parts of a store in `folder`, of which NAME.json tells; how many there are."""
    from reinstruct.records import Document
    from reinstruct.store import LocalStore
    from reinstruct.tables import PartWriter

    with PartWriter(LocalStore(folder), name, Document) as part:
        for key, text in rows:
            part.write_records([Document(id=key, text=text)])
    Path(folder, f"{name}.json").write_text(json.dumps([(part.name, part.rows) for part in part.parts()]))
    return part.rows


def slices_of(folder: str, name: str) -> "list[Slice]":
    from reinstruct.commit import Slice

    return [Slice(part, 0, rows) for part, rows in json.loads(Path(folder, f"{name}.json").read_text())]


def judge(folder: str, name: str) -> None:
    """Our side of the race, in a process of its own."""
    import polars as pl

    from reinstruct.records import Document
    from reinstruct.rows import Pieces, StoredRows
    from reinstruct.stages.near_duplicates import DropNearDuplicates
    from reinstruct.store import LocalStore

    began = time.process_time()
    rows = StoredRows(LocalStore(folder), slices_of(folder, name), Document, Path(folder))
    verdicts = Pieces(DropNearDuplicates().verdicts(rows))
    judged = (frame.with_columns(verdicts.take(frame.height)["reason"]) for frame in rows.read("id"))
    dropped = [key for frame in judged for key in frame.drop_nulls("reason")["id"]]
    print(json.dumps({"seconds": time.process_time() - began, "dropped": dropped, "polars": pl.__version__}))


def work(folder: str, name: str) -> None:
    """The whole step, as a worker runs it: verdicts, and the kept rows copied."""
    import msgspec

    from reinstruct.commit import Layout
    from reinstruct.corpus.source import Source
    from reinstruct.plan import read
    from reinstruct.records import Document
    from reinstruct.stages.near_duplicates import DropNearDuplicates
    from reinstruct.store import LocalStore
    from reinstruct.worker import run_shard

    store = LocalStore(folder)
    step = read(Source("", "jsonl", Document, ())).gather(DropNearDuplicates(), name=name.partition(".")[0]).step
    slices = slices_of(folder, name)
    store.put(f"steps/{step.id}/layout.json", msgspec.json.encode(Layout([slices])))
    began = time.process_time()
    done = run_shard(store, step, 0, lambda model: None)
    assert done is not None
    seconds = time.process_time() - began
    status = Path("/proc/self/status").read_text()  # ru_maxrss would begin with the parent's
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    count = done.counts[0]
    print(json.dumps({"seconds": seconds, "mb": peak, "rows": count.read, "rejected": count.rejected}))


def on_one_core(argv: list[str]) -> dict:
    """What a process on one core prints last, as JSON."""
    one = {"POLARS_MAX_THREADS": "1", "RAYON_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    pin = {0: "taskset", 1: "-c", 2: str(max(os.sched_getaffinity(0)))}
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**ENVIRONMENT, **os.environ, **one, "PYTHONPATH": paths}  # a worker's
    done = subprocess.run([*pin.values(), *argv], check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def peer_python() -> str:
    """The peer's environment, made where there is none."""
    folder = ROOT / ".bench" / "near-duplicates-peer"
    if not (folder / "bin/python").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        packages = ["rensa==0.5.0", "pyarrow"]
        subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", *packages], check=True)
    return str(folder / "bin/python")


def measured(folder: Path, corpus: Path | None, documents: int, large: int) -> dict[str, float]:
    originals = texts(corpus)
    rows = stored(folder, "race.parquet", with_near_duplicates(originals, documents))
    peer, race = peer_python(), str(folder / "race.parquet")
    ours_runs, peer_runs = [], []
    for _ in range(RUNS):
        ours_runs.append(on_one_core([sys.executable, __file__, "--judge", str(folder), "race.parquet"]))
        peer_runs.append(on_one_core([peer, "-c", PEER, race]))
    seconds = [statistics.median(run["seconds"] for run in runs) for runs in (ours_runs, peer_runs)]
    found = [set(runs[0]["dropped"]) for runs in (ours_runs, peer_runs)]
    step = on_one_core([sys.executable, __file__, "--work", str(folder), "race.parquet"])
    sizes = {}
    for count in (10_000, large) if large else ():
        stored(folder, f"short-{count}.parquet", recombined(originals, count))
        sizes[count] = on_one_core([sys.executable, __file__, "--work", str(folder), f"short-{count}.parquet"])
    return {
        "documents": rows,
        "docs_s": rows / seconds[0],
        "peer_docs_s": rows / seconds[1],
        "ratio": seconds[1] / seconds[0],
        "dropped": len(found[0]),
        "peer_dropped": len(found[1]),
        "dropped_by_both": len(found[0] & found[1]),
        "step_docs_s": rows / step["seconds"],
        "step_mb": step["mb"],
        **{f"short_{count}_mb": run["mb"] for count, run in sizes.items()},
        **{f"short_{count}_docs_s": run["rows"] / run["seconds"] for count, run in sizes.items()},
        "growth_mb": sizes[large]["mb"] - sizes[10_000]["mb"] if large else 0.0,
    }


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--documents", type=int, default=20_000)
    flags.add_argument("--large", type=int, default=1_000_000)
    flags.add_argument("--corpus", type=Path, default=DATA / "corpus" / "en.jsonl.gz")
    flags.add_argument("--judge", nargs=2)
    flags.add_argument("--work", nargs=2)
    given = flags.parse_args()
    if given.judge:
        return judge(*given.judge)
    if given.work:
        return work(*given.work)
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), given.corpus, given.documents, given.large)
    for name, value in found.items():
        print(f"{name:<22}{value:>12,.1f}")
    holds = found["ratio"] >= GOAL and found["step_mb"] <= MOST_MB and found["growth_mb"] <= MOST_GROWTH_MB
    summary = {"benchmark": "near_duplicates", "ratio": round(found.pop("ratio"), 2), "goal": GOAL, "holds": holds}
    print(json.dumps({**summary, **{name: round(value, 1) for name, value in found.items()}}))


if __name__ == "__main__":
    main()
