"""What the selection stages count in a text: native Polars expressions over a text column, no Python per record.

The one rule: `release_*` counts exactly as REInstruct's released `keep()` does (prepare_unlabeled_texts.py), oddities
included; its sibling without the prefix counts what was meant. Patterns are those of the Rust regex engine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache

import polars as pl

WORD = r"\p{L}[\p{L}\p{M}]*(?:['’-]\p{L}[\p{L}\p{M}]*)*"
_OPENER = r"[a-z]+(?:['’-][a-z]+)*"
_MARKS = (
    r"(?:[\s--\n]|[-+•·‣▪◦*>#\"“”'‘’(\[]|"  # white space, bullets, heading marks, quotes, brackets
    r"(?:step|tip|rule|part|day|method)?[\s--\n]*\d{1,3}[\s--\n]*[.):–—-]|"  # 1.  2)  step 3:
    r"\(?[a-z][.)][\s--\n])*"  # a)
)
_CAPITALS = r"\p{Lu}[^\s\p{Ll}\p{Lu}]*\p{Lu}"
_CODE_LINE = (  # ASCII classes: with \w and \s the automaton outgrows its cache and is ten times slower
    r"(?m)^[ \t]*(?:"
    r"(?:>>>|\.\.\.|\$ |#!|#include|//|/\*|\*/|<[/!?A-Za-z]|```|~~~|\|).*"  # prompts, comments, markup, fences, tables
    r"|(?:def|fn|func|function) [A-Za-z0-9_]+ *\(.*|class [A-Za-z0-9_]+.*[:{]"
    r"|(?:from [^ \n]+ )?import [A-Za-z0-9_.*, ]+"
    r"|(?:[A-Za-z0-9_<>*&]+ +){0,2}[A-Za-z0-9_.\[\]]+ *(?:[:+*/-]?=|->|\()[^.!?\n]*"  # assignments, calls
    r"|.*(?:[{}=\\]|[)\]}\"'];)"
    r")[ \t]*$"
)


def first_reason(rules: Iterable[tuple[str, pl.Expr]]) -> pl.Expr:
    """The name of the first rule whose expression is true, else null."""
    return pl.coalesce([pl.when(broken).then(pl.lit(name)) for name, broken in rules])


def count(text: pl.Expr, pattern: str, *, literal: bool = False) -> pl.Expr:
    """Non-overlapping matches, signed so that differences may be negative."""
    return text.str.count_matches(pattern, literal=literal).cast(pl.Int64)


def tidy(text: pl.Expr) -> pl.Expr:
    """LF line ends, no blank lines, nothing blank at either end; indentation stays."""
    unix = text.str.replace_all(r"\r\n?", "\n")
    return unix.str.replace_all(r"\n(?:[\s--\n]*\n)+", "\n").str.strip_chars()


def one_line(text: pl.Expr) -> pl.Expr:
    """In lower case, with one space for any white space and none at the ends."""
    # What is a single space already is not matched: there is one behind every word.
    return text.str.to_lowercase().str.replace_all(r"\s{2,}|[^\S ]", " ").str.strip_chars()


def contains_any(text: pl.Expr, banned: tuple[str, ...]) -> pl.Expr:
    """Whether the text holds one of the strings. An alternation is read four times as fast as `str.contains_any`."""
    return text.str.contains("|".join(map(re.escape, banned))) if banned else pl.lit(False)


def release_pronouns(lowered: pl.Expr, pronouns: tuple[str, ...]) -> pl.Expr:
    """`str.count` of each pronoun between a space or newline and a space, summed.

    Neighbours share a space, so spaces are doubled first. But `str.count` does not see the second of two equal
    neighbours (" i i " is one, "\\ni i " two, " i my " two), so such pairs are taken off again.
    """
    if not pronouns:
        return pl.lit(0)
    items = [re.escape(item) for item in pronouns]
    spaced = lowered.str.replace_all(" ", "  ", literal=True)
    pairs = "|".join(f"{item}  {item}" for item in items)
    return count(spaced, f"[ \n](?:{'|'.join(items)}) ") - count(spaced, f" (?:{pairs}) ")


def pronouns(text: pl.Expr, items: tuple[str, ...]) -> pl.Expr:
    """Whole words in lower case or with a capital; "US" is a country, "i.e." an abbreviation."""
    if not items:
        return pl.lit(0)
    return count(text, rf"\b(?:{_any_of(items)})\b") - (count(text, r"\bi\.\s?e\b") if "i" in items else 0)


def more_pronouns(text: pl.Expr, items: tuple[str, ...], most: int) -> tuple[pl.Expr, pl.Expr]:
    """(whether there may be more than `most`, 0 or more; whether there are then), without counting to the end.

    No pattern with \\b: on texts beyond ASCII it is five times slower.
    """
    word = rf"(?:{_any_of(items)})(?:\W|$)"
    more = rf"(?s)(?:^|\W){word}(?:(?:.*?\W)?{word}){{{most}}}"
    return text.str.contains(more), ~text.str.contains(r"i\.\s?e")


def spellings(items: tuple[str, ...]) -> list[str]:
    """Each of the items in lower case and with a capital, the longest first."""
    return sorted(
        (spelling for item in items for spelling in (item, item[0].upper() + item[1:])), key=len, reverse=True
    )


def _any_of(items: tuple[str, ...]) -> str:
    return "|".join(re.escape(spelling).replace("'", "['’]") for spelling in spellings(items))


def release_capital_words(text: pl.Expr) -> pl.Expr:
    """Tokens of Python's `split()` equal to their own Python `upper()`: "A", "2.", "-" and "漢" are such tokens.

    A token is one exactly if no character of it changes by `upper()`, so: all tokens less those with such a character.
    """
    space = _char_class(str.isspace)
    changing = _char_class(_changes)
    return count(text, f"[^{space}]+") - count(text, f"[{changing}][^{space}]*")


def capital_words(text: pl.Expr) -> pl.Expr:
    """Tokens with two or more capitals and no small letter."""
    paired = text.str.extract_all(rf"\S*{_CAPITALS}\S*")
    return paired.list.eval(~pl.element().str.contains(r"\p{Ll}")).list.sum().cast(pl.Int64)


def more_capital_words(text: pl.Expr, most: int) -> pl.Expr:
    """Whether `capital_words` is more than `most`, without counting to the end."""
    word = r"[^\s\p{Ll}]*\p{Lu}[^\s\p{Ll}]*\p{Lu}[^\s\p{Ll}]*"
    return text.str.contains(rf"(?s)(?:^|\s){word}(?:\s(?:.*?\s)?{word}){{{most}}}(?:\s|$)")


def may_be_capital_words(text: pl.Expr) -> pl.Expr:
    """At least as many as `capital_words`, and counted in half the time."""
    return count(text, _CAPITALS)


def release_openers(lowered: pl.Expr) -> pl.Expr:
    """List column: the a-z words that follow a newline and precede one space, themselves with both."""
    return lowered.str.extract_all("\n[a-z]+ ")


def openers(tidied: pl.Expr) -> pl.Expr:
    """List column: the first word of every line that has one after its list marks and quotes; "don't" is "do"."""
    starts = tidied.str.to_lowercase().str.extract_all(f"(?m)^{_MARKS}{_OPENER}")
    word = pl.element().str.extract(f"({_OPENER})$").str.replace("n['’]t$", "")
    return starts.list.eval(word)


def count_in(words: pl.Expr, wanted: Iterable[str]) -> pl.Expr:
    """How many items of a list column are among `wanted`, repeats counted."""
    among = frozenset(wanted)  # ten thousand, so that a set is made once and not for each batch

    def counted(lists: pl.Series) -> pl.Series:
        return pl.Series([sum(word in among for word in words) for words in lists.to_list()], dtype=pl.Int64)

    return words.map_batches(counted, return_dtype=pl.Int64)


def words(text: pl.Expr) -> pl.Expr:
    return count(text, WORD)


def sentences(text: pl.Expr) -> pl.Expr:
    """Full stops, question and exclamation marks after a word and before white space or the end."""
    return count(text, r"[\p{L}\p{N})\]\"”'’`][.!?][\"”'’)\]]*(?:\s|$)")


def letter_share(text: pl.Expr) -> pl.Expr:
    """Letters (and their marks) among the characters that are not white space, 0 to 1."""
    return 1 - count(text, r"[^\p{L}\p{M}\s]") / (text.str.len_chars().cast(pl.Int64) - count(text, r"\s"))


def stop_word_share(text: pl.Expr, stop_words: tuple[str, ...]) -> pl.Expr:
    """Words of the list among all words, 0 to 1."""
    return count(text, rf"(?i)\b(?:{'|'.join(map(re.escape, stop_words))})\b") / words(text)


def lines(tidied: pl.Expr) -> pl.Expr:
    return count(tidied, "\n", literal=True) + 1


def code_line_share(tidied: pl.Expr) -> pl.Expr:
    """Lines that look like code, a prompt, markup or a table, 0 to 1."""
    return count(tidied, _CODE_LINE) / lines(tidied)


def code_char_share(tidied: pl.Expr) -> pl.Expr:
    """Characters in such lines, 0 to 1."""
    return 1 - tidied.str.replace_all(_CODE_LINE, "").str.len_chars() / tidied.str.len_chars()


def stub_share(tidied: pl.Expr, ended: str = "") -> pl.Expr:
    """Characters in lines of fewer than four words, as menus, tables and indexes have them, 0 to 1.

    Lines that match the pattern `ended` are none, however short.
    """
    others = r"^[ \t]*(?:[^ \t\n]+[ \t]+){3}[^ \t\n].*" + (f"|{ended}" if ended else "")
    stubs = tidied.str.replace_all(f"(?m){others}", "")
    return stubs.str.len_chars() / tidied.str.len_chars()


@cache
def _char_class(has: Callable[[str], bool]) -> str:
    r"""The inside of a regex class of all characters for which `has` holds, such as `\x{9}-\x{d}\x{20}`."""
    codes = [code for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF and has(chr(code))]
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(rf"\x{{{first:x}}}-\x{{{last:x}}}" for first, last in ranges)


def _changes(char: str) -> bool:
    return char.upper() != char
