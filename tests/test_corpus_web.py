"""Web archives and pages, good, odd and damaged; PDF files."""

import gzip
import io
import random
from functools import partial
from html import unescape
from importlib.util import find_spec

import pytest

from reinstruct.corpus.files import blocks
from reinstruct.corpus.members import boundary
from reinstruct.corpus.open import open_source
from reinstruct.corpus.page import decode_page, extract_text, licence_link
from reinstruct.corpus.read import read_batches, read_range
from reinstruct.corpus.source import Range, SourceFile
from reinstruct.corpus.warc import read_blocks
from reinstruct.errors import CorpusError
from reinstruct.records import Document, Rejected

PARAGRAPH = "The river rises in the hills and runs past the old mill towards the sea, and the town lives from it. "


def page(n):
    return (
        f"<html><head><title>River {n}</title></head><body><nav><a href='/'>Home</a> <a href='/x'>Sitemap</a></nav>"
        f"<article><h1>River {n}</h1><p>{PARAGRAPH * 3}It is {n} miles long.</p><p>{PARAGRAPH * 2}</p></article>"
        "<footer>Privacy notice <a rel='license' href='https://creativecommons.org/licenses/by/4.0/'>CC</a></footer>"
        "</body></html>"
    ).encode()


def record(kind, body, n=0, mime="application/http; msgtype=response"):
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{n:08d}>\r\nWARC-Target-URI: http://x.org/{n}\r\n"
        f"WARC-Date: 2024-01-01T00:00:00Z\r\nContent-Type: {mime}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n\r\n"


def response(n, body=None, mime="text/html; charset=utf-8", status="200 OK", extra=""):
    body = page(n) if body is None else body
    http = f"HTTP/1.1 {status}\r\nContent-Type: {mime}\r\n{extra}\r\n".encode()
    return record("response", http + body, n)


def archive(records, *, packed=True):
    """(content, where each record begins)."""
    places, content = [], b""
    for raw in records:
        places.append(len(content))
        content += gzip.compress(raw, mtime=0) if packed else raw
    return content, places


def read(path, content):
    path.write_bytes(content)
    source = open_source(str(path), Document)
    return [record for file in source.files for batch in read_batches(source, file) for record in batch]


def outcomes(records):
    return [record.reason if isinstance(record, Rejected) else record.url[-1] for record in records]


@pytest.mark.parametrize("name", ["a.warc.gz", "a.warc"])
def test_pages_become_documents_with_their_address_and_licence(tmp_path, name):
    info = record("warcinfo", b"software: x\r\n", mime="application/warc-fields")
    asked = record("request", b"GET / HTTP/1.1\r\nHost: x.org\r\n\r\n", 1, "application/http; msgtype=request")
    content, _ = archive([info, asked, response(1), response(2)], packed=name.endswith("gz"))
    one, two = read(tmp_path / name, content)
    assert (one.id, one.url, one.source) == ("urn:uuid:00000001", "http://x.org/1", name)
    assert one.licence == "https://creativecommons.org/licenses/by/4.0/"
    assert "It is 1 miles long." in one.text
    assert "Sitemap" not in one.text
    assert "Privacy" not in one.text
    assert two.text != one.text


def test_what_is_no_page_is_rejected_with_its_reason(tmp_path):
    chunked = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    records = [
        response(0, status="404 Not Found"),
        response(1, b"GIF89a", mime="image/gif"),
        response(2, b"", mime="text/html"),
        response(3, b"plain words", mime="text/plain"),
        response(4, chunked, mime="text/plain", extra="Transfer-Encoding: chunked\r\n"),
        response(5, gzip.compress(b"packed words"), mime="text/plain", extra="Content-Encoding: gzip\r\n"),
        record("response", b"no http at all", 6),
        response(7, page(7), mime=""),
    ]
    found = read(tmp_path / "a.warc.gz", archive(records)[0])
    assert outcomes(found) == ["http_status", "not_text", "empty_text", "3", "4", "5", "not_http", "7"]
    assert [found[n].text for n in (3, 4, 5)] == ["plain words", "hello world", "packed words"]
    assert (found[0].detail, found[0].record) == ("byte 0: 404", "http://x.org/0")


@pytest.mark.parametrize(
    ("coding", "body", "outcome"),
    [
        ("x-gzip", gzip.compress(b"packed words", mtime=0), "packed words"),
        ("Identity", b"packed words", "packed words"),
        ("UTF-8", b"packed words", "packed words"),
        ("gzip, br", b"\x1f\x8b", "unknown_coding"),
        ("zstd", b"\x28\xb5\x2f\xfd", "unknown_coding"),
        ("br", b"\x8b\x05\x80packed words\x03", "packed words" if find_spec("brotli") else "unknown_coding"),
        ("br", b"packed words", "packed words" if find_spec("brotli") else "unknown_coding"),
        ("br", b"\xff\xfe\xfd", "unknown_coding"),
        ("gzip", gzip.compress(b"words " * 3_000_000, mtime=0), "too_large"),
    ],
)
def test_content_codings_are_undone_or_the_page_is_rejected(tmp_path, coding, body, outcome):
    raw = response(0, body, mime="text/plain", extra=f"Content-Encoding: {coding}\r\n")
    (found,) = read(tmp_path / "a.warc.gz", archive([raw])[0])
    assert (found.reason if isinstance(found, Rejected) else found.text) == outcome


def test_wet_files_give_their_text(tmp_path):
    raw = record("conversion", "Grüße\nzwei\n".encode(), 3, "text/plain")
    (document,) = read(tmp_path / "a.warc.wet.gz", archive([raw])[0])
    assert (document.text, document.url) == ("Grüße\nzwei\n", "http://x.org/3")


@pytest.mark.parametrize("packed", [True, False])
def test_a_truncated_archive_gives_what_came_before(tmp_path, packed):
    content, places = archive([response(n) for n in range(3)], packed=packed)
    found = read(tmp_path / ("a.warc.gz" if packed else "a.warc"), content[:-100])
    assert outcomes(found) == ["0", "1", "truncated_file" if packed else "truncated_record"]
    assert found[-1].id.endswith(f":{places[2]}")


@pytest.mark.parametrize("cut", range(10, 260, 10))
def test_a_cut_in_the_headers_of_a_record_never_gives_half_a_page(tmp_path, cut):
    content, places = archive([response(n) for n in range(2)], packed=False)
    found = read(tmp_path / "a.warc", content[: places[1] + cut])
    assert outcomes(found)[0] == "0"
    assert {record.reason for record in found[1:]} <= {"not_warc", "truncated_record"}
    assert len(found) == 2


@pytest.mark.parametrize("packed", [True, False])
def test_damage_costs_the_record_it_lies_in(tmp_path, packed):
    content, places = archive([response(n) for n in range(5)], packed=packed)
    damaged = bytearray(content)
    damaged[places[2] + 1 : places[2] + 30] = b"\xff" * 29
    found = read(tmp_path / ("a.warc.gz" if packed else "a.warc"), bytes(damaged))
    assert [outcome for outcome in outcomes(found) if len(outcome) == 1] == ["0", "1", "3", "4"]
    assert len(found) == 5
    assert found[2].id.endswith(f":{places[2]}")


@pytest.mark.parametrize("packed", [True, False])
def test_a_good_record_between_damaged_ones_is_read(tmp_path, packed):
    """Wherever the archive is cut; a record of which only the beginning is good is rejected, not passed over."""
    content, places = archive([response(n) for n in range(8)], packed=packed)
    damaged = bytearray(content)
    for number in (1, 3, 6):
        damaged[places[number] + 2 : places[number] + 30] = b"\xff" * 28
    expected = ["0", "bad", "2", "bad", "4", "5", "bad", "7"]
    if packed:
        damaged[places[4] + 200] ^= 0xFF  # inside its data
        expected[4] = "bad"
    path = tmp_path / ("a.warc.gz" if packed else "a.warc")
    found = read(path, bytes(damaged))
    assert ["bad" if isinstance(record, Rejected) else record.url[-1] for record in found] == expected
    bad = [record.id for record in found if isinstance(record, Rejected)]
    assert bad == [f"{path.name}:{place}" for place, outcome in zip(places, expected, strict=True) if outcome == "bad"]
    source = open_source(str(path), Document)
    for place in places[1:]:
        start = boundary(partial(blocks, source, source.files[0]), place, compressed=packed)
        ranges = [Range(0, start), Range(start, len(content))] if start > 0 else [Range(0, len(content))]
        batches = [batch for within in ranges for batch in read_range(source, source.files[0], within)]
        assert [record for batch in batches for record in batch.flat(Document)] == found


def test_a_record_that_says_it_is_too_long_costs_itself_alone_wherever_the_archive_is_cut(tmp_path):
    records = [response(n) for n in range(8)]
    length = f"Content-Length: {len(records[2].partition(b'HTTP/')[2]) + 1}".encode()
    for claimed in (9, 3000, 5000):
        odd = [
            *records[:2],
            records[2].replace(length, f"Content-Length: {int(length[16:]) + claimed}".encode()),
            *records[3:],
        ]
        content, places = archive(odd, packed=False)
        found = read(tmp_path / f"{claimed}.warc", content)
        assert outcomes(found) == ["0", "1", "wrong_length", "3", "4", "5", "6", "7"]
        source = open_source(str(tmp_path / f"{claimed}.warc"), Document)
        for place in places[1:]:
            ranges = [Range(0, place), Range(place, len(content))]
            batches = [batch for within in ranges for batch in read_range(source, source.files[0], within)]
            assert [record for batch in batches for record in batch.flat(Document)] == found


def test_an_archive_whose_size_is_not_told_is_read_to_its_end(tmp_path):
    content, _ = archive([response(n) for n in range(3)])
    rows = [
        row
        for block in read_blocks(lambda start: iter([content[start:]]), SourceFile("a.warc.gz", 0, ""))
        for row in block
    ]
    assert [row.value.url[-1] for row in rows] == ["0", "1", "2"]


def test_damage_in_a_member_of_many_records_does_not_cost_the_next_member(tmp_path):
    noise = random.Random(0)
    pages = [response(n, noise.randbytes(15_000).hex().encode(), mime="text/plain") for n in range(10)]
    first, second = (gzip.compress(b"".join(some), mtime=0) for some in (pages[:5], pages[5:]))
    damaged = bytearray(first)
    damaged[-8] ^= 0xFF  # of the check sum: found where more was unpacked than lies before the second member
    found = read(tmp_path / "a.warc.gz", bytes(damaged) + second)
    assert [outcome for outcome in outcomes(found) if len(outcome) == 1][-5:] == ["5", "6", "7", "8", "9"]
    (bad,) = (record for record in found if isinstance(record, Rejected))
    assert (bad.id.partition("+")[0], bad.reason) == ("a.warc.gz:0", "corrupt_file")
    assert bad.detail.startswith("byte 0+")


def test_one_member_may_hold_many_records(tmp_path):
    raw, _ = archive([response(n) for n in range(3)], packed=False)
    assert outcomes(read(tmp_path / "a.warc.gz", gzip.compress(raw))) == ["0", "1", "2"]


def test_a_file_that_is_no_archive_is_an_error(tmp_path):
    with pytest.raises(CorpusError, match="is not a WARC file: it begins with b'<html>'"):
        read(tmp_path / "a.warc", b"<html>")
    with pytest.raises(CorpusError, match="is not a gzipped WARC file"):
        read(tmp_path / "a.warc.gz", b"WARC/1.0")


def test_a_cut_inside_a_record_is_an_error(tmp_path):
    content, places = archive([response(n) for n in range(3)])
    (tmp_path / "a.warc.gz").write_bytes(content)
    source = open_source(str(tmp_path / "a.warc.gz"), Document)
    with pytest.raises(CorpusError, match="where it was cut between shards"):
        list(read_range(source, source.files[0], Range(0, places[1] + 5)))


def test_archives_and_pages_give_documents_alone(tmp_path):
    from reinstruct.records import Pair

    (tmp_path / "a.warc").write_bytes(b"WARC/1.0")
    with pytest.raises(CorpusError, match="a web archive gives Document records, not Pair"):
        open_source(str(tmp_path / "a.warc"), Pair)


@pytest.mark.parametrize(
    ("raw", "declared", "text"),
    [
        ("Grüße".encode(), "", "Grüße"),
        ("Grüße".encode("latin-1"), "iso-8859-1", "Grüße"),
        (b"\x93quoted\x94", "iso-8859-1", "“quoted”"),
        ('<meta charset="gb2312">中文'.encode("gb18030"), "", '<meta charset="gb2312">中文'),
        (b"caf\xe9", "no-such-charset", "café"),
        ("Grüße".encode(), "latin-1", "Grüße"),
        *((b"caf\xe9", odd, "café") for odd in ("undefined", "idna", "hex", "base64", "punycode", "unicode_escape")),
        (b'<meta charset="rot13">caf\xe9', "", '<meta charset="rot13">café'),
        (b"+2AA- \xe9", "utf-7", "? \ufffd"),
    ],
)
def test_pages_are_decoded_as_browsers_do(raw, declared, text):
    assert decode_page(raw, declared) == text


@pytest.mark.parametrize("odd", ["\x08", "\x1b", "\ufffe", "&#1;", "&#008", "&#x1B;", "&#65535;"])
def test_one_forbidden_character_does_not_cost_the_page(odd):
    text = extract_text(page(1).decode().replace("old mill", f"old{odd} mill"))
    assert "It is 1 miles long." in text
    assert "past the old mill towards" in " ".join(text.split())


@pytest.mark.parametrize("fine", ["&#10;", "&#127;", "&#12345;", "&#x1F600;", "&#x20AC;"])
def test_other_references_are_left_to_the_extractor(fine):
    plain = extract_text(page(1).decode().replace("old mill", f"old{unescape(fine)} mill"))
    assert extract_text(page(1).decode().replace("old mill", f"old{fine} mill")) == plain


def test_a_page_without_text_is_empty_and_a_licence_is_found():
    assert extract_text("") == extract_text("\0 ") == extract_text("<html></html>") == ""
    assert licence_link("<p>license</p>") == ""
    assert licence_link('<link href="/l" rel="license">') == "/l"


def test_a_page_of_tags_without_an_end_is_searched_once_for_its_licence():
    """Searched to its end from each of them, it would take minutes."""
    assert licence_link("license " + "<a " * 100_000 + "<a rel=license href=/l>") == "/l"
    assert licence_link("<a rel=license " * 50_000) == ""


def test_a_folder_of_pages_and_texts_is_one_corpus(tmp_path):
    (tmp_path / "b.html").write_bytes(page(1))
    (tmp_path / "a.md").write_text("# Notes\n\nwords")
    source = open_source(str(tmp_path), Document)
    found = [record for file in source.files for batch in read_batches(source, file) for record in batch]
    assert [record.source for record in found] == ["a.md", "b.html"]
    assert "It is 1 miles long." in found[1].text


def pdf(*texts, filters=None):
    """A PDF of pages with a text each, as small as they come. `filters`: page -> the filter it claims."""
    count = len(texts)
    kids = b" ".join(b"%d 0 R" % (4 + 2 * n) for n in range(count))
    bodies = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, count),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for n, text in enumerate(texts):
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
        packed = f"/Filter/{filters[n]}".encode() if filters and n in filters else b""
        bodies += [
            b"<</Type/Page/Parent 2 0 R/Contents %d 0 R/Resources<</Font<</F1 3 0 R>>>>/MediaBox[0 0 612 792]>>"
            % (5 + 2 * n),
            b"<</Length %d%s>>stream\n%s\nendstream" % (len(stream), packed, stream),
        ]
    out = io.BytesIO(b"%PDF-1.4\n")
    out.seek(0, 2)
    places = []
    for number, body in enumerate(bodies, start=1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(bodies) + 1) + table)
    out.write(b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(bodies) + 1, start))
    return out.getvalue()


def test_pdf_files_give_the_text_of_their_pages(tmp_path):
    (document,) = read(tmp_path / "a.pdf", pdf("Words on a page"))
    assert (document.text, document.source) == ("Words on a page", "a.pdf")
    for name, content in (("b.pdf", b"%PDF-1.4 nothing more"), ("c.pdf", random.Random(0).randbytes(500))):
        (bad,) = read(tmp_path / name, content)
        assert bad.reason == "corrupt_file"


def test_a_page_of_a_pdf_that_cannot_be_read_does_not_cost_the_others(tmp_path):
    content = pdf("One", "Two", "Three", filters={1: "NoSuchFilter"})
    bad, document = read(tmp_path / "a.pdf", content)
    assert document.text == "One\n\nThree"
    assert (bad.id, bad.reason) == ("a.pdf:2", "corrupt_page")
    assert bad.detail.startswith("page 2: ")
    (bad,) = read(tmp_path / "b.pdf", pdf("One", filters={0: "JBIG2Decode"}))
    assert bad.reason == "corrupt_page"


@pytest.mark.parametrize(("password", "outcome"), [("", "Words"), ("secret", "encrypted")])
def test_pdf_files_encrypted_with_aes_are_read_where_they_ask_for_no_password(tmp_path, password, outcome):
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf("Words"))))
    writer.encrypt(password, owner_password="owner", algorithm="AES-256")
    writer.write(tmp_path / "made.pdf")
    (found,) = read(tmp_path / "a.pdf", (tmp_path / "made.pdf").read_bytes())
    assert (found.reason if isinstance(found, Rejected) else found.text) == outcome


@pytest.mark.parametrize(
    ("name", "documents", "reasons"),
    [
        pytest.param("example.warc.gz", 128, {"http_status", "not_text", "empty_text"}, marks=pytest.mark.slow),
        ("warc_sample-0000.warc.gz", 24, set()),
        ("warc_sample-0001.warc.gz", 17, set()),
        ("whirlwind.warc", 1, set()),
        ("whirlwind.warc.gz", 1, set()),
        ("whirlwind.warc.wet", 1, set()),
    ],
)
def test_real_archives_are_read_whole(shared_data, name, documents, reasons):
    source = open_source(str(shared_data / "corpus" / "web" / name), Document)
    found = [record for batch in read_batches(source, source.files[0]) for record in batch]
    assert len([record for record in found if isinstance(record, Document)]) == documents
    assert {record.reason for record in found if isinstance(record, Rejected)} == reasons
    assert len({record.id for record in found}) == len(found)
