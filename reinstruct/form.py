"""Replies of a given form: JSON of a schema, text matching a regular expression, or one of several words.

The one rule: whoever guided the model, and whether it was guided at all, the reply is checked here before a stage sees
it. So a server that knows nothing of forms costs rejected rows, never wrong ones.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from reinstruct.errors import RecipeError, expect

if TYPE_CHECKING:
    from reinstruct.llm import Reply, Sampling

FENCE = re.compile(r"```[\w-]*\s*\n(.*?)```", re.DOTALL)
WORDS = 200  # characters of a fault that are told
AROUND_A_CHOICE = " \t\r\n\"'`*."  # what models put around a word they were told to say


class WrongForm(Exception):
    """The text does not have the form asked for; says in which way."""


def expect_form(json_schema: str, regex: str, choice: tuple[str, ...]) -> None:
    """RecipeError unless at most one form is given, and that one can be checked."""
    given = [name for name, value in [("json_schema", json_schema), ("regex", regex), ("choice", choice)] if value]
    expect(len(given) <= 1, " and ".join(given), "given together", "one form of reply at most")
    if json_schema:
        _validator(json_schema)
    if regex:
        _pattern(regex)
    expect(all(choice), "choice", choice, "words that are not empty")


def formed(reply: Reply, sampling: Sampling) -> Reply:
    """The reply in the form asked for, without what models put around it; WrongForm if neither it nor any of its
    `others` has that form.

    JSON may stand alone, in a fenced block or after some words; a choice may be in quotes. Of several replies, those
    of another form are left out.
    """
    good: list[Reply] = []
    faults: list[WrongForm] = []
    for one in (reply, *reply.others):
        try:
            good.append(replace(one, text=_formed_text(one.text, sampling), others=()))
        except WrongForm as error:
            faults.append(error)
    if not good:
        raise faults[0]
    usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
    return replace(good[0], others=tuple(good[1:]), **usage)


def _formed_text(text: str, sampling: Sampling) -> str:
    if sampling.json_schema:
        return _formed_json(text, sampling.json_schema)
    if sampling.regex:
        return _formed_regex(text, _pattern(sampling.regex))
    return _formed_choice(text, sampling.choice)


def _formed_json(text: str, schema: str) -> str:
    from jsonschema.exceptions import best_match

    found, value = _find_json(text)
    error = best_match(_validator(schema).iter_errors(value))
    if error is not None:
        place = error.json_path.removeprefix("$").removeprefix(".")
        raise WrongForm(f"{place or 'the reply'}: {error.message}"[:WORDS])
    return found


def _find_json(text: str) -> tuple[str, Any]:
    """The first JSON value that ends where its surroundings end, as text and decoded."""
    for candidate in (text.strip(), *(block.strip() for block in FENCE.findall(text))):
        try:
            return candidate, json.loads(candidate)
        except (ValueError, RecursionError):
            continue
    starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    if not starts:
        raise WrongForm("no JSON in the reply")
    try:
        value, end = json.JSONDecoder().raw_decode(text, min(starts))
    except (ValueError, RecursionError) as error:
        raise WrongForm(f"no readable JSON in the reply: {error}"[:WORDS]) from error
    return text[min(starts) : end], value


def _formed_regex(text: str, pattern: re.Pattern[str]) -> str:
    for candidate in (text, text.strip()):
        if pattern.fullmatch(candidate):
            return candidate
    raise WrongForm(f"does not match {pattern.pattern!r}"[:WORDS])


def _formed_choice(text: str, choice: tuple[str, ...]) -> str:
    for candidate in (text, text.strip(), text.strip(AROUND_A_CHOICE)):
        if candidate in choice:
            return candidate
    raise WrongForm(f"{text[:40]!r} is none of {', '.join(choice)}"[:WORDS])


@cache
def _pattern(regex: str) -> re.Pattern[str]:
    try:
        return re.compile(regex)
    except re.error as error:
        raise RecipeError(f"regex is {regex!r}; accepted: a regular expression ({error})") from error


@cache
def _validator(schema: str) -> Any:
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for

    accepted = 'accepted: a JSON schema as text, such as {"type": "object"}'
    try:
        described: Any = json.loads(schema)
    except ValueError as error:
        raise RecipeError(f"json_schema is {schema[:WORDS]!r}; {accepted} ({error})") from error
    if not isinstance(described, dict):
        raise RecipeError(f"json_schema is {schema[:WORDS]!r}; {accepted}")
    kind: Any = validator_for(described, default=Draft202012Validator)
    try:
        kind.check_schema(described)
    except SchemaError as error:
        raise RecipeError(f"json_schema is {schema[:WORDS]!r}; {accepted} ({error.message})") from error
    return kind(described)
