"""What is masked, and above all what is not."""

import pytest

from reinstruct.errors import RecipeError
from reinstruct.records import Document, Pair
from reinstruct.stages.scrub import Scrub


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to ann.lee+x@mail.example.org.", "Write to [email]."),
        ("a@b.org/c@d.org|e@f.org, g@h and x@i@j.org", "[email][email][email], g@h and x@[email]"),
        ("key-sk-proj-a-b-c-d-e-f-g-h-i-1 and sk-" + "a1-" * 9, "key-[secret] and [secret]"),
        ("resolver 8.8.8.8, or 2001:4860:4860::8888", "resolver [ip], or [ip]"),
        ("call +44 20 7946 0958 or +1 (212) 555-0123.", "call [phone] or [phone]."),
        ("(212) 555-0123 and 212-555-0123", "[phone] and [phone]"),
        ("to DE89 3704 0044 0532 0130 00 or GB82WEST12345698765432", "to [iban] or [iban]"),
        ("4111 1111 1111 1111, 5555-5555-5555-4444, 378282246310005", "[card], [card], [card]"),
        ("AKIAIOSFODNN7EXAMPLE ghp_" + "a1" * 18, "[secret] [secret]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "[secret]"),
        (f"a -----BEGIN PRIVATE KEY-----\n{'MIIE' * 16}\n{'AbC/' * 9}\n\ncut off", "a [secret]\n\ncut off"),
        ("ES91 2100 0418 4502 0005 1332 BIC CAIXESBB, BE71 0961 2345 6769 EUR", "[iban] BIC CAIXESBB, [iban] EUR"),
        ("josé.núñez@example.org, мария@example.org", "[email], [email]"),
        ("请联系邮箱foo@example.com了解详情", "请联系邮箱[email]了解详情"),
        ("联系邮箱foo@example.com，谢谢。메일은foo@example.com입니다", "联系邮箱[email]，谢谢。메일은[email]입니다"),
        ("电话+8613800138000联系，卡号4111111111111111。", "电话[phone]联系，卡号[card]。"),
        ("服务器8.8.8.8上，地址2001:4860:4860::8888。", "服务器[ip]上，地址[ip]。"),
        ("密钥AKIAIOSFODNN7EXAMPLE。账号DE89370400440532013000元", "密钥[secret]。账号[iban]元"),
    ],
)
def test_personal_data_is_masked(text, masked):
    assert Scrub().masked(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "192.168.1.1, 127.0.0.1 and 10.0.0.7 are private",
        "version 1.2.3.4, v8.8.8.8, section 4.4.4.4, 1.2.3.4.5 and 999.1.1.1",
        "std::vector, a::b, 12:30:45 and fe80::1",
        "2024-01-15, 19.11.2026, 15/01/2024 and 2024 2025 2026 2027",
        "ISBN 978-3-16-148410-0, ISBN 0-306-40615-2 and doi:10.1000/182",
        "4111 1111 1111 1112 and 1234 5678 9012 3456 fail the sum",
        "升级到版本8.8.8.8，版本号：8.8.8.8 和 v8.8.8.8",
        "How a file begins: -----BEGIN PRIVATE KEY----- and then the key",
        "DE00 3704 0044 0532 0130 00 and GB00 1234 are no accounts",
        "@name, a@b, x @ y and pi is 3.14159265358979",
        "sk-learn-something-quite-long-words and eyJust-a-word",
        "order 212-555-01234 of 1,234,567,890 grains",
    ],
)
def test_what_only_looks_alike_stays(text):
    assert Scrub().masked(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "QUJD/+=" * 10_000 + " @",
        "a" * 60_000 + "@" + "a-" * 20_000,
        "sk-" * 20_000,
        "sk-" + "a-" * 20_000,
        "-----BEGIN PRIVATE KEY-----\n" * 40_000,
        "eyJaaaaaaaa-" * 40_000,
        "v1.1.1.1 " + "8.8.8. " * 20_000,
    ],
)
def test_long_runs_of_what_only_begins_alike_end(text):
    """Tried from each of their characters anew, these would take minutes or hours."""
    assert Scrub().masked(text) == text


def test_many_addresses_end():
    assert Scrub(kinds=("ip",)).masked("8.8.8.8 " * 20_000) == "[ip] " * 20_000


def test_only_the_named_fields_and_kinds_change():
    text = "8.8.8.8 a@b.org"
    record = Pair(id="p", instruction=text, output=text, document=text)
    scrubbed = Scrub[Pair](("instruction", "output"), ("email",)).apply(record)
    assert isinstance(scrubbed, Pair)
    assert (scrubbed.instruction, scrubbed.output, scrubbed.document) == ("8.8.8.8 [email]", "8.8.8.8 [email]", text)
    assert Scrub().apply(Document(id="d", text="nothing")) == Document(id="d", text="nothing")


def test_unknown_kinds_are_named():
    with pytest.raises(RecipeError, match=r"kinds is \('mail',\); accepted: some of secret, email"):
        Scrub(kinds=("mail",))
