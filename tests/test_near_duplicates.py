"""Words, shingles and near-duplicates: what is found follows from the share of shingles in common."""

import random

import polars as pl
import pytest

from reinstruct.errors import RecipeError
from reinstruct.stages import near_duplicates, shingles, spill
from reinstruct.stages.near_duplicates import DropNearDuplicates, band_keys, clusters
from reinstruct.stages.shingles import Shingles, shingled
from reinstruct.stages.spaced import words
from tests.conftest import FrameRows

VOCABULARY = [f"word{n}" for n in range(4000)]


def texts(count: int, length: int = 200, seed: int = 1) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(VOCABULARY, k=length)) for _ in range(count)]


def edited(text: str, edits: int, seed: int = 0) -> str:
    draw, pieces = random.Random(seed), text.split()
    for at in draw.sample(range(len(pieces)), edits):
        pieces[at] = "changed"
    return " ".join(pieces)


def judged(stage, frame: pl.DataFrame, folder) -> pl.DataFrame:
    return pl.concat(list(stage.verdicts(FrameRows(frame, folder))))


def numbered(rows: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"id": [f"d{n}" for n in range(len(rows))], "text": rows})


def split(text: str) -> list[str]:
    return words(text)


def test_words_are_runs_of_letters_marks_and_digits_in_lower_case():
    assert split("Don't STOP-it, ok…\n“Foo”\u00a0bar_1") == ["don", "t", "stop", "it", "ok", "foo", "bar_1"]
    assert split("Éa ⟨naïve⟩ हिन्दी") == ["éa", "naïve", "हिन्दी"]
    assert split("我们 use ラーメン") == ["我", "们", "use", "ラ", "ー", "メ", "ン"]
    assert split(" \t.") == []


def test_the_tables_are_the_general_rule():
    every = [chr(code) for code in [*range(0x3100), *range(0xFE00, 0x10000), *range(0x1F000, 0x20100), 0x2B820]]
    general = pl.Series(every).str.to_lowercase().str.replace_all(r"\W", " ").str.strip_chars()
    special = {"İ": "i", "ς": "σ"}
    wanted = [special.get(char, word) for char, word in zip(every, general, strict=True)]
    assert split(" ".join(every)) == [word for word in wanted if word]


def test_words_are_the_same_in_ascii_and_among_other_characters():
    text = "".join(map(chr, range(1, 128))) * 2
    plain = shingles.shingles(pl.Series([text]), 1)["key"].to_list()
    assert shingles.shingles(pl.Series([text + " é"]), 1)["key"].to_list()[:-1] == plain
    assert len(plain) == len(split(text))


def test_a_text_has_the_same_shingles_wherever_it_stands():
    rows = ["a b c d e f", "", "too short", "我们喜欢学习中文", "x", "A b, c d e — f"]
    found = shingles.shingles(pl.Series(rows), 5)
    by_row = {row: found.filter(pl.col("row") == row)["key"].to_list() for row in range(len(rows))}
    assert [len(by_row[row]) for row in range(len(rows))] == [2, 0, 1, 4, 1, 2]
    assert by_row[0] == by_row[5]
    assert by_row[2] == shingles.shingles(pl.Series(["Too short!"]), 5)["key"].to_list()
    assert by_row[2] != shingles.shingles(pl.Series(["short too"]), 5)["key"].to_list()


def test_the_first_of_near_duplicates_stays_and_is_named(tmp_path):
    base = texts(20)
    rows = [*base, edited(base[3], 2), base[3].upper(), *texts(20, seed=2)]
    verdicts = judged(DropNearDuplicates(), numbered(rows), tmp_path)
    assert {at: detail for at, detail in enumerate(verdicts["detail"]) if detail} == {20: "of d3", 21: "of d3"}
    assert verdicts["reason"].drop_nulls().to_list() == ["near_duplicate"] * 2


def test_what_is_kept_is_the_longest_or_the_best(tmp_path):
    base = texts(1)[0]
    frame = numbered([base, base + " and a little more", edited(base, 1)])
    assert judged(DropNearDuplicates(keep="longest"), frame, tmp_path)["detail"].to_list() == ["of d1", None, "of d1"]
    scores = [[], [{"name": "quality", "value": 1.0}], [{"name": "quality", "value": 3.0}]]
    scored = frame.with_columns(scores=pl.Series(scores))
    best = judged(DropNearDuplicates(keep="quality"), scored, tmp_path)
    assert best["detail"].to_list() == ["of d2", "of d2", None]
    with pytest.raises(RecipeError, match=r"score 'qualty' .did you mean 'quality'"):
        judged(DropNearDuplicates(keep="qualty"), scored, tmp_path)
    with pytest.raises(RecipeError, match="no field 'scores'"):
        judged(DropNearDuplicates(keep="quality"), frame, tmp_path)


def pairs_with(share: float, pairs: int, union: int = 400) -> Shingles:
    """Shingles of texts in pairs (0 and 1, 2 and 3, ...) that have `share` of theirs in common."""
    draw, common = random.Random(int(share * 100)), int(share * union)
    counts, keys = [], []
    for _ in range(pairs):
        every = [draw.getrandbits(64) for _ in range(union)]
        alone = (union - common) // 2
        for own in (every[common : common + alone], every[common + alone :]):
            counts.append(common + len(own))
            keys += every[:common] + own
    rows = pl.DataFrame({"row": range(2 * pairs), "len": counts}, schema={"row": pl.UInt32, "len": pl.UInt32})
    return Shingles(rows, pl.Series(keys, dtype=pl.UInt64))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.8, 0.9])
def test_slots_agree_as_often_as_shingles_do_and_bands_follow(share: float):
    pairs = 300
    found = pairs_with(share, pairs)
    slots = band_keys(found, 112, 1)  # a band of one slot is the slot
    agreeing = slots["key"].is_duplicated().sum() / 2 / (pairs * 112)
    assert abs(agreeing - share) < 4 * (share * (1 - share) / (pairs * 112)) ** 0.5
    shared = band_keys(found, 14, 8).filter(pl.col("key").is_duplicated()).select(pl.col("row") // 2).n_unique() / pairs
    curve = 1 - (1 - share**8) ** 14
    assert abs(shared - curve) < 4 * max(0.1 / pairs, curve * (1 - curve) / pairs) ** 0.5


def test_keys_do_not_depend_on_what_is_signed_together():
    rows = [*texts(6, length=50), "short", "", "Ünï cödé " * 20, "我们喜欢学习中文" * 5]
    together = band_keys(shingled(pl.Series(rows), 5), 14, 8).sort("row", "key")
    for row, text in enumerate(rows):
        alone = band_keys(shingled(pl.Series([text]), 5), 14, 8).sort("key")
        assert together.filter(pl.col("row") == row)["key"].to_list() == alone["key"].to_list()


def test_keys_are_those_of_the_words_in_order():
    text = "The cat, Straße_1234: “Ça va” 我!"
    keys = [shingles.word_key(word.encode()) for word in ["the", "cat", "straße_1234", "ça", "va", "我"]]

    def run(keys: list[int]) -> int:
        return sum(one * shingles.FACTOR**place for place, one in enumerate(reversed(keys))) % 2**64

    wanted = [run(keys[at : at + 5]) for at in range(len(keys) - 4)]
    assert shingles.shingles(pl.Series([text]), 5)["key"].to_list() == wanted
    in_ascii = shingles.shingles(pl.Series(["a B", "The CAT."]), 1)
    assert in_ascii.rows()[2:] == [(1, keys[0]), (1, keys[1])]


def test_a_word_has_one_key_for_good():
    assert shingles.word_key(b"cat") == 0x8F32BA69A80DA65B
    assert shingles.word_key("straße_1234567".encode()) == 0x94D84BA047B1A065


def test_texts_come_in_pieces_of_about_the_same_size():
    sizes = [10, 700_000, 0, 300_000, 250_000, 5, 600_000, 1]
    texts = pl.Series(["x" * size for size in sizes])
    pieces = list(near_duplicates._pieces(iter([texts.head(3), texts.slice(3, 1), texts.slice(4)])))
    assert [piece.str.len_bytes().to_list() for piece in pieces] == [
        [10, 700_000],
        [0, 300_000, 250_000],
        [5, 600_000],
        [1],
    ]
    assert list(near_duplicates._pieces(iter([]))) == []


def test_words_are_the_same_among_texts_of_all_kinds():
    rows = [
        "plain words only",
        "it’s “quoted” – so",
        "a\u00a0space © here",
        "naïve ÉCOLE",
        "中文 and İstanbul ΣΑΣ",
        "",
        None,
    ]
    found = shingles.shingles(pl.Series(rows), 1)
    for row, text in enumerate(rows):
        wanted = [shingles.word_key(word.encode()) for word in words(text or "")]
        assert found.filter(pl.col("row") == row)["key"].to_list() == wanted
    assert words(rows[4]) == ["中", "文", "and", "istanbul", "σασ"]


@pytest.mark.slow
def test_pairs_are_found_as_often_as_banding_says(tmp_path):
    pairs, edits = 200, 7
    base = texts(pairs)
    rows = [*base, *(edited(text, edits, n) for n, text in enumerate(base))]

    def shared(one: str, other: str) -> float:
        sets = [{tuple(p.split()[i : i + 5]) for i in range(196)} for p in (one, other)]
        return len(sets[0] & sets[1]) / len(sets[0] | sets[1])

    found = judged(DropNearDuplicates(), numbered(rows), tmp_path)["reason"].count() / pairs
    alike = [shared(base[n], rows[pairs + n]) for n in range(pairs)]
    expected = sum(1 - (1 - share**8) ** 14 for share in alike) / pairs
    assert 0.4 < expected < 0.9
    assert abs(found - expected) < 0.13  # four standard errors


def test_chinese_needs_no_spaces(tmp_path):
    draw = random.Random(3)
    base = "".join(chr(draw.randrange(0x4E00, 0x9000)) for _ in range(300))
    other = "".join(chr(draw.randrange(0x4E00, 0x9000)) for _ in range(300))
    rows = [base, other, base[:150] + "改" + base[151:]]
    assert judged(DropNearDuplicates(), numbered(rows), tmp_path)["detail"].to_list() == [None, None, "of d0"]


def test_texts_without_words_are_not_alike_and_short_ones_are_if_equal(tmp_path):
    frame = numbered(["", "...", "Hello there", "hello, there!", "hello you"])
    assert judged(DropNearDuplicates(), frame, tmp_path)["detail"].to_list() == [None, None, None, "of d2", None]
    assert judged(DropNearDuplicates(), frame.clear(), tmp_path).height == 0


def test_partitions_change_nothing_and_leave_nothing(tmp_path):
    base = texts(60)
    frame = numbered([*base, *(edited(text, 2, n) for n, text in enumerate(base[:30]))])
    wanted = judged(DropNearDuplicates(), frame, tmp_path)
    keys = list(DropNearDuplicates()._keys(FrameRows(frame, tmp_path)))
    links = near_duplicates._links(iter(keys), tmp_path, 40 * spill.PARTITION)
    assert clusters(links)["row"].n_unique() == 2 * wanted["reason"].count() > 40
    assert list(tmp_path.iterdir()) == []


def test_links_of_links_are_one_cluster():
    links = pl.Series([(row << 32) + first for row, first in ((5, 3), (7, 5), (9, 8), (3, 2))], dtype=pl.UInt64)
    assert clusters(links).rows() == [(2, 2), (3, 2), (5, 2), (7, 2), (8, 8), (9, 8)]


def test_wrong_settings_are_named():
    with pytest.raises(RecipeError, match="bands is 0; accepted: 1 or more"):
        DropNearDuplicates(bands=0)
