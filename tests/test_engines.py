"""The contract of engines: what a user's own file may leave out, and what it must have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factory import plugins
from factory.engines import base
from factory.engines.opening import open_engine
from factory.errors import PluginError
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from tests.helpers_run import SAMPLING, new_store, problems

LEAST = """
def identify(model, **options):
    return model, "1", None

class Engine:
    revision = "1"{template}

    def __init__(self, model):
        self.model = model

    def run(self, requests, on_partial=None):
        for request in requests:
            yield request and request.trace("It is 7.", finish_reason="stop")

    def cancel(self, trace_ids):
        pass
"""


def least(folder: Path, template: str = "") -> str:
    folder.mkdir(exist_ok=True)
    file = folder / "least.py"
    file.write_text(LEAST.format(template=template))
    return str(file)


@pytest.mark.parametrize("settings", [{}, {"replicas": 2, "backoff_s": 0.01}])
def test_an_engine_of_a_users_own_needs_no_optional_part(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    engine = open_engine(least(tmp_path), "own", settings)
    shown: list[str] = []
    made = generate(new_store(tmp_path), problems(5), engine, sampling=SAMPLING,
                    policy=Policy(n=3), verify=False, on_prompt=shown.append)  # fmt: skip
    engine.close()
    assert (made.progress.n_new, made.missing, shown) == (15, 0, [])
    assert (made.model, made.revision, made.progress.gpu_seconds) == ("own", "1", 0)


def test_what_an_engine_has_is_kept_and_the_rest_has_defaults(tmp_path: Path) -> None:
    own = '\n    template, n_devices, can_continue = "abc", 8, False'
    engine = open_engine(least(tmp_path, own), "own", {})
    assert (engine.template, engine.n_devices, engine.can_continue) == ("abc", 8, False)
    assert (engine.slots, engine.knows_template) == (64, False)
    assert base.with_defaults(engine) is engine


def test_an_engine_that_cannot_run_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "half.py"
    file.write_text("class Engine:\n    model = revision = 'x'\n    def __init__(self, m): ...\n")
    with pytest.raises(PluginError, match="Engine does not define run, cancel"):
        open_engine(str(file), "own", {})


@pytest.mark.parametrize("name", plugins.names("engines"))
def test_the_factorys_own_engines_declare_the_whole_contract(name: str) -> None:
    assert base.Engine in plugins.load("engines", name).Engine.__mro__


def test_which_engines_there_are() -> None:
    assert plugins.names("engines") == ["openai", "ray", "replay", "vllm"]


@pytest.mark.parametrize(
    ("kind", "settings", "revision"),
    [
        ("replay", {"answers": "a.jsonl"}, "recorded"),
        ("replay", {"answers": "a.jsonl", "revision": 2}, "2"),
        ("ray", {"replicas": 3, "engine": "replay", "options": {"revision": "r"}}, "r"),
        ("openai", {"revision": "r", "base_url": "http://h/v1", "tries": 2}, "r"),
    ],
)
def test_keys_are_known_without_an_engine(
    kind: str, settings: dict[str, Any], revision: str
) -> None:
    assert base.identify(kind, "m", settings) == ("m", revision, None)
