"""Words and sentences of one text, in scripts with and without spaces."""

import random

import polars as pl
import pytest

from reinstruct.stages.checks import words
from reinstruct.stages.sentences import sentences, whole_sentences, word_ends, words_in


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It's a well-known rule.", ["It's", "a", "well-known", "rule"]),
        ("用Python写诗", ["用", "Python", "写", "诗"]),
        ("カレー 2 杯", ["カ", "レ", "ー", "2", "杯"]),
        ("_a_ ... b", ["a", "b"]),
        ("", []),
    ],
)
def test_a_word_is_a_cjk_character_or_a_run_of_other_letters(text: str, found: list[str]):
    assert words_in(text) == found
    assert pl.DataFrame({"text": [text]}).select(words(pl.col("text"))).item() == len(found), "as in columns"
    assert [text[:end].endswith(word) for end, word in zip(word_ends(text), found, strict=True)] == [True] * len(found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One. Two! Three?", ["One. ", "Two! ", "Three?"]),
        ('He said "go." She went', ['He said "go." ', "She went"]),
        ("Version 1.2 is out", ["Version 1.2 is out"]),
        ("春天来了。“走吧！”他说", ["春天来了。", "“走吧！”", "他说"]),
        ("هل هذا صحيح؟ نعم.", ["هل هذا صحيح؟ ", "نعم."]),
        (
            "Mr. Lee met J. Smith in St. Ives, e.g. twice. So did I. Then he left",
            ["Mr. Lee met J. Smith in St. Ives, e.g. twice. ", "So did I. ", "Then he left"],
        ),
        ("वह गया। मैं आया। फिर", ["वह गया। ", "मैं आया। ", "फिर"]),
        ("မြစ်၊ တောင်။မြို့", ["မြစ်၊ တောင်။", "မြို့"]),
        ("ཆུ་བོ། གྲོང་ཁྱེར།", ["ཆུ་བོ། ", "གྲོང་ཁྱེར།"]),
        ("ฝนตก แม่น้ำไหล 3 วัน", ["ฝนตก ", "แม่น้ำไหล 3 วัน"]),
        ("真的？！】他说：３．１４．", ["真的？！】", "他说：３．１４．"]),
        ("", []),
    ],
)
def test_sentences_keep_the_white_space_behind_them(text: str, found: list[str]):
    assert sentences(text) == found


def test_sentences_joined_again_are_the_text():
    chance = random.Random(2)
    for _ in range(500):
        text = "".join(chance.choices(["a", "水", "ก", ".", "。", "।", "?", "”", " ", "\n"], k=chance.randrange(12)))
        assert "".join(sentences(text)) == text
        assert text.startswith(whole_sentences(text)) or text[0].isspace()
