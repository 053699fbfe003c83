"""A conversation tree gives its first question and the answer people liked best, or the reason why not."""

import json

import pytest

from reinstruct.corpus.open import open_source
from reinstruct.corpus.read import read_batches
from reinstruct.corpus.trees import first_turn, is_tree
from reinstruct.records import Drop, Pair
from reinstruct.stages.seed import KeepLanguage
from reinstruct.tables import Chunk


def reply(text: str, rank: int | None = None, **changed) -> dict:
    return {"text": text, "role": "assistant", "lang": "en", "rank": rank, "replies": [], **changed}


def tree(*replies: dict, **changed) -> dict:
    root = {"message_id": "m1", "text": "Why?", "role": "prompter", "lang": "en", "replies": list(replies), **changed}
    return {"message_tree_id": "t1", "tree_state": "ready_for_export", "prompt": root}


def test_the_reply_ranked_first_is_taken_wherever_it_stands():
    found = {"id": "m1", "instruction": "Why?", "output": "best", "source": "open-assistant/en"}
    assert first_turn(tree(reply("worse", 1), reply("best", 0))) == found
    assert first_turn(tree(reply("worse", 1), reply("best", 0))["prompt"]) == found
    assert first_turn(tree(reply("best"))) == found, "an only reply needs no rank"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (tree(), "no_best_reply"),
        (tree(reply("a", 1), reply("b", 2)), "no_best_reply"),
        (tree(reply("a"), reply("b")), "no_best_reply"),
        (tree(reply("a", 0, deleted=True)), "no_best_reply"),
        (tree(reply("a", 0, review_result=False)), "no_best_reply"),
        (tree(reply("a", 0, lang="de")), "reply_in_other_language"),
        (tree(reply("a", 0), deleted=True), "message_withdrawn"),
        (tree(reply("a", 0), role="assistant"), "not_a_question"),
    ],
)
def test_other_trees_are_turned_away(row, reason):
    assert is_tree(row)
    found = first_turn(row)
    assert isinstance(found, Drop)
    assert found.reason == reason


def test_rows_of_pairs_are_no_trees():
    assert not is_tree({"prompt": "Why?", "response": "Because."})
    assert not is_tree({"text": "A document."})


def test_trees_are_read_as_pairs_and_chosen_by_language(tmp_path):
    rows = [tree(reply("Because.", 0)), tree(reply("Darum.", 0, lang="de"), lang="de", message_id="m2"), tree()]
    path = tmp_path / "trees.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = open_source(str(path), Pair)
    read = [row for batch in read_batches(source, source.files[0], rows=10) for row in batch]
    pairs = [row for row in read if isinstance(row, Pair)]
    assert [(pair.id, pair.instruction, pair.output) for pair in pairs] == [
        ("m1", "Why?", "Because."),
        ("m2", "Why?", "Darum."),
    ]
    assert [row.reason for row in read if not isinstance(row, Pair)] == ["no_best_reply"]
    plain = Pair(id="x", instruction="i", output="o", source="a book")
    frame = Chunk(Pair, rows=[*pairs, plain]).frame
    reasons = [frame.select(KeepLanguage(language).reason()).to_series().to_list() for language in ("en", "de", "")]
    assert reasons == [[None, "other_language", None], ["other_language", None, None], [None, None, None]]


def test_published_trees_are_read(shared_data):
    source = open_source(str(shared_data / "seed" / "oasst_trees_100.jsonl.gz"), Pair)
    read = [row for batch in read_batches(source, source.files[0], rows=1000) for row in batch]
    assert sum(isinstance(row, Pair) for row in read) == 99
    assert [row.reason for row in read if not isinstance(row, Pair)] == ["no_best_reply"]
