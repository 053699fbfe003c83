"""REInstruct's rules on C4-form json.gz, against decompressing and parsing the same files alone.

python benchmarks/selection.py [--documents 20000] [--runs 5]

The floor reads every file with zlib-ng or isal where installed, else zlib, and parses each line's text with msgspec:
nothing can select texts without that. Ours reads, applies SelectAdvice and writes kept rows and reasons to Parquet.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import pydoc
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
GOAL, SCALING_GOAL = 1.3, 1.8
FLOOR = """
import sys, time, msgspec
try:
    from isal import igzip as gz
except ImportError:
    import gzip as gz
class Row(msgspec.Struct):
    text: str
    url: str = ""
decode = msgspec.json.Decoder(Row).decode
started = time.perf_counter()
rows = sum(1 for path in sys.argv[2:] for line in gz.open(path, "rb").read().splitlines() if decode(line))
print(time.perf_counter() - started, rows)
"""
OURS = """
import sys, time
import polars as pl
from pathlib import Path
from reinstruct.records import Document, Rejected
from reinstruct.stages.text import SelectAdvice
from reinstruct.store import open_store
from reinstruct.stream import Tally, run_stages
from reinstruct.tables import PartWriter
from reinstruct.corpus.open import open_source
from reinstruct.corpus.read import read_range
source = open_source(sys.argv[2], Document)
store = open_store(sys.argv[1])
pl.DataFrame({"text": ["Load the rules."]}).select(SelectAdvice().reason())
started = time.perf_counter()
n = 0
with PartWriter(store, "kept.parquet", Document) as kept, PartWriter(store, "rejected.parquet", Rejected) as rejected:
    def chunks():
        for file in source.files:
            for batch in read_range(source, file):
                yield batch.split(Document)[0]
    tally = Tally("bench", rejected.write)
    for chunk in run_stages([SelectAdvice()], chunks(), tally, None, None):
        kept.write(chunk)
print(time.perf_counter() - started, tally.counts[0].read)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = write_c4(Path(folder), asked.documents)
        floor_s, ours_s, both_s = [], [], []
        for _ in range(asked.runs):
            floor_s.append(wait_for([start(FLOOR, folder, *files)]))
            ours_s.append(sum(wait_for([start(OURS, folder, file)]) for file in files))
            both_s.append(wait_for([start(OURS, f"{folder}/{n}", file) for n, file in enumerate(files)]))
    ratio, scaling = median(ours_s) / median(floor_s), median(ours_s) / median(both_s)
    for name, seconds in (
        ("decompress and parse", floor_s),
        ("select, one core", ours_s),
        ("select, two cores", both_s),
    ):
        print(f"{name:24}{median(seconds):8.2f} s{asked.documents / median(seconds):12,.0f} docs/s")
    result = {"benchmark": "selection", "ratio": round(ratio, 2), "goal": GOAL}
    result |= {"holds": ratio <= GOAL and scaling >= SCALING_GOAL, "two_cores": round(scaling, 2)}
    print(json.dumps({**result, "two_cores_goal": SCALING_GOAL, "documents": asked.documents}))


def write_c4(folder: Path, documents: int) -> list[str]:
    """Two files of rows of text, url and timestamp, as C4 is published."""
    found = texts()
    names = [str(folder / f"c4-{part}.json.gz") for part in range(2)]
    for part, name in enumerate(names):
        with gzip.open(name, "wt", compresslevel=6) as file:
            for n in range(part, documents, 2):
                row = {"text": found[n % len(found)], "timestamp": "2019-04-25T12:57:54Z", "url": f"https://a.org/{n}"}
                file.write(json.dumps(row) + "\n")
    return names


def texts() -> list[str]:
    data = Path(os.environ.get("REINSTRUCT_TEST_DATA", ROOT.parent / "shared" / "data"))
    path = data / "corpus" / "en.jsonl.gz"
    if path.is_file():
        with gzip.open(path, "rt") as lines:
            return [json.loads(line)["text"] for line in lines]
    names = sorted(name for name in sys.stdlib_module_names if not name.startswith("_"))[:120]
    return [pydoc.render_doc(name, renderer=pydoc.plaintext) for name in names if name not in ("antigravity", "this")]


def start(program: str, *given: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, *given]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def wait_for(processes: list[subprocess.Popen[str]]) -> float:
    """Seconds of the slowest, imports left out."""
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit("a run failed")
    return max(float(output.split()[0]) for output in outputs)


if __name__ == "__main__":
    main()
