"""The compiled loop cuts English into words, and counts runs of them, as the rules in Polars do."""

# ruff: noqa: SIM905

import gzip
import json
import os
import random
from itertools import product
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from reinstruct.stages import quality_compiled, quality_words
from reinstruct.stages.compiled import packaged
from reinstruct.stages.quality import C4Quality, FineWebQuality, GopherQuality, GopherRepetition
from reinstruct.stages.quality_english import CUT, entries
from reinstruct.stages.quality_page import Page
from reinstruct.stages.quality_repeats import commonest_runs, repeated_runs

pytestmark = pytest.mark.skipif(
    quality_compiled.cut_words is None, reason="the package was installed without a C compiler"
)

DATA = Path(os.environ.get("REINSTRUCT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "corpus"
WHITE = [  # no piece has any
    *" \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000",
    *map(chr, range(0x2000, 0x200B)),
]
ASCII = [chr(code) for code in range(128) if chr(code) not in WHITE]
MARKS = [mark for mark in ASCII if not mark.isalnum()]
WORDS = (
    "a|B|the|Mill|MILL|US|C|A|0|7|42|3.14|1,000|é|É|ß|ǅ|ª|中|中文|ไทย|א|か|ㄱ|\U0002b820|\u0301|°C|²|s|S|km|p.m|can|not"
).split("|")
OTHERS = (
    "… …… .. ... -- --- ---- —— ——— – — == === ==== ** *** ## _# 's ’S '’s “ ” « § ° °° © ™ 👍 👍🏽 ⺀ ㈀ ㋐ £ € ₿ "
    "US$ C$ A$ NZ$ + +1 。 ، · × \x00 \x7f \xad \ufeff \ufffd \U0010ffff \U000e0001"
).split(" ")
LONG = "a." + "b" * 64
ADDRESSES = (
    "https://example.org/a-b?c=d.e example.org a@b.co x://a.bc http://@a.bc a.b.co:80/x a.bc:8 a.bc# 1.2.3.4 1.2.3.255 "
    "223.255.249.254 10.0.0.1/a-b 192.168.1.1 0.1.2.3 1.2.3.4/a-b 1.2.3.4:8080 ٣.1.2.3 end.The end.the e.g.the a..bc "
    "-a.bc a-.bc a_b.cd é.中文 a.中 a.𠀀𠀀 ftp.x.y a.b.c.d.e 10.a.bc x@10.0.0.1 a://10.1.b.cd a.b a.bcd. "
    f"www.a-b.com,c-d www.a--b.com {LONG}"
).split(" ")
SAID = [*WORDS, *OTHERS, *MARKS, *ADDRESSES, *quality_words.units(), *entries()]
PIECES = some.lists(some.sampled_from(SAID) | some.characters(codec="utf-8"), max_size=9).map("".join)


def expect_same(found: list[str]) -> None:
    pieces = pl.Series(found, dtype=pl.String).unique()
    pieces = pieces.filter(~pieces.str.contains(f"[ {quality_words.WHITE}]"))
    rows = pl.DataFrame({"loop": quality_compiled.cut(pieces), "columns": quality_words.cut(pieces)})
    assert rows.filter(pl.col("loop") != pl.col("columns")).rows() == []
    assert rows["loop"].str.replace_all(CUT, "", literal=True).equals(pieces)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(some.lists(PIECES, min_size=20, max_size=200))
@example([""])
def test_the_loop_cuts_as_the_columns_do(found):
    expect_same(found)


def test_marks_around_and_between_words():
    draw = random.Random(1)
    some_of = [draw.choices(said, k=draw.randrange(1, 8)) for said in (SAID, [*WORDS, *OTHERS, *MARKS], MARKS) * 4000]
    expect_same(["", *map("".join, some_of)])


def test_two_characters_of_ascii_before_behind_and_within():
    expect_same([f"{one}{two}" for one, two in product(ASCII, ASCII)])
    expect_same(
        [form.format(one, two) for one, two in product(MARKS, MARKS) for form in ("{}{}a", "B{}{}", "a{}{}b", "7{}{}B")]
    )


def test_entries_among_marks():
    around = ["", *"().,'\"*_#-:", "...", "US$", "a", "A", "7", "’s", "(("]
    expect_same([form for entry in entries() for mark in around for form in (f"{mark}{entry}", f"{entry}{mark}")])
    draw = random.Random(3)
    expect_same(["".join(draw.choices(draw.choice([around, list(entries())]), k=3)) for _ in range(5000)])


def test_units_behind_digits():
    around = [("", ""), ("7", ""), ("77", "."), ("a7", ","), ("7a", ""), ("٣", ""), ("(7", ")"), ("7.", "s")]
    expect_same([f"{before}{unit}{behind}" for unit in quality_words.units() for before, behind in around])


def test_addresses_among_marks():
    around = ["", *"().,'\"<>-:/@é", "...", "a.", "a,b.", "x@", "a://"]
    expect_same([f"{one}{address}{two}" for address in ADDRESSES for one in around for two in around])


def test_long_rows_of_marks():
    """More than the rounds there are among them."""
    marks = [*"('\"*#_=-.+°,…%", "a-", "é.", "US$", "'s", "👍", "\U0010ffff"]
    counts = [*range(1, 9), 63, 64, 65, 66, 129, 500]
    sides = [(left, right) for left in (0, 1, 66) for right in counts] + [(count, 0) for count in counts]
    words = ("", "a", "don't", "a-b", "9")
    expect_same([mark * left + word + mark * right for mark in marks for left, right in sides for word in words])


def test_a_row_of_marks_takes_time_in_proportion():
    expect_same([f"a{mark * 300_000}b" for mark in "-—.:…,/*"])  # a million steps; squared, it would be minutes


FORMS = (
    "{0}",
    "{0}a",
    "a{0}",
    "{0}.",
    "a{0}.",
    "a{0}b",
    "7{0}8",
    "{0}.{0}",
    "x-{0}",
    "{0}-x",
    "{0}:{0}",
    "{0}{0}",
    "A{0}.",
)


def test_a_character_of_each_kind():
    """The characters that are in the same classes are cut alike, so that some of them will do."""
    classes = pl.DataFrame({"class": memoryview(packaged(quality_compiled.MARKS)).cast("H").tolist()})
    kinds = classes.with_row_index("code").group_by("class").agg(pl.col("code").head(6), last=pl.col("code").tail(2))
    codes = kinds.select(pl.concat_list("code", "last").explode()).to_series().unique()
    characters = [chr(code) for code in codes if not 0xD800 <= code < 0xE000]
    assert len(kinds) > 20
    expect_same([form.format(character) for character in characters for form in FORMS])


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_every_character(form):
    expect_same([form.format(chr(code)) for code in range(0x20100) if not 0xD800 <= code < 0xE000])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["en", "zh", "multilingual"])
def test_the_pieces_of_whole_corpora(name):
    if not (DATA / f"{name}.jsonl.gz").is_file():
        pytest.skip(f"no {DATA / name}.jsonl.gz: set REINSTRUCT_TEST_DATA to the folder of the test data")
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = pl.Series([json.loads(line)["text"] for line in lines])
    expect_same(quality_words.pieces(texts).explode().to_list())


def test_pieces_stand_between_white_space():
    draw = random.Random(2)
    characters = [*WHITE, *WHITE, *"abcéא中👍", "\u200b", "\x1b", "\ufeff", "\U0010ffff"]
    texts = pl.Series(["", " ", *("".join(draw.choices(characters, k=draw.randrange(60))) for _ in range(500))])
    for given_texts in (texts, texts.slice(3, 7), texts.head(0), pl.concat([texts, texts.slice(1)], rechunk=False)):
        lengths, numbers, pieces = quality_compiled.numbered(given_texts)
        wanted = quality_words.pieces(given_texts)
        assert lengths.equals(wanted.list.len())
        assert pieces.gather(numbers).to_list() == wanted.explode().to_list() if len(given_texts) else not len(numbers)
        assert pieces.is_unique().all()


def test_many_pieces_are_told_apart():
    numbers = pl.Series([" ".join(map(str, range(70_000))), " ".join(map(str, range(80_000)))])
    _, found, pieces = quality_compiled.numbered(numbers)
    assert pieces.to_list() == [str(number) for number in range(80_000)]
    assert found.to_list() == [*range(70_000), *range(80_000)]


def said_again(seed: int) -> list[str]:
    """Texts of few words each, which are the more often said again."""
    draw = random.Random(seed)
    words = [*"abcdefgh", "don't", "mill,", "(so)", "é", "  "]
    texts = [" ".join(draw.choices(words[: draw.randrange(1, 13)], k=draw.randrange(120))) for _ in range(150)]
    return [text + "\n" + text[: draw.randrange(200)] * draw.randrange(3) + "." for text in texts] + [
        "",
        " ",
        "a",
        "a a",
    ]


@pytest.mark.parametrize("seed", range(4))
def test_runs_are_counted_alike(seed):
    texts = pl.Series(said_again(seed))
    loop, columns = (Page(texts, exact=True, compiled=compiled) for compiled in (True, False))
    none = pl.repeat(False, len(texts), eager=True)
    for count, sizes in ((commonest_runs, range(2, 5)), (repeated_runs, range(5, 11))):
        found, wanted = (count(page, dict.fromkeys(sizes, 0.0), none) for page in (loop, columns))
        for size in sizes:
            assert found[size].equals(wanted[size])


@pytest.mark.parametrize("quality", [GopherRepetition(), GopherQuality(), FineWebQuality(), C4Quality()])
def test_verdicts_are_alike(quality):
    texts = [*said_again(9), *("The mill stood. " * n + "It is old (so they say): don't go!\n" for n in range(9))]
    for exact in (True, False):
        found, wanted = (
            quality.verdicts(Page(pl.Series(texts), exact=exact, compiled=is_so)) for is_so in (True, False)
        )
        assert found.to_list() == wanted.to_list()
        assert found.n_unique() > 1


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"views": (99).to_bytes(16, "little")}, "does not lie in its buffer"),
        ({"classes": bytes(254)}, "254 bytes"),
        ({"classes": bytes(257)}, "257 bytes"),
        ({"words": ()}, "as many words"),
        ({"entries": (b"ab",), "words": (b"a",)}, "entry 0"),
        ({"entries": (b"a",), "words": (b"a\x1fb",)}, "entry 0"),
        ({"entries": (b"a" * 32,), "words": (b"a" * 32,)}, "entry 0"),
        ({"units": (b"m",) * 2049}, "2049 strings"),
    ],
)
def test_words_by_rules_that_cannot_be(changed, error):
    asked = {"views": b"", "buffers": (), "classes": bytes(256), "entries": (b"a",), "words": (b"a",), "units": ()}
    assert quality_compiled.cut_words is not None
    assert quality_compiled.cut_words(*asked.values(), True) == (b"", bytes(8), b"")
    with pytest.raises(ValueError, match=error):
        quality_compiled.cut_words(*(asked | changed).values(), True)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"lengths": [2, 2]}, "other pieces"),
        ({"pieces": [0, 2]}, "word 1 is in no piece"),
        ({"pieces": [1, 0]}, "word 1 is in no piece, or not in order"),
        ({"numbers": [0, 3, 0]}, "no piece 3"),
        ({"numbers": [0, 2**32 - 1, 0]}, "no piece 4294967295"),
        ({"keys": [1, 2, 3]}, "different lengths"),
        ({"chars": [1]}, "different lengths"),
    ],
)
def test_runs_of_words_that_cannot_be(changed, error):
    asked = {"lengths": [1, 2], "numbers": [0, 1, 0], "pieces": [0, 1], "keys": [5, 6], "chars": [1, 1]}
    assert quality_compiled.run_chars is not None

    def counted(columns):
        wide = ("keys", "chars")
        given_columns = [
            b"".join(n.to_bytes(8 if name in wide else 4, "little") for n in columns[name]) for name in columns
        ]
        return quality_compiled.run_chars(*given_columns)

    assert memoryview(counted(asked)).cast("Q")[9] == 3
    with pytest.raises(ValueError, match=error):
        counted(asked | changed)
