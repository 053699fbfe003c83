"""Calls a second of the model client, against datatrove's InferenceRunner and a bare aiohttp loop, in the same run.

    python benchmarks/client.py [--rounds 3]

An instant server in a process of its own answers; every side asks it from a process of its own, one after the other,
round by round, and the medians count. A side's time is the server's, from its first call to its last answer; that of
our durable replies is longer: the whole step, from reading rows to the commit.

Goals, for 64 and 500 calls in flight and a server that answers at once or after 200 ms: twice the peer, and 0.6 of
the bare loop; with durable replies 0.6 of our own client without, and three times the peer's durable mode. Where the
server's latency leaves no room for twice the peer (calls in flight / latency is the most there can be), the goal is
0.9 of that most or 0.9 of the bare loop, whichever is less: `bound` in the table says so.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from measures import measure, peer_python, serving

SETTINGS = [(64, 0, 3000), (500, 0, 3000), (64, 200, 960), (500, 200, 5000)]  # in flight, latency in ms, calls
DURABLE = [(64, 0), (500, 200)]
SIDES = ("bare", "ours", "peer")
DURABLE_SIDES = ("durable", "peer-durable")
PEER_SHARE = 0.5  # of the calls, for the sides that are several times slower


def rates(rounds: int) -> dict[tuple[int, int], dict[str, float]]:
    """Calls a second by setting and side: medians."""
    peer = peer_python()
    pythons = {side: peer if side.startswith("peer") else Path(sys.executable) for side in SIDES + DURABLE_SIDES}
    found: dict[tuple[int, int], dict[str, list[float]]] = {}
    for number in range(rounds):
        for in_flight, latency_ms, calls in SETTINGS:
            here = found.setdefault((in_flight, latency_ms), {})
            sides = SIDES + DURABLE_SIDES * ((in_flight, latency_ms) in DURABLE)
            with serving(peer, "--latency-ms", str(latency_ms)) as url:
                for side in sides[:: 1 if number % 2 == 0 else -1]:
                    some = int(calls * PEER_SHARE) if side == "peer-durable" else calls
                    seen = measure(pythons[side], side, some, in_flight, url)
                    if seen["replies"] != some:
                        raise SystemExit(f"{side} made {seen['replies']} of {some} rows: {seen.get('error', '')}")
                    here.setdefault(side, []).append(seen["calls_per_s"])
                    rate = f"{seen['calls_per_s']:.0f} calls/s"
                    print(
                        f"round {number + 1}: {side}, {in_flight} in flight, {latency_ms} ms: {rate}", file=sys.stderr
                    )
    return {setting: {side: median(rates) for side, rates in sides.items()} for setting, sides in found.items()}


def judged(setting: tuple[int, int], rate: dict[str, float]) -> dict[str, Any]:
    """Rates with how many times each goal was reached; 1 and more holds."""
    in_flight, latency_ms = setting
    most = in_flight / latency_ms * 1000 if latency_ms else float("inf")
    is_bound = 2 * rate["peer"] > 0.9 * min(most, rate["bare"])
    peer_goal = min(2 * rate["peer"], 0.9 * most, 0.9 * rate["bare"]) if latency_ms else 2 * rate["peer"]
    quotients = {"peer": rate["ours"] / peer_goal, "bare": rate["ours"] / (0.6 * rate["bare"])}
    if "durable" in rate:
        quotients["own"] = rate["durable"] / (0.6 * rate["ours"])
        quotients["peer_durable"] = rate["durable"] / (3 * rate["peer-durable"])
    named = {side.replace("-", "_"): round(value) for side, value in rate.items()}
    reached = {goal: round(value, 2) for goal, value in quotients.items()}
    bound = {"bound": round(most)} if latency_ms and is_bound else {}
    return {"in_flight": in_flight, "latency_ms": latency_ms, **named, **bound, "reached": reached}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    found = [judged(setting, rate) for setting, rate in rates(parser.parse_args().rounds).items()]
    columns = ("in_flight", "latency_ms", "bare", "ours", "peer", "durable", "peer_durable", "bound")
    print("".join(f"{name:>14}" for name in columns) + "    goals reached, times")
    for row in found:
        reached = ", ".join(f"{goal} {times}" for goal, times in row["reached"].items())
        print("".join(f"{row.get(name, ''):>14}" for name in columns) + f"    {reached}")
    worst = min(times for row in found for times in row["reached"].values())
    print(json.dumps({"benchmark": "client", "ratio": worst, "goal": 1.0, "holds": worst >= 1, "settings": found}))


if __name__ == "__main__":
    main()
