"""Who answers for a model: a server that was named for it, or the engine in this process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reinstruct.commit import result_of
from reinstruct.errors import RecipeError, StoreError
from reinstruct.llm import LLM
from reinstruct.plan import Model
from reinstruct.store import Store

if TYPE_CHECKING:
    from reinstruct.served import Served

Servers = Mapping[str, tuple[str, ...]]  # a training step's name or a model's URI -> URLs; "" for every model


def urls_of(model: Model, servers: Servers) -> tuple[str, ...]:
    """The servers named for a model: by its step's name, by its URI, or for all; none means this process."""
    return servers.get(model.step.name if model.step else model.uri) or servers.get("") or ()


def parse_servers(flags: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Servers from flags such as http://host:8000, or backward=http://a:8000,http://b:8000."""
    servers: dict[str, tuple[str, ...]] = {}
    for flag in flags:
        name, _, urls = ("", "", flag) if flag.startswith("http") else flag.partition("=")
        found = tuple(url.strip() for url in urls.split(",") if url.strip())
        if not found or not all(url.startswith(("http://", "https://")) for url in found):
            raise RecipeError(f"--server is {flag!r}; accepted: URL[,URL...] or MODEL=URL[,URL...], each http(s)://")
        servers[name] = found
    return servers


def open_llm(model: Model, store: Store, servers: Servers) -> LLM:
    """Something that answers as `model`. Nothing is loaded before the first request."""
    urls = urls_of(model, servers)
    if urls:
        return open_served(urls)
    from reinstruct.engine import InProcess

    return InProcess(location(model, store))


def open_served(urls: tuple[str, ...]) -> Served:
    """The client of an OpenAI-protocol server with these replicas."""
    from reinstruct.served import Served

    return Served(urls)


def location(model: Model, store: Store) -> str:
    """Folder or hub id of a model's weights. StoreError if it has yet to be trained."""
    if model.step is None:
        return model.uri
    result = result_of(store, model.step.id)
    if result is None:
        raise StoreError(f"model {model.step.name} is needed, but not trained")
    return str(store.path(result.shards[0].model))


def existing_model(uri: str) -> Model:
    """A model that exists: a folder (fingerprinted by its files) or a hub id. RecipeError for a folder without one."""
    folder = Path(uri).expanduser()
    looks_local = uri.startswith((".", "/", "~")) or folder.exists()
    if not looks_local:
        return Model(uri=uri)
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise RecipeError(
            f"no model at {uri}: expected a folder with config.json, *.safetensors and a tokenizer; "
            "or give a hub id such as org/name, scratch:tiny or scratch:small"
        )
    return Model(uri=str(folder.absolute()), fingerprint=_fingerprint(folder))


def _fingerprint(folder: Path) -> str:
    from reinstruct.identity import digest

    files = sorted(path for path in folder.iterdir() if path.is_file())
    return digest([[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files])[:12]
