"""Words and sentences of one text, in any language; checks.py counts words in columns of texts.

The one rule: a word is a CJK character or a run of other letters and digits, and sentences joined again are the text.
"""

from __future__ import annotations

import re

from reinstruct.stages.scripts import CLOSERS, ENDERS

_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+(?:['’-][^\W_{_CJK}]+)*")
# Behind ASCII's marks white space must follow: they stand within numbers and names too. Thai and Lao part sentences by
# spaces alone. ၊ and ៖ are of the full stops of Unicode, and commas.
_ENDERS = "".join(mark for mark in ENDERS if mark not in ".!?．၊៖") + "།༎"
_END = re.compile(
    rf"[.!?][{CLOSERS}_]*(?:\s+|$)|(?:[{_ENDERS}]|．(?!\d))+[.!?]*[”’»」』）】》〉］]*\s*"
    r"|(?<=[\u0e00-\u0eff]) +(?=[\u0e00-\u0eff])"
)
_TITLE = re.compile(  # what a full stop behind it shortens: a name follows
    r"\b(?:Mr|Mrs|Ms|Mx|Dr|Prof|St|Mt|Messrs|Mme|Mlle|Gen|Col|Maj|Capt|Lt|Sgt|Rev|Hon|Gov|Sen|Rep|Jr|vs|cf|e\.g|i\.e|[A-HJ-Z])$"
)


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
    ends = (found for found in _END.finditer(text) if not _is_short_form(text, found))
    return [found.end() for found in ends]


def _is_short_form(text: str, end: re.Match[str]) -> bool:
    return end[0][0] == "." and bool(_TITLE.search(text, max(0, end.start() - 8), end.start()))
