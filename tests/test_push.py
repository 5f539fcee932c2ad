"""Publishing: what a dry run writes, what is redacted, and what is refused before anything goes."""

from __future__ import annotations

from pathlib import Path

import orjson
import polars as pl
import pytest

from factory.cli.main import main

ROWS = [
    {"prompt": "Who?", "completion": "Write to ann@site.org.", "split": "train", "model": "m"},
    {"prompt": "Call +49 30 1234 5678?", "completion": "Yes, do.", "split": "train", "model": "m"},
    {"prompt": "What?", "completion": "That, I say.", "split": None, "model": "m"},
    {"prompt": "Secret?", "completion": "A test item.", "split": "test", "model": "m"},
]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACTORY_STORE", str(tmp_path / "data"))
    Path("rows.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in ROWS))
    Path("all.yaml").write_text("disabled: [not_evaluation]\n")
    assert main(["import", "rows.jsonl"]) == 0
    assert main(["release", "r", "all.yaml"]) == 0
    return tmp_path


def test_a_dry_run_writes_and_prints_and_sends_nothing(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    argv = ["push", "r", "--dry-run", "--out", "hub", "--license", "cc-by-4.0"]
    assert main([*argv, "--source-license", "rows=mit"]) == 0
    text, said = capsys.readouterr()
    card = Path("hub/README.md").read_text()
    assert card in text
    for part in ("license: cc-by-4.0", "| rows | 3 | mit |", "## Lineage", "- code: ",
                 "split: train", "not_evaluation", "1 email", "no verdict", "(off)"):  # fmt: skip
        assert part in card, part
    assert "nothing was sent (it would be private)" in text
    assert "1 rows are left out" in said
    assert "2 rows hold personal data" in said
    rows = pl.read_parquet("hub/data/train-*.parquet")
    assert rows.height == 3
    assert "ann@site.org" in str(rows["completion"].to_list())


def test_redaction_reaches_prompts_and_traces(store: Path) -> None:
    assert main(["push", "r", "--dry-run", "--out", "hub", "--redact"]) == 0
    text = str(pl.read_parquet("hub/data/train-*.parquet").to_dicts())
    assert "[EMAIL]" in text
    assert "[PHONE]" in text
    assert "ann@site.org" not in text
    assert "1234 5678" not in text
    assert "replaced by its kind" in Path("hub/README.md").read_text()


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["push", "r"], "--repo OWNER/NAME"),
        (["push", "r", "--repo", "a/b", "--out", "x"], "goes with --dry-run"),
        (["push", "r", "--dry-run", "--split", "dev"], "no split 'dev'"),
        (["push", "gone", "--dry-run"], "no release 'gone'"),
    ],
)
def test_a_mistake_is_one_line(
    store: Path, argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(argv) in (1, 2)
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
