"""The documents' own examples run: sessions with their output, recipes with recorded answers."""

from __future__ import annotations

import gzip
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from factory.cli.common import sampling_of
from factory.errors import UsageError
from factory.model_files import revision_of
from factory.records import Prompt, ids
from factory.stages.select import Selection, check_filters
from tests.helpers_docs import ROOT, TAKEN, blocks, parse, run, shows, take
from tests.helpers_server import Server

SESSIONS = [s for b in take("README.md", "$ ") for s in b.sessions]
RECIPES = {
    name: block.text
    for block in take("README.md", "# ", language="yaml")
    if (name := block.text.split()[1].rstrip(":"))
}
(RELEASE,) = take("README.md", "factory generate vllm.yaml\n")
(VERB_BY_VERB,) = take("README.md", "factory inspect FILE")
(ALONE,) = take("README.md", "factory verify answers.jsonl")
(REVIEWED,) = take("docs/browse.md", language="yaml")
(PICTURE,) = take("README.md", " prompts ──►")
(TREE,) = take("README.md", "factory/ ")
R1 = take("README.md", "make miniature")
BEFORE_WORK = [*take("README.md", "make quickstart"), *take("CONTRIBUTING.md", "make test"), *R1]
HARNESS = take("docs/results.md", "python tests/bench/bench_harness.py")
EXAMPLES = [json.loads(line) for line in (ROOT / "docs/examples/traces.jsonl").open()]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for name, text in RECIPES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(path: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def test_no_block_is_left_that_nobody_runs() -> None:
    for path in (ROOT / "tests").glob("test_*.py"):
        if "helpers_docs import" in path.read_text(encoding="utf-8"):
            importlib.import_module(f"tests.{path.stem}")
    left = [str(b) for b in blocks() if (b.file, b.line) not in TAKEN]
    assert not left, "a test takes each block (tests/helpers_docs.py) and runs it"


def test_the_sessions_print_what_they_say(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(SESSIONS) >= 2
    for command, shown in SESSIONS:
        assert run(command) == 0
        printed = capsys.readouterr().out
        assert shows(printed, shown), printed


def test_a_file_becomes_a_release_verb_by_verb(here: Path) -> None:
    for command in VERB_BY_VERB.commands:
        assert run(command.replace("FILE", "docs/examples/traces.jsonl")) == 0, command
    assert len(rows_of("train.jsonl")) == 14


def answers_of(
    values: dict[str, Any], model: str, revision: str, template: str | None = None
) -> dict[int, dict[str, Any]]:
    """The answers of a model to a recipe's prompts by their seeds: each first sample is right."""
    words = yaml.safe_load((ROOT / "factory/sources/templates/boxed.yaml").read_text())["prompt"]
    sampling, out = sampling_of({**values["sampling"], "template": template}, seed=None), {}
    for row in rows_of(values["source"]["paths"][0]):
        prompt = Prompt.of(words.replace("{prompt}", row["prompt"]))
        thinking = "我先算一遍。" if row.get("language") == "zh" else "I work it out step by step."
        keys = ids.trace_ids(
            prompt_id=prompt.prompt_id, model=model, revision=revision,
            sampling_id=sampling.sampling_id, n=8,
        )  # fmt: skip
        for i, key in enumerate(keys):
            text = f"<think>{thinking}</think>\n\n\\boxed{{{'no idea' if i else row['gold']}}}"
            out[ids.seed_of(base=sampling.seed, trace_id=key)] = {
                "trace_id": key, "prompt_id": prompt.prompt_id, "sample_index": i,
                "completion": text, "n_completion_tokens": 9,
            }  # fmt: skip
    return out


PROGRAM = """
import json, pathlib, sys, threading
from tests.helpers_server import Server
record = json.loads(pathlib.Path(sys.argv[2]).read_text())
with Server({int(seed): row for seed, row in record.items()}, port=int(sys.argv[1])):
    threading.Event().wait()
"""


@contextmanager
def stand_in(name: str, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a recipe with an engine that answers from a record, in place of a model's."""
    engine = values["engine"]
    if name == "vllm.yaml":
        record = answers_of(values, "recorded", "recorded")
        Path("answers.jsonl").write_text("".join(json.dumps(a) + "\n" for a in record.values()))
        engine = {"kind": "replay", "model": "recorded", "answers": "answers.jsonl"}
        yield {**values, "engine": engine}
    elif name == "api.yaml":
        with Server(answers_of(values, engine["model"], engine["revision"])) as server:
            paces = {"requests_per_minute": 60_000, "tokens_per_minute": 60_000_000}
            yield {**values, "engine": {**engine, **paces, "base_url": server.url}}
        sent = server.bodies[0]
        assert "max_completion_tokens" in sent
        assert not {"temperature", "max_tokens"} & sent.keys()
    else:
        folder = Path(engine["serve"]["model"])
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"")
        record = answers_of(values, engine["model"], revision_of(str(folder)), "plain")
        Path("record.json").write_text(json.dumps(record))
        Path("program.py").write_text(PROGRAM)
        command = [sys.executable, "program.py", "{port}", "record.json"]
        yield {**values, "engine": {**engine, "serve": {**engine["serve"], "command": command}}}


@pytest.mark.parametrize(
    "name",
    [
        "vllm.yaml",
        pytest.param("api.yaml", marks=pytest.mark.slow),
        pytest.param("serve.yaml", marks=pytest.mark.slow),
    ],
)
def test_own_prompts_become_a_release(here: Path, name: str) -> None:
    assert set(RECIPES) == {"vllm.yaml", "api.yaml", "serve.yaml", "select.yaml"}
    with stand_in(name, yaml.safe_load(RECIPES[name])) as values:
        Path(name).write_text(yaml.safe_dump(values))
        for command in RELEASE.commands:
            assert run(command.replace("vllm.yaml", name)) == 0, command
    assert len(rows_of("train.jsonl")) == len(rows_of("docs/examples/prompts.jsonl")) == 11


def test_one_part_alone_reads_and_writes_files(here: Path) -> None:
    lines = [json.dumps({**row, "text": row["completion"]}) for row in EXAMPLES]
    text = "\n".join(lines) + "\n"
    for name in ("answers", "traces", "train"):
        Path(f"{name}.jsonl").write_text(text)
    Path("traces.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("aime", "math500"):
        Path(f"{name}.jsonl").write_text(json.dumps({"problem": f"Of {name}: what is 2+2?"}) + "\n")
    for command in ALONE.commands:
        assert run(command) == 0, command
    for name in ("verified.jsonl", "marked.jsonl"):
        assert len(rows_of(name)) == len(EXAMPLES)


def test_the_filter_on_reviews_binds() -> None:
    filters = Selection.make(yaml.safe_load(REVIEWED.text)).all_filters()
    check_filters(filters, verifiers=[], scores=[])
    with pytest.raises(UsageError, match="reviwe"):
        check_filters({"typo": "reviwe = 'keep'"}, verifiers=[], scores=[])


def test_the_picture_names_stages_that_are_there() -> None:
    words = re.findall(r"[a-z]+", PICTURE.text.splitlines()[0])
    stages = {p.stem for p in (ROOT / "factory" / "stages").iterdir()}
    assert set(words) - stages == {"prompts", "sft", "grpo", "model"}


def test_the_file_tree_of_the_readme_exists() -> None:
    folder = ROOT
    for line in TREE.text.splitlines():
        names, is_inside = line.split("  ")[0].split(), line.startswith("  ")
        if is_inside:
            names = line.strip().split("  ")[0].split()
        for name in names:
            assert (folder / name if is_inside else ROOT / name).exists(), line
        folder = folder if is_inside else ROOT / names[0]


@pytest.mark.parametrize("block", BEFORE_WORK, ids=str)
def test_what_is_made_is_there(block: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their long work: the whole of CI is these lines, and small forms of them are slow tests."""
    monkeypatch.chdir(ROOT)
    for command in block.commands:
        if command.startswith("source "):
            if not (ROOT / ".venv").exists():
                pytest.skip("no .venv: another environment runs the tests")
            shell = ["bash", "-c", f"{command} && command -v factory distill"]
            found = subprocess.run(shell, capture_output=True, text=True, check=True)
            assert found.stdout.count("/bin/") == 2
        elif command.startswith(("python tests/", "factory doctor")):
            parse(command)  # test_docs_verbs.py runs doctor
        else:
            assert run(command) == 0, command


@pytest.mark.parametrize("command", [c for b in HARNESS for c in b.commands])
def test_what_needs_another_environment_is_read_by_its_parser(command: str) -> None:
    parse(command)


def scale() -> list[str]:
    spans = re.findall(r"`([^`]+)`", (ROOT / "docs" / "scale.md").read_text(encoding="utf-8"))
    programs = r"(python|distill|pytest|ollama|sbatch) |factory \w+ "  # "factory push" is a name
    return [s for s in dict.fromkeys(spans) if re.match(programs, s)]


@pytest.mark.parametrize("command", scale())
def test_what_no_machine_here_can_run_is_read_by_its_parser(command: str) -> None:
    words = command.split()
    if words[0] == "pytest":
        (path,) = [w for w in words if w.startswith("tests/")]
        text = (ROOT / path).read_text(encoding="utf-8")
        assert "-k" not in words or words[words.index("-k") + 1] in text
    elif words[0] == "sbatch":
        (script,) = [w for w in words if w.endswith(".sh")]
        subprocess.run(["bash", "-n", ROOT / script], check=True)
    elif words[0] == "ollama":
        assert words[1:4:2] == ["create", "-f"]
    else:
        parse(command.replace("RECIPE.yaml", "one-gpu.yaml"))
