"""Format: what models write around their thinking, dialect by dialect, with and without prefill."""

from __future__ import annotations

from pathlib import Path

import pytest

from factory.records import Item
from factory.verifiers import format as form

TABLE = (Path(__file__).parent / "golden" / "format_cases.txt").read_text(encoding="utf-8")


def cases() -> list[tuple[str, bool, str, str, str]]:
    out = []
    for line in TABLE.splitlines():
        if line and not line.startswith("#"):
            dialect, box, prefill, rest = line.split(" | ", 3)
            text, wanted = rest.rsplit(" | ", 1)
            prefill, text = (s.replace("⏎", "\n").replace("\\|", "|") for s in (prefill, text))
            out.append((dialect, box == "box", "" if prefill == "-" else prefill, text, wanted))
    return out


@pytest.mark.parametrize(("dialect", "box", "prefill", "text", "wanted"), cases())
def test_a_form(dialect: str, box: bool, prefill: str, text: str, wanted: str) -> None:
    item = Item(text=prefill + text, prefill=prefill)
    verdict = form.verify(item, dialect=dialect, box=box)
    assert (verdict.reason or verdict.status) == wanted
    assert verdict.reward == float(wanted == "pass")


def test_every_dialect_has_a_pass_and_a_fail() -> None:
    for dialect in form.DIALECTS:
        wanted = [case[-1] for case in cases() if case[0] == dialect]
        assert "pass" in wanted, dialect
    assert len(set(cases())) == len(cases())
