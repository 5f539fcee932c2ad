"""The README's own examples run: sessions with their output, recipes with recorded answers."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from factory.cli.main import main
from factory.records import Prompt
from pipelines import curate_traces

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SESSIONS = re.findall(r"^\$ (.+)\n((?:(?!\$ |```).*\n)*)", README, re.MULTILINE)
RECIPES = dict(re.findall(r"```yaml\n# (\w+\.yaml)[^\n]*\n(.*?)```", README, re.DOTALL))
CHANGING = r"\b[0-9a-f]{12}\b|[0-9.]+ s, \d+ rows/s"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for name, text in RECIPES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(path: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command of the README in this process."""
    words = shlex.split(command)
    if words[:3] == ["python", "-m", "pipelines.curate_traces"]:
        monkeypatch.setattr("sys.argv", words[2:])
        args = curate_traces.parse()
        curate_traces.main(curate_traces.Recipe.load(args.recipe), args)
    else:
        assert words[0] == "factory"
        assert main(words[1:]) == 0, command


def test_the_sessions_print_what_they_say(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(SESSIONS) >= 2
    for command, shown in SESSIONS:
        run(command, monkeypatch)
        printed = capsys.readouterr().out
        for line in shown.splitlines():
            if line not in ("…", ""):
                assert re.sub(CHANGING, "*", line) in re.sub(CHANGING, "*", printed)


@pytest.mark.parametrize("name", [n for n in RECIPES if n != "select.yaml"])
def test_own_prompts_become_a_release(
    here: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = yaml.safe_load(RECIPES[name])
    prompts = rows_of("docs/examples/prompts.jsonl")
    # Recorded answers stand in for the model: the first of each prompt is right.
    template = yaml.safe_load((ROOT / "factory/sources/templates/boxed.yaml").read_text())
    answers = []
    for row in prompts:
        prompt = Prompt.of(template["prompt"].replace("{prompt}", row["prompt"]))
        thinking = "我先算一遍。" if row.get("language") == "zh" else "I work it out step by step."
        for i in range(8):
            answer = row["gold"] if i == 0 else "no idea"
            text = f"<think>{thinking}</think>\n\n\\boxed{{{answer}}}"
            answers.append({"prompt_id": prompt.prompt_id, "sample_index": i, "completion": text})
    Path("answers.jsonl").write_text("".join(json.dumps(a) + "\n" for a in answers))
    values["engine"] = {"kind": "replay", "model": "recorded", "answers": "answers.jsonl"}
    Path(name).write_text(yaml.safe_dump(values))
    block = re.search(r"```console\n(factory generate vllm\.yaml\n.*?)```", README, re.DOTALL)
    assert block
    for command in block[1].replace("vllm.yaml", name).splitlines():
        run(command, monkeypatch)
    assert len(rows_of("train.jsonl")) == len(prompts) == 11
