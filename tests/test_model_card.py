"""A model as others get it: the folder loads, the card names its lineage, the Modelfile's template
renders as the tokenizer's does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from distill.cli import main
from distill.modelfile import go_template, modelfile, turns_of
from distill.sft import SftConfig, sft
from distill.templates import template_for
from factory.errors import UsageError
from tests.tiny_model import make_tiny_model

DEFAULT = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|system|>Be \"kind\"<|end|>"
    "{% endif %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
DROPS = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' and not loop.last %}"
    "{{ m.content.split('>')[-1] }}{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
STRIPS = DEFAULT.replace("m.content }}", "m.content | length }}")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("m")
    found = AutoTokenizer.from_pretrained(make_tiny_model(folder))
    found.add_tokens(["<|im_end|>", "<|eot_id|>"])
    found.bos_token = "<|begin|>"
    return found


def go(template: str, messages: list[dict[str, str]]) -> str:
    """Render the part of Go's text/template that we write: range, if, else if, end, strings."""
    parts = re.split(r"\{\{ (.*?) \}\}", template, flags=re.DOTALL)
    nodes = [("text" if i % 2 == 0 else "code", part) for i, part in enumerate(parts)]

    def run(at: int, item: dict[str, str] | None, live: bool, out: list[str]) -> int:
        while at < len(nodes):
            kind, code = nodes[at]
            if kind == "text":
                if live:
                    out.append(code)
            elif code == "range .Messages":
                end = at
                for message in messages:
                    end = run(at + 1, message, live, out)
                at = end
            elif code.startswith("if "):
                taken = False
                while True:
                    yes = not taken and _holds(nodes[at][1], item)
                    taken = taken or yes
                    at = run(at + 1, item, live and yes, out)
                    if nodes[at][1] == "end":
                        break
            elif code == "end" or code.startswith("else if "):
                return at
            elif live:
                assert item is not None or code.startswith('"')
                out.append(item["content"] if code == ".Content" else json.loads(code))
            at += 1
        return at

    def _holds(code: str, item: dict[str, str] | None) -> bool:
        word, what, value = re.fullmatch(r'(?:else )?if (eq|ne) (.*) "(\w+)"', code).groups()  # type: ignore[union-attr]
        role = messages[0]["role"] if what.startswith("(index") else item["role"]  # type: ignore[index]
        return (role == value) == (word == "eq")

    out: list[str] = []
    run(0, None, True, out)
    return "".join(out)


CONVERSATIONS = [
    [("user", "1+1?")],
    [("system", "Be {{ brief }}."), ("user", 'say """hi"""')],
    [("user", "a"), ("assistant", "<think>\nb\n</think>\n\nc"), ("user", "d")],
]


@pytest.mark.parametrize("name", ["own", "qwen", "llama", "default"])
def test_the_modelfiles_template_renders_as_the_tokenizers(tokenizer: Any, name: str) -> None:
    before = tokenizer.chat_template
    try:
        if name != "own":
            own = DEFAULT if name == "default" else template_for(tokenizer, name).jinja
            tokenizer.chat_template = own
        text = modelfile(tokenizer, context=512)
        template = re.search(r'TEMPLATE """(.*)"""\nPARAMETER', text, re.DOTALL)[1]  # type: ignore[index]
        assert '"""' not in template
        for turns in CONVERSATIONS:
            messages = [{"role": role, "content": content} for role, content in turns]
            rendered = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
            # BOS is the engine's to add.
            assert go(template, messages) == rendered.removeprefix("<|begin|>")
    finally:
        tokenizer.chat_template = before
    for line in ("FROM .", "PARAMETER temperature 0.6", "PARAMETER top_p 0.95",
                 "PARAMETER num_ctx 512", 'PARAMETER stop "<|end|>"'):  # fmt: skip
        assert line in text.splitlines()


@pytest.mark.parametrize("template", [DROPS, STRIPS, "{{ raise_exception('no') }}", None])
def test_a_template_that_is_more_than_texts_is_refused(tokenizer: Any, template: Any) -> None:
    before = tokenizer.chat_template
    tokenizer.chat_template = template
    try:
        with pytest.raises(UsageError, match="chat template"):
            turns_of(tokenizer)
    finally:
        tokenizer.chat_template = before


def test_texts_with_braces_are_go_strings() -> None:
    from distill.modelfile import Turns

    odd = '{{ "x" }}\n\\'
    turns = Turns(odd, "", {"user": odd}, {"user": ""}, odd)
    messages = [{"role": "user", "content": "?"}]
    assert go(go_template(turns, bos=None), messages) == f"{odd}{odd}?{odd}"


ROWS = [
    {"prompt": f"{i}+1?", "completion": f"<think>\nI add.\n</think>\n\n\\boxed{{{i + 1}}}",
     "model": "teacher", "answer": str(i + 1)}
    for i in range(24)
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a release, and two models: the second trained from the first."""
    from factory.cli.main import main as factory

    root = tmp_path_factory.mktemp("t")
    store = ["--store", str(root / "data")]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (root / "all.yaml").write_text("filters: {}\n")
    assert factory(["import", str(root / "rows.jsonl"), *store]) == 0
    assert factory(["release", "sums", str(root / "all.yaml"), *store]) == 0
    export = ["export", "sums", "--form", "trl", "--out", str(root / "sums.jsonl")]
    assert factory([*export, *store]) == 0
    base = make_tiny_model(root / "base")
    for name, start in (("first", base), ("second", str(root / "first"))):
        sft(
            SftConfig(
                student="miniature", data=root / "sums.jsonl", out=root / name, base=start,
                overrides=("trl.max_steps=2", "trl.per_device_train_batch_size=4"),
            ),
            say=lambda _: None,
        )  # fmt: skip
    return root


def test_the_card_names_release_recipe_and_base(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import polars as pl

    from distill.evaluate.results import FORM
    from factory import model_files
    from factory.store import Store

    store = Store(trained / "data")
    row = dict.fromkeys(FORM.columns) | {
        "evaluation_id": "e" * 32, "benchmark": "math500", "model": "second", "k": 4,
        "n_prompts": 500,
        "revision": model_files.revision_of(str(trained / "second")), "pass_at_1": 0.25,
        "pass_at_1_low": 0.2, "pass_at_1_high": 0.3,
    }  # fmt: skip
    other = row | {"evaluation_id": "f" * 32, "revision": "of other weights", "pass_at_1": 0.9}
    store.table("evaluations", FORM).add(pl.DataFrame([row, other], infer_schema_length=None))
    argv = ["push", str(trained / "second"), "--dry-run", "--out", str(tmp_path / "hub")]
    argv += ["--store", str(trained / "data"), "--license", "apache-2.0"]
    capsys.readouterr()
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert "nothing was sent (it would be private)" in said
    card = (tmp_path / "hub" / "README.md").read_text()
    assert card in said
    again = [str(tmp_path / "again") if a == str(tmp_path / "hub") else a for a in argv]
    assert main([*again, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["card"] == card
    version = next((trained / "data" / "releases" / "sums").glob("*/manifest.json")).parent.name
    assert card.count(f"release `sums/{version}` (24 rows)") == 2
    assert "license: apache-2.0" in card
    assert "**second** (sft" in card
    assert "from `first`" in card
    assert "**first** (sft" in card
    assert "weights `base`" in card
    assert "recipe `miniature`" in card
    assert "learning_rate 0.0005" in card
    assert "| math500 | 500 | 4 | 0.250 | 0.200 to 0.300 |" in card
    assert "0.900" not in card
    # Nothing of the machine goes out.
    assert str(trained) not in card
    names = {p.name for p in (tmp_path / "hub").iterdir()}
    assert {"model.safetensors", "config.json", "Modelfile", "README.md"} <= names
    assert not names & {"run.json", "checkpoints", "training_args.bin"}


def test_data_that_changed_since_is_not_called_the_release(trained: Path, tmp_path: Path) -> None:
    path = trained / "sums.jsonl"
    before = path.read_bytes()
    path.write_bytes(before + before.splitlines()[0] + b"\n")
    try:
        argv = ["push", str(trained / "first"), "--dry-run", "--out", str(tmp_path / "hub")]
        assert main([*argv, "--store", str(trained / "data")]) == 0
    finally:
        path.write_bytes(before)
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "changed since: release not looked up" in card
    assert "None is known of these weights." in card


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["second"], "give --repo OWNER/NAME, or --dry-run"),
        (["second", "--repo", "a/b", "--out", "x"], "--out keeps a folder"),
        (["nowhere", "--dry-run"], "is no model folder"),
    ],
)
def test_mistakes_are_named(
    trained: Path, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    argv[0] = str(trained / argv[0])
    assert main(["push", *argv, "--store", str(trained / "data")]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of vLLM's own imports
def test_the_folder_gives_the_same_greedy_tokens_in_transformers_and_vllm(
    trained: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from factory.engines.vllm import Engine

    assert main(["push", str(trained / "second"), "--dry-run", "--out", str(tmp_path / "hub")]) == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hub")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "hub").eval()
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": row["prompt"]}], add_generation_prompt=True,
            return_dict=False,
        )
        for row in ROWS[:4]
    ]  # fmt: skip
    wanted = []
    for prompt in prompts:
        out = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=24)
        wanted.append(out[0, len(prompt) :].tolist())
    engine = Engine(str(tmp_path / "hub"), max_model_len=128, max_num_seqs=4)
    try:
        found, _ = engine.complete(
            prompts, seeds=[0] * 4, max_tokens=24, temperature=0.0, top_p=1.0
        )
    finally:
        engine.close()
    assert [list(ids) for ids in found] == wanted
