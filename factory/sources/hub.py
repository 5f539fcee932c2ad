"""Source ``hub``: prompts out of a Hugging Face dataset, by name and revision, or a local folder.

The commit is resolved and recorded in ``PromptSource.source`` as ``name@commit``, so that a rebuilt
dataset comes from the same rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.errors import UsageError
from factory.model_files import hub_commit
from factory.records import Prompt, PromptSource
from factory.sources import columns
from factory.sources.shape import named


def rows(
    dataset: str,
    *,
    revision: str | None = None,
    config: str | None = None,
    split: str = "train",
    streaming: bool = False,
    limit: int | None = None,
) -> Iterator[tuple[str, int, columns.Row]]:
    """Yield (name@commit, row number, row); a row that names no split gets that of the dataset.

    Args:
        dataset: hub name, or a local folder of Parquet or JSON files of the same shape.
        revision: commit, tag or branch.
        config: configuration name of the dataset.
        split: its split.
        streaming: read rows as they come instead of fetching all first.
        limit: at most so many rows.

    Raises:
        UsageError: it cannot be found or loaded; the message says why.
    """
    try:
        import datasets
    except ImportError:
        raise UsageError(
            "the package datasets is missing", "install the extra 'datasets'"
        ) from None
    local = Path(dataset).is_dir()
    if local:
        label = Path(dataset).resolve().name
    else:
        label = f"{dataset}@{hub_commit(dataset, revision, kind='dataset')}"
    try:
        loaded = datasets.load_dataset(
            dataset, config, split=split, streaming=streaming,
            revision=None if local else label.rpartition("@")[2],
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - the library raises its own, pyarrow's, the network's
        detail = " ".join(str(error).split())[:200]
        raise UsageError(
            f"dataset {dataset!r} split {split!r} cannot be loaded ({detail})",
            "check name, revision, config and split",
        ) from None
    # A row's own word on its split counts more: many benchmarks lie in a split called train.
    where = {"split": split.partition("[")[0]}
    for number, row in enumerate(itertools.islice(loaded, limit)):
        yield label, number, row if row.get("split") else {**row, **where}


def fetched(
    dataset: str, names: Sequence[str], *, revision: str | None = None
) -> tuple[str, list[Path]]:
    """Return name@commit of a data set and local copies of some of its files.

    For data sets that ``datasets`` cannot load, since they are made by a script.

    Raises:
        UsageError: they cannot be found.
    """
    commit = hub_commit(dataset, revision, kind="dataset")
    try:
        from huggingface_hub import hf_hub_download

        paths = [
            Path(hf_hub_download(dataset, name, repo_type="dataset", revision=commit))
            for name in names
        ]
    except Exception as error:  # noqa: BLE001 - as in rows
        detail = " ".join(str(error).split())[:200]
        raise UsageError(
            f"files of dataset {dataset!r} cannot be fetched ({detail})", "give a local folder"
        ) from None
    return f"{dataset}@{commit}", paths


def prompts(
    dataset: str,
    *,
    revision: str | None = None,
    config: str | None = None,
    split: str = "train",
    shape: str | None = None,
    mapping: Mapping[str, str] | None = None,
    verifier: str | None = None,
    options: Mapping[str, Any] | None = None,
    language: str | None = None,
    limit: int | None = None,
) -> Iterator[tuple[Prompt, PromptSource]]:
    """Yield the prompts of a hub data set, or of a folder in ``save_to_disk``'s form.

    Args:
        dataset: ``OWNER/NAME`` on the hub, or a local folder.
        revision: commit, so that the same recipe reads the same rows; default: the newest.
        config: configuration of the data set.
        split: split of the data set.
        shape: name of a shape, or path of one's own; default: the one that fits.
        mapping: name that we read → path, template or constant (``factory.rows.paths``).
        verifier: verifier of all golds; default: each row's, else one that fits the gold.
        options: options of that verifier.
        language: ISO 639-1 code of all prompts.
        limit: at most so many prompts.
    """
    wishes = columns.Wishes(
        shape=named(shape) if shape else None,
        mapping=mapping or {},
        verifier=verifier,
        options=options or {},
        language=language,
    )
    yield from columns.pairs_of(
        rows(dataset, revision=revision, config=config, split=split),
        wishes,
        limit=limit,
        nothing=UsageError(
            f"no prompt in dataset {dataset!r}", "name its column: mapping prompt=COLUMN"
        ),
    )
