"""Gopher's two rule sets, C4's and FineWeb's, each on every document: datatrove 0.10.1 against reinstruct.

python benchmarks/quality_rules.py [--documents 2000] [--agree-on 0 (all)]

Both sides run on one core in one run, interleaved. Verdicts and first reasons of each rule set are compared on
corpus/en.jsonl.gz of REINSTRUCT_TEST_DATA or ../shared/data; datatrove's are kept under .bench by its version.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
BENCH = ROOT / ".bench"
VERSION, GOAL, AGREEMENT = "0.10.1", 30.0, 0.999
SAME = {  # datatrove's reasons -> ours
    "empty": "empty",
    "dup_para_frac": "repeated_paragraphs",
    "dup_para_char_frac": "repeated_paragraph_chars",
    "dup_line_frac": "repeated_lines",
    "dup_line_char_frac": "repeated_line_chars",
    **{f"top_{n}_gram": f"commonest_{n}_words" for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": f"repeated_{n}_words" for n in range(5, 11)},
    "gopher_short_doc": "few_words",
    "gopher_long_doc": "many_words",
    "gopher_below_avg_threshold": "short_words",
    "gopher_above_avg_threshold": "long_words",
    "gopher_too_many_hashes": "hashes",
    "gopher_too_many_ellipsis": "ellipses",
    "gopher_too_many_bullets": "bullet_lines",
    "gopher_too_many_end_ellipsis": "ellipsis_lines",
    "gopher_below_alpha_threshold": "few_lettered_words",
    "gopher_enough_stop_words": "few_stop_words",
    "line_punct_ratio": "few_ended_lines",
    "short_line_ratio": "short_lines",
    "char_dup_ratio": "line_repeats",
    "list_ratio": "newlines",
    "lorem_ipsum": "filler_text",
    "curly_bracket": "curly_bracket",
    "too_few_sentences": "few_sentences",
}
PEER = """
import json, sys, time
import loguru
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
from datatrove.utils.text import split_into_parts, split_into_words
loguru.logger.remove()
filters = [GopherRepetitionFilter(), GopherQualityFilter(), FineWebQualityFilter(), C4QualityFilter()]
split_into_words("Load the tokenizer.")
texts = [json.loads(line) for line in open(sys.argv[1])]
out = open(sys.argv[2], "w")
started = time.perf_counter()
for number, text in enumerate(texts):
    document = Document(text=text, id=str(number))
    verdicts = [filter_.filter(document) for filter_ in filters]
    out.write(json.dumps([None if verdict is True else verdict[1] for verdict in verdicts]) + "\\n")
print(time.perf_counter() - started)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=2000, help="documents of the timed runs")
    parser.add_argument("--agree-on", type=int, default=0, help="documents to compare verdicts on; 0: all")
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    texts = corpus()
    python = peer_python()
    theirs = peer_verdicts(python, texts[: asked.agree_on or None])
    same, different = agreement(texts[: len(theirs)], theirs)

    step = max(1, len(texts) // asked.documents)
    sample = texts[::step][: asked.documents]
    ours_s, theirs_s = [], []
    for number in range(asked.runs):
        ours_s.append(time_ours(sample))
        if number < 2:  # the slow side twice: it varies little
            theirs_s.append(run_peer(python, sample, BENCH / "sample")[0])
    ours, peer = len(sample) / median(ours_s), len(sample) / median(theirs_s)
    print(f"{'':24}{'docs/s':>10}{'ms/doc':>10}")
    print(f"{'datatrove ' + VERSION:24}{peer:10.0f}{1000 / peer:10.2f}")
    print(f"{'reinstruct':24}{ours:10.0f}{1000 / ours:10.2f}")
    print(f"same verdicts and first reasons: {same:.4%} of {len(theirs)}; others: {different[:5]}")
    ratio = ours / peer
    print(
        json.dumps(
            {
                "benchmark": "quality_rules",
                "ratio": round(ratio, 1),
                "goal": GOAL,
                "holds": ratio >= GOAL and same >= AGREEMENT,
                "agreement": round(same, 6),
                "agreement_goal": AGREEMENT,
                "documents_compared": len(theirs),
                "documents_timed": len(sample),
                "docs_per_s": round(ours),
                "peer_docs_per_s": round(peer, 1),
            }
        )
    )


def corpus() -> list[str]:
    folder = Path(os.environ.get("REINSTRUCT_TEST_DATA", ROOT.parent / "shared" / "data"))
    path = folder / "corpus" / "en.jsonl.gz"
    if not path.is_file():
        sys.exit(f"no {path}: set REINSTRUCT_TEST_DATA to the folder of the test data")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def peer_python() -> Path:
    home = BENCH / f"datatrove-{VERSION}"
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", f"datatrove[processing]=={VERSION}", "spacy"], check=True)
    return python


def run_peer(python: Path, texts: list[str], name: Path) -> tuple[float, list[list[str | None]]]:
    """Seconds and verdicts of datatrove on the texts."""
    given, found = name.with_suffix(".in.jsonl"), name.with_suffix(".out.jsonl")
    given.write_text("".join(json.dumps(text) + "\n" for text in texts))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [str(python), "-c", PEER, str(given), str(found)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout.split()[-1]), [json.loads(line) for line in found.read_text().splitlines()]


def peer_verdicts(python: Path, texts: list[str]) -> list[list[str | None]]:
    """datatrove's verdicts, from the cache where it has as many."""
    kept = BENCH / f"datatrove-{VERSION}-verdicts-{len(texts)}.json"
    if not kept.exists():
        kept.write_text(json.dumps(run_peer(python, texts, BENCH / "all")[1]))
    return json.loads(kept.read_text())


def agreement(texts: list[str], theirs: list[list[str | None]]) -> tuple[float, list[tuple[int, list[str | None]]]]:
    found = list(zip(*our_verdicts(texts), strict=True))
    wanted = [tuple(SAME[reason] if reason else None for reason in verdicts) for verdicts in theirs]
    different = [(n, theirs[n]) for n, (ours, right) in enumerate(zip(found, wanted, strict=True)) if ours != right]
    return 1 - len(different) / len(theirs), different


def our_verdicts(texts: list[str]) -> list[list[str | None]]:
    import polars as pl

    from reinstruct.stages.quality import C4Quality, FineWebQuality, GopherQuality, GopherRepetition
    from reinstruct.stages.quality_rules import reasons

    filters = [GopherRepetition(), GopherQuality(), FineWebQuality(), C4Quality()]
    return [column.to_list() for column in reasons(filters, pl.Series(texts))]


def time_ours(texts: list[str]) -> float:
    """Seconds in a process of its own on one core, imports and first use left out, as on the other side."""
    program = (
        "import json, sys, time\n"
        "from benchmarks.quality_rules import our_verdicts\n"
        "texts = [json.loads(line) for line in open(sys.argv[1])]\n"
        "our_verdicts(['Load the rules.'])\n"
        "started = time.perf_counter()\n"
        "our_verdicts(texts)\n"
        "print(time.perf_counter() - started)\n"
    )
    given = BENCH / "ours.in.jsonl"
    given.write_text("".join(json.dumps(text) + "\n" for text in texts))
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, str(given)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    BENCH.mkdir(exist_ok=True)
    main()
