"""In what ways of writing differ: which put no space between words, what ends a sentence, what may stand behind it.

The one rule: nothing here but the inside of regex classes, for Rust's regex (polars) or for both it and Python's.
"""

from __future__ import annotations

# Scripts without spaces between words: by name for Rust's regex, as ranges of Unicode's blocks for both.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
UNSPACED_RANGES = (
    r"\u0e00-\u109f\u1780-\u17ff\u19e0-\u19ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u303b\u3040-\u30ff"
    r"\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9ff\uaa60-\uaa7f\uf900-\ufaff\uff66-\uff9f"
    r"\U00016fe2-\U00016ff6\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
