"""In what ways of writing differ: which put no space between words, what ends a sentence, what may stand behind it.

The one rule: each is the inside of a regex class, for Rust's regex (polars) or for both it and Python's.
"""

from __future__ import annotations

import re

# Scripts without spaces between words: by name for Rust's regex, as ranges of Unicode's blocks for both.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
UNSPACED_RANGES = (
    r"\u0e00-\u109f\u1780-\u17ff\u19e0-\u19ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u303b\u3040-\u30ff"
    r"\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9ff\uaa60-\uaa7f\uf900-\ufaff\uff66-\uff9f"
    r"\U00016fe2-\U00016ff6\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
# A word: a character of those scripts, or a run of others that is not white space. U+200B is a break between words.
WORD = rf"[{UNSPACED_RANGES}]|[^\s\u200b{UNSPACED_RANGES}]+"
ENDERS = (  # full stops of every script in use; those of scripts beyond U+FFFF are left out
    "!.?։؝؞؟۔܀܁܂߹࠷࠹࠽࠾।॥၊။።፧፨᙮᜵᜶។៕៖៙៚᠃᠉᥄᥅᪨᪩᪪᪫᭚᭛᭞᭟᭽᭾᰻᰼᱾᱿‼‽⁇⁈⁉⸮⸼⹓⹔。꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫﹒﹖﹗！．？｡"
)
CLOSERS = r"\"'”’»)\]}）］】》〉」』*`"  # quotes, brackets and emphasis behind the end of a sentence

_WORD = re.compile(WORD)


def count_words(text: str) -> int:
    """How many words, in any script."""
    return len(_WORD.findall(text))
