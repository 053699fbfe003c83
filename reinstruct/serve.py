"""`reinstruct serve`: vLLM for a model of a run, a folder or a hub id, until it is told to end.

The rule: what is printed on standard output is the servers' addresses, once they can be asked.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from reinstruct.architecture import expect_decoder
from reinstruct.bundled import BUNDLED, bundled_folder
from reinstruct.errors import RecipeError, expect
from reinstruct.planning import SCRATCH
from reinstruct.serving import existing_model
from reinstruct.vllm_launch import Serving, devices, expect_free, find_vllm, free_port
from reinstruct.vllm_server import Replicas

LOOK_S = 1.0


def serve(model: str, *, port: int, replicas: int, loras: Iterable[str], python: str, flags: Sequence[str]) -> None:
    """Serve until interrupted. A replica that dies is started anew; one that does not start ends all with LLMError.

    `port` is the first replica's, the others take the following ones; 0 takes any. `loras` are NAME=FOLDER.
    """
    expect(replicas >= 1, "--replicas", replicas, "1 or more")
    serving = Serving(weights(model), Path(model.rstrip("/")).name.replace(":", "-"), adapters(loras), tuple(flags))
    vllm = find_vllm(python)
    ports = [port + n if port else free_port() for n in range(replicas)]
    for each in ports:
        expect_free(each)
    logs = Path(tempfile.mkdtemp(prefix="reinstruct-serve-"))
    servers = Replicas(vllm, serving, logs, devices=devices(), count=replicas, ports=ports)
    try:
        began = time.monotonic()
        _say(f"starting vLLM for {serving.name}; logs in {logs}")
        servers.start()
        _say(f"ready in {time.monotonic() - began:.0f} s: {usage(servers.urls, serving)}")
        print(",".join(servers.urls), flush=True)
        _watch(servers)
    finally:
        servers.close()


def weights(model: str) -> str:
    """Where vLLM finds the model: an absolute folder, or a hub id as it is. RecipeError for anything else."""
    folder = Path(model).expanduser()
    if model.startswith(SCRATCH) or "://" in model:
        raise RecipeError(
            f"cannot serve {model}; accepted: a folder with a model, such as RUN/models/NAME, or a hub id"
        )
    trained = sorted(path.name for path in (folder / "models").glob("*") if (path / "config.json").is_file())
    if trained and not (folder / "config.json").exists():
        raise RecipeError(
            f"{model} is a run; name one of its models: {', '.join(f'{model}/models/{n}' for n in trained)}"
        )
    if model.startswith(BUNDLED):
        return str(bundled_folder(model))
    uri = existing_model(model).uri
    expect_decoder(uri, "a decoder; a run asks this one in its own workers")
    return uri


def adapters(given: Iterable[str]) -> dict[str, str]:
    """Name -> absolute folder, of flags like name=folder. RecipeError for one that is neither."""
    found: dict[str, str] = {}
    for flag in given:
        name, sign, folder = flag.partition("=")
        if not (name and sign and folder) or name in found:
            raise RecipeError(f"--lora is {flag!r}; accepted: NAME=FOLDER, each name once")
        found[name] = str(Path(folder).expanduser().absolute())
    return found


def usage(urls: Sequence[str], serving: Serving) -> str:
    """How the servers are named to a run."""
    if not serving.loras:
        return f"use it with --server {','.join(urls)}"
    named = {name: ",".join(f"{url}#model={name}" for url in urls) for name in (serving.name, *serving.loras)}
    return f"use it with --server MODEL=URL: {', '.join(named.values())}"


def _watch(servers: Replicas) -> None:
    while True:
        time.sleep(LOOK_S)
        for failure in servers.start():
            _say(f"started anew: {failure}")


def _say(sentence: str) -> None:
    print(f"reinstruct: {sentence}", file=sys.stderr, flush=True)
