"""Run one job from a file: `python -m reinstruct.train --config job.json`, alone or under torchrun.

Writes progress to stdout as JSON lines, at most one a second; errors to stderr as one sentence and to stdout as
{"error": sentence, "kind": its class}, with exit code 2.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from reinstruct.errors import ReinstructError
from reinstruct.train.job import Progress, read_job, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m reinstruct.train", description="Run one training job.")
    parser.add_argument("--config", required=True, help="the job as a JSON file")
    parser.add_argument("--preset", default="", help="a paper's settings, under those of the job: humpback, kun, ...")
    parser.add_argument("--die-with-parent", action="store_true", help="end when standard input closes")
    given = parser.parse_args()
    if given.die_with_parent:
        from reinstruct.container import die_with_parent

        die_with_parent()
    try:
        run(read_job(given.config, given.preset), _progress_lines() if os.environ.get("RANK", "0") == "0" else None)
    except ReinstructError as error:
        sys.stderr.write(f"{error}\n")
        sys.stdout.write(json.dumps({"error": str(error), "kind": type(error).__name__}) + "\n")
        return 2
    return 0


def _progress_lines() -> Progress:
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last >= 1:
            last = time.monotonic()
            sys.stdout.write(json.dumps({"done": done, "total": total}) + "\n")
            sys.stdout.flush()

    return report


if __name__ == "__main__":
    sys.exit(main())
