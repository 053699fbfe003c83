"""Settings as people write them: typed, checked, and every mistake told with what is accepted."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import pytest

from reinstruct.errors import RecipeError
from reinstruct.llm import Sampling
from reinstruct.settings import presets_of, settings_from
from reinstruct.stages.text import KeepProse, SelectAdvice
from reinstruct.train.settings import Pretrain, Sft


@dataclass(frozen=True)
class Inner:
    depth: int = 1
    names: tuple[str, ...] = ("a",)


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    share: float = 0.5

    @classmethod
    def wide(cls) -> "Outer":
        return cls(share=0.9)


WANTED: dict[str, tuple[Any, Any]] = {
    "rules": (SelectAdvice, SelectAdvice()),
    "outer": (Outer, Outer()),
    "writing": (Sampling, Sampling()),
    "sft": (Sft, Sft()),
    "upsample": (int, 2),
    "share": (float, 0.1),
    "compat": (bool, False),
    "limit": (int | None, None),
    "leaks": (tuple[str, ...], ("web",)),
    "rates": (tuple[float, ...], (1.0,)),
    "random_seed": (int, 0),
    "kind": (Literal["loud", "quiet"], "loud"),
    "teacher_rules": (KeepProse | None, None),
}


def convert(given: dict[str, Any]) -> dict[str, Any]:
    return settings_from(given, WANTED)


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"upsample": "3"}, 3),
        ({"upsample": 3}, 3),
        ({"share": "0.25"}, 0.25),
        ({"share": 1}, 1.0),
        ({"limit": "7"}, 7),
        ({"leaks": "a, b,,c"}, ("a", "b", "c")),
        ({"leaks": ["a", "b"]}, ("a", "b")),
        ({"leaks": ""}, ()),
        ({"rates": "1, 0.5"}, (1.0, 0.5)),
        ({"random-seed": "5"}, 5),
        ({"kind": "quiet"}, "quiet"),
        *(({"compat": text}, True) for text in (True, "true", "yes", "on", "1", "YES")),
        *(({"compat": text}, False) for text in (False, "false", "no", "off", "0")),
    ],
)
def test_values_become_the_settings_type(given: dict[str, Any], value: Any):
    (made,) = convert(given).values()
    assert made == value
    assert type(made) is type(value)


@pytest.mark.parametrize(
    "given",
    [
        {"outer.inner.depth": "4", "outer.share": "0.7"},
        {"outer": {"inner": {"depth": 4}, "share": 0.7}},
        {"outer": {"inner.depth": 4}, "outer.share": "0.7"},
        {"outer": {"inner": {"depth": 1}, "share": 0.7}, "outer.inner.depth": 4},
    ],
)
def test_fields_are_given_with_dots_or_as_tables_and_the_later_wins(given: dict[str, Any]):
    assert convert(given)["outer"] == Outer(Inner(depth=4), share=0.7)


def test_fields_of_an_absent_default_start_from_the_classs_own():
    assert convert({"outer.maybe.depth": "3"})["outer"].maybe == Inner(depth=3)
    assert convert({"teacher-rules.min-words": "3"})["teacher_rules"] == KeepProse(min_words=3)
    assert convert({"rules.prose.min_words": "3"})["rules"].prose == KeepProse(min_words=3)


@pytest.mark.parametrize(
    "given",
    [
        {"rules": "loose", "rules.min_chars": "3"},
        {"rules.min_chars": "3", "rules": "loose"},
        {"rules": {"preset": "loose", "min_chars": 3}},
    ],
)
def test_a_preset_is_the_ground_that_fields_change(given: dict[str, Any]):
    loose = SelectAdvice.loose()
    made = convert(given)["rules"]
    assert made.min_chars == 3
    assert {f.name for f in fields(loose) if getattr(made, f.name) != getattr(loose, f.name)} == {"min_chars"}


def test_presets_are_class_methods():
    assert list(presets_of(SelectAdvice)) == ["loose", "chinese"]
    assert convert({"outer": "wide"})["outer"] == Outer(share=0.9)
    assert presets_of(Pretrain) == {}


def test_a_verb_list_is_given_by_its_path(tmp_path: Path):
    path = tmp_path / "verbs.json"
    path.write_text(json.dumps([["stir", "stirs", "stirred", "stirred", "stirring"]]))
    made = convert({"rules.verbs": str(path)})["rules"].verbs
    assert set(made.bases()) == {"stir"}
    assert convert({"rules": {"verbs": str(path)}})["rules"].verbs == made
    with pytest.raises(RecipeError, match=r"verb list .*absent\.json cannot be read"):
        convert({"rules.verbs": str(tmp_path / "absent.json")})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"upsampel": 3}, "unknown setting 'upsampel' (did you mean 'upsample'?); accepted: rules, outer, writing"),
        ({"zzz": 3}, "unknown setting 'zzz'; accepted: rules"),
        ({"sft.epoch": 3}, "unknown field of sft 'epoch' (did you mean 'epochs'?); accepted: epochs, learning_rate"),
        ({"outer.inner.dept": 3}, "unknown field of outer.inner 'dept' (did you mean 'depth'?); accepted: depth"),
        ({"rules.version": 3}, "unknown field of rules 'version'"),
        ({"rules": "loos"}, "setting rules is 'loos' (did you mean 'loose'?); accepted: loose, chinese"),
        ({"rules": 3}, "setting rules is 3; accepted: loose, chinese"),
        ({"sft": "fast"}, "setting sft is 'fast'; accepted: reinstruct, humpback"),
        ({"upsample": "two"}, "setting upsample is 'two'; accepted: a whole number"),
        ({"upsample": 2.5}, "setting upsample is 2.5; accepted: a whole number"),
        ({"upsample": {"a": 1}}, "setting upsample is {'a': 1}; accepted: a whole number"),
        ({"upsample.a": 1}, "setting upsample is {'a': 1}; accepted: a whole number"),
        ({"upsample": "-3"}, "setting upsample is '-3'; accepted: a whole number, 0 or more"),
        ({"share": "nan"}, "setting share is 'nan'; accepted: a number, 0 or more"),
        ({"share": "inf"}, "setting share is 'inf'; accepted: a number, 0 or more"),
        ({"writing.temperature": -0.1}, "setting writing.temperature is -0.1; accepted: a number, 0 or more"),
        ({"compat": "maybe"}, "setting compat is 'maybe'; accepted: true or false"),
        ({"limit": "x"}, "setting limit is 'x'; accepted: a whole number"),
        ({"leaks": [1]}, "setting leaks is [1]; accepted: "),
        ({"kind": "silent"}, "setting kind is 'silent'; accepted: loud, quiet"),
    ],
)
def test_mistakes_are_told_with_what_is_accepted(given: dict[str, Any], words: str):
    with pytest.raises(RecipeError) as told:
        convert(given)
    assert str(told.value).startswith(words)
