"""What is said of scripts, against what Unicode says."""

import polars as pl

from reinstruct.stages.scripts import UNSPACED, UNSPACED_RANGES


def test_the_ranges_hold_all_letters_of_the_scripts_without_spaces_and_none_of_others():
    codes = [code for code in range(0x32000) if not 0xD800 <= code < 0xE000]
    rows = pl.DataFrame({"is": pl.Series(map(chr, codes), dtype=pl.String)})
    by_name, by_range = (pl.col("is").str.contains(f"[{inside}]") for inside in (UNSPACED, UNSPACED_RANGES))
    letters = rows.filter(pl.col("is").str.contains(r"\p{L}"))
    assert letters.filter(by_name & ~by_range).height == 0
    others = letters.filter(by_range & ~by_name)["is"].to_list()
    assert others == list("〆〱〲〳〴〵ーｰﾞﾟ"), "of Japanese, which share them between two scripts"
