"""The score ``fasttext``: classifiers that are trained here, and files that are none."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from factory import plugins
from factory.cli.main import main
from factory.errors import ConfigError
from factory.scores import fasttext
from factory.stages.scorer import Scorer, frame_of

GOOD = ["we check each step and see why it holds", "the proof follows from the lemma above",
        "so we see that each step of the proof holds"]  # fmt: skip
BAD = ["click here to buy cheap pills now", "buy now and win a free phone",
       "win cheap pills, click now"]  # fmt: skip


def trained(path: Path, texts: dict[str, list[str]], *, dim: int = 8, rounds: int = 300) -> Path:
    """Train a classifier of words (softmax) and write it as fastText 0.9 writes its files."""
    rows = [(text.split(), n) for n, group in enumerate(texts.values()) for text in group]
    words = ["</s>", *sorted({word for text, _ in rows for word in text})]
    number = {word: n for n, word in enumerate(words)}
    g = np.random.default_rng(0)
    table = g.normal(0, 0.3, (len(words), dim)).astype("<f4")
    output = np.zeros((len(texts), dim), dtype="<f4")
    for _ in range(rounds):
        for text, label in rows:
            at = [number[word] for word in (*text, "</s>")]
            hidden = table[at].mean(axis=0)
            chances = np.exp(output @ hidden)
            error = chances / chances.sum() - np.eye(len(texts))[label]
            back = error @ output
            output -= 0.3 * np.outer(error, hidden).astype("<f4")
            np.subtract.at(table, at, (0.3 * back / len(at)).astype("<f4"))
    entries = [(w, 0) for w in words] + [(f"__label__{name}", 1) for name in texts]
    settings = (dim, 5, 5, 1, 5, 1, 3, 3, 0, 0, 0, 100)  # softmax, supervised, no n-grams
    with path.open("wb") as handle:
        handle.write(struct.pack("<2i12id", 793712314, 12, *settings, 1e-4))
        n_labels = len(texts)
        handle.write(struct.pack("<3i2q", len(entries), len(words), n_labels, len(rows), -1))
        for word, kind in entries:
            handle.write(word.encode() + b"\0" + struct.pack("<qb", 10, kind))
        for matrix in (table, output):
            handle.write(b"\0" + struct.pack("<2q", *matrix.shape) + matrix.tobytes())
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("model") / "quality.bin", {"good": GOOD, "bad": BAD})


def test_a_classifier_that_was_trained_here_is_a_column(model: Path) -> None:
    texts = ["we see why\n\neach step holds", "buy cheap\0 pills now", None, "  \n"]
    params = {"fasttext": {"model": str(model), "label": "good"}}
    out = Scorer(["fasttext"], params).score(frame_of(texts))
    assert out["fasttext_label"].to_list() == ["good", "bad", None, None]
    best, wanted = out["fasttext_probability"].to_list(), out["fasttext_wanted"].to_list()
    assert min(best[:2]) > 0.8
    assert best[2:] == wanted[2:] == [None, None]
    assert wanted[0] == pytest.approx(best[0])
    assert wanted[1] == pytest.approx(1 - best[1], abs=1e-4)


def test_without_a_label_and_from_a_folder_and_another_column(model: Path) -> None:
    frame = frame_of(["<think>buy cheap pills</think>the proof holds"])
    for of, label in (("reasoning", "bad"), ("answer", "good")):
        params = {"fasttext": {"model": str(model.parent), "of": of}}
        row = Scorer(["fasttext"], params).score(frame).row(0)
        assert (row[0], row[2]) == (label, None)


def test_a_plugin_of_ones_own_reads_a_second_one(model: Path, tmp_path: Path) -> None:
    (tmp_path / "domain.py").write_text(
        "import polars as pl\nfrom factory.scores import fasttext\n"
        "VERSION, READS, WRITES = 1, ('completion',), {'domain': 'text'}\n"
        "def score(df: pl.DataFrame) -> pl.DataFrame:\n"
        f"    return fasttext.predict(df['completion'], {str(model)!r})"
        ".select(domain='fasttext_label')\n"
    )
    own = str(tmp_path / "domain.py")
    plugins.allow(own)
    params = {"fasttext": {"model": str(model)}}
    out = Scorer(["fasttext", own], params).score(frame_of(["buy now", "the lemma holds"]))
    assert out["domain"].to_list() == out["fasttext_label"].to_list() == ["bad", "good"]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "needs a model"),
        ({"model": "nowhere.bin"}, "no fastText model"),
        ({"model": "{model}", "label": "great"}, "has no label 'great': it has: good, bad"),
        ({"model": "{model}", "of": "answers"}, "cannot read 'answers'"),
        ({"model": "{folder}"}, "holds 0 fastText models"),
        ({"model": "{text}"}, "is no fastText classifier"),
        ({"model": "{cut 30}"}, "is no fastText classifier"),
        ({"model": "{cut 400}"}, "its dictionary is cut"),
        ({"model": "{cut 1000}"}, "is no fastText classifier"),
    ],
)
def test_errors_are_said_before_any_work(
    model: Path, tmp_path: Path, params: dict[str, str], said: str
) -> None:
    (tmp_path / "empty").mkdir()
    named = {"{model}": model, "{folder}": tmp_path / "empty", "{text}": tmp_path / "words.bin"}
    (tmp_path / "words.bin").write_text("no model, " * 40)
    if params.get("model", "").startswith("{cut"):
        cut = tmp_path / "cut.bin"
        cut.write_bytes(model.read_bytes()[: int(params["model"][5:-1])])
        named[params["model"]] = cut
    params = {key: str(named.get(value, value)) for key, value in params.items()}
    with pytest.raises(ConfigError) as caught:
        Scorer(["fasttext"], {"fasttext": params})
    assert said in f"{caught.value}"
    assert "\n" not in f"{caught.value}"


def test_on_a_file_and_left_out_where_nobody_names_it(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.parquet"
    pl.DataFrame({"completion": GOOD + BAD}).write_ndjson(rows)
    words = ["score", str(rows), "--out", str(out), "--scores", "fasttext"]
    assert main([*words, "--param", f"fasttext.model={model}"]) == 0
    assert pl.read_parquet(out)["fasttext_label"].to_list() == ["good"] * 3 + ["bad"] * 3
    assert main(words) == 2
    assert "needs a model" in capsys.readouterr().err
    assert "fasttext" not in plugins.default_scores()


def test_an_empty_frame_and_no_model() -> None:
    assert fasttext.score(frame_of([])).height == 0
    assert fasttext.score(frame_of(["a"])).row(0) == (None, None, None)


def test_a_store_tells_models_apart_by_their_content(model: Path, tmp_path: Path) -> None:
    copied, other = tmp_path / "copy.bin", tmp_path / "other.bin"
    copied.write_bytes(model.read_bytes())
    trained(other, {"good": GOOD, "bad": BAD}, rounds=2)
    named = [fasttext.identify({"model": str(p)}) for p in (model, copied, other)]
    assert named[0] == named[1] != named[2]
