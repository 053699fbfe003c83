"""Turn settings into plain JSON: for hashing, for plan.json and for people; and plan.json back into settings.

The one rule: a dataclass's fields are its settings, all of them and nothing else.
A field marked `metadata={"where": True}` says where something lies, not what it is, and stays out of identities.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from importlib import import_module
from typing import Any, cast

from reinstruct.errors import RecipeError


def describe(value: Any, *, identity: bool = False) -> Any:
    """Plain JSON of a stage or action. With `identity`, without fields that say where, and with stage versions."""
    from reinstruct.plan import Model

    if isinstance(value, Model):
        return {"model": value.id} if identity or value.step else {"model": value.id, "uri": value.uri}
    if isinstance(value, type):
        return {"class": _path(cast(type[Any], value))}
    if dataclasses.is_dataclass(value):
        return _describe_dataclass(value, identity)
    if isinstance(value, (tuple, list)):
        return [describe(item, identity=identity) for item in cast(tuple[Any, ...], value)]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise RecipeError(f"a setting may be text, a number, a tuple, a Model or a dataclass, not {type(value).__name__}")


def digest(value: Any) -> str:
    """Hex SHA-256 of plain JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def restore(value: Any, models: dict[str, Any]) -> Any:
    """The inverse of `describe`; `models` maps a training step's id to its Model."""
    if isinstance(value, list):
        return tuple(restore(item, models) for item in cast(list[Any], value))
    if not isinstance(value, dict):
        return value
    fields = cast(dict[str, Any], value)
    if "class" in fields:
        return _load(fields["class"])
    if "type" not in fields:
        return models[fields["model"]] if fields["model"] in models else _existing_model(fields)
    cls = _load(fields["type"])
    settings = {f.name: restore(fields[f.name], models) for f in dataclasses.fields(cls) if f.name in fields}
    return cls(**settings)


def _describe_dataclass(value: Any, identity: bool) -> dict[str, Any]:
    kept = [f for f in dataclasses.fields(value) if not (identity and f.metadata.get("where"))]
    described = {f.name: describe(getattr(value, f.name), identity=identity) for f in kept}
    version = getattr(type(value), "version", None)
    stamp = {"version": version} if identity and isinstance(version, int) else {}
    return {"type": _path(type(value)), **stamp, **described}


def _existing_model(fields: dict[str, Any]) -> Any:
    from reinstruct.plan import Model

    uri = fields["uri"]
    return Model(uri=uri, fingerprint=fields["model"][len(uri) + 1 :])


def _path(cls: type[Any]) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise RecipeError(f"the plan names {path}, which this installation does not have") from error
    if not isinstance(found, type):
        raise RecipeError(f"the plan names {path}, which is not a class")
    return cast(Any, found)
