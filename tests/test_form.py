"""Replies of a given form, whoever gave them that form."""

from __future__ import annotations

import json

import pytest

from reinstruct.commit import result_of
from reinstruct.corpus.open import open_source
from reinstruct.errors import RecipeError
from reinstruct.form import WrongForm, formed
from reinstruct.llm import Reply, Sampling, Scripted
from reinstruct.plan import Model, read
from reinstruct.records import Document
from reinstruct.stages.instruct import Template, WriteInstruction
from reinstruct.store import LocalStore
from reinstruct.stream import _parsed
from tests.in_process import make_rows, rejected

SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}}, "required": ["score"]}
JSON = Sampling(json_schema=json.dumps(SCHEMA))
DIGITS = Sampling(regex=r"\d{3}")
VERDICT = Sampling(choice=("good", "bad"))

FITTING = [
    (JSON, '{"score": 4}', '{"score": 4}'),
    (JSON, ' \n{"score": 4}\n', '{"score": 4}'),
    (JSON, 'Here it is:\n```json\n{"score": 4}\n```\nAnything else?', '{"score": 4}'),
    (JSON, 'I would say {"score": 4}, because it is short.', '{"score": 4}'),
    (Sampling(json_schema='{"type": "array"}'), "so: [1, 2] of {3}", "[1, 2]"),
    (DIGITS, " 123\n", "123"),
    (VERDICT, "good", "good"),
    (VERDICT, ' "bad".\n', "bad"),
]


@pytest.mark.parametrize(("sampling", "text", "expected"), FITTING)
def test_what_is_put_around_a_form_is_taken_off(sampling, text, expected):
    assert formed(Reply(text, prompt_tokens=3), sampling) == Reply(expected, prompt_tokens=3)


FAULTY = [
    (JSON, '{"score": "four"}', r"score: 'four' is not of type 'integer'"),
    (JSON, "{}", r"the reply: 'score' is a required property"),
    (JSON, '{"score": 4', "no readable JSON"),
    (JSON, "four", "no JSON in the reply"),
    (JSON, "[" * 100_000, "no readable JSON"),
    (DIGITS, "1234", "does not match"),
    (VERDICT, "It is good", r"'It is good' is none of good, bad"),
    (VERDICT, "", "none of"),
]


@pytest.mark.parametrize(("sampling", "text", "words"), FAULTY)
def test_another_form_is_said_as_such(sampling, text, words):
    with pytest.raises(WrongForm, match=words):
        formed(Reply(text), sampling)


def test_of_several_replies_those_of_the_form_are_kept_and_tokens_stay_with_the_first():
    several = Reply("neither", prompt_tokens=5, completion_tokens=9, others=(Reply("bad"), Reply("?"), Reply("good")))
    assert formed(several, VERDICT) == Reply("bad", prompt_tokens=5, completion_tokens=9, others=(Reply("good"),))


WRONG = [
    ({"json_schema": "{score"}, "json_schema is '{score'"),
    ({"json_schema": '{"type": "obj"}'}, "json_schema .*'obj' is not valid"),
    ({"json_schema": "[]"}, "json_schema is .*accepted: a JSON schema"),
    ({"regex": "(a"}, r"regex is '\(a'; accepted: a regular expression"),
    ({"choice": ("a", "")}, "choice is .*not empty"),
    ({"regex": "a", "choice": ("a",)}, "regex and choice is 'given together'; accepted: one form"),
    ({"n": 2}, "n is 2; accepted: 1 where temperature is 0"),
    ({"top_k": -1}, "top_k is -1"),
    ({"min_p": 2.0}, "min_p is 2.0; accepted: 0 to 1"),
    ({"presence_penalty": 3.0}, "presence_penalty is 3.0; accepted: -2 to 2"),
    ({"logprobs": 99}, "logprobs is 99; accepted: 0 to 20"),
]


@pytest.mark.parametrize(("settings", "words"), WRONG)
def test_wrong_sampling_is_refused_before_anything_runs(settings, words):
    with pytest.raises(RecipeError, match=words):
        Sampling(**settings)


def test_a_step_rejects_replies_of_another_form_and_parses_the_others(tmp_path, corpus_file):
    def answer(prompt: str) -> str:
        return "No idea." if "river 3." in prompt else f"I say: {prompt[14:16].strip()}."

    documents = read(open_source(str(corpus_file), Document), limit=6, name="corpus")
    sampling = Sampling(regex="I say: [0-9]+.", max_tokens=9)
    asked = documents.map(WriteInstruction(Model(uri="m"), Template("{response}"), sampling=sampling))
    store = LocalStore(tmp_path / "store")
    make_rows(store, asked.step, lambda model: Scripted(answer), shards=1)
    done = result_of(store, asked.step.id)
    assert (done.counts[0].kept, done.counts[0].rejected) == (5, {"wrong_form": 1})
    (row,) = rejected(store, asked.step)
    assert (row.id, row.detail) == ("d3", "does not match 'I say: [0-9]+.'")


def test_a_reply_that_was_cut_off_is_rejected_for_that():
    stage = WriteInstruction(Model(uri="m"), Template("{response}"), sampling=JSON)
    drop = _parsed(stage, Document(id="d", text="t"), Reply('{"score": 4', "length"))
    assert (drop.reason, drop.unreadable) == ("cut_off", False)
