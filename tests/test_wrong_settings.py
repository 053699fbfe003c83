"""A wrong setting of a back-translation recipe is named while the run is planned, before anything is read or asked."""

from pathlib import Path

import pytest

from reinstruct.errors import RecipeError
from reinstruct.planning import Ask, plan_run
from tests.conftest import SEED

WRONG = [
    ("humpback", {"keep": "6"}, "keep is 6.0; accepted: a rating from 1 to 5"),
    ("humpback", {"keep": "0.5"}, "keep is 0.5; accepted: a rating from 1 to 5"),
    (
        "humpback",
        {"rules.min_chars": "3001"},
        "SegmentRules.min_chars is 3001; accepted: a number up to max_chars, which",
    ),
    ("humpback", {"headers.max_level": "0"}, "SplitAtHeaders.max_level is 0; accepted: a level of headers, 1 to 6"),
    ("humpback", {"repetition.ngram": "0"}, "DropRepetitive.ngram is 0; accepted: a whole number, 1 or more"),
    ("humpback", {"repetition.max_jaccard": "5"}, "DropRepetitive.max_jaccard is 5.0; accepted: a share from 0 to 1"),
    ("humpback", {"verdict.low": "9"}, "Rating: low is 9.0; accepted: a number below high (5)"),
    ("humpback", {"max_unreadable": "50"}, "max_unreadable is 50.0; accepted: a share from 0 to 1"),
    ("humpback", {"rules": "plian"}, "(did you mean 'plain'?)"),
    ("back_and_forth", {"keep": "9"}, "keep is 9.0; accepted: a rating from 1 to 5"),
    ("back_and_forth", {"variant": "rewritten"}, "variant is 'rewritten'; accepted: filter, rewrite, both, distil"),
    (
        "back_and_forth",
        {"cut.context_tokens": "1000"},
        "KeepWithinContext.reserved_tokens is 1024; accepted: fewer tokens",
    ),
    (
        "back_and_forth",
        {"cut.chars_per_token": "0"},
        "KeepWithinContext.chars_per_token is 0.0; accepted: a number above",
    ),
    ("tegit", {"min_chars": "5000"}, "min_chars is 5000; accepted: a number up to max_chars, which is 4000"),
    ("tegit", {"rules.min_input_grounded": "2"}, "rules.min_input_grounded is 2.0; accepted: a share from 0 to 1"),
    ("tegit", {"rules.max_output_chars": "5"}, "rules.min_output_chars is 10; accepted: a number up to"),
    ("kun", {"texts.max_words": "3"}, "TextRules.min_words is 20; accepted: a number up to max_words, which is 3"),
    ("kun", {"texts.min_cjk": "50"}, "TextRules.min_cjk is 50.0; accepted: a share from 0 to 1"),
    ("kun", {"answers.max_repeats": "0"}, "DropRepetition.max_repeats is 0; accepted: a whole number, 1 or more"),
    (
        "cycle_instruct",
        {"good_question.max_words": "1"},
        "KeepWords.min_words is 3; accepted: a number up to max_words",
    ),
    ("cycle_instruct", {"good_answer.min_script": "2"}, "Guard.min_script is 2.0; accepted: a share from 0 to 1"),
    ("cycle_instruct", {"sides.asking_share": "7"}, "Sides.asking_share is 7.0; accepted: a share from 0 to 1"),
    ("cycle_instruct", {"sides.min_answer_chars": "2000"}, "Sides.min_answer_chars is 2000; accepted: a number up to"),
    ("cycle_instruct", {"prune.share": "5"}, "PruneClusters: share is 5.0"),
]


@pytest.mark.parametrize(("recipe", "settings", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_setting_is_named_before_any_work(recipe: str, settings: dict[str, str], words: str, corpus_file: Path):
    inputs = {"corpus": str(corpus_file), "seed": str(SEED), "base": "scratch:tiny"}
    with pytest.raises(RecipeError) as refused:
        plan_run(Ask(recipe, inputs, settings))
    assert words in str(refused.value)
