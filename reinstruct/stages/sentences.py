"""Words and sentences of one text, in any language; checks.py counts words in columns of texts.

The one rule: a word is a CJK character or a run of other letters and digits, and sentences joined again are the text.
"""

from __future__ import annotations

import re

_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+(?:['’-][^\W_{_CJK}]+)*")
_END = re.compile(r"[.!?؟][\"'”’»)\]*_]*(?:\s+|$)|[。！？][”’」』）]*\s*")


def words_in(text: str) -> list[str]:
    """The words of a text, in order."""
    return _WORD.findall(text)


def word_ends(text: str) -> list[int]:
    """Where each word ends."""
    return [found.end() for found in _WORD.finditer(text)]


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with the white space behind it; the last may have no end."""
    cuts = [0, *_ends(text)]
    pieces = [text[start:end] for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]
    return [piece for piece in pieces if piece]


def whole_sentences(text: str) -> str:
    """The text up to the last end of a sentence; nothing if there is none."""
    return text[: max(_ends(text), default=0)].strip()


def _ends(text: str) -> list[int]:
    return [found.end() for found in _END.finditer(text)]
