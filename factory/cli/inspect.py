"""``factory inspect``: what would be read out of a file or data set, before anything is."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.cli.common import columns, note, out
from factory.errors import UsageError, listed

if TYPE_CHECKING:
    from factory.stages.inspecting import Inspection

LOOKED_AT = 500
MAX_FILES = 50
_SHOWN_CHARS = 300


def inspect(args: Namespace) -> int:
    """``factory inspect FILE|DATASET``."""
    from factory.sources.columns import Wishes
    from factory.sources.shape import named
    from factory.stages.inspecting import inspect_rows

    wishes = Wishes(mapping=columns(args.map), shape=named(args.shape) if args.shape else None)
    looked = max(LOOKED_AT, args.rows or 0)
    keep = args.rows if args.rows is not None or args.json else 3
    found = inspect_rows(_rows(args, looked), wishes=wishes, keep=keep)
    if args.json:
        import orjson

        out(orjson.dumps(vars(found), option=orjson.OPT_INDENT_2, default=str).decode())
    else:
        for line in lines(found):
            out(line)
    return 0


def _rows(args: Namespace, looked: int) -> Iterator[Any]:
    from factory.rows import files as row_files
    from factory.sources import files, hub

    name = args.input
    is_name = not Path(name).exists() and "." not in Path(name).name and not set(name) & set("*?[")
    if is_name and name != "-":
        return hub.rows(
            name, revision=args.revision, config=args.config, split=args.split, streaming=True,
            limit=looked,
        )  # fmt: skip
    found = row_files.expanded([name])
    if len(found) > MAX_FILES:
        note(f"looking at {MAX_FILES} of {len(found)} files")
        found = found[:: -(-len(found) // MAX_FILES)]
    if not found:
        raise UsageError(f"no data file in {name!r}", "give a file, a folder or a pattern")
    return files.rows(found, limit=-(-looked // len(found)))


def lines(found: Inspection) -> Iterator[str]:
    """Yield what was found as lines of text."""
    for label, about in found.files.items():
        yield f"{label}: read as {about['shape']}"
        for name, paths in about["reads"].items():
            yield f"  {name:14} from {', '.join(paths)}"
        read = {p for paths in about["reads"].values() for p in paths}
        rest = [c for c in about["columns"] if c not in read]
        if rest:
            yield f"  {'kept as meta':14} {listed(rest)}"
    yield ""
    kinds = f"{found.n_found} {found.kind}, {found.copies} exact copies"
    yield f"{found.n_rows} rows looked at: {kinds}"
    if found.refused:
        yield f"not read: {_counted(found.refused)}"
    n_golds = sum(found.verifiers.values())
    yield f"golds: {n_golds} of {found.n_found}" + (
        f", by verifier: {_counted(found.verifiers)}" if n_golds else ""
    )
    if found.bad_golds:
        yield f"bad golds, whose answers would all be unscored: {_counted(found.bad_golds)}"
    if found.kind == "traces":
        yield f"thinking: {found.thinking} of {found.n_found} traces" + (
            f", stored as <think>: {_counted(found.dialects)}" if found.dialects else ""
        )
        yield f"finish reasons: {_counted(found.finish_reasons)}"
        yield f"models: {_counted(found.models)}"
        if found.cut_tokens:
            yield f"special tokens are cut off the end of {found.cut_tokens} completions"
    yield f"languages (of {sum(found.languages.values())} texts): {_counted(found.languages)}"
    for number, row in enumerate(found.rows, start=1):
        yield ""
        yield f"--- {number}"
        for message in row["messages"]:
            yield f"{message['role']:10} {_cut(message['content'])}"
        for name in ("thinking", "answer", "gold", "verifier", "finish_reason", "model"):
            if row[name] is not None:
                yield f"{name:10} {_cut(row[name])}"
        yield f"{'meta':10} {_cut(row['meta'])}"


def _counted(counts: Counter[str] | Mapping[str, int]) -> str:
    most = Counter(counts).most_common(8)
    more = len(counts) - len(most)
    return ", ".join(f"{name} {n}" for name, n in most) + (f" and {more} more" if more else "")


def _cut(value: Any) -> str:
    text = " ".join(str(value).split())
    if len(text) <= _SHOWN_CHARS:
        return text
    return f"{text[: _SHOWN_CHARS - 60]} … {text[-50:]} ({len(str(value)):,} characters)"
