"""Rows into tokens on disk, once, by all cores: what ``distill prepare`` writes.

The files are read in parts, each by one worker process: rows are rendered and checked as in
preflight, tokenised in batches by the tokenizer's own library, and written to a shard. What cannot
be trained on is counted, and left out up to a limit. The rows are then put into packs, over the
whole set. A stopped preparation goes on with the parts that are missing.

Trainers map the shards into memory (``distill.training_rows.TokenRows``); the manifest
``prepared.json`` is written last, and its key says of which data, tokenizer, template and length
they are.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from distill.preflight import VANISHES, quantiles, read_row, text_problem, token_problem
from distill.runs import file_digest
from distill.student import Student, load_tokenizer
from distill.templates import RenderError, Template, Texts, texts
from distill.training_rows import (
    MANIFEST,
    ROW,
    data_files,
    difference_of,
    is_prepared,
    pack,
    read_prepared,
    shard,
)
from factory.dialects import THINK_CLOSE
from factory.errors import FactoryError, Refused, UsageError
from factory.records.ids import key_of
from factory.rows import files
from factory.store.durable import replacing, write_json

_VERSION = 1
PART_BYTES = 16 << 20
_BATCH_CHARS = 1 << 20
_EXAMPLES = 5
# Below it one process is done before others have started.
_SMALL_BYTES = 8 << 20


def prepare(
    student: Student,
    data: Path,
    out: Path,
    *,
    max_rows: int | None = None,
    n_workers: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Write the tokens of ``data`` for ``student``, or return at once where they are there.

    Args:
        student: its tokenizer, template, ``max_length`` and limits count.
        data: a file or folder of prompt–completion rows.
        out: folder of the shards.
        max_rows: the first rows only.
        n_workers: processes; None: the machine's cores.
        say: takes short lines of progress.

    Returns:
        The manifest.

    Raises:
        Refused: more rows are bad or too long than the student allows.
        UsageError: the folder holds other rows; the data cannot be read.
        FactoryError: a worker did not come back.
    """
    wanted = wanted_of(student, data, max_rows=max_rows)
    if is_prepared(out):
        return usable(out, wanted, student)
    out.mkdir(parents=True, exist_ok=True)
    marker = out / "preparing.json"
    if marker.is_file() and json.loads(marker.read_text()) != wanted:
        raise UsageError(f"{out} holds a stopped preparation of other rows", "remove the folder")
    write_json(marker, wanted)
    found = data_files(data)
    spans = [(str(path), span) for path in found for span in files.spans(str(path), PART_BYTES)]
    parts = [[number, path, span] for number, (path, span) in enumerate(spans)]
    options = {"out": str(out), "base": student.base, "template": student.template,
               "max_length": student.max_length, "dtype": wanted["dtype"]}  # fmt: skip
    size = sum(p.stat().st_size for p in found)
    began = time.monotonic()
    n_workers = n_workers or os.cpu_count() or 1
    if max_rows is not None or n_workers == 1 or size < _SMALL_BYTES:
        done = _one_by_one(parts, options, max_rows=max_rows, student=student)
    else:
        done = _together(parts, options, n_workers=n_workers, student=student, say=say)
    manifest = _merged(out, done, student=student)
    _require(manifest, student)
    manifest |= {**wanted, "key": key_of(wanted), "seconds": round(time.monotonic() - began, 1)}
    write_json(out / MANIFEST, manifest)
    for path in [*out.glob("part-*"), marker]:
        path.unlink()
    return manifest


def wanted_of(student: Student, data: Path, *, max_rows: int | None) -> dict[str, Any]:
    """Return what prepared rows are of: data, tokenizer, template, length."""
    tokenizer, template = load_tokenizer(student)
    text = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else tokenizer.get_vocab()
    return {
        "version": _VERSION,
        "data": data_digests(data),
        "max_rows": max_rows,
        "tokenizer": key_of(text),
        "template": template.digest,
        "max_length": student.max_length,
        "dtype": "<u2" if len(tokenizer) <= 1 << 16 else "<u4",
    }


def data_digests(data: Path) -> list[str]:
    """Return the digests of the rows' files; of prepared rows those that they were made of."""
    if is_prepared(data):
        return list(read_prepared(data)["data"])
    return [file_digest(p) for p in data_files(data)]


def usable(folder: Path, wanted: Mapping[str, Any], student: Student) -> dict[str, Any]:
    """Return the manifest of prepared rows that fit.

    Raises:
        UsageError: they are of other data, or for another tokenizer, template or length.
        Refused: more rows are bad or too long than the student allows.
    """
    manifest = read_prepared(folder)
    if other := difference_of(manifest, dict(wanted)):
        raise UsageError(
            f"{folder} was prepared otherwise: {', '.join(other)}", "prepare in another folder"
        )
    _require(manifest, student)
    return manifest


def wait_for(folder: Path, *, poll_s: float = 0.5) -> None:
    """Wait until another process has prepared a folder, however long that takes.

    No barrier: those end a training after half an hour. Where the other process fails, the
    launcher ends this one.
    """
    while not is_prepared(folder):
        time.sleep(poll_s)


def lines_of(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was found in all rows, as plain short lines."""
    yield (
        f"prepared: {manifest['rows']} rows, {manifest['kept']} kept, {manifest['over']} over "
        f"{manifest['max_length']} tokens, {manifest['bad']} bad"
    )
    for name, word in (("lengths", "tokens   "), ("loss_lengths", "with loss")):
        pairs = "  ".join(f"{'max' if q == 1 else f'p{q * 100:g}'} {n}" for q, n in manifest[name])
        yield f"  {word}    {pairs}"
    yield (
        f"  {manifest['tokens']} tokens in {manifest['packs']} packs, {manifest['fill']:.1%} full"
    )
    for place, what, _ in manifest["examples"]:
        yield f"  left out: {place}: {what}"


def _one_by_one(
    parts: list[Any], options: Mapping[str, Any], *, max_rows: int | None, student: Student
) -> list[dict[str, Any]]:
    done: list[dict[str, Any]] = []
    left = max_rows
    for part in parts:
        if left is not None and left <= 0:
            break
        done.append(tokenise_part(part, max_rows=left, **options))
        left = None if left is None else left - done[-1]["rows"]
        _require_sane(done, student)
    return done


def _together(
    parts: list[Any],
    options: Mapping[str, Any],
    *,
    n_workers: int,
    student: Student,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    from factory.workers import Pool

    done: list[dict[str, Any]] = []
    said = time.monotonic()
    with (
        Pool(n_workers=n_workers, memory_bytes=0) as pool,
        ThreadPoolExecutor(n_workers) as threads,
    ):
        waiting = [threads.submit(_in_worker, pool, part, options) for part in parts]
        try:
            for future in as_completed(waiting):
                done.append(future.result())
                _require_sane(done, student)
                if time.monotonic() - said > 30:
                    said = time.monotonic()
                    say(f"prepare: {len(done)} of {len(parts)} parts, {_counted(done)} rows")
        finally:
            for future in waiting:
                future.cancel()
    return sorted(done, key=lambda d: int(d["number"]))


def _counted(done: list[dict[str, Any]]) -> int:
    return sum(d["rows"] for d in done)


def _in_worker(pool: Any, part: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    # A part that is a whole compressed file may be of any size.
    deadline = 600 + Path(part[1]).stat().st_size / 10_000
    (outcome,) = pool.map(
        "distill.prepare:tokenise_part", [part], options=options, deadline_s=deadline
    )
    if outcome.fate != "done":
        raise FactoryError(
            f"a worker did not prepare {part[1]} ({outcome.fate} {outcome.detail})",
            "run it again: finished parts are kept; with less memory, take fewer workers",
        )
    found: dict[str, Any] = outcome.value
    return found


@functools.lru_cache(maxsize=1)
def _tokenizer(base: str, template: str) -> tuple[Any, Template]:
    # This process is one of many already.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    student = Student(base=base, template=template, max_length=1, trl={})
    tokenizer, found = load_tokenizer(student)
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    if THINK_CLOSE not in tokenizer.decode(
        tokenizer(f"a{THINK_CLOSE}", add_special_tokens=False)["input_ids"],
        skip_special_tokens=True,
    ):
        raise Refused(*VANISHES)
    return tokenizer, found


def tokenise_part(
    part: tuple[int, str, files.Span],
    *,
    out: str,
    base: str,
    template: str,
    max_length: int,
    dtype: str,
    max_rows: int | None = None,
) -> dict[str, Any]:
    """Tokenise one part of a file into its shard; a finished part is not done again.

    Args:
        part: its number, its file, and which part of it (``factory.rows.files.spans``).
        out: folder of the shards.
        base: of the student, for its tokenizer.
        template: of the student.
        max_length: rows of more tokens are counted and not written.
        dtype: of a token.
        max_rows: stop after so many.

    Returns:
        Counts, and the first bad rows with why.
    """
    number, path, span = part
    folder, report = Path(out), Path(out) / f"part-{number:05}.json"
    if report.is_file():
        return dict(json.loads(report.read_text()))
    tokenizer, found = _tokenizer(base, template)
    found_bad: list[list[Any]] = []
    kept: list[tuple[int, int]] = []
    n_rows = n_bad = 0
    with replacing(shard(folder, number)) as partial, partial.open("wb") as sink:
        for batch in _batches(path, span, max_rows):
            rendered, bad = _rendered(batch, tokenizer, found, first=n_rows + 1)
            n_rows += len(batch)
            for at, ids, n_prompt in _encoded(rendered, tokenizer):
                if problem := token_problem(ids[n_prompt:], tokenizer):
                    bad.append([at, *problem])
                    continue
                kept.append((len(ids), n_prompt))
                if len(ids) <= max_length:
                    sink.write(np.asarray(ids, dtype=dtype).tobytes())
            n_bad += len(bad)
            found_bad = sorted(found_bad + bad)[:_EXAMPLES]
            if n_bad > 100 and n_bad > n_rows / 2:
                break  # the template or the data as a whole do not fit: no more is needed
    with replacing(folder / f"part-{number:05}.npy") as partial, partial.open("wb") as sink:
        np.save(sink, np.asarray(kept, dtype="<i4").reshape(-1, 2))
    done = {"number": number, "file": Path(path).name, "rows": n_rows, "bad": n_bad,
            "examples": found_bad}  # fmt: skip
    write_json(report, done)
    return done


def _batches(path: str, span: files.Span, max_rows: int | None) -> Iterator[list[Any]]:
    """Yield rows as they were read, in lists of about a million characters."""
    batch: list[Any] = []
    size = 0
    for values in itertools.islice(files.read_span(path, span), max_rows):
        if isinstance(values, files.Malformed):
            batch.append((values.why, "correct the file"))
        else:
            try:
                batch.append(read_row(values, where=""))
                size += len(batch[-1].completion)
            except Refused as error:
                batch.append((error.what.removeprefix(": "), error.todo))
        if size >= _BATCH_CHARS or len(batch) >= 1024:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _rendered(
    batch: list[Any], tokenizer: Any, template: Template, *, first: int
) -> tuple[list[tuple[int, Texts]], list[list[Any]]]:
    good, bad = [], []
    for at, row in enumerate(batch, first):
        problem = row if isinstance(row, tuple) else text_problem(row.completion)
        if problem is None:
            try:
                out = texts(tokenizer, template, messages=row.messages, completion=row.completion)
                good.append((at, out))
                continue
            except RenderError as error:
                problem = (error.what, f"template {template.name!r}")
        bad.append([at, *problem])
    return good, bad


def _encoded(
    rendered: list[tuple[int, Texts]], tokenizer: Any
) -> Iterator[tuple[int, list[int], int]]:
    """Yield row number, tokens, and how many of them are the prompt's."""
    plain = [(at, t) for at, t in rendered if t.data.is_plain and tokenizer.is_fast]
    both = [text for _, t in plain for text in (t.prompt, t.target)]
    done = (
        tokenizer.backend_tokenizer.encode_batch_fast(both, add_special_tokens=False)
        if both
        else []
    )
    fast = {at: (done[2 * i].ids, done[2 * i + 1].ids) for i, (at, _) in enumerate(plain)}
    for at, t in rendered:
        prompt, target = fast.get(at) or (t.data.encode(t.prompt), t.data.encode(t.target))
        yield at, [*prompt, *target], len(prompt)


def _merged(out: Path, done: list[dict[str, Any]], *, student: Student) -> dict[str, Any]:
    """Write the tables of rows and packs over all shards; return the counts."""
    tables, lengths, prompts, examples = [], [], [], []
    row_number: dict[str, int] = {}
    for part in done:
        number, before = int(part["number"]), row_number.get(part["file"], 0)
        row_number[part["file"]] = before + part["rows"]
        examples += [[f"{part['file']} row {before + at}", *why] for at, *why in part["examples"]]
        both = np.load(out / f"part-{number:05}.npy")
        lengths.append(both[:, 0])
        prompts.append(both[:, 1])
        both = both[both[:, 0] <= student.max_length]
        table = np.zeros(len(both), dtype=ROW)
        table["shard"], table["tokens"], table["prompt"] = number, both[:, 0], both[:, 1]
        table["offset"] = np.cumsum([0, *both[:-1, 0]]) if len(both) else 0
        tables.append(table)
    rows = np.concatenate(tables) if tables else np.zeros(0, dtype=ROW)
    n_tokens, n_prompt = (np.concatenate(c) if c else np.zeros(0, int) for c in (lengths, prompts))
    order, packs = pack(rows["tokens"], student.max_length)
    for name, array in (("rows", rows), ("order", order), ("packs", packs)):
        with replacing(out / f"{name}.npy") as partial, partial.open("wb") as sink:
            np.save(sink, array)
    total = int(rows["tokens"].sum())
    return {
        "rows": _counted(done),
        "kept": len(rows),
        "over": len(n_tokens) - len(rows),
        "bad": sum(d["bad"] for d in done),
        "examples": examples[:_EXAMPLES],
        "tokens": total,
        "packs": len(packs) - 1,
        "fill": total / max(1, (len(packs) - 1) * student.max_length),
        "longest": int(n_tokens.max(initial=0)),
        "lengths": quantiles(n_tokens.tolist()) if len(n_tokens) else [],
        "loss_lengths": quantiles((n_tokens - n_prompt).tolist()) if len(n_tokens) else [],
        "shards": [shard(out, int(d["number"])).stat().st_size for d in done],
    }


def _require_sane(done: list[dict[str, Any]], student: Student) -> None:
    """End early where so many rows are bad that the rest cannot make it good."""
    rows, bad = _counted(done), sum(d["bad"] for d in done)
    if bad > 100 and bad > max(0.2, 2 * student.max_bad_fraction) * rows:
        part = next(d for d in done if d["bad"])
        at, what, todo = part["examples"][0]
        raise Refused(f"{part['file']}: {bad} of {rows} rows are bad, such as {what} ({at})", todo)


def _require(manifest: Mapping[str, Any], student: Student) -> None:
    rows, bad, over = manifest["rows"], manifest["bad"], manifest["over"]
    if not rows:
        raise Refused("there are no rows to train on", "release or export some traces first")
    if bad > student.max_bad_fraction * rows:
        place, what, todo = manifest["examples"][0]
        more = f" ({bad} of {rows} rows are bad)" if bad > 1 else ""
        raise Refused(f"{place}: {what}{more}", f"{todo}, or raise max_bad_fraction")
    if over > student.max_over_fraction * (rows - bad):
        raise Refused(
            f"{over} of {rows} rows exceed max_length={student.max_length} tokens"
            f" (longest {manifest['longest']}; allowed {student.max_over_fraction:.1%})",
            "raise max_length, filter by length, or raise max_over_fraction",
        )
    if not manifest["kept"]:
        raise Refused("no row is left to train on", "raise max_length")
