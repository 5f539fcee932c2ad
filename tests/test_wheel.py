"""The wheel, installed outside of the checkout, holds every file that the code opens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("factory", "catalogs", "distill", "pipelines")
CODE = """
import sys
from pathlib import Path
import catalogs, distill, factory, pipelines
from distill.sft import load_student
own = Path(sys.prefix).resolve()
for package in (catalogs, distill, factory, pipelines):
    assert own in Path(package.__file__).resolve().parents, package.__file__
print(load_student("r1-distill-qwen-7b").base)
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the wheel in it; third-party packages are those of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    build = folder / "source"
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES, "pyproject.toml", "README.md", "LICENSE"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    ).stdout.split()  # fmt: skip
    for name in tracked:  # a build leaves its folders behind: not in the checkout
        (build / name).parent.mkdir(parents=True, exist_ok=True)
        (build / name).write_bytes((ROOT / name).read_bytes())
    script = f"from setuptools import build_meta as b; print(b.build_wheel({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=build, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "env")}))
    with zipfile.ZipFile(wheel) as file:
        file.extractall(own)
    # A path is read after the folder that it stands in, and editable installs are no paths.
    (own / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "env" / "bin" / "python"


def run(python: Path, *arguments: str, cwd: Path) -> str:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([python, *arguments], capture_output=True, text=True, cwd=cwd, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_what_the_checkout_tracks(python: Path) -> None:
    names = subprocess.run(
        ["git", "ls-files", *PACKAGES], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    (own,) = python.parent.parent.glob("lib/python*/site-packages")
    assert not [n for n in names if not (own / n).is_file()]


def test_score_on_a_file_the_students_and_a_store_work_from_the_wheel(
    python: Path, tmp_path: Path
) -> None:
    text = "<think>We add both numbers, and the sum of them is four.</think>The answer is four."
    (tmp_path / "in.jsonl").write_text(json.dumps({"completion": text}) + "\n")
    run(python, "-m", "factory", "score", "in.jsonl", "--out", "out.jsonl", cwd=tmp_path)
    scored = json.loads((tmp_path / "out.jsonl").read_text())
    assert (scored["target_language"], scored["language_consistency"]) == ("en", 1.0)
    assert run(python, "-c", CODE, cwd=tmp_path).startswith("Qwen/")
    rows = '{"prompt": "2 + 2?", "completion": "4", "gold": "4"}\n'
    (tmp_path / "traces.jsonl").write_text(rows)
    store = ("--store", str(tmp_path / "data"))
    run(python, "-m", "factory", "import", "traces.jsonl", "--model", "m", *store, cwd=tmp_path)
    assert "import" in run(python, "-m", "factory", "sql", "@runs", *store, cwd=tmp_path)
