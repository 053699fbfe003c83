"""The headers of a text, of Markdown or HTML, and whether it is a page of HTML at all.

The one rule: what stands in code is text. Nothing of a text is lost for a mark that is never closed.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

UNDERLINE = -1  # the level of a line that makes a header of the one above it

_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_FENCE = re.compile(r" {0,3}(```|~~~)")
_NO_HEADER = re.compile(r"\s*(?:[-*+>|<]|\d+[.)]\s)|.*\|")  # list items, quotations, table rows, tags
_IS_HTML = re.compile(r"\s*(?:<\?xml[^>]*>\s*)?(?:<!doctype\s+html|<html|<head|<body)\b", re.IGNORECASE)
_HAS_BLOCKS = re.compile(r"<(?:p|div|h[1-6]|ul|ol|table|article|section)\b[^>]*>", re.IGNORECASE)
_HTML_HEADER = re.compile(r"<h[1-6][\s>]", re.IGNORECASE)
_NO_TAG = re.compile(r"<(?=/?[a-zA-Z][^<>]*(?:<|\Z))")  # the parser looks for its end from each anew
_IN_CODE = re.compile(
    r"^ {0,3}(?P<fence>```|~~~)(?:.*?^ {0,3}(?P=fence)|.*)|`[^`\n]*`|<(?P<tag>pre|code)\b(?:.*?</(?P=tag)\s*>|.*)",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)

Line = tuple[int, str]  # level of a header, 0 for text; the line itself


def is_page(text: str) -> bool:
    """Whether a text is HTML: it begins as a page does, or has three tags of blocks outside of code and no header of
    Markdown. The beginning tells.
    """
    if _IS_HTML.match(text):
        return True
    start = _IN_CODE.sub(" ", text[:20_000])
    return len(_HAS_BLOCKS.findall(start)) >= 3 and not _has_markdown_headers(start)


def header_lines(text: str) -> list[Line]:
    """(level, line) of a text, with the marks of headers taken off. HTML is a page, or a text with a header of HTML and
    none of Markdown; of Markdown all else is, and what stands in its code fences and front matter is text.
    """
    if is_page(text):
        return _html_lines(text)
    prose = _IN_CODE.sub(" ", text)
    if _HTML_HEADER.search(prose) and not _has_markdown_headers(prose):
        return _html_lines(_IN_CODE.sub(lambda code: code[0] if code["tag"] else code[0].replace("<", "&lt;"), text))
    lines = text.splitlines()
    found = zip(header_levels(lines), lines, strict=True)
    return [(level, _title(line) if level else line) for level, line in found if level != UNDERLINE]


def header_levels(lines: list[str]) -> list[int]:
    """Of each line of Markdown the level of the header it is, 1 to 6; 0 for text, and UNDERLINE below a header."""
    fence = "---" if lines and lines[0].rstrip() == "---" and "---" in lines[1:] else ""
    levels: list[int] = []
    above = ""  # the line before, if it is a header when this one underlines it
    for number, line in enumerate(lines):
        underline = None if fence else _UNDERLINE.match(line)
        if underline and above.strip() and not _NO_HEADER.match(above):
            levels[-1] = 1 if underline[1][0] == "=" else 2
            levels.append(UNDERLINE)
            above = ""
            continue
        header = None if fence else _ATX.match(line)
        inside, fence = fence, fence if fence == "---" and number == 0 else _fence_after(line, fence)
        above = "" if header or inside or fence else line
        levels.append(len(header[1]) if header else 0)
    return levels


def _has_markdown_headers(text: str) -> bool:
    return any(header_levels(text.splitlines()))


def _title(line: str) -> str:
    marked = _ATX.match(line)
    return marked[2] or "" if marked else line


def _fence_after(line: str, fence: str) -> str:
    """The mark that ends the block the next line is in; empty outside of any."""
    if fence == "---":
        return "" if line.rstrip() == fence else fence
    mark = _FENCE.match(line)
    if not mark or (fence and fence != mark[1]):
        return fence
    return "" if fence else mark[1]


def _html_lines(text: str) -> list[Line]:
    reader = _Blocks()
    reader.feed(_without_unclosed(_NO_TAG.sub("&lt;", text)))
    reader.close()
    reader.end_block()
    return reader.lines


def _without_unclosed(text: str) -> str:
    """The text without the tags of skipped elements that are never closed, which would take all that follows along."""
    ends = {"<!--": text.rfind("-->")}
    for end in re.finditer(rf"</({'|'.join(_Blocks.SKIPPED)})\b", text, re.IGNORECASE):
        ends[end[1].lower()] = end.start()
    opens = re.compile(rf"<!--|<({'|'.join(_Blocks.SKIPPED)})\b[^<>]*(?<!/)>", re.IGNORECASE)
    return opens.sub(lambda tag: tag[0] if tag.start() < ends.get((tag[1] or tag[0]).lower(), -1) else " ", text)


class _Blocks(HTMLParser):
    """Collects a page's blocks as lines, with the level of those that are headers."""

    SKIPPED = frozenset(("script", "style", "nav", "title", "footer", "noscript", "template", "svg"))
    BLOCKS = frozenset(
        (
            *("p", "div", "ul", "ol", "li", "dl", "dt", "dd", "br", "hr", "table", "tr", "pre", "blockquote", "figure"),
            *("main", "section", "article", "aside", "header", "form", "h1", "h2", "h3", "h4", "h5", "h6"),
        )
    )

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = []
        self._text: list[str] = []
        self._level = 0
        self._skipped: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag in self.SKIPPED:
            self._skipped.append(tag)
        if tag in self.BLOCKS:
            self.end_block()
            self._level = _level(tag) or self._level * (tag == "br")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._skipped:
            del self._skipped[self._skipped.index(tag) :]
        if tag in self.BLOCKS:
            self.end_block()
            self._level = 0

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self._text.append(data)

    def end_block(self) -> None:
        line = " ".join("".join(self._text).split())
        self._text = []
        if line:
            self.lines.append((self._level, line))


def _level(tag: str) -> int:
    return int(tag[1]) if re.fullmatch("h[1-6]", tag) else 0
