"""What a user gets wrong: one line each, that says what, where, and what to do next."""

from __future__ import annotations

import gzip
import json
import shlex
import sys
import time
from pathlib import Path

import pytest
import yaml

from distill.cli import main as distill
from factory.cli.common import run_parsed
from factory.cli.main import main as factory
from factory.rows.files import write_rows
from pipelines import r1
from tests.helpers_run import answers, problems

LONGEST_S = 5.0
"""Of a core, on a machine that does other work as well."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files of every kind, and a store with a release."""
    here = tmp_path_factory.mktemp("mistakes")
    rows = [{"prompt": p.text, "gold": s.gold, "verifier": "math"} for p, s in problems(2)]
    write_rows(str(here / "prompts.jsonl"), [rows])
    recorded = [
        {**row, "prompt_id": key.split(":")[0], "sample_index": int(key.split(":")[1])}
        for key, row in answers(2, 4).items()
    ]
    write_rows(str(here / "answers.jsonl"), [recorded])
    texts = {
        "select.yaml": "filters: {right: \"status = 'pass'\"}\n",
        "typo.yaml": "sampeling: {}\n",
        "tab.yaml": "a:\n\t- b\n",
        "list.yaml": "- a\n",
        "run.yaml": "base: nowhere\nout: out\n",
        "in.jsonl": '{"id": 1, "completion": "\\\\boxed{4}", "gold": "4"}\n',
        "taken.jsonl": '{"completion": "4", "gold": "4", "status": "mine"}\n',
        "old/store.json": '{"format": 99}',
        "pairs.jsonl": '{"prompt": "q", "completion": "<think>a</think>b"}\n',
    }
    for name, text in texts.items():
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text(text)
    (here / "folder.jsonl").mkdir()
    (here / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"completion": "x"}\n' * 9000)[:60])
    recipe = {
        "source": {"kind": "files", "paths": ["prompts.jsonl"], "name": "sums"},
        "engine": {"kind": "replay", "model": "recorded", "answers": "answers.jsonl"},
        "sampling": {"temperature": 0.7, "max_tokens": 64, "prefill": "<think>\n"},
        "policy": {"kind": "fixed", "n": 4},
    }
    (here / "generate.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        assert factory(["generate", "generate.yaml"]) == 0
        assert factory(["release", "sums", "select.yaml"]) == 0
        assert factory(["ls"]) == 0
    return here


CASES = [line.rstrip() for line in """
factory verify missing.jsonl --out o.jsonl :: no file 'missing.jsonl': check the path
factory verify in.jsonl --out o.xls :: unknown ending: use one of .jsonl
factory verify in.jsonl --out no/where/o.jsonl :: no folder 'no/where': make it first
factory verify in.jsonl --out in.jsonl :: both input and output
factory verify in.jsonl --out o.jsonl --verifier maths :: unknown verifier 'maths': known:
factory verify in.jsonl --out o.jsonl --verifier x/y.py :: no plug-in file
factory verify in.jsonl --out o.jsonl --option mood=x :: no verifier has option mood: known:
factory verify in.jsonl --out o.jsonl --mode bxoed :: no verifier knows mode 'bxoed': boxed and auto
factory verify in.jsonl --out o.jsonl --mode bxoed --verifier math :: 'math' does not know mode
factory verify in.jsonl --out o.jsonl --map completion :: write it as --map NAME=COLUMN
factory verify in.jsonl --out o.jsonl --map completion=nope :: no column 'nope'
factory verify in.jsonl --out o.jsonl --map golds=id :: nothing reads golds
factory verify in.jsonl --out o.jsonl --frobnicate :: --frobnicate: `factory verify --help`
factory verify in.jsonl --out o.jsonl --workers 0 :: '0' is no whole number of 1 or more
factory verify taken.jsonl --out o.jsonl :: already has status
factory verify folder.jsonl --out o.jsonl :: is a folder
factory verify cut.jsonl.gz --out o.jsonl :: cut off or damaged
factory score in.jsonl :: belong together: give both
factory score in.jsonl --out o.jsonl --scores beauty :: unknown score 'beauty': known:
factory score in.jsonl --out o.jsonl --map gold=id :: nothing reads gold
factory score in.jsonl --out o.jsonl --param min_words=3 :: write it as SCORE.KEY=VALUE
factory score in.jsonl --out o.jsonl --param length.mni=3 :: 'length' has no parameter mni
factory verify in.jsonl --out o.jsonl --diff :: --diff is for a store, not for files
factory verify --store data --mode boxed :: --mode reads files, not a store
factory score --store data --prefix x_ :: --prefix reads files, not a store
factory score in.jsonl --out o.jsonl --on ray :: --on is for a store, not for files
factory score --store data --on mars :: invalid choice: 'mars'
factory dedup in.jsonl --out o.jsonl --column nope :: no column 'nope' in the input: it has
factory dedup in.jsonl --out o.jsonl --threshold 7 :: no number above 0 and at most 1
factory dedup in.jsonl --out o.jsonl --ngram 0 :: 1 or more
factory dedup in.jsonl --out o.jsonl --map txt=id :: nothing reads txt
factory decontaminate in.jsonl --against in.jsonl --out o.jsonl :: has no prompt (columns: id
factory decontaminate in.jsonl --against gone.jsonl --out o.jsonl :: no file 'gone.jsonl'
factory decontaminate in.jsonl --against benchmark:aime42 --out o.jsonl :: unknown benchmark
factory decontaminate in.jsonl --against in.jsonl --map txt=id --out o.jsonl :: nothing reads txt
factory import :: nothing to import: give files
factory import no*.jsonl :: no file fits 'no*.jsonl': check the pattern
factory import in.jsonl --shape nope :: unknown shape 'nope': known:
factory import in.jsonl --map prompt=nope :: no column nope in in: it has id, completion, gold
factory inspect nothing.jsonl :: no file 'nothing.jsonl'
factory inspect in.jsonl --rows 0 :: 1 or more
factory generate gone.yaml :: no file 'gone.yaml'
factory generate typo.yaml :: unknown key 'sampeling'
factory generate tab.yaml :: not readable YAML (line
factory generate . :: . is a folder: give a recipe file
factory generate list.yaml :: holds a list: a recipe is a mapping
factory generate generate.yaml --set sampling :: write it as key=value
factory generate generate.yaml --set engine.kind=warp :: unknown engine 'warp': known:
factory generate generate.yaml --set engine.warp=9 :: engine 'replay'
factory generate generate.yaml --set engine.kind=openai :: no revision is given: give revision
factory generate generate.yaml --set engine.model=null :: names no model: give engine.model
factory generate generate.yaml --set sampling.temprature=1 :: temprature
factory generate generate.yaml --set sampling.temperature=hot :: 'hot'
factory generate generate.yaml --set sampling.temperature=-1 :: temperature
factory generate generate.yaml --set sampling.max_tokens=0 :: max_tokens
factory generate generate.yaml --set sampling.max_tokens=many :: max_tokens
factory generate generate.yaml --set sampling.thinking_budget=9999 :: leaves no answer
factory generate generate.yaml --set sampling.abort=never :: unknown abort rule
factory generate generate.yaml --set policy.kind=until :: needs passes
factory generate generate.yaml --set source.kind=fils :: unknown source 'fils': known:
factory generate generate.yaml --set source.paths=[gone.jsonl] :: no file 'gone.jsonl'
factory generate generate.yaml --set source.template=bxoed :: unknown template 'bxoed': known:
factory generate generate.yaml --set scores=[beauty] :: unknown score 'beauty'
factory generate generate.yaml --set 'price={per_token: 1}' :: price
factory generate generate.yaml --max-cost 1 :: a cost limit needs a price
factory generate generate.yaml --max-cost 0 :: no amount above 0
factory generate generate.yaml --max-tokens 0 :: 1 or more
factory generate generate.yaml --limit -1 :: 1 or more
factory judge select.yaml :: missing key 'engine'
factory generate generate.yaml --set 'sampling={max_tokens: 4}' :: sampling lacks temperature
factory select generate.yaml :: stands in files of `factory generate`
factory select gone.jsonl :: no file 'gone.jsonl'
factory select in.jsonl :: rows of data are no recipe
factory select select.yaml --set 'filters.x=status = "pass"' :: text stands in single quotes
factory select select.yaml --set filters=[x] :: keys with values are wanted
factory show sms :: 'sums' is near
factory sql 'SELECT completion FROM wide' :: texts stand in trace_texts
factory select select.yaml --set universe.models=[typo] :: names typo, of which the store
factory select select.yaml --set universe.modles=[typo] :: 'modles' is near 'models'
factory select select.yaml --set filters.x=statsu=1 :: does not bind
factory select select.yaml --set cap_per_prompt=0 :: cap_per_prompt
factory release ../up select.yaml :: release name '../up' cannot be used: use a-z
factory release sums/v1 select.yaml :: cannot be used
factory export nothing --form trl --out x.jsonl :: no release 'nothing': there is: sums
factory export sums/zz --form trl --out x.jsonl :: no release 'sums/zz'
factory export sums --form trlx --out x.jsonl :: unknown form 'trlx': known: trl
factory export sums --form trl --out no/where/x.jsonl :: no folder 'no/where'
factory export sums --form trl --out x.jsonl --split nope :: no split 'nope': it has none
factory push sums :: push to where?: give --repo
factory push nothing --dry-run :: no release 'nothing'
factory report nothing :: no release 'nothing': `factory ls`
factory report sums/zz :: has no version 'zz': it has
factory sql 'SELEC 1' :: syntax error at or near "SELEC": correct the SQL
factory sql 'SELECT statsu FROM wide' :: "statsu" not found
factory sql 'SELECT * FROM wid' :: Did you mean "wide"?: `factory ls`
factory sql @passrate :: no query @passrate: try @pass_rate
factory sql 'SELECT 1; SELECT 2' :: more than one statement
factory sql 'DROP TABLE wide' :: give one SELECT
factory sql "SELECT * FROM read_text('/etc/passwd')" :: SQL here reads the catalog
factory sql 'SELECT 1' --limit -1 :: 1 or more
factory sql 'SELECT 1' --csv --json :: not allowed with argument --csv
factory show nothing :: nothing is named 'nothing': `factory ls`
factory sample sums -n 0 :: 1 or more
factory sample sums --dropped-by nope :: has no filter 'nope': it has
factory diff sums nothing :: no release 'nothing'
factory diff sums :: required: B
factory browse --port 99999 :: '99999' is no port
factory reviews --from in.jsonl :: no trace_id
factory revoke nobody --reason x :: no run 'nobody': `factory sql
factory revoke nobody :: required: --reason
factory forget :: nothing is named to be forgotten: give keys
factory forget zz :: nothing is stored under 'zz'
factory gc --store nowhere :: no store at 'nowhere': give --store
factory ls --store old :: has format 99
factory ls --store prompts.jsonl :: store 'prompts.jsonl' is a file: give --store the folder
factory generat generate.yaml :: did you mean generate
factory frobnicate :: invalid choice: 'frobnicate': known: generate
factory :: required: VERB
factory recipe selct :: did you mean select
distill sft nostudent pairs.jsonl --out m :: unknown student 'nostudent': known:
distill sft miniature nofile.jsonl --out m :: no file 'nofile.jsonl'
distill grpo nofile.yaml :: no file 'nofile.yaml'
distill grpo run.yaml --prompts prompts.jsonl :: missing key 'preset'
distill evaluate --model nowhere --benchmark aime42 :: unknown benchmark
distill evaluate --model nowhere --benchmark aime24 :: model 'nowhere' is neither a folder nor
distill evaluate --model nowhere --prompts gone.jsonl :: model 'nowhere' is neither a folder nor
factory generate generate.yaml --set 'engine={model: none}' --set source.paths=[x] :: model 'none'
distill evaluate --model m :: which prompts?: give either
distill recipe gpro :: did you mean grpo
distill evalute :: did you mean evaluate
""".strip().splitlines()]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_line(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    monkeypatch.chdir(world)
    before = {p.name for p in world.iterdir()}
    command, _, says = case.partition(" ::")
    words = shlex.split(command)
    main = distill if words[0] == "distill" else factory
    begin = time.process_time()
    status = main(words[1:])
    assert time.process_time() - begin < LONGEST_S
    said = capsys.readouterr()
    # No store, or one that this version cannot read, is no mistake in the call.
    assert status == (1 if "no store at" in says or "has format" in says else 2)
    line = said.err.strip()
    assert says.strip() in line
    assert len(line.splitlines()) == 1
    assert line.startswith(f"{words[0]}")
    assert len(line.split(": ")) >= 3, "who, what, and what to do next"
    assert "Traceback" not in line
    assert said.out == ""
    assert {p.name for p in world.iterdir()} == before, "nothing half-done is left"


@pytest.mark.parametrize(
    ("package", "command"),
    [
        ("trl", "distill sft miniature pairs.jsonl --base folder.jsonl --out m"),
        ("ray", "factory score --on ray"),
        ("uvicorn", "factory browse"),
        ("vllm", "factory generate generate.yaml --set engine.kind=vllm --set engine.model=none"),
    ],
)
def test_an_extra_that_is_not_installed_is_one_line(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    package: str, command: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(world)
    monkeypatch.setitem(sys.modules, package, None)
    words = shlex.split(command)
    assert (distill if words[0] == "distill" else factory)(words[1:]) in (1, 2)
    line = capsys.readouterr().err.strip()
    assert len(line.splitlines()) == 1
    assert f"{package} is not installed" in line or package == "vllm"


@pytest.mark.parametrize("option", [[], ["-v"], ["-q"]])
def test_a_script_takes_the_options_of_every_verb(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["r1", "nofile.yaml", *option])
    assert run_parsed("r1", r1.arguments(), r1.run) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("r1: no file 'nofile.yaml': check the path")
    assert ("Traceback" in said) is (option == ["-v"]), "where it was found is told on request"


def test_there_are_sixty_of_them() -> None:
    assert len(CASES) >= 60
    assert json.dumps(sorted(set(CASES))) == json.dumps(sorted(CASES))
