"""Size, time and start-up of the core installation, against their limits.

    python benchmarks/install.py

Makes a fresh environment under .bench/, installs the wheel without extras into it, and measures what a user feels.
The floor in the same run is an environment with nothing but pip.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMITS = {"install_s": 20.0, "install_mb": 420.0, "import_s": 0.3, "help_s": 0.5}


def environment(name: str) -> Path:
    """A fresh virtual environment; its folder."""
    folder = ROOT / ".bench" / name
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


def megabytes(folder: Path) -> float:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def seconds(argv: list[str | Path], runs: int = 1) -> float:
    """Wall time of a command: the median of `runs`."""
    times: list[float] = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, cwd=ROOT / ".bench")
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def measured() -> dict[str, float]:
    empty, core = environment("empty"), environment("core")
    python, wheels = core / "bin/python", ROOT / ".bench" / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    subprocess.run([python, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", wheels, str(ROOT)], check=True)
    install_s = seconds([python, "-m", "pip", "install", "--quiet", next(wheels.glob("*.whl"))])
    bare_s = seconds([empty / "bin/python", "-c", "pass"], runs=7)
    return {
        "install_s": install_s,
        "install_mb": megabytes(core) - megabytes(empty),
        "import_s": seconds([python, "-c", "import reinstruct"], runs=7) - bare_s,
        "help_s": seconds([core / "bin/reinstruct", "--help"], runs=7),
    }


def main() -> None:
    found = measured()
    print(f"{'':<12}{'measured':>10}{'limit':>10}")
    for name, value in found.items():
        print(f"{name:<12}{value:>10.2f}{LIMITS[name]:>10.2f}")
    ratio = max(found[name] / limit for name, limit in LIMITS.items())
    summary = {"benchmark": "install", "ratio": round(ratio, 3), "goal": 1.0, "holds": ratio <= 1.0}
    print(json.dumps({**summary, **{name: round(value, 3) for name, value in found.items()}}))


if __name__ == "__main__":
    main()
