"""REInstruct's rules on C4-form json.gz, against decompressing and parsing the same files alone.

python benchmarks/selection.py [--documents 100000] [--runs 7]

Two floors in the same run, and the faster of them counts: ISA-L with msgspec, a megabyte at a time, and Polars'
`read_ndjson`. Neither does anything with the rows. Ours reads, makes ids, applies SelectAdvice, and writes kept rows
and rejected ones with their reasons to Parquet. Each process is bound to one core; both files at once in two processes
are the second figure. What each part of ours costs is timed on its own, in the same processes.
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
PARTS = ("reading", "rules", "writing")
MSGSPEC = """
import sys, time, msgspec
from isal import isal_zlib
class Row(msgspec.Struct, gc=False):
    text: str
    url: str = ""
decode = msgspec.json.Decoder(Row).decode_lines
started, rows = time.perf_counter(), 0
for path in sys.argv[2:]:
    machine, rest = isal_zlib.decompressobj(wbits=31), b""
    with open(path, "rb") as packed:
        while block := packed.read(1 << 18):
            content = rest + machine.decompress(block)
            end = content.rfind(b"\\n") + 1
            rows, rest = rows + len(decode(content[:end])), content[end:]
print(time.perf_counter() - started, rows)
"""
POLARS = """
import sys, time
import polars as pl
pl.read_ndjson(b'{"text": ""}')
started = time.perf_counter()
rows = sum(pl.read_ndjson(path, schema={"text": pl.String, "url": pl.String}).height for path in sys.argv[2:])
print(time.perf_counter() - started, rows)
"""
OURS = """
import sys, time
import polars as pl
from reinstruct.records import Document, Rejected
from reinstruct.stages.text import SelectAdvice
from reinstruct.store import open_store
from reinstruct.stream import Tally, run_stages
from reinstruct.tables import PartWriter
from reinstruct.corpus.open import open_source
from reinstruct.corpus.read import read_range
parts = {}
def timed(part, run, *given):
    began = time.perf_counter()
    found = run(*given)
    parts[part] += time.perf_counter() - began
    return found
def chunks(sources):
    for source in sources:
        batches = read_range(source, source.files[0])
        while (batch := timed("reading", next, batches, None)) is not None:
            yield batch.split(Document)[0]
def select(sources, store):
    parts.update(dict.fromkeys(("reading", "rules", "writing"), 0.0))
    started = time.perf_counter()
    with PartWriter(store, "kept.parquet", Document) as kept, PartWriter(store, "no.parquet", Rejected) as rejected:
        tally = Tally("bench", lambda chunk: timed("writing", rejected.write, chunk))
        for chunk in run_stages([SelectAdvice()], chunks(sources), tally, None, None):
            timed("writing", kept.write, chunk)
        timed("writing", lambda: (kept._flush(), rejected._flush()))
    all_s = time.perf_counter() - started
    parts["rules"] = all_s - sum(parts.values())
    return all_s, tally.counts[0].read, *parts.values()
warm, *sources = [open_source(path, Document) for path in sys.argv[2:]]
select([warm], open_store(sys.argv[1] + "/warm"))
print(*select(sources, open_store(sys.argv[1] + "/measured")))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=7)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        warm, _ = write_c4(Path(folder), 100, "warm")
        files = write_c4(Path(folder), asked.documents)
        measured: dict[str, list[list[float]]] = {"msgspec": [], "polars": [], "ours": [], "both": []}
        for _ in range(asked.runs):
            measured["msgspec"].append(wait_for([start(MSGSPEC, folder, *files)]))
            measured["polars"].append(wait_for([start(POLARS, folder, *files)]))
            measured["ours"].append(wait_for([start(OURS, folder, warm, *files)]))
            both = [start(OURS, f"{folder}/{n}", warm, file, core=n) for n, file in enumerate(files)]
            measured["both"].append(wait_for(both))
    taken = {name: median(run[0] for run in runs) for name, runs in measured.items()}
    floor_s = min(taken["msgspec"], taken["polars"])
    parts = dict(zip(PARTS, (median(run[n] for run in measured["ours"]) for n in (2, 3, 4)), strict=True))
    report({**taken, **{f"  {name}": seconds for name, seconds in parts.items()}}, asked.documents)
    ratio, scaling = taken["ours"] / floor_s, taken["ours"] / taken["both"]
    result = {"benchmark": "selection", "ratio": round(ratio, 2), "goal": GOAL}
    result |= {"holds": ratio <= GOAL and scaling >= SCALING_GOAL, "two_cores": round(scaling, 2)}
    result |= {f"{name}_of_floor": round(seconds / floor_s, 2) for name, seconds in parts.items()}
    print(json.dumps({**result, "two_cores_goal": SCALING_GOAL, "documents": asked.documents}))


def report(seconds: dict[str, float], documents: int) -> None:
    names = {
        "msgspec": "decompress and parse: ISA-L, msgspec",
        "polars": "decompress and parse: Polars",
        "ours": "select, one process",
        "both": "select, two processes",
    }
    for name, taken in seconds.items():
        print(f"{names.get(name, name):40}{taken:8.3f} s{documents / taken:12,.0f} docs/s")


def write_c4(folder: Path, documents: int, name: str = "c4") -> list[str]:
    """Two files of rows of text, url and timestamp, as C4 is published."""
    found = texts()
    names = [str(folder / f"{name}-{part}.json.gz") for part in range(2)]
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


def start(program: str, *given: str, core: int = 0) -> subprocess.Popen[str]:
    """A process of its own on one core; no thread of it may use another."""
    program = f"import os; os.sched_setaffinity(0, [sorted(os.sched_getaffinity(0))[{core}]])\n{program}"
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, *given]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def wait_for(processes: list[subprocess.Popen[str]]) -> list[float]:
    """What the slowest says: seconds, imports left out, then rows and the seconds of its parts."""
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit("a run failed")
    return max([float(number) for number in output.split()] for output in outputs)


if __name__ == "__main__":
    main()
