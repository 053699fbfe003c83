"""From what a user wrote (flags, a run file) to typed settings. The rule: a wrong value is named before any work."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

import msgspec

from reinstruct.errors import RecipeError
from reinstruct.records import without_none
from reinstruct.suggest import suggestion


def settings_from(given: Mapping[str, Any], wanted: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Typed values of the settings given. `wanted` maps a setting to its type and default.

    A setting that is itself a dataclass is given field by field (`sft.epochs`, or a nested table), on top of its
    default or of a preset named by the setting itself (`rules = "loose"`). A number is never negative.
    """
    grouped = _grouped(given)
    _expect_known("setting", grouped, wanted)
    return {name: _converted(name, value, *wanted[name]) for name, value in grouped.items()}


def _grouped(given: Mapping[str, Any]) -> dict[str, Any]:
    """`a.b` keys and nested tables both become {"a": {"b": ...}}; a preset's name stands under ""."""
    grouped: dict[str, Any] = {}
    for key, value in given.items():
        head, _, rest = key.replace("-", "_").partition(".")
        if rest or isinstance(value, Mapping):
            before = grouped.get(head, {})
            fields = before if isinstance(before, dict) else {"": before}
            inner = {rest: value} if rest else {str(k).replace("-", "_"): v for k, v in value.items()}
            grouped[head] = {**fields, **inner}
        elif isinstance(grouped.get(head), dict):
            grouped[head] = {"": value, **grouped[head]}
        else:
            grouped[head] = value
    return grouped


def _converted(name: str, value: Any, kind: Any, default: Any) -> Any:
    kind = without_none(kind)
    if dataclasses.is_dataclass(kind):
        if isinstance(value, str) and hasattr(kind, "read"):
            return cast(Any, kind).read(value)
        fields = _grouped(cast(dict[str, Any], value)) if isinstance(value, dict) else {"": value}
        base = _preset(name, fields.pop("", fields.pop("preset", None)), cast(type[Any], kind), default)
        types = get_type_hints(cast(type[Any], kind))
        hints = {part.name: types[part.name] for part in dataclasses.fields(kind)}
        _expect_known(f"field of {name}", fields, hints)
        changed = {f: _converted(f"{name}.{f}", v, hints[f], getattr(base, f)) for f, v in fields.items()}
        return dataclasses.replace(base, **changed)
    if kind is bool and isinstance(value, str) and value.lower() in ("yes", "no", "on", "off"):
        value = value.lower() in ("yes", "on")
    if isinstance(value, str) and str(kind).startswith("tuple"):
        value = [piece.strip() for piece in value.split(",") if piece.strip()]
    wrong = RecipeError(f"setting {name} is {value!r}; accepted: {_kind_name(kind)}")
    try:
        converted = msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise wrong from error
    if isinstance(converted, (int, float)) and not 0 <= converted < math.inf:
        raise wrong
    return converted


def _preset(name: str, preset: Any, kind: type[Any], default: Any) -> Any:
    if preset is None:
        return kind() if default is None else default
    presets = presets_of(kind)
    if not isinstance(preset, str) or preset not in presets:
        near = suggestion(str(preset), presets)
        accepted = ", ".join(presets) or ", ".join(f"{name}.{part.name}" for part in dataclasses.fields(kind))
        raise RecipeError(f"setting {name} is {preset!r}{near}; accepted: {accepted}")
    return presets[preset]()


def presets_of(kind: type[Any]) -> dict[str, Any]:
    """Named settings of a dataclass: its class methods. (A class with `read` is instead made from one word by it.)"""
    return {name: getattr(kind, name) for name, member in vars(kind).items() if isinstance(member, classmethod)}


def _expect_known(what: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in given:
        if name not in known:
            raise RecipeError(f"unknown {what} {name!r}{suggestion(name, known)}; accepted: {', '.join(known)}")


def _kind_name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    names = {int: "a whole number, 0 or more", float: "a number, 0 or more", bool: "true or false", str: "text"}
    return names.get(kind, str(kind))
