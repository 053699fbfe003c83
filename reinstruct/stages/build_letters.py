"""Makes letters.z, which tells a compiled loop what each character is in a word, of what `spaced` makes of it, and
classes.z and marks.z, which tell others what the classes of Polars' patterns hold.

The one rule: they are never edited. They are shipped because making them takes longer, and more memory, than judging a
thousand texts.

    python -m reinstruct.stages.build_letters
"""

from __future__ import annotations

import zlib
from array import array
from pathlib import Path

import polars as pl

from reinstruct.stages import quality_words
from reinstruct.stages.compiled import LETTERS
from reinstruct.stages.quality_compiled import MARKS
from reinstruct.stages.screen import CLASSES
from reinstruct.stages.spaced import spaced

# As in _native.c:
_AS_IT_IS, _BY_ITSELF, _UNKNOWN = 4, 128, 255
_AT_ONCE = 0x8000  # characters
_KNOWN = 4 * _AT_ONCE  # characters: nearly all that are written
_PATTERNS = (r"\s", r"\p{Ll}", r"\p{Lu}", r"\w", r"\d")  # the classes of _advice.c, a bit each


def table() -> bytes:
    """Four bytes for each of the first characters of Unicode; what they say, `_native.c` tells."""
    return b"".join(_letters_between(start, start + _AT_ONCE) for start in range(0, _KNOWN, _AT_ONCE))


def classes() -> bytes:
    """A byte for each of the first characters of Unicode; the last bit is for one that is of ASCII in lower case."""
    codes, characters = _first_characters()
    held = [characters.str.contains(pattern) for pattern in _PATTERNS]
    held.append(characters.str.to_lowercase().str.contains("[a-z]") & ~characters.str.contains("[A-Za-z]"))
    return bytes(_as_bits(codes, held, pl.UInt8()))


def marks() -> bytes:
    """Two bytes for each of the first characters of Unicode: the classes of _words.c, a bit each."""
    codes, characters = _first_characters()
    held = [characters.str.contains(pattern) for pattern in quality_words.CLASSES]
    return array("H", _as_bits(codes, held, pl.UInt16())).tobytes()


def _first_characters() -> tuple[pl.Series, pl.Series]:
    codes = [code for code in range(_KNOWN) if not 0xD800 <= code < 0xE000]  # those stand for no character
    return pl.Series(codes, dtype=pl.UInt32), pl.Series(map(chr, codes), dtype=pl.String)


def _as_bits(codes: pl.Series, held: list[pl.Series], kind: pl.DataType) -> pl.Series:
    """A number for each of the first characters, whose bits say what holds of it."""
    bits = pl.select(sum(has.cast(kind) * (1 << bit) for bit, has in enumerate(held))).to_series()
    return pl.zeros(_KNOWN, kind, eager=True).scatter(codes, bits.cast(kind))


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
    """Write the files."""
    for name, made in ((LETTERS, table()), (CLASSES, classes()), (MARKS, marks())):
        (Path(__file__).parent / name).write_bytes(zlib.compress(made, 9))


if __name__ == "__main__":
    main()
