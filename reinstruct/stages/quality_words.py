"""Cuts English text into words as spaCy 3.8 does, a batch of texts at a time and without spaCy.

The one rule: each different piece between white space is cut once a batch, in columns. Most pieces are a word with at
most one mark and take one pattern; marks are taken off the others from both ends, round by round. Where it is there, a
compiled loop does the same (quality_compiled.py).

The published quality filters count these words; counts from any other word split give other verdicts near a threshold.
"""

from __future__ import annotations

from functools import cache

import polars as pl

from reinstruct.stages.quality_english import CUT, entries

WHITE = r"\t-\r\x1c-\x1f\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
_UNCASED = "".join(
    rf"\p{{{script}}}"
    for script in (
        *("Ethiopic", "Bengali", "Hebrew", "Arabic", "Sinhala", "Devanagari", "Kannada", "Tamil", "Telugu"),
        *("Hangul", "Hiragana", "Katakana", "Han"),
    )
)
_LOWER, _UPPER, _LETTER = rf"\p{{Ll}}{_UNCASED}", rf"\p{{Lu}}{_UNCASED}", rf"\p{{Ll}}\p{{Lu}}{_UNCASED}"
_QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉⟦⟧"
_MARKS = r"…,:;!?¿؟¡()\[\]{}<>_#*&。？！，、；：～·।،۔؛٪"
_SIGNS = "$£€¥฿₽﷼₴"
_MONEY = f"{_SIGNS}₠-₿"
_UNITS = (
    "km²|km³|km|m²|m³|dm²|dm³|dm|cm²|cm³|cm|mm²|mm³|mm|m/s|km/h|kmh|mph|m|ha|µm|nm|yd|in|ft|kg|mg|µg|g|t|lb|oz|hPa|Pa|"
    "mbar|mb|MB|kb|KB|gb|GB|tb|TB|T|G|M|K|%|км²|км³|км|м²|м³|м|дм|см|мм|нм|кг|мг|г|м/с|км/ч|кПа|Па|Кб|КБ|Мб|МБ|Гб|ГБ"
)
# Marks no entry begins or ends with are taken off all at once, the last = and the first * excepted.
_IN_RUN = r'[[#*_,!?{}&"%…\p{So}]--[°]]'
_RUN = rf"^(?:{_IN_RUN}{{2,}}|=={{2,}})"
_END_RUN = r"(?:[^:*-](\*{2,})|([#_]{2,}))$"
_BEFORE, _AFTER = rf"[§%=—–{_MARKS}{_QUOTES}{_MONEY}\p{{So}}]", rf"[{_MARKS}{_QUOTES}\p{{So}}—–]"
_PREFIX = rf"^(?:{_BEFORE}|\+(?:[^0-9]|$)|\.\.+|(?:US|C|A)\$)"
_SUFFIX = rf"((?:……|{_AFTER}|\.\.+|['’][sS])$)"
_AFTER_DIGIT = rf"[0-9]((?:\+|(?:US|C|A)?[{_MONEY}]|{_UNITS})$)"
_BEFORE_STOP = rf"[0-9{_LOWER}%²+\-{_MARKS}|{_QUOTES}]"
_FULL_STOP = rf"(?:{_BEFORE_STOP}|°[FfCcKk]|[{_UPPER}][{_UPPER}])\.$"
_ANYWHERE = r"(\.\.+|…|\p{So})"
_MAY_DIVIDE = r"[^\s\p{L}\p{M}\p{N}_()\[\]]"
_INFIX = (
    (_ANYWHERE, f"{CUT}$1{CUT}"),
    (r"([0-9])([+\-*^])([0-9-])", f"$1{CUT}$2{CUT}$3"),
    (rf"([{_LOWER}{_QUOTES}])(\.)([{_UPPER}{_QUOTES}])", f"$1{CUT}$2{CUT}$3"),
    (rf"([{_LETTER}])(,)([{_LETTER}])", f"$1{CUT}$2{CUT}$3"),
    (rf"([{_LETTER}0-9])(-{{1,3}}|–|—|——|~)([{_LETTER}])", f"$1{CUT}$2{CUT}$3"),
    (rf"([{_LETTER}0-9])([:<>=/])([{_LETTER}])", f"$1{CUT}$2{CUT}$3"),
)
_HOST = r"A-Za-z0-9\x{a1}-\x{ffff}"
_URL = (  # a whole piece that is an address stays whole
    rf"^(?:[\w+\-.]{{2,}}://)?(?:\S+@)?(?:(?:(?:[{_HOST}][{_HOST}_-]{{0,62}})?[{_HOST}]\.)+[\p{{Ll}}\p{{Lo}}]{{2,63}}|"
    r"(?:[1-9]\d?|1\d\d|2[01]\d|22[0-3])(?:\.(?:1?\d{1,2}|2[0-4]\d|25[0-5])){2}\.(?:[1-9]\d?|1\d\d|2[0-4]\d|25[0-4]))"
    r"(?::\d{2,5})?(?:[/?#]\S*)?$"
)
_PRIVATE = r"^(?:[\w+\-.]{2,}://)?(?:\S+@)?(?:10|127|169\.254|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d"
_ROUNDS = 64  # more marks than that around a word stay on it
CLASSES = (  # what the compiled loop asks of a character, in the order of _words.c
    *(f"[ {WHITE}]", _IN_RUN, _BEFORE, _AFTER, _BEFORE_STOP, f"[{_UPPER}]", f"[{_LETTER}]", _MAY_DIVIDE),
    *(r"[…\p{So}]", f"[{_LOWER}{_QUOTES}]", f"[{_UPPER}{_QUOTES}]"),
)


def pieces(texts: pl.Series) -> pl.Series:
    """List column: what stands between white space, and empty pieces where several are in a row."""
    return texts.str.replace_all(f"[{WHITE}]", " ").str.split(" ")


def numbered(texts: pl.Series) -> tuple[pl.Series, pl.Series, pl.Series]:
    """How many pieces each text has, the number of each in order, and the different ones."""
    lists = pieces(texts)
    keyed = pl.DataFrame({"piece": lists.explode()}).with_columns(key=pl.col("piece").hash())
    different = keyed.unique("key").with_row_index("at")
    at = keyed.select("key").join(different.select("key", "at"), on="key", how="left", maintain_order="left")["at"]
    return lists.list.len(), at, different["piece"]


def units() -> list[str]:
    """What is a mark of its own behind a digit."""
    money = {*_SIGNS, *map(chr, range(ord("₠"), ord("₿") + 1))}
    return ["+", *_UNITS.split("|"), *(f"{country}{sign}" for country in ("", "US", "C", "A") for sign in money)]


def cut(found: pl.Series) -> pl.Series:
    """Each piece with CUT between its words. Pieces must differ from each other and hold no white space."""
    rows = pl.DataFrame({"piece": found}).with_row_index("row").join(_entries(), on="piece", how="left")
    rest = rows.filter(pl.col("words").is_null()).select("row", "piece")
    done = [rows.filter(pl.col("words").is_not_null()).select("row", "words")]
    for pattern, words in _FORMS:
        fits = pl.col("piece").str.contains(pattern) & ~pl.col("piece").str.extract(r"([A-Za-z]+)").is_in(_lettered())
        rest = rest.with_columns(fits=fits.fill_null(False))
        done.append(rest.filter("fits").select("row", words=words))
        rest = rest.filter(~pl.col("fits")).select("row", "piece")
    done.append(_merged(_cut_marks(rest.select("row", rest="piece"), _entries())))
    return pl.concat(done).sort("row")["words"]


_PIECE = pl.col("piece")
_FORMS = (  # what most pieces look like, and its words; the letters must be no entry
    (r"^[A-Za-z]+$", _PIECE),
    (r"^[A-Za-z]+[,;:!?)\"”]$", _PIECE.str.replace(r"(.)$", f"{CUT}$1")),
    (r"^[A-Za-z]*[a-z]\.$", _PIECE.str.replace(r"\.$", f"{CUT}.")),
    (r"^[\"“(][A-Za-z]+$", _PIECE.str.replace(r"^(.)", f"$1{CUT}")),
    (r"^[A-Za-z]+(?:-[A-Za-z]+)+$", _PIECE.str.replace_all("-", f"{CUT}-{CUT}", literal=True)),
    (r"^[A-Za-z]+['’]s$", _PIECE.str.replace(r"(['’]s)$", f"{CUT}$1")),
    (r"^[0-9]+$", _PIECE),
)


def _cut_marks(rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """(row, rest) -> (row, words): marks off both ends, a round at a time, until an entry or nothing more is found."""
    left = rows.with_columns(before=pl.lit(""), after=pl.lit(""))
    done: list[pl.DataFrame] = []
    texts = known["piece"].implode()
    for _ in range(_ROUNDS):
        if not len(left):
            break
        left = _one_round(left, texts)
        done.append(left.filter("ends").drop("ends"))
        left = left.filter(~pl.col("ends")).drop("ends")
    ended = pl.concat([*done, left]).join(known, left_on="rest", right_on="piece", how="left")
    divided = ended.with_columns(may=pl.col("words").is_null() & pl.col("rest").str.contains(_MAY_DIVIDE))
    middle = pl.coalesce("words", "rest")
    whole = divided.filter(~pl.col("may")).select("row", "before", "after", middle=middle)
    cut_inside = divided.filter("may").select("row", "before", "after", middle=_inside(pl.col("rest")))
    words = pl.concat_str("before", "middle", "after").str.replace_all(f"{CUT}+", CUT).str.strip_chars(CUT)
    return pl.concat([whole, cut_inside]).select("row", words=words)


def _inside(rest: pl.Expr) -> pl.Expr:
    """Cuts at marks between letters or digits; twice, as neighbours share a letter. Addresses stay whole."""
    inner = rest
    for pattern, divided in _INFIX:
        inner = inner.str.replace_all(pattern, divided)
        if pattern != _ANYWHERE:
            inner = inner.str.replace_all(pattern, divided)
    return pl.when(is_address(rest)).then(rest).otherwise(inner)


def is_address(rest: pl.Expr) -> pl.Expr:
    return rest.str.contains(".", literal=True) & rest.str.contains(_URL) & ~rest.str.contains(_PRIVATE)


def _one_round(rows: pl.DataFrame, entry_texts: pl.Series) -> pl.DataFrame:
    """Takes a mark off the begin and one off the end. Where an entry is left over by either alone, only that one."""
    rest, prefix, tail = pl.col("rest"), pl.col("prefix"), pl.col("tail")
    run = rest.str.extract(f"({_RUN})").str.replace("=$", "")
    first = pl.coalesce(run, rest.str.extract(f"({_PREFIX})").str.replace(r"^\+.+$", "+")).fill_null("")
    rows = rows.with_columns(prefix=first, run=run.is_not_null())
    rows = rows.with_columns(tail=rest.str.slice(prefix.str.len_chars()))
    rows = rows.with_columns(end_run=pl.coalesce(tail.str.extract(_END_RUN, 1), tail.str.extract(_END_RUN, 2)))
    marks = [tail.str.extract(_SUFFIX), tail.str.extract(_AFTER_DIGIT), pl.col("end_run")]
    lengths = [mark.str.len_chars().fill_null(0) for mark in marks]
    suffix = pl.max_horizontal(*lengths, tail.str.contains(_FULL_STOP).cast(pl.UInt32)).cast(pl.Int64)
    rows = rows.with_columns(n=suffix).with_columns(
        suffix=pl.when(pl.col("n") > 0).then(tail.str.slice(-pl.col("n"))).otherwise(pl.lit("")),
        head=rest.str.slice(0, rest.str.len_chars() - pl.col("n")),
        core=tail.str.slice(0, tail.str.len_chars() - pl.col("n")),
    )
    has_prefix, has_suffix = prefix != "", pl.col("n") > 0
    rows = rows.with_columns(
        by_prefix=has_prefix & tail.is_in(entry_texts), by_suffix=has_suffix & pl.col("head").is_in(entry_texts)
    )
    only_prefix, only_suffix = pl.col("by_prefix"), pl.col("by_suffix") & ~pl.col("by_prefix")
    next_rest = pl.when(only_prefix).then(tail).when(only_suffix).then("head").otherwise("core")
    taken = pl.when("run").then(prefix.str.replace_all("(.)", f"$1{CUT}")).otherwise(prefix + CUT)
    before = pl.when(only_suffix).then("before").otherwise(pl.concat_str("before", taken))
    mark = pl.when(pl.col("end_run").is_null()).then("suffix")
    off = mark.otherwise(pl.col("suffix").str.replace_all("(.)", f"{CUT}$1"))
    after = pl.when(only_prefix).then("after").otherwise(pl.concat_str(pl.lit(CUT), off, "after"))
    ends = only_prefix | only_suffix | ~(has_prefix | has_suffix) | next_rest.is_in(entry_texts) | (next_rest == "")
    return rows.select("row", rest=next_rest, before=before, after=after, ends=ends)


def _merged(rows: pl.DataFrame) -> pl.DataFrame:
    """Words side by side that are an entry together, as ")" and ":" are the face "):", become that entry."""
    doubled = pl.concat_str(pl.lit(CUT), pl.col("words").str.replace_all(CUT, CUT * 2, literal=True), pl.lit(CUT))
    merged = doubled.str.replace_many(_merges(), leftmost=True)
    return rows.select("row", words=merged.str.replace_all(CUT * 2, CUT, literal=True).str.strip_chars(CUT))


@cache
def _entries() -> pl.DataFrame:
    return pl.DataFrame({"piece": list(entries()), "words": list(entries().values())})


@cache
def _lettered() -> list[str]:
    """Entries of letters alone."""
    return [text for text in entries() if text.isascii() and text.isalpha()]


@cache
def _merges() -> dict[str, str]:
    """Words an entry would be cut into were it none -> the entry, longest first."""
    whole = sorted((text for text, words in entries().items() if text == words), key=lambda text: (-len(text), text))
    rows = pl.DataFrame({"rest": whole}).with_row_index("row").select("row", "rest")
    apart = _cut_marks(rows, _entries().clear()).sort("row")["words"].to_list()
    pairs = [(words.replace(CUT, CUT * 2), text) for words, text in zip(apart, whole, strict=True) if words != text]
    return {f"{CUT}{words}{CUT}": f"{CUT}{text}{CUT}" for words, text in pairs}
