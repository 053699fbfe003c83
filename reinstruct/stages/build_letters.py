"""Makes letters.z, which tells the compiled loop what each character is in a word, of what `spaced` makes of it.

The one rule: letters.z is never edited. It is shipped because making it takes longer, and more memory, than judging a
thousand texts.

    python -m reinstruct.stages.build_letters
"""

from __future__ import annotations

import zlib
from pathlib import Path

import polars as pl

from reinstruct.stages.compiled import PACKAGED
from reinstruct.stages.spaced import spaced

# As in _native.c:
_AS_IT_IS, _BY_ITSELF, _UNKNOWN = 4, 128, 255
_AT_ONCE = 0x8000  # characters
_KNOWN = 4 * _AT_ONCE  # characters: nearly all that are written


def table() -> bytes:
    """Four bytes for each of the first characters of Unicode; what they say, `_native.c` tells."""
    return b"".join(_letters_between(start, start + _AT_ONCE) for start in range(0, _KNOWN, _AT_ONCE))


def _letters_between(start: int, end: int) -> bytes:
    codes = [code for code in range(start, end) if not 0xD800 <= code < 0xE000]  # those stand for no character
    characters = pl.Series(map(chr, codes), dtype=pl.String)
    place, text = spaced(characters)
    found = pl.DataFrame(
        {"at": pl.Series(codes, dtype=pl.UInt32)[place] - start, "is": characters[place], "text": text}
    )
    found = found.filter(pl.col("text") != " ").with_columns(
        letter=pl.col("text").str.replace_all(" ", "", literal=True)
    )
    size = pl.col("letter").str.len_bytes()
    as_it_is = (pl.col("letter") == pl.col("is")) & (pl.col("at") + start >= 128)
    kind = pl.when(as_it_is).then(_AS_IT_IS).otherwise(size)
    kind += pl.when(pl.col("text").str.contains(" ", literal=True)).then(_BY_ITSELF).otherwise(0)
    kind = pl.when(~as_it_is & (size > 3)).then(_UNKNOWN).otherwise(kind)
    kinds = found.select(kind.cast(pl.UInt8)).to_series()
    table = bytearray(4 * (end - start))
    table[::4] = bytes(pl.zeros(end - start, pl.UInt8, eager=True).scatter(found["at"], kinds))
    for at, letter in found.filter(~as_it_is & (size <= 3)).select("at", "letter").iter_rows():
        table[4 * at + 1 : 4 * at + 4] = letter.encode().ljust(3)
    return bytes(table)


def main() -> None:
    """Write the file."""
    (Path(__file__).parent / PACKAGED).write_bytes(zlib.compress(table(), 9))


if __name__ == "__main__":
    main()
