"""Cost per document and memory, from ten thousand documents to a million: read, duplicates, near-duplicates, rules.

    python benchmarks/scale.py [--sizes 10000,100000,1000000] [--corpus FILE.jsonl.gz] [--workers 1]

Documents are real sentences put together anew, ten of them to a text, a twentieth of the texts twice. They lie in
gzipped JSON lines of 50,000; a plan of four steps (read, deduplicate, near-duplicates, select) is run by the local
runner, as `reinstruct run` does. What is measured is the processor time of all worker processes, less that of a run
over 100 documents (the start of four workers; sizes up to 10,000 are run seven times in turns with it, and medians
count, since that start is most of their time), and the largest memory any of them took. The goal: the cost of a
document stays within 10 % of what it is at 10,000 documents, and memory within 100 MB.
"""

import argparse
import gzip
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("REINSTRUCT_TEST_DATA", ROOT.parent / "shared" / "data"))
FILE_ROWS = 50_000
NONE, SMALL, REPEATS = 100, 10_000, 7  # documents of a run that measures the start alone; of one that is repeated
MOST_RATIO, MOST_GROWTH_MB = 1.10, 100.0

RUN = """
import json, resource, sys, time
from contextlib import suppress
from reinstruct.corpus.open import open_source
from reinstruct.errors import CorpusError
from reinstruct.plan import read
from reinstruct.planfile import Plan, specs
from reinstruct.records import Document
from reinstruct.runner import LocalRunner
from reinstruct.stages.gather import DropDuplicates
from reinstruct.stages.near_duplicates import DropNearDuplicates
from reinstruct.stages.text import SelectAdvice
from reinstruct.store import LocalStore
from reinstruct.commit import result_of
class Quiet:
    def __getattr__(self, name):
        return lambda *told: None
corpus, store, workers = sys.argv[1], LocalStore(sys.argv[2]), int(sys.argv[3])
data = read(open_source(corpus, Document)).gather(DropDuplicates(), name="deduplicate")
data = data.gather(DropNearDuplicates(), name="near-duplicates").map(SelectAdvice(), name="select")
began = time.perf_counter()
with suppress(CorpusError):  # sentences put together are no advice: of few documents the last step keeps none
    LocalRunner(store, Quiet(), workers).run(Plan(recipe="scale", steps=specs(data.step), data=data.step.id))
used = resource.getrusage(resource.RUSAGE_CHILDREN)
steps = [data.step.inputs[0].inputs[0].inputs[0], data.step.inputs[0].inputs[0], data.step.inputs[0], data.step]
print(json.dumps({
    "wall_s": time.perf_counter() - began, "cpu_s": used.ru_utime + used.ru_stime, "mb": used.ru_maxrss / 1024,
    "rows": [result_of(store, step.id).rows for step in steps],
    "seconds": [sum(done.seconds for done in result_of(store, step.id).shards) for step in steps],
}))
"""


def sentences(corpus: Path) -> list[str]:
    """Real sentences of 40 to 200 characters."""
    if corpus.exists():
        with gzip.open(corpus, "rt", encoding="utf-8") as lines:
            texts = [json.loads(line)["text"] for line, _ in zip(lines, range(4000), strict=False)]
    else:
        sys.path[:0] = [str(ROOT)]
        from benchmarks.near_duplicates import texts as documentation

        texts = documentation(None)
    return [part for text in texts for part in re.split(r"(?<=[.!?])\s+", text) if 40 < len(part) < 200]


def written(folder: Path, pool: list[str], count: int) -> str:
    """A corpus of `count` documents; the glob of its files."""
    draw, last = random.Random(7), ""
    folder.mkdir()
    for start in range(0, count, FILE_ROWS):
        with gzip.open(folder / f"{start:08}.jsonl.gz", "wt", encoding="utf-8", compresslevel=1) as file:
            for number in range(start, min(start + FILE_ROWS, count)):
                last = last if number % 20 == 19 else " ".join(draw.choices(pool, k=10))
                file.write(json.dumps({"id": f"d{number}", "text": last}) + "\n")
    return f"{folder}/*.jsonl.gz"


def runs_of(pool: list[str], sizes: list[int], workers: int) -> Iterator[tuple[int, dict]]:
    """What a run over so many documents took, for each size; the small ones are done by turns."""
    small = [size for size in sizes if size <= SMALL]
    runs = [{size: run_of(pool, size, workers) for size in small} for _ in range(REPEATS)]
    for size in small:
        yield size, sorted((run[size] for run in runs), key=lambda run: run["cpu_s"])[REPEATS // 2]
    for size in sizes:
        if size > SMALL:
            yield size, run_of(pool, size, workers)


def run_of(pool: list[str], count: int, workers: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        corpus = written(Path(folder) / "corpus", pool, count)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
        argv = [sys.executable, "-c", RUN, corpus, f"{folder}/store", str(workers)]
        done = subprocess.run(argv, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--sizes", default="10000,100000,1000000")
    flags.add_argument("--corpus", type=Path, default=DATA / "corpus" / "en.jsonl.gz")
    flags.add_argument("--workers", type=int, default=1)
    given = flags.parse_args()
    pool = sentences(given.corpus)
    found, start = {}, 0.0
    print(f"{'documents':>10}{'us/doc':>9}{'wall s':>9}{'most MB':>9}  rows after, s in: read, exact, near, select")
    for size, run in runs_of(pool, [NONE, *map(int, given.sizes.split(","))], given.workers):
        if size == NONE:
            start = run["cpu_s"]
            continue
        found[size] = {"us": (run["cpu_s"] - start) / size * 1e6, "mb": run["mb"]}
        parts = ", ".join(f"{rows} {seconds:.1f}" for rows, seconds in zip(run["rows"], run["seconds"], strict=True))
        print(f"{size:>10}{found[size]['us']:>9.0f}{run['wall_s']:>9.1f}{run['mb']:>9.0f}  {parts}", flush=True)
    first, last = found[min(found)], found[max(found)]
    ratio, growth = last["us"] / first["us"], last["mb"] - first["mb"]
    holds = ratio <= MOST_RATIO and growth <= MOST_GROWTH_MB
    summary = {"benchmark": "scale", "ratio": round(ratio, 3), "goal": MOST_RATIO, "holds": holds}
    print(json.dumps({**summary, "growth_mb": round(growth), "sizes": found, "us": round(last["us"], 1)}))


if __name__ == "__main__":
    main()
