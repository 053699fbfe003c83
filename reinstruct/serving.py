"""Who answers for a model: a server that was named for it, or the engine in this process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from reinstruct.bundled import BUNDLED, bundled_fingerprint, planned_folder
from reinstruct.commit import result_of
from reinstruct.engines import OFFLINE, Engine
from reinstruct.errors import RecipeError, StoreError
from reinstruct.llm import LLM
from reinstruct.plan import Model
from reinstruct.prefixes import ByPrefix
from reinstruct.store import Store

if TYPE_CHECKING:
    from reinstruct.served import Served

Servers = Mapping[str, tuple[str, ...]]  # a training step's name or a model's URI -> URLs; "" for every model


def urls_of(model: Model, servers: Servers) -> tuple[str, ...]:
    """The servers named for a model: by its step's name, by its URI, or for all; none means this process."""
    return servers.get(name_of(model)) or servers.get("") or ()


def name_of(model: Model) -> str:
    """What users call a model: its step's name, or its URI."""
    return model.step.name if model.step else model.uri


def served_name(model: Model) -> str:
    """What a server calls a model: a word that tells two versions apart, so that the wrong one is never asked."""
    if model.step:
        return model.step.id
    return "-".join(filter(None, (Path(model.uri).name.replace(":", "-"), model.fingerprint)))


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


def open_llm(model: Model, store: Store, servers: Servers, engine: Engine = Engine()) -> LLM:
    """Something that answers as `model`. Nothing is loaded before the first request."""
    urls = urls_of(model, servers)
    if urls:
        return ByPrefix(open_served(urls))
    if engine.name == OFFLINE:
        from reinstruct.vllm_offline import Offline

        return ByPrefix(Offline(location(model, store), engine.flags))
    from reinstruct.engine import InProcess

    return InProcess(location(model, store))


def open_served(urls: tuple[str, ...]) -> Served:
    """The client of an OpenAI-protocol server with these replicas. Its settings may stand behind a URL, after #."""
    from reinstruct.served import Served

    return Served(urls)


def location(model: Model, store: Store) -> str:
    """Folder or hub id of a model's weights. StoreError if it has yet to be trained."""
    if model.uri.startswith(BUNDLED):
        return str(planned_folder(model.uri, model.fingerprint))
    if model.step is None:
        return str(_fetched(model, store)) if "://" in model.uri else model.uri
    result = result_of(store, model.step.id)
    if result is None:
        raise StoreError(f"model {model.step.name} is needed, but not trained")
    return str(store.path(result.shards[0].model))


def existing_model(uri: str) -> Model:
    """A model that exists: a bundled one, a folder or bucket (fingerprinted by its files), or a hub id.

    RecipeError for a folder or bucket without one, and for a bundled one that there is not.
    """
    if uri.startswith(BUNDLED):
        return Model(uri=uri, fingerprint=bundled_fingerprint(uri))
    if "://" in uri:
        return Model(uri=uri, fingerprint=_remote_fingerprint(uri))
    folder = Path(uri).expanduser()
    looks_local = uri.startswith((".", "/", "~")) or folder.exists()
    if not looks_local:
        return Model(uri=uri)
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise _no_model(uri)
    return Model(uri=str(folder.absolute()), fingerprint=_fingerprint(folder))


def _fingerprint(folder: Path) -> str:
    from reinstruct.identity import digest

    files = sorted(path for path in folder.iterdir() if path.is_file())
    return digest([[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files])[:12]


def _no_model(uri: str) -> RecipeError:
    return RecipeError(
        f"no model at {uri}: expected a folder or bucket with config.json, *.safetensors and a tokenizer; "
        "or give a hub id such as org/name, bundled:mini, scratch:tiny, scratch:mini or scratch:small"
    )


def _remote_fingerprint(uri: str) -> str:
    """Names and sizes of a bucket's files, with what the bucket says of their versions."""
    from reinstruct.identity import digest

    system, path = _remote(uri)
    files: dict[str, dict[str, Any]] = system.find(path, detail=True)
    names = [name.rpartition("/")[2] for name in files]
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise _no_model(uri)
    told = ("size", "generation", "etag", "ETag", "mtime", "last_modified")
    return digest([[name, *(str(info.get(key, "")) for key in told)] for name, info in sorted(files.items())])[:12]


def _remote(uri: str) -> tuple[Any, str]:
    """The file system of a URI and the path in it. RecipeError where fsspec cannot open it."""
    import fsspec

    try:
        return cast(Any, fsspec.core.url_to_fs(uri))
    except (ImportError, ValueError, OSError) as error:
        raise RecipeError(f"cannot open the model {uri}: {error}") from error


def _fetched(model: Model, store: Store) -> Path:
    """A local copy of a bucket's model, made once: beside its place, and moved there whole."""
    from reinstruct.identity import digest

    place = store.path(f"fetched/{digest(model.id)[:12]}")
    if not place.exists():
        system, path = _remote(model.uri)
        new = place.with_name(f".{place.name}.{os.getpid()}")
        new.mkdir(parents=True)
        system.get(path.rstrip("/") + "/", f"{new}/", recursive=True)
        with suppress(OSError):  # another process was first
            new.rename(place)
        shutil.rmtree(new, ignore_errors=True)
    return place
