"""Documents as they come from the web to the plain paragraphs that models should read and write.

The one rule: a stage takes away what is no prose and changes nothing else; a document of which nothing is left is
turned away with a reason.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from typing import Any, ClassVar

from msgspec.structs import replace

from reinstruct.corpus.page import EXTRA, extract_text
from reinstruct.errors import RecipeError, expect
from reinstruct.records import Document, Drop
from reinstruct.stage import Transform
from reinstruct.stages.headers import is_page
from reinstruct.stages.scripts import CLOSERS, ENDERS, count_words

_TAG = re.compile(r"</?([a-zA-Z][a-zA-Z0-9]*)\b[^<>]*>")
_UNSEEN = re.compile(r"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1\s*>|\Z)|<[!?][^<>]*>", re.DOTALL | re.IGNORECASE)
# Names of elements, with a space on both sides of each.
_IN_LINES = (
    " a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd label mark nobr q s samp small span "
    "strike strong sub sup time tt u var wbr "
)
_BETWEEN_LINES = (
    " address article aside audio blockquote body br button canvas caption center col colgroup dd details dialog div "
    "dl dt embed fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 head header hr html iframe input legend li "
    "link main map menu meta nav noscript object ol optgroup option p param picture pre progress script section "
    "select source style summary svg table tbody td textarea tfoot th thead title tr track ul video "
)
_MARKDOWN = re.compile(
    r"""^\ {0,3}(?:\#{1,6}\ |[-*+]\ |\d{1,9}[.)]\ |>|```|~~~|=+[ ]*$|[ |:]*--[-| :]*$|\[[^\]\n]+\]:)  # lines
    | \*\*\S | \]\( | \]\[ | <https?:// | `[^`\n]+` | &\#?\w+; | (?<!\w)([*_])\w[^*_\n]*\1(?!\w)     # in lines""",
    re.MULTILINE | re.VERBOSE,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\ufeff\u00ad]")
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")


@dataclass(frozen=True)
class ToPlainText(Transform[Document, Document]):
    """Markup to plain paragraphs. `markup` is html, markdown, or auto: HTML where the text is a page (see `is_page`),
    Markdown where it has marks of Markdown or tags, and else the text as it is.

    HTML goes through the extractor of the `web` extra, which leaves out menus, banners and footers. Of Markdown,
    headers, list items and paragraphs become lines, links their text, images their description; code stays as it is,
    and so does what is in angle brackets and no HTML. Of HTML within Markdown the text stays.
    """

    version: ClassVar[int] = 3
    markup: str = "auto"

    def __post_init__(self) -> None:
        expect(self.markup in ("auto", "html", "markdown"), "markup", self.markup, "auto, html or markdown")

    def apply(self, record: Document) -> Document | Drop:
        as_html = self.markup == "html" or (self.markup == "auto" and is_page(record.text))
        if not as_html and self.markup == "auto" and not _is_markdown(record.text):
            return record if record.text.strip() else Drop("empty_text")
        text = extract_text(record.text, record.url) if as_html else plain_markdown(record.text)
        return replace(record, text=text) if text.strip() else Drop("empty_text", "no text is left of the markup")


@dataclass(frozen=True)
class NormaliseText(Transform[Document, Document]):
    """Unicode in one form (NFC), line ends as newlines, no invisible characters, at most one blank line in a row.

    With `mend`, text that was decoded as the wrong character set is repaired by ftfy (cafÃ© to café), which the `web`
    extra brings; curly quotes and full-width letters stay.
    """

    mend: bool = True

    def __post_init__(self) -> None:
        if self.mend:
            _ftfy()

    def apply(self, record: Document) -> Document | Drop:
        text = _ftfy()(record.text) if self.mend and not record.text.isascii() else record.text
        text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
        text = _BLANK_LINES.sub("\n\n", _CONTROL.sub("", text)).strip()
        return replace(record, text=text) if text else Drop("empty_text")


@dataclass(frozen=True)
class DropBoilerplate(Transform[Document, Document]):
    """Take lines out of plain web text that belong to the page and not to the article. English phrases.

    A line goes if it is short (`max_words`) and asks about cookies, newsletters, logins, sharing or scripts, states
    copyright or lists policies; if it is a row of links (Home | About | Contact); or if it is one of at least
    `menu_lines` neighbours of at most three words without a full stop, as menus and tag clouds have them. In scripts
    without spaces a word is a character, so that their menus mostly stay.
    """

    version: ClassVar[int] = 2
    max_words: int = 30
    menu_lines: int = 5

    def apply(self, record: Document) -> Document | Drop:
        kept: list[str] = []
        for is_stub, group in groupby(record.text.split("\n"), _is_stub):
            lines = [line for line in group if not self._is_boilerplate(line)]
            if not is_stub or sum(bool(line.strip()) for line in lines) < self.menu_lines:
                kept.extend(lines)
        text = _BLANK_LINES.sub("\n\n", "\n".join(kept)).strip()
        if not text:
            return Drop("only_boilerplate", record.text[:200])
        return record if len(text) == len(record.text) else replace(record, text=text)

    def _is_boilerplate(self, line: str) -> bool:
        return bool(_PHRASES.search(line) and count_words(line) <= self.max_words) or _is_link_row(line)


def plain_markdown(text: str) -> str:
    """Markdown as plain text: a line for each header, list item and paragraph, a blank line between blocks."""
    return "\n\n".join(filter(str.strip, _blocks(_markdown().parse(text))))


def _is_markdown(text: str) -> bool:
    """Whether any of it has a meaning in Markdown. Read as Markdown, plain text would lose indents and escapes."""
    return bool(_MARKDOWN.search(text)) or any(_without(tag) != tag[0] for tag in _TAG.finditer(text))


def _is_link_row(line: str) -> bool:
    """At least two short labels, each with a mark behind it, and perhaps a last one."""
    *labels, last = _LINK_MARK.split(line)
    if len(labels) < 2 or not all(labels):
        return False
    return all(len(label.strip()) <= 30 and not _NO_LABEL.search(label) for label in (*labels, last))


def _is_stub(line: str) -> bool:
    """Up to three words and no end of a sentence or of speech; blank lines join their neighbours."""
    stripped = line.strip()
    return len(stripped) < 60 and not _ENDED.search(stripped) and count_words(stripped) <= 3


@cache
def _ftfy() -> Any:
    try:
        import ftfy
    except ImportError as error:
        raise RecipeError(f"NormaliseText(mend=True) needs {error.name}: {EXTRA}; or set mend=False") from error
    keeps: Any = {"uncurl_quotes": False, "fix_character_width": False, "fix_latin_ligatures": False}
    config = ftfy.TextFixerConfig(explain=False, **keeps)
    return partial(ftfy.fix_text, config=config)


@cache
def _markdown() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")


def _blocks(tokens: list[Any]) -> Iterator[str]:
    """The text of each block. Items of a list stay together, each with its mark."""
    items: list[str] = []
    marks: list[tuple[str, int]] = []  # of the lists that are open: kind and number of the next item
    mark = ""
    for token in tokens:
        if token.type in ("bullet_list_open", "ordered_list_open"):
            marks.append((token.type[0], int(token.attrGet("start") or 1)))
        elif token.type in ("bullet_list_close", "ordered_list_close"):
            marks.pop()
            if not marks:
                yield "\n".join(items)
                items = []
        elif token.type == "list_item_open":
            kind, number = marks[-1]
            marks[-1] = (kind, number + 1)
            mark = "  " * (len(marks) - 1) + ("- " if kind == "b" else f"{number}. ")
        elif token.type in ("inline", "fence", "code_block", "html_block"):
            text = _plain(token)
            if not text and token.type == "html_block":
                continue
            if marks:
                items.append(mark + text)
                mark = "  " * len(marks)
            else:
                yield text


def _plain(token: Any) -> str:
    match token.type:
        case "inline":
            return _inline(token)
        case "html_block":
            tidy = str.rstrip if "<pre" in token.content.lower() else str.strip
            text = html.unescape(_TAG.sub(_without, _UNSEEN.sub("", token.content)))
            return "\n".join(filter(None, map(tidy, text.split("\n"))))
        case _:
            return token.content.rstrip("\n")


def _without(tag: re.Match[str]) -> str:
    """What stands in the place of a tag: itself, if there is none of that name."""
    name = f" {tag[1].lower()} "
    return "\n" if name in _BETWEEN_LINES else "" if name in _IN_LINES else tag[0]


def _inline(token: Any) -> str:
    parts: list[str] = []
    for child in token.children or ():
        if child.type in ("text", "code_inline"):
            parts.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif child.type == "image":
            parts.append(_inline(child))
        elif child.type == "html_inline":
            parts.append(_TAG.sub(_without, _UNSEEN.sub("", child.content)))
    return "".join(parts)


_PHRASES = re.compile(
    r"""\b(?:
      (?:use|uses|using|accept(?:\ all)?|set|store)\ (?:of\ )?(?:our\ |all\ |any\ |these\ )?cookies
    | cookie\ (?:policy|settings|preferences|consent|notice)
    | (?:sign\ up|subscribe)\ (?:for|to)\ (?:our|the|my)\ (?:\w+\ ){0,3}(?:newsletter|mailing\ list|updates|feed)
    | (?:all|some)\ rights\ reserved
    | (?:enable|turn\ on|disabled?)\ javascript | javascript\ (?:is|must\ be|to\ be)\ (?:\w+\ )?(?:enabled|disabled)
    | (?:share|tweet|pin|like|follow)\ (?:this|us)?\ ?(?:on|via|with)
        \ (?:facebook|twitter|x|pinterest|instagram|linkedin|reddit)
    | share\ this(?:\ (?:post|article|page|story))?\s*+(?::\s*+)?$ | click\ to\ (?:share|print|email)
    | (?:log|sign)\ in\ to\ (?:leave|post|reply|comment|your\ account)
    | leave\ a\ (?:reply|comment)\s*+(?:cancel\ reply\s*+)?$
    | skip\ to\ (?:main\ |the\ )?(?:content|navigation) | back\ to\ (?:top|home)\s*$ | you\ are\ here\s*:
    | (?:privacy\ policy|terms\ of\ (?:use|service)|terms\ (?:and|&)\ conditions)\s*(?:[|,·•]|and\b|$)
    | your\ email\ address\ will\ not\ be\ published | required\ fields\ are\ marked
    )|(?:©|\(c\)|copyright)\s*(?:©\s*)?(?:\d{4}|by\b)""",
    re.IGNORECASE | re.VERBOSE,
)
_ENDED = re.compile(rf"[{ENDERS}:：…\"”»」』][{CLOSERS}]*$")
_LINK_MARK = re.compile(r"[|»·•]|\s>\s")
_NO_LABEL = re.compile(r"[>.!?]")
