"""Cleaning takes away markup and boilerplate, and leaves prose as it was."""

import gzip
import json

import polars as pl
import pytest

from reinstruct.errors import RecipeError
from reinstruct.records import Document, Drop
from reinstruct.stages.clean import DropBoilerplate, NormaliseText, ToPlainText, plain_markdown
from reinstruct.stages.passages import KeepWords, SplitPassages
from reinstruct.stages.scripts import count_words

PROSE = "The mill stands by the river. It has turned since 1820, and it still grinds corn for the town."


def cleaned(stage, text):
    made = stage.apply(Document(id="d", text=text, url="u", licence="l"))
    assert isinstance(made, Drop) or (made.id, made.url, made.licence) == ("d", "u", "l")
    return made.reason if isinstance(made, Drop) else made.text


@pytest.mark.parametrize(
    ("markdown", "plain"),
    [
        ("# Title\n\nSome *words* and [a link](http://x).", "Title\n\nSome words and a link."),
        ("- one\n- two\n  1. deep\n  2. er\n\nafter", "- one\n- two\n  1. deep\n  2. er\n\nafter"),
        ("3. three\n4. four", "3. three\n4. four"),
        ("```py\nx = '*'\n```", "x = '*'"),
        ("![a mill](mill.png) and `code`", "a mill and code"),
        ("one<br>two <b>bold</b>\n\n<div>kept</div>", "one\ntwo bold\n\nkept"),
        ("<div align=center>\n  A <b>mill</b> &amp; more.\n</div>\n\nafter", "A mill & more.\n\nafter"),
        ("<details><summary>How</summary>\n\n*By hand.*\n\n</details>", "How\n\nBy hand."),
        ("<!-- a\n\nb -->\n<script>\nc()\n\nd()\n</script>\n<style>e</style>\n\nafter<!-- f -->", "after"),
        ("<pre>\nif x:\n    y\n</pre>", "if x:\n    y"),
        ("- one\n\n  <p>two</p>\n- three", "- one\n  two\n- three"),
        ("<not a tag but> a line of *List<String>*", "<not a tag but> a line of List<String>"),
        ("<name>\n\nwrote", "<name>\n\nwrote"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "a\n\nb\n\n1\n\n2"),
        ("Title\n=====\nline one\nline two", "Title\n\nline one\nline two"),
        ("5 * 3 * 2 = 30 and snake_case_name", "5 * 3 * 2 = 30 and snake_case_name"),
        ("> quoted", "quoted"),
        ("plain prose.\n\nMore of it.", "plain prose.\n\nMore of it."),
    ],
)
def test_markdown_becomes_plain_paragraphs(markdown, plain):
    assert plain_markdown(markdown) == plain


@pytest.mark.parametrize(
    "text",
    [
        "<not a tag but> a line",
        "    indented, 2*3*4 = 24\n\n\nC:\\_drive, a < b and b > c; snake_case_name",
        "Dear <name>,\r\n\tI came - and saw (that [1] is).",
    ],
)
def test_text_without_marks_is_left_alone_unless_it_is_called_markdown(text):
    assert cleaned(ToPlainText(), text) == text


@pytest.mark.parametrize("part", ["<", "<a ", "<!--", "<script>", "*a", "`", "_", "--", "[", "\\["])
def test_marks_without_an_end_are_read_once(part):
    assert ToPlainText().apply(Document(id="d", text=part * 3000 + "<b>"))


def test_pages_go_through_the_extractor_and_the_rest_through_markdown():
    page = f"<html><body><nav><a href='/'>Home</a></nav><article><p>{PROSE * 3}</p></article></body></html>"
    assert cleaned(ToPlainText(), page).startswith("The mill stands")
    assert cleaned(ToPlainText(), "**bold** and <b>bold</b>") == "bold and bold"
    told = f"Tags of blocks are `<p>`, `<div>` and `<ul>`. {PROSE}"
    assert cleaned(ToPlainText(), told) == told.replace("`", "")
    assert cleaned(ToPlainText(), f"## Use\n\n<div><p>One</p>\n<p>two</p></div>\n\n{PROSE}").startswith("Use\n\nOne")
    assert cleaned(ToPlainText("markdown"), "<!doctype html>") == "empty_text"
    assert cleaned(ToPlainText("html"), "<html></html>") == "empty_text"
    with pytest.raises(RecipeError, match="markup is 'xml'; accepted: auto, html or markdown"):
        ToPlainText("xml")


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("cafÃ© and naÃ¯ve", "café and naïve"),
        ("cafe\u0301", "café"),
        ("a\r\nb\rc\n\n \n\nd", "a\nb\nc\n\nd"),
        ("zero\u200bwidth\x00 \ufeff", "zerowidth"),
        ("“curly” ﬁne ｗｉｄｅ", "“curly” ﬁne ｗｉｄｅ"),
        ("\u200b\n", "empty_text"),
    ],
)
def test_text_is_normalised(text, normal):
    assert cleaned(NormaliseText(), text) == normal


def test_without_mending_only_the_form_changes():
    assert cleaned(NormaliseText(mend=False), "cafÃ© cafe\u0301") == "cafÃ© café"


@pytest.mark.parametrize(
    "line",
    [
        "We use cookies to give you the best experience.",
        "By continuing to browse this site you accept all cookies",
        "Sign up for our weekly newsletter!",
        "© 2019 The Mill. All rights reserved.",
        "Copyright 2020 by the town",
        "Please enable JavaScript to view the comments.",
        "Share on Facebook",
        "Leave a Reply Cancel reply",
        "Skip to main content",
        "Privacy Policy | Terms of Use",
        "Home | About us | Contact",
        "Home » News » 2019",
        "Your email address will not be published. Required fields are marked *",
    ],
)
def test_boilerplate_lines_go(line):
    assert cleaned(DropBoilerplate(), f"{PROSE}\n{line}\n{PROSE}") == f"{PROSE}\n{PROSE}"
    assert cleaned(DropBoilerplate(), line) == "only_boilerplate"


@pytest.mark.parametrize(
    "line",
    [
        "She baked two dozen cookies for the fair.",
        "The newsletter of the guild was printed here until 1910.",
        "They share on average a third of the harvest with their neighbours.",
        "The museum keeps the rights reserved to the crown.",
        "He left his reply with the clerk.",
        "Either A | B holds.",
        "Rivers, mills and towns",
        "x > y and y > z, so x > z.",
    ],
)
def test_prose_that_sounds_alike_stays(line):
    assert cleaned(DropBoilerplate(), f"{PROSE}\n{line}") == f"{PROSE}\n{line}"


@pytest.mark.parametrize(
    ("line", "is_row"),
    [
        ("a | b |", True),
        ("a >  b · c", True),
        ("a | | c", True),
        ("a || c", False),
        ("| a | b |", False),
        ("a | b>c | d", False),
        (f"{'x' * 30}   | b | c", True),
        (f"{'x' * 31} | b | c", False),
        ("a | b | c. ", False),
    ],
)
def test_rows_of_links_are_short_labels_with_marks_between(line, is_row):
    assert cleaned(DropBoilerplate(), f"{PROSE}\n{line}") == (PROSE if is_row else f"{PROSE}\n{line}".strip())


@pytest.mark.parametrize(
    "line",
    [
        f"{' | '.join(f'Topic {n}' for n in range(2000))} | Read our guide. It is good.",
        f"x{' > x' * 2000}>",
        f"Share this{' ' * 1_000_000}x",
        f"Leave a reply{' ' * 1_000_000}x",
    ],
)
def test_lines_that_are_nearly_boilerplate_end(line):
    """Searched with ways to begin anew, each of these would take hours and more."""
    assert cleaned(DropBoilerplate(), f"{PROSE}\n{line}") == f"{PROSE}\n{line}"


def test_menus_go_and_short_lists_stay():
    menu = "\n".join(["Home", "News", "Local history", "Opening hours", "Contact", "Imprint"])
    assert cleaned(DropBoilerplate(), f"{menu}\n\n{PROSE}") == PROSE
    short = "Flour\nWater\nSalt"
    assert cleaned(DropBoilerplate(), f"{PROSE}\n{short}") == f"{PROSE}\n{short}"


@pytest.mark.parametrize(
    "lines",
    [
        ["“走吧！”", "“真的？”", "“真的。”", "“好……”", "「はい」", "他说：", "嗯！"],
        ["他走进屋里，把灯点上", "外面下着雨", "没有人说话", "她看着窗外的河", "水声很大"],
        ["夜が明けるころ", "雨はまだ降っていた", "誰も口をきかない", "川の音だけがした", "彼は立ち上がり"],
        ["ฝนตกตลอดทั้งคืน", "ไม่มีใครพูดอะไร", "แม่น้ำไหลเชี่ยว", "เขาลุกขึ้นยืน", "แล้วเดินออกไป"],
        ["वह चला गया।", "क्या सच?", "हाँ।", "नहीं।", "चलो।"],
        ['"Go!"', '"Where to?"', "«Là-bas.»", "'Now.'", "(Silence.)"],
    ],
)
def test_speech_and_short_lines_of_any_script_are_no_menu(lines):
    assert cleaned(DropBoilerplate(), "\n".join(lines)) == "\n".join(lines)


def test_a_paragraph_without_spaces_is_not_short_for_a_year_behind_the_copyright():
    text = f"{'河水流过小镇，磨坊还在转动。' * 9}这本书的封底写着© 1998，是祖父留下的。"
    assert cleaned(DropBoilerplate(), text) == text
    assert cleaned(DropBoilerplate(), f"{text}\n版权所有© 1998") == text


def split(text, **settings):
    made = SplitPassages(**settings).apply(Document(id="d", text=text))
    assert isinstance(made, list)
    assert [passage.id for passage in made] == [f"d.{n}" for n in range(len(made))]
    return [passage.text for passage in made]


def words(n, of="word"):
    return " ".join([of] * n) + "."


def test_passages_are_whole_paragraphs_that_fit():
    text = "\n\n".join([words(30), words(30), words(30), words(10)])
    assert [count_words(passage) for passage in split(text, max_words=60, min_words=20)] == [60, 40]
    assert [count_words(passage) for passage in split(text, max_words=70, min_words=45)] == [60, 40]
    assert split(text, max_words=1000) == [text]


def test_a_header_begins_a_passage():
    text = f"{words(20)}\n\n# One\n\n{words(20)}\n\nTwo\n---\n{words(20)}"
    assert [passage.split()[:2] for passage in split(text)] == [["word", "word"], ["#", "One"], ["Two", "---"]]
    assert len(split(text, keep_sections=False)) == 1


def test_a_long_paragraph_is_cut_between_sentences_and_a_sentence_never():
    text = " ".join([words(30), words(30), words(90), words(5)])
    assert [count_words(passage) for passage in split(text, max_words=60, min_words=1)] == [60, 90, 5]
    chinese = "河水流过小镇。" * 40
    pieces = split(chinese, max_words=100, min_words=10)
    assert "".join(pieces) == chinese
    assert max(map(count_words, pieces)) <= 100


def test_a_header_needs_no_blank_line_before_it_and_code_has_none():
    assert split("text\n# Second\nmore\n## Third\nand more") == ["text", "# Second\nmore", "## Third\nand more"]
    code = "```sh\n# one\n\n# two\n\n  run\n```"
    assert split(f"{words(60)}\n\n{code}") == [f"{words(60)}\n\n{code}"]
    assert split(f"{words(60)}\n\n{code}", max_words=62, min_words=10) == [words(60), code]


@pytest.mark.parametrize(
    ("sentence", "between"),
    [
        ("नदी पहाड़ से निकलकर शहर तक बहती है।", " "),
        ("هل يجري النهر من الجبل إلى المدينة؟", " "),
        ("မြစ်သည် တောင်မှ မြို့သို့ စီးဆင်းသည်။", ""),
        ("ទន្លេហូរពីភ្នំទៅទីក្រុង។", ""),
        ("ཆུ་བོ་རི་ནས་གྲོང་ཁྱེར་དུ་རྒྱུག།", " "),
        ("แม่น้ำไหลจากภูเขาสู่เมือง", " "),
        ("他说：“河水从山上流到城里。”", ""),
        ("Mr. Lee of St. Ives, as J. Smith says, follows the river.", " "),
    ],
)
def test_a_paragraph_of_any_script_is_cut_behind_its_sentences(sentence, between):
    pieces = split(between.join([sentence] * 60), max_words=100, min_words=1)
    assert len(pieces) > 1
    for piece in pieces:
        assert 0 < count_words(piece) <= 100
        assert piece == between.join([sentence] * (len(piece) // len(sentence)))


def test_nothing_of_a_document_is_lost():
    text = f"# A\n\n{words(500)} {words(3)}\n\n{words(700, 'x')}\n\n## B\n\nshort"
    assert " ".join(" ".join(split(text)).split()) == " ".join(text.split())
    assert SplitPassages().apply(Document(id="d", text=" \n")) == Drop("empty_document")
    with pytest.raises(RecipeError, match="min_words is 50; accepted: a number of words from 1 to max_words"):
        SplitPassages(max_words=20)


def test_words_are_counted_in_every_script():
    texts = ["one two three", "one", "河水流过", "河水 one", "", "ទន្លេ", "ນ້ຳ", "မြစ်", "ཆུ་བོ"]
    reasons = pl.DataFrame({"text": texts}).select(KeepWords(2, 3).reason()).to_series().to_list()
    assert reasons == [None, "too_short", "too_long", None, "too_short", "too_long", None, "too_long", "too_long"]
    assert [count_words(text) for text in texts] == [3, 1, 4, 3, 0, 5, 3, 4, 5]


def test_real_pages_lose_markup_and_keep_their_length(shared_data):
    with gzip.open(shared_data / "corpus" / "web" / "c4_300.jsonl.gz", "rt") as rows:
        texts = [json.loads(row)["text"] for row in rows]
    kept = [cleaned(DropBoilerplate(), text) for text in texts]
    assert sum(map(len, kept)) > 0.97 * sum(map(len, texts))
    assert not {"only_boilerplate"} & set(kept)
