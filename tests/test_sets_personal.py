"""Personal data: each form is found and redacted; mathematics, code and versions are left alone."""

from __future__ import annotations

import re

import polars as pl
import pytest

from factory.sets import personal

HELD: list[tuple[str, str | None]] = [
    ("Write to jane.doe+x@mail.example.com, please.", "Write to [EMAIL], please."),
    ("sk-abcdefghijklmnopqrstuvwx1234", "[KEY]"),
    ("use sk-ant-api03-AbC123def456GHI789jkl012", "use [KEY]"),
    ("AKIAIOSFODNN7EXAMPLE", "[KEY]"),
    ("hf_abcdefghijklmnopqrstuvwxyzABCDEFGH", "[KEY]"),
    ("ghp_" + "a1" * 18, "[KEY]"),
    ('API_KEY = "a8f5f167f44f4964e6c998dee827110c"', '[KEY]"'),
    ("password: hunter2hunter22", "[KEY]"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "[KEY]"),
    ("call +49 30 1234 5678 or (555) 123-4567", "call [PHONE] or [PHONE]"),
    ("555-123-4567.", "[PHONE]."),
    ("Mine is +15551234567", "Mine is [PHONE]"),
    ("手机：13800138000", "[PHONE]"),
    ("tel: 030 123 4567", "[PHONE]"),
    ("4111 1111 1111 1111", "[CARD]"),
    ("DE89 3704 0044 0532 0130 00", "[IBAN]"),
    ("123-45-6789", "[NATIONAL_ID]"),
    ("身份证 11010519491231002X", "身份证 [NATIONAL_ID]"),
    ("ann@a.org, bob@b.org", "[EMAIL], [EMAIL]"),
    ("4111 1111 1111 1112", None),  # the check digit is wrong
    ("DE88 3704 0044 0532 0130 00", None),
    ("11010519491231002Y", None),
    ("f(x+12 34 56) = 3.14159265358979", None),
    ("100-200-3000 and 2024-01-02 and 1 + 2345678901", None),
    ("x+12345678901", None),
    ("P(A@B) = 1/2, a @ b", None),
    ("version 1.2.3.4, the key = 7, token: word", None),
    ("Tell me: 1234567 is prime?", None),
    ("", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "redacted"), HELD)
def test_what_is_personal(text: str, redacted: str | None) -> None:
    assert personal.redact(text) == (text if redacted is None else redacted)
    assert bool(personal.count(text)) == (redacted is not None)
    if redacted is not None:
        for kind in personal.count(text):
            assert re.search(personal.HINTS[kind], text), "the quick look sees it too"
            assert pl.Series([text]).str.contains(personal.HINTS[kind]).all(), "and so does Polars"
        assert not personal.count(personal.redact(text)), "nothing is left to find"


def test_a_long_text_costs_little() -> None:
    for text in ("1" * 200_000, "a@" * 100_000, "+1 " * 70_000, "key=" * 50_000, "12-" * 70_000,
                 "sk-" * 60_000, "eyJ" * 60_000, "a.b@c." * 30_000):  # fmt: skip
        personal.count(text)
