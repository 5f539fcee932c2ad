"""Format: what models write around their thinking, dialect by dialect, with and without prefill."""

from __future__ import annotations

import pytest

from factory.dialects import DIALECTS
from factory.records import Item
from factory.verifiers import format as form
from tests.helpers_golden import golden_rows


def cases() -> list[tuple[str, bool, str, str, str]]:
    out = []
    for dialect, box, begun, said, wanted in golden_rows("format_cases.txt", before=3, after=1):
        prefill, text = (s.replace("⏎", "\n").replace("\\|", "|") for s in (begun, said))
        out.append((dialect, box == "box", "" if prefill == "-" else prefill, text, wanted))
    return out


@pytest.mark.parametrize(("dialect", "box", "prefill", "text", "wanted"), cases())
def test_a_form(dialect: str, box: bool, prefill: str, text: str, wanted: str) -> None:
    item = Item(text=prefill + text, prefill=prefill)
    verdict = form.verify(item, dialect=dialect, box=box)
    assert (verdict.reason or verdict.status) == wanted
    assert verdict.reward == float(wanted == "pass")


def test_every_dialect_has_a_pass_and_a_fail() -> None:
    for dialect in DIALECTS:
        wanted = [case[-1] for case in cases() if case[0] == dialect]
        assert "pass" in wanted, dialect
    assert len(set(cases())) == len(cases())
