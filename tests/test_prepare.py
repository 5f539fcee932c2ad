"""Prepared rows: the same tokens as one by one, bad rows counted, parts finished once."""

from __future__ import annotations

import itertools
import json
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill import prepare as module
from distill.preflight import read_row
from distill.prepare import lines_of, prepare, tokenise_part, wanted_of
from distill.student import Student, load_tokenizer
from distill.templates import render
from distill.training_rows import TokenRows, pack
from factory.errors import CorruptError, FactoryError, Refused, UsageError
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(tmp_path_factory.mktemp("m") / "base")


def student(model: str, **changes: Any) -> Student:
    values = {"base": model, "template": "own", "max_length": 120, "max_over_fraction": 0.5}
    return Student.make({**values, "trl": {}, **changes})


def rows(n: int) -> list[dict[str, Any]]:
    rng = random.Random(0)
    # A control token in the data is text, and takes the slower way.
    marks = ["", "", "<|end|> and <|user|> "]
    return [
        {"prompt": f"{i}+1?", "completion": f"<think>\n{rng.choice(marks)}"
         f"{'I add. ' * rng.randint(1, 20)}\n</think>\n\n{i + 1}"}
        for i in range(n)
    ]  # fmt: skip


def write(path: Path, values: list[Any]) -> Path:
    lines = (v if isinstance(v, str) else json.dumps(v) for v in values)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def expected(model: str, values: list[dict[str, Any]], max_length: int = 120) -> list[Any]:
    tokenizer, template = load_tokenizer(student(model))
    out = []
    for value in values:
        row = read_row(value, where="")
        done = render(tokenizer, template, messages=row.messages, completion=row.completion)
        if len(done.input_ids) <= max_length:
            out.append((done.input_ids, done.labels))
    return out


def items(folder: Path, *, packed: bool = False) -> list[Any]:
    found = TokenRows(folder, packed=packed)
    return [
        (found[i]["input_ids"].tolist(), found[i]["labels"].tolist()) for i in range(len(found))
    ]


@pytest.mark.parametrize("form", ["jsonl", "gz", "parquet", "folder"])
def test_rows_are_those_that_rendering_one_by_one_gives(
    tmp_path: Path, model: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setattr(module, "PART_BYTES", 900)  # many parts of every file
    values = rows(60)
    path = write(tmp_path / "rows.jsonl", values)
    if form == "gz":
        path = tmp_path / "rows.jsonl.gz"
        path.write_bytes(gzip.compress((tmp_path / "rows.jsonl").read_bytes()))
    if form == "parquet":
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.Table.from_pylist(values), path, row_group_size=7)
    if form == "folder":
        path = tmp_path / "release"
        path.mkdir()
        write(path / "a.jsonl", values[:25])
        pq.write_table(pa.Table.from_pylist(values[25:]), path / "b.parquet", row_group_size=7)
        (path / "manifest.json").write_text("{}")
    manifest = prepare(student(model), path, tmp_path / "out", say=lambda _: None)
    wanted = expected(model, values)
    assert items(tmp_path / "out") == wanted
    assert (manifest["rows"], manifest["kept"]) == (60, len(wanted))
    assert manifest["over"] == 60 - len(wanted) > 0
    assert len(manifest["shards"]) > (1 if form != "gz" else 0)


def test_packs_hold_each_row_once_and_whole(tmp_path: Path, model: str) -> None:
    values = rows(40)
    prepare(student(model), write(tmp_path / "r.jsonl", values), tmp_path / "o", say=lambda _: None)
    found = TokenRows(tmp_path / "o", packed=True)
    seen = []
    for i in range(len(found)):
        item = found[i]
        assert sum(item["seq_lengths"]) == len(item["input_ids"]) <= 120
        ends = np.cumsum(item["seq_lengths"])
        for a, b in zip([0, *ends], ends, strict=False):
            seen.append((item["input_ids"][a:b].tolist(), item["labels"][a:b].tolist()))
    assert sorted(seen) == sorted(expected(model, values))
    again = pickle.loads(pickle.dumps(found))
    assert again[0]["input_ids"].tolist() == found[0]["input_ids"].tolist()
    batch = found.dataset()[:2]
    assert batch["input_ids"][1].tolist() == found[1]["input_ids"].tolist()


def test_packing_is_best_fit_decreasing() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 101, 500)
    order, starts = pack(lengths, 100)
    assert sorted(order.tolist()) == list(range(500))
    sums = [int(lengths[order[a:b]].sum()) for a, b in itertools.pairwise(starts)]
    assert max(sums) <= 100
    # The plain algorithm, row by row over all packs.
    room: list[int] = []
    for need in sorted(lengths.tolist(), reverse=True):
        fits = [i for i, left in enumerate(room) if left >= need]
        at = min(fits, key=lambda i: room[i]) if fits else len(room)
        if not fits:
            room.append(100)
        room[at] -= need
    assert sorted(sums) == sorted(100 - left for left in room)
    assert [part.tolist() for part in pack([], 10)] == [[], [0]]


BAD: list[Any] = [
    "{oops", {"prompt": "x"}, {"prompt": "x", "completion": "<think>\nno end"},
    {"prompt": "x", "completion": " \n"},
]  # fmt: skip


def test_bad_rows_are_counted_and_left_out_up_to_the_limit(tmp_path: Path, model: str) -> None:
    values = rows(30)
    data = write(tmp_path / "r.jsonl", [*values[:9], *BAD, *values[9:]])
    with pytest.raises(Refused, match=r"r.jsonl row 10: no JSON .*\(4 of 34 rows are bad\)"):
        prepare(student(model), data, tmp_path / "strict", say=lambda _: None)
    loose = student(model, max_bad_fraction=0.2)
    manifest = prepare(loose, data, tmp_path / "loose", say=lambda _: None)
    assert (manifest["rows"], manifest["bad"]) == (34, 4)
    assert items(tmp_path / "loose") == expected(model, values)
    said = "\n".join(lines_of(manifest))
    assert "34 rows" in said
    assert "left out: r.jsonl row 12: </think> never comes" in said
    # What was prepared with a generous limit does not pass a strict one.
    with pytest.raises(Refused, match="4 of 34"):
        prepare(student(model), data, tmp_path / "loose", say=lambda _: None)


def test_a_set_that_is_bad_throughout_ends_early(tmp_path: Path, model: str) -> None:
    data = write(tmp_path / "r.jsonl", [BAD[2]] * 5000)
    with pytest.raises(Refused, match="of 1024 rows are bad, such as </think> never comes"):
        prepare(student(model), data, tmp_path / "o", say=lambda _: None)


def test_too_many_long_rows_are_refused(tmp_path: Path, model: str) -> None:
    data = write(tmp_path / "r.jsonl", rows(30))
    with pytest.raises(Refused, match="rows exceed max_length=60 tokens"):
        prepare(student(model, max_length=60), data, tmp_path / "o", say=lambda _: None)


def test_a_stopped_preparation_goes_on_and_a_finished_one_is_taken(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_BYTES", 900)
    data, out = write(tmp_path / "r.jsonl", rows(60)), tmp_path / "o"
    done: list[int] = []

    def until_the_third(part: Any, **options: Any) -> dict[str, Any]:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(part[0])
        return tokenise_part(part, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, "tokenise_part", until_the_third)
        with pytest.raises(KeyboardInterrupt):
            prepare(student(model), data, out, say=lambda _: None)
    kept = {p.name: p.stat().st_mtime_ns for p in out.glob("tokens-*")}
    assert len(kept) == 3
    with pytest.raises(UsageError, match="stopped preparation of other rows"):
        prepare(student(model, max_length=50), data, out, say=lambda _: None)
    prepare(student(model), data, out, say=lambda _: None)
    assert items(out) == expected(model, rows(60))
    assert {n: (out / n).stat().st_mtime_ns for n in kept} == kept
    with pytest.raises(UsageError, match="prepared otherwise: max_length"):
        prepare(student(model, max_length=119), data, out, say=lambda _: None)
    write(data, rows(59))
    with pytest.raises(UsageError, match="prepared otherwise: data"):
        prepare(student(model), data, out, say=lambda _: None)


def test_a_cut_shard_is_noticed(tmp_path: Path, model: str) -> None:
    prepare(student(model), write(tmp_path / "r.jsonl", rows(20)), tmp_path / "o", say=print)
    path = tmp_path / "o" / "tokens-00000.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(CorruptError, match="was cut"):
        TokenRows(tmp_path / "o", packed=False)


def test_the_first_rows_only(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_BYTES", 900)
    data = write(tmp_path / "r.jsonl", rows(60))
    manifest = prepare(student(model), data, tmp_path / "o", max_rows=23, say=lambda _: None)
    assert manifest["rows"] == 23
    assert items(tmp_path / "o") == expected(model, rows(60)[:23])


@pytest.mark.slow
def test_workers_write_the_same_as_one_process(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_BYTES", 4000)
    monkeypatch.setattr(module, "_SMALL_BYTES", 0)
    data = write(tmp_path / "r.jsonl", rows(200))
    alone = prepare(student(model), data, tmp_path / "a", n_workers=1, say=lambda _: None)
    both = prepare(student(model), data, tmp_path / "b", n_workers=2, say=lambda _: None)
    assert len(both["shards"]) > 3
    assert {k: v for k, v in alone.items() if k != "seconds"} == {
        k: v for k, v in both.items() if k != "seconds"
    }
    for path in sorted((tmp_path / "a").glob("*.[bn]*")):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_missing_file_is_named(tmp_path: Path, model: str) -> None:
    with pytest.raises(FactoryError, match="no file"):
        wanted_of(student(model), tmp_path / "none.jsonl", max_rows=None)


@pytest.mark.slow
def test_sft_takes_a_prepared_folder_and_is_the_same_run(tmp_path: Path, model: str) -> None:
    from distill.cli import main
    from distill.sft import SftConfig, sft

    data = write(tmp_path / "r.jsonl", rows(24))
    common = ["max_over_fraction=0.5", "max_length=120", "trl.packing=true",
              "trl.per_device_train_batch_size=1", "trl.max_steps=2",
              "trl.num_train_epochs=1", "trl.train_sampling_strategy=random"]  # fmt: skip
    options = [word for value in common for word in ("--set", value)]
    words = ["prepare", "miniature", str(data), "--base", model, "--out", str(tmp_path / "p")]
    assert main([*words, *options]) == 0
    runs = []
    for name, given in (("a", data), ("b", tmp_path / "p")):
        config = SftConfig(student="miniature", data=given, out=tmp_path / name, base=model,
                           overrides=tuple(common))  # fmt: skip
        sft(config, say=lambda _: None)
        runs.append(json.loads((tmp_path / name / "run.json").read_text()))
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    assert runs[0]["inputs"] == runs[1]["inputs"]
    assert runs[0]["metrics"]["n_packs"] < runs[0]["metrics"]["n_rows_kept"]
    assert not (tmp_path / "a" / "prepared").exists()
    with pytest.raises(UsageError, match="prepared otherwise: max_length"):
        sft(config.model_copy(update={"overrides": (*common, "max_length=100"),
                                      "out": tmp_path / "c"}), say=print)  # fmt: skip
