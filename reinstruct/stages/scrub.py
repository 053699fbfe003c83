"""Mask personal data and secrets in texts. No recipe does it unasked.

The one rule: what has a checksum or a range is checked, so that versions, dates, ISBNs and private addresses stay.
It finds what has a fixed form; names, street addresses and numbers written in words it cannot see.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from msgspec.structs import replace

from reinstruct.errors import expect
from reinstruct.records import R
from reinstruct.stage import Transform
from reinstruct.stages.scripts import UNSPACED_RANGES

# Words of all scripts but ASCII count for nothing around what is masked: in Chinese no space stands before a number.
# `\w`, `\d` and `\b` are ASCII's wherever re.ASCII is set, as it is for all but addresses of e-mail.
# Matches what could be the name before an @ in any case, so that a long run of such characters is gone over once.
_EMAIL = (
    rf"(?:[A-Za-z0-9_.!#$%&*+/=?^`{{|}}~-]|[^\W\x00-\x7f{UNSPACED_RANGES}\uac00-\ud7a3])++"
    r"(?:@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![A-Za-z0-9_]))?"
)
_IPV4 = r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)"
_IPV6 = r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])"
_PHONE = (
    r"(?<![\w+.,/-])(?<!\d )(?:"
    r"(?:\+|00)[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4}"  # +44 20 7946 0958
    r"|\([2-9]\d{2}\) ?[2-9]\d{2}[ .-]\d{4}|[2-9]\d{2}([ .-])[2-9]\d{2}\1\d{4}"  # (212) 555-0123
    r")(?![\w-]|[.,]\d)"
)
_CARD = r"(?<![\w.,-])[2-6]\d{3}(?:([ -]?)\d{4}(?:\1\d{4}){2}|[ -]?\d{6}[ -]?\d{5})(?![\w-]|[.,]\d)"
_KEY = r"(?:[A-Z]+ )*PRIVATE KEY-----"
_SECRET = (
    # A key ends before the next begins, so that each is gone over once; of one without an end goes what looks like it.
    rf"-----BEGIN {_KEY}(?:[^-]*+(?:-(?!----(?:BEGIN|END) )[^-]*+)*+-----END {_KEY}|(?:\s*[A-Za-z0-9+/=]{{32,}})++)"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{35}(?![\w-])|\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_\w{22,}\b"
    r"|\bglpat-[\w-]{20,}|\bxox[abprs]-[\w-]{10,}|\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}\b|\bhf_[A-Za-z0-9]{30,}\b"
    r"|\bsk-(?=[\w-]{0,200}\d)[\w-]{20,}|\bnpm_[A-Za-z0-9]{36}\b|\bpypi-[\w-]{50,}"
    r"|\beyJ[\w-]{8,2000}\.eyJ[\w-]{8,}\.[\w-]{8,}"
)
# How many characters the IBANs of each country have: ISO 13616 as registered by SWIFT, and those used beside it.
_IBAN_LENGTHS = {
    **{15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV"},
    **{22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG"},
    **{25: "AO CV GW LY MZ PT ST", 26: "DZ IR IS TR", 27: "BI CF CG CM DJ FR GA GQ GR IT KM MC MG MR SM TD"},
    **{28: "AL AZ BF BJ BY CI CY DO GT HN HU LB MA ML NE NI PL SN SV TG", 29: "BR EG PS QA UA", 30: "JO KW MU YE"},
    **{31: "MT SC", 32: "LC", 33: "RU"},
}


def _iban() -> str:
    """In groups of four or without spaces, of as many characters as the country's have, whatever follows."""
    forms = (
        rf"(?:{codes.replace(' ', '|')})\d\d(?: ?[A-Z0-9]{{4}}){{{length // 4 - 1}}}"
        + (rf" ?[A-Z0-9]{{{length % 4}}}" if length % 4 else "")
        for length, codes in _IBAN_LENGTHS.items()
    )
    return rf"\b(?=[A-Z]{{2}}\d\d)(?:{'|'.join(forms)})\b"


_UNICAST = ipaddress.ip_network("2000::/3")
_VERSION = re.compile(
    r"(?:\bv|\b(?:version|release|build|firmware|section|chapter|ver|rev)\.?:?|(?:版本?号?|バージョン|버전)[:：]?) ?$",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True)
class Scrub(Transform[R, R]):
    """In `fields`, put the name of its kind in brackets in the place of each secret, e-mail address, IBAN, payment card
    number, public IP address and phone number: "write to [email]".

    IBANs are checked by ISO 13616 (length by country, mod 97), cards by Luhn's sum, addresses by the IANA registries;
    an address after "version" or the like is none. Phone numbers need a country code, or the form of North American
    ones.
    """

    version: ClassVar[int] = 3
    fields: tuple[str, ...] = ("text",)
    kinds: tuple[str, ...] = ("secret", "email", "iban", "card", "ip", "phone")

    def __post_init__(self) -> None:
        accepted = f"some of {', '.join(_KINDS)}"
        expect(bool(self.kinds) and set(self.kinds) <= set(_KINDS), "Scrub: kinds", self.kinds, accepted)

    def apply(self, record: R) -> R:
        changed = {name: self.masked(getattr(record, name)) for name in self.fields}
        return replace(record, **changed)  # pyright: ignore[reportArgumentType]

    def masked(self, text: str) -> str:
        """The text without what it may not show."""
        for kind, (pattern, is_one, part) in _KINDS.items():
            if kind in self.kinds and part in text:
                text = pattern.sub(lambda match: f"[{kind}]" if is_one(match) else match[0], text)  # noqa: B023
        return text


def _is_public(match: re.Match[str]) -> bool:
    try:
        address = ipaddress.ip_address(match[0])
    except ValueError:
        return False
    if address.version == 6 and address not in _UNICAST:  # "a::b" is more often code than an address
        return False
    return address.is_global and not _VERSION.search(match.string, max(0, match.start() - 20), match.start())


def _is_email(match: re.Match[str]) -> bool:
    return "@" in match[0]


def _is_iban(match: re.Match[str]) -> bool:
    compact = match[0].replace(" ", "")
    number = "".join(str(int(char, 36)) for char in compact[4:] + compact[:4])
    return int(number) % 97 == 1


def _is_card(match: re.Match[str]) -> bool:
    digits = [int(char) for char in match[0] if char.isdigit()]
    doubled = sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (doubled + sum(digits[-1::-2])) % 10 == 0 and len(set(digits)) > 1


def _is_phone(match: re.Match[str]) -> bool:
    return 8 <= sum(char.isdigit() for char in match[0]) <= 17


def _always(match: re.Match[str]) -> bool:
    return bool(match[0])


# In this order: what is longer and surer first, so that no card is taken for a phone number. With each a part that all
# of its kind have: most texts have no @, and are done in a hundredth of the time.
_KINDS: dict[str, tuple[re.Pattern[str], Callable[[re.Match[str]], bool], str]] = {
    "secret": (re.compile(_SECRET, re.ASCII), _always, ""),
    "email": (re.compile(_EMAIL), _is_email, "@"),
    "iban": (re.compile(_iban(), re.ASCII), _is_iban, ""),
    "card": (re.compile(_CARD, re.ASCII), _is_card, ""),
    "ip": (re.compile(f"{_IPV4}|{_IPV6}", re.ASCII), _is_public, ""),
    "phone": (re.compile(_PHONE, re.ASCII), _is_phone, ""),
}
