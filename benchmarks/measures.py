"""What the benchmarks of the model client share: the server in its own process, the peer's environment, one measure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PEER = ("datatrove==0.10.1", "aiosqlite", "aiofiles", "httpx", "orjson", "xxhash", "uvloop", "httptools")
LONGEST_S = 120


def peer_python() -> Path:
    """The interpreter of an environment with datatrove and uvloop, made once under .bench/."""
    folder = ROOT / ".bench" / "datatrove"
    python = folder / "bin" / "python"
    made = folder / "made"
    if not made.exists():
        print("installing datatrove ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEER], check=True, stderr=subprocess.DEVNULL)
        made.touch()
    return python


@contextmanager
def serving(python: Path, *options: str) -> Generator[str]:
    """The server in a process of its own; its URL."""
    command = [python, ROOT / "benchmarks" / "openai_server.py", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.terminate()


def measure(python: Path, side: str, calls: int, in_flight: int, url: str) -> dict[str, Any]:
    """One side in a process of its own: what it says, and what the server saw of it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [python, ROOT / "benchmarks" / "client_sides.py", side, str(calls), str(in_flight), url, folder]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LONGEST_S, check=False)
    with urllib.request.urlopen(f"{url}/stats", timeout=10) as answer:
        seen: dict[str, Any] = json.load(answer)
    if done.returncode:
        return {**seen, "replies": 0, "error": done.stderr.strip().splitlines()[-1]}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            seen.update(json.loads(line))
    return {**seen, "calls_per_s": seen["replies"] / seen.get("step_s", seen["window_s"])}
