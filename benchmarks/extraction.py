"""How much of a page's content the HTML reader keeps, and how much of its frame, against a peer and a floor.

    python benchmarks/extraction.py [FOLDER]

FOLDER (or REINSTRUCT_TEST_DATA, or ../shared/data) holds corpus/web/html_extraction_150.jsonl.gz: pages, each with
strings that its text must hold (`with`) and must not hold (`without`). Needs the extra `web`. The peer is Resiliparse,
installed into an environment of its own under .bench/; the floor takes the tags away and nothing else.
"""

import gzip
import html
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from reinstruct.corpus.page import extract_text  # noqa: E402

PEER = "resiliparse==2.0.1"
PEER_SCRIPT = """
import json, sys, time
from resiliparse.extract.html2text import extract_plain_text
pages = json.load(sys.stdin)
began = time.process_time()
texts = [extract_plain_text(page, main_content=True, alt_texts=False) for page in pages]
json.dump({"texts": texts, "seconds": time.process_time() - began}, sys.stdout)
"""


def pages(folder: Path) -> list[dict[str, Any]]:
    with gzip.open(folder / "corpus" / "web" / "html_extraction_150.jsonl.gz") as rows:
        return [json.loads(row) for row in rows]


def without_tags(page: str) -> str:
    return html.unescape(re.sub(r"(?s)<[^>]*>", " ", re.sub(r"(?is)<(script|style)\b.*?</\1\s*>", " ", page)))


def timed(extract: Callable[[str], str], found: list[dict[str, Any]]) -> tuple[list[str], float]:
    began = time.process_time()
    return [extract(page["html"]) for page in found], time.process_time() - began


def by_peer(found: list[dict[str, Any]]) -> tuple[list[str], float]:
    python = ROOT / ".bench" / "resiliparse" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", PEER], check=True)
    given = json.dumps([page["html"] for page in found])
    done = subprocess.run([python, "-c", PEER_SCRIPT], input=given, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    return answer["texts"], answer["seconds"]


def scored(texts: list[str], seconds: float, found: list[dict[str, Any]]) -> dict[str, float]:
    """Precision, recall and F1 over strings, white space aside, and pages per second of processor time."""
    kept = wanted = frame = 0
    for text, page in zip(texts, found, strict=True):
        flat = " ".join(text.split())
        kept += sum(" ".join(part.split()) in flat for part in page["with"])
        frame += sum(" ".join(part.split()) in flat for part in page["without"])
        wanted += len(page["with"])
    precision, recall = kept / (kept + frame), kept / wanted
    f1 = 2 * precision * recall / (precision + recall)
    return {"precision": precision, "recall": recall, "f1": f1, "pages_per_s": len(found) / seconds}


def main() -> None:
    given = (
        sys.argv[1] if len(sys.argv) > 1 else os.environ.get("REINSTRUCT_TEST_DATA", ROOT.parent / "shared" / "data")
    )
    found = pages(Path(given))
    runs = {
        "reinstruct": timed(extract_text, found),
        PEER: by_peer(found),
        "tags taken away": timed(without_tags, found),
    }
    scores = {name: scored(texts, seconds, found) for name, (texts, seconds) in runs.items()}
    print(f"{len(found)} pages\n{'':<20}{'precision':>10}{'recall':>10}{'F1':>10}{'pages/s':>10}")
    for name, score in scores.items():
        print(
            f"{name:<20}"
            + "".join(f"{score[k]:>10.3f}" for k in ("precision", "recall", "f1"))
            + f"{score['pages_per_s']:>10.0f}"
        )
    ratio = scores["reinstruct"]["f1"] / scores[PEER]["f1"]
    summary = {"benchmark": "extraction", "ratio": round(ratio, 3), "goal": 1.1, "holds": ratio >= 1.1}
    rounded = {name: {key: round(value, 3) for key, value in score.items()} for name, score in scores.items()}
    print(json.dumps({**summary, "scores": rounded}))


if __name__ == "__main__":
    main()
