"""Peak memory of a Humpback run, step by step: four times the documents against the same run with fewer.

    python benchmarks/memory.py [--documents 16000]

Both runs go through the command line with a local server that answers well, so that every document goes the whole way:
segments, instruction, two ratings. Pairs for training are sampled down to the same number in both. With a thousand
documents no step fills what it holds at once; the smaller run has to be larger than that. Needs the extra
`train` and the packages of the tests.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.conftest import SEED, tiny_model  # noqa: E402
from tests.well_answering import WellAnswering  # noqa: E402

WORK = ROOT / ".bench" / "memory"
GOAL = 1.10  # of the peak with a quarter of the documents
FEWER = 4
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvw" for vowel in "aeiou"]


def corpus(documents: int) -> Path:
    """Pages of four segments under headers, some 4,000 characters each, no two alike."""
    rng, path = random.Random(documents), WORK / f"pages-{documents}.jsonl"

    def sentence() -> str:
        words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) for _ in range(rng.randint(8, 16))]
        return " ".join(words).capitalize() + "."

    with path.open("w") as out:
        for number in range(documents):
            parts = [f"# {sentence()[:40]}\n\n" + " ".join(sentence() for _ in range(14)) for _ in range(4)]
            out.write(json.dumps({"id": f"page-{number}", "text": "\n\n".join(parts)}) + "\n")
    return path


def command(documents: int, url: str) -> list[str]:
    settings = {
        "corpus": str(corpus(documents)),
        "seed": str(SEED),
        "base": tiny_model(WORK / "base"),
        "rules": "plain",
        "size": "100",
        "seed-size": "100",
        "paper-steps": "false",
        "held-out": "0",
        "sft.epochs": "0.1",
        "sft.batch-size": "8",
        "sft.max-tokens": "4096",
        "server": url,
        "out": str(WORK / f"run-{documents}"),
    }
    flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "reinstruct", "run", "humpback", *flags]


def descendants(root: int) -> list[int]:
    """Process ids below `root`, from /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, queue = [root], [root]
    while queue:
        queue = [child for parent in queue for child in children.get(parent, [])]
        found += queue
    return found


def step_and_peak(pid: int) -> tuple[str, float] | None:
    """The step a process works on ("runner" for the command itself) and its peak resident memory in MB."""
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    peak = next((line for line in status.splitlines() if line.startswith("VmHWM")), "")
    if not peak:
        return None
    step = argv[argv.index("--step") + 1].rpartition("-")[0] if "--step" in argv else "runner"
    return step, int(peak.split()[1]) / 1024


def peaks(documents: int, url: str) -> dict[str, float]:
    """Peak resident MB of each step's largest process, watched ten times a second."""
    found: dict[str, float] = {}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command(documents, url), env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        for pid in descendants(process.pid):
            seen = step_and_peak(pid)
            if seen:
                found[seen[0]] = max(found.get(seen[0], 0.0), seen[1])
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"the run of {documents} documents failed")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--documents", type=int, default=16_000)
    many = parser.parse_args().documents
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    with WellAnswering(remembers=False) as server:
        few_mb, many_mb = (peaks(documents, server.url) for documents in (many // FEWER, many))
    print(f"{'step':<20}{many // FEWER:>12,}{many:>12,}   documents, peak MB")
    for step in many_mb:
        print(f"{step:<20}{few_mb.get(step, 0):>12.0f}{many_mb[step]:>12.0f}")
    ratio, step = max((many_mb[step] / few_mb[step], step) for step in many_mb if step in few_mb)
    summary = {"benchmark": "memory", "ratio": round(ratio, 3), "goal": GOAL, "holds": ratio <= GOAL}
    run_ratio = max(many_mb.values()) / max(few_mb.values())
    more = {"documents": many, "peak_mb": round(max(many_mb.values())), "step": step, "run_ratio": round(run_ratio, 3)}
    print(json.dumps({**summary, **more}))


if __name__ == "__main__":
    main()
