"""HTML pages to plain paragraphs: trafilatura finds the article and leaves menus, banners and footers out.

It was chosen by score on pages with known content (docs/decisions/016-extractor.md); `pip install "reinstruct[web]"`.
"""

from __future__ import annotations

import codecs
import re

from reinstruct.errors import CorpusError

EXTRA = 'pip install "reinstruct[web]"'
MAX_BYTES = 16 << 20  # of a page; a larger one is data in a page's clothes
_HEAD = 4096
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{2,40})""", re.IGNORECASE)
# A tag ends where the next begins, so that a page of tags without an end is gone over once.
_LICENCE = re.compile(
    r"""<(?:a|link)\b(?=[^<>]{0,4000}\brel\s{0,9}=\s{0,9}["']?license)[^<>]{0,4000}\bhref\s{0,9}=\s{0,9}["']?([^"'\s<>]+)""",
    re.IGNORECASE,
)
# What XML forbids: lxml refuses the whole page for one of them, written out or as a reference.
_FORBIDDEN = re.compile(
    "[\x01-\x08\x0e-\x1b\ufffe\uffff]|"
    "&#(?:0*(?:[1-8]|1[4-9]|2[0-7]|6553[45])(?![0-9])|x0*(?:[1-8ef]|1[0-9ab]|fff[ef])(?![0-9a-f]));?",
    re.IGNORECASE,
)
# Text encodings of Python that are no charset of a page: some never decode, some make characters that do not exist.
_NO_CHARSETS = ("undefined", "idna", "punycode", "unicode_escape", "raw_unicode_escape")
# What pages that declare the narrower set are really in (WHATWG, Encoding, labels).
_WIDER = {
    **{"iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "tis-620": "cp874"},
    **{"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"},
}


def extract_text(html: str, url: str = "") -> str:
    """The text of the page's main content, a line for each paragraph, header and list item; empty if it has none.

    CorpusError when the extractor is not installed.
    """
    try:
        from trafilatura import extract  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise CorpusError(f"reading HTML needs {error.name}: {EXTRA}") from error
    html = _FORBIDDEN.sub(" ", html.replace("\0", ""))
    if not html.strip():
        return ""
    return extract(html, url=url or None, fast=True, include_comments=False) or ""


def decode_page(raw: bytes, declared: str = "") -> str:
    """The page as text: UTF-8 where it is, else as the HTTP header or the page itself declares, else Windows-1252.

    Never raises, and never gives a lone surrogate, which UTF-8 and Arrow have no bytes for.
    """
    for charset in ("utf-8-sig", declared, _declared_inside(raw)):
        try:
            return _encodable(raw.decode(_known(charset)))
        except (UnicodeError, LookupError):
            continue
    return _encodable(raw.decode(_known(declared or _declared_inside(raw), "cp1252"), errors="replace"))


def licence_link(html: str) -> str:
    """Where the page says its licence is (a link with rel="license"); empty if it does not."""
    found = _LICENCE.search(html) if "license" in html else None
    return found[1] if found else ""


def _declared_inside(raw: bytes) -> str:
    found = _CHARSET.search(raw[:_HEAD])
    return found[1].decode() if found else ""


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _known(charset: str, otherwise: str = "") -> str:
    """Python's codec for the charset; `otherwise` (or LookupError) where it has none."""
    try:
        name = codecs.lookup(charset).name
        "".encode(name)  # LookupError for those between bytes and bytes, such as hex
        if name.replace("-", "_") in _NO_CHARSETS:
            raise LookupError(f"{charset} is no charset of pages")
    except (LookupError, UnicodeError):
        if not otherwise:
            raise
        return otherwise
    return _WIDER.get(name, name)
