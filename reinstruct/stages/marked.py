"""Replies made of marked fields, as #output#: ..., written and read. TeGit's release asks for its tasks in this form.

The one rule: reading gives the fields or a Drop that says what is wrong; it never raises and never guesses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from reinstruct.records import Drop

BLANKS = {"", "none", "null", "n/a", "na", "no input", "noinput", "empty", "not applicable", "-", "无", "没有", "空"}
QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "「": "」"}
_SPACE = "[ \t\u00a0\u202f]*"
_FENCED = re.compile(r"```\w*\n(.*)\n```", re.DOTALL)
_COLON = "[:：﹕︓︰]"


@dataclass(frozen=True)
class Fields:
    """Field -> text, blank ones left out, in the order they stood. `more`: another set was begun after this one."""

    values: Mapping[str, str]
    more: bool = False


def write_fields(values: Mapping[str, str]) -> str:
    """One mark and its text after the other; blank fields too."""
    return "\n".join(f"#{name}#: {value}".rstrip() for name, value in values.items())


def read_fields(text: str, names: Mapping[str, str], required: tuple[str, ...]) -> Fields | Drop:
    """The first set of fields in a reply. `names` maps each name a mark may have to its field, in the order asked for.

    Where no mark as #input#: is found, headings at the start of a line count, but only in the order asked for,
    because "Input:" may as well be part of a field. A blank field is as an absent one, so echoed marks do no harm.
    Once all `required` fields are there, the mark the set began with begins another. Two different texts for one
    field are a Drop. A code fence around the whole reply is no part of it.
    """
    fenced = _FENCED.fullmatch(text.strip())
    text = fenced[1] if fenced else text
    marks = list(_marked(tuple(names)).finditer(text))
    headed = not marks
    marks = marks or list(_headed(tuple(names)).finditer(text))
    if not marks:
        return Drop("no_fields", text[:200], unreadable=True)
    found: dict[str, str] = {}
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    for mark, end in zip(marks, ends, strict=True):
        name, value = names[mark[mark.lastindex or 1].lower()], _bare(text[mark.end() : end])
        if found.keys() >= set(required) and name == next(iter(found)):
            return _checked(Fields(found, more=True), names, headed)
        if value and found.setdefault(name, value) != value:
            return Drop("repeated_field", name)
    if missing := [name for name in required if name not in found]:
        return Drop(f"no_{missing[0]}", text[:200])
    return _checked(Fields(found), names, headed)


def mark_pattern(names: tuple[str, ...]) -> str:
    """A mark, bold or not, for Python's and for Polars' regular expressions; ask for both cases."""
    name = f"({'|'.join(map(re.escape, names))})"
    bold = rf"\*\*#[ \t]*{name}[ \t]*#(?:\*\*{_SPACE}{_COLON}?|{_SPACE}{_COLON}\*\*)"
    return rf"{bold}|#[ \t]*{name}[ \t]*#{_SPACE}{_COLON}?"


def is_blank(value: str) -> bool:
    """Whether a field says that there is nothing in it."""
    return value.strip("()<>[]{}*_. \t\n").lower() in BLANKS


def _checked(fields: Fields, names: Mapping[str, str], headed: bool) -> Fields | Drop:
    wanted = [name for name in dict.fromkeys(names.values()) if name in fields.values]
    if headed and list(fields.values) != wanted:
        return Drop("wrong_order", ", ".join(fields.values))
    return fields


def _bare(value: str) -> str:
    """Without white space around it, nor one pair of quotes around all of it."""
    value = value.strip()
    quoted = len(value) > 1 and QUOTES.get(value[0]) == value[-1] and not {value[0], value[-1]} & set(value[1:-1])
    return value[1:-1].strip() if quoted else value


@cache
def _marked(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(mark_pattern(names), re.IGNORECASE)


@cache
def _headed(names: tuple[str, ...]) -> re.Pattern[str]:
    """Output:  **Output**:  [Output]：  1. Output:  ### Output"""
    name = "|".join(map(re.escape, names))
    opening, closing = r"[#>*_\[【(<\-\d.) \t]*", r"[*_\]】)> \t\u00a0\u202f]*"
    heading = rf"^{opening}({name}){closing}{_COLON}[*_]*|^[ \t]*\#{{1,6}}[ \t]*({name})[ \t]*$"
    return re.compile(heading, re.IGNORECASE | re.MULTILINE)
