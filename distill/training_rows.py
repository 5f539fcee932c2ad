"""Rows to train on: from files, and as tokens on disk that training maps into memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distill.preflight import Row, read_row
from factory.errors import CorruptError, UsageError
from factory.rows import files

MANIFEST = "prepared.json"
_IN_FOLDERS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
ROW = np.dtype([("shard", "<i4"), ("offset", "<i8"), ("tokens", "<i4"), ("prompt", "<i4")])
"""A row of ``rows.npy``: its shard, where it begins there, its tokens, and those of its prompt."""


def data_files(path: Path) -> list[Path]:
    """Return the files of ``path``: itself, or the data files of a folder in order of their names.

    Raises:
        UsageError: there is none, or it has an unknown ending.
    """
    paths = [path]
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if p.is_file() and p.name.endswith(_IN_FOLDERS))
        if not paths:
            raise UsageError(f"{path} holds no .jsonl or .parquet file", "check the path")
    for file in paths:
        files.check_input(str(file))
    return paths


def read_rows(path: Path, *, max_rows: int | None = None) -> list[Row]:
    """Read prompt–completion rows, in the order of the file names and of the rows.

    Args:
        path: a file that ``factory.rows.files`` reads, or a folder of ``.jsonl`` (also ``.gz``,
            ``.zst``) and ``.parquet`` files.
        max_rows: stop after so many.

    Raises:
        UsageError: a missing file, an unknown ending, or a line that is no JSON object.
        Refused: a row without prompt or completion.
    """
    rows: list[Row] = []
    for file in data_files(path):
        for index, values in enumerate(files.read_rows(str(file)), 1):
            if max_rows is not None and len(rows) >= max_rows:
                return rows
            if isinstance(values, files.Malformed):
                raise UsageError(f"{file} line {values.line}: {values.why}", "correct the file")
            rows.append(read_row(values, where=f"{file.name} row {index}"))
    return rows


def pack(lengths: npt.ArrayLike, capacity: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Put rows into packs of at most ``capacity`` tokens, whole, by best fit decreasing.

    Args:
        lengths: tokens of each row, shape (N,), none above ``capacity``.
        capacity: of a pack, tokens.

    Returns:
        The rows in order of their packs, shape (N,), and where each pack begins among them and the
        last ends, shape (P + 1,).

    >>> [part.tolist() for part in pack([3, 5, 2, 4], 7)]
    [[1, 2, 3, 0], [0, 2, 4]]
    """
    lengths = np.asarray(lengths)
    packs: list[list[int]] = []
    # Packs by the room that is left in them; the bits of ``free`` say which rooms there are, so
    # that the smallest one that is large enough is found by shifting.
    by_room: dict[int, list[int]] = {}
    free = 0
    for row in np.argsort(-lengths, kind="stable").tolist():
        need = int(lengths[row])
        fitting = free >> need
        if fitting:
            room = need + (fitting & -fitting).bit_length() - 1
            at = by_room[room].pop()
            if not by_room[room]:
                free &= ~(1 << room)
        else:
            room, at = capacity, len(packs)
            packs.append([])
        packs[at].append(row)
        by_room.setdefault(room - need, []).append(at)
        free |= 1 << (room - need)
    order = [row for rows in packs for row in rows]
    starts = np.cumsum([0, *(len(rows) for rows in packs)])
    return np.asarray(order, dtype=np.int64), starts.astype(np.int64)


class TokenRows:
    """Prepared rows or packs as a map-style data set, mapped into memory shard by shard.

    Items are what TRL's collator takes: ``input_ids`` and ``labels`` (-100 on prompts), shape (T,),
    and ``seq_lengths``, the tokens of each row of a pack.

    Args:
        folder: that ``distill.prepare`` wrote.
        packed: whether an item is a pack of rows.

    Raises:
        UsageError: the folder holds no prepared rows.
        CorruptError: a file of it is missing or was cut.
    """

    def __init__(self, folder: Path, *, packed: bool) -> None:
        self.folder, self.packed = folder, packed
        self.manifest = read_prepared(folder)
        for number, size in enumerate(self.manifest["shards"]):
            if not (path := shard(folder, number)).is_file() or path.stat().st_size != size:
                raise CorruptError(f"{path} is missing or was cut", "remove the folder; prepare")
        self._open()

    def _open(self) -> None:
        self._rows, self._order, self._packs = (
            np.load(self.folder / f"{name}.npy", mmap_mode="r")
            for name in ("rows", "order", "packs")
        )
        self._shards: dict[int, npt.NDArray[Any]] = {}

    def dataset(self) -> Any:
        """Return the same as a ``datasets.Dataset``, which TRL asks for; nothing is copied."""
        from datasets import Dataset

        def items(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
            found = [self[i] for i in batch["item"]]
            return {name: [item[name] for item in found] for name in found[0]}

        return Dataset.from_dict({"item": np.arange(len(self))}).with_transform(items)

    def __len__(self) -> int:
        """Return how many items there are."""
        return len(self._packs) - 1 if self.packed else len(self._rows)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the maps behind: whoever gets a copy opens its own."""
        return {name: getattr(self, name) for name in ("folder", "packed", "manifest")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the maps."""
        self.__dict__.update(state)
        self._open()

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one row or pack."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        at = index % len(self)
        if not self.packed:
            ids, n_prompt = self._row(at)
            return {"input_ids": ids, "labels": _labels(ids, n_prompt)}
        rows = [self._row(i) for i in self._order[self._packs[at] : self._packs[at + 1]]]
        return {
            "input_ids": np.concatenate([ids for ids, _ in rows]),
            "labels": np.concatenate([_labels(ids, n) for ids, n in rows]),
            "seq_lengths": [len(ids) for ids, _ in rows],
        }

    def _row(self, at: int) -> tuple[npt.NDArray[np.int64], int]:
        number, begin, n_tokens, n_prompt = self._rows[at].tolist()
        if number not in self._shards:
            path = shard(self.folder, number)
            self._shards[number] = np.memmap(path, dtype=self.manifest["dtype"], mode="r")
        return self._shards[number][begin : begin + n_tokens].astype(np.int64), n_prompt


def _labels(ids: npt.NDArray[np.int64], n_prompt: int) -> npt.NDArray[np.int64]:
    labels = ids.copy()
    labels[:n_prompt] = -100
    return labels


def shard(folder: Path, number: int) -> Path:
    """Return the file of a shard's tokens, which stand in it one row after the other."""
    return folder / f"tokens-{number:05}.bin"


def is_prepared(folder: Path) -> bool:
    """Tell whether a folder holds prepared rows."""
    return (folder / MANIFEST).is_file()


def read_prepared(folder: Path) -> dict[str, Any]:
    """Return the manifest of prepared rows.

    Raises:
        UsageError: the folder holds none.
        CorruptError: it is damaged.
    """
    try:
        values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{folder} holds no prepared rows", "run distill prepare") from None
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise CorruptError(f"{folder / MANIFEST} is damaged", "remove the folder; prepare again")
    return values


def difference_of(found: dict[str, Any], wanted: dict[str, Any]) -> Sequence[str]:
    """Return the names of settings in which prepared rows differ from what is wanted."""
    return [name for name, value in wanted.items() if found.get(name) != value]
