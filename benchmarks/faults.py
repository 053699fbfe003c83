"""A thousand rows from a server that fails: time, and whether every row is there once.

    python benchmarks/faults.py [--rounds 3]

The server answers after 50 ms; 5 % of its answers are HTTP 500, 5 % are HTTP 429 with `Retry-After: 1`, and 1 % are a
dropped connection. 50 calls are in flight. The goal is 4 s; 1.1 s of it is the latency alone, and a call that is
turned away must wait another second. datatrove's InferenceRunner is asked the same in the same run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from measures import measure, peer_python, serving

ROWS = 1000
IN_FLIGHT = 50
GOAL_S = 4.0
FAULTS = ("--latency-ms", "50", "--share-500", "0.05", "--share-429", "0.05", "--share-dropped", "0.01")


def seen(side: str, python: Path) -> dict[str, Any]:
    with serving(peer_python(), *FAULTS) as url:
        return measure(python, side, ROWS, IN_FLIGHT, url)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    ours, durable = ([seen(side, Path(sys.executable)) for _ in range(rounds)] for side in ("ours", "durable"))
    peer = seen("peer", peer_python())
    found = {
        "ours_s": round(median(run["window_s"] for run in ours), 2),
        "durable_s": round(median(run["step_s"] for run in durable), 2),
        "rows": [run["replies"] for run in (*ours, *durable)],
        "calls": [run["calls"] for run in (*ours, *durable)],
        "peer_rows": peer["replies"],
        "peer_s": round(peer["window_s"], 2),
        "peer_error": peer.get("error", "")[:200],
    }
    for name, value in found.items():
        print(f"{name:<12}{value}")
    slowest = max(found["ours_s"], found["durable_s"])
    holds = slowest <= GOAL_S and set(found["rows"]) == {ROWS}
    summary = {"benchmark": "faults", "ratio": round(slowest / GOAL_S, 3), "goal": 1.0, "holds": holds}
    print(json.dumps({**summary, **found}))


if __name__ == "__main__":
    main()
