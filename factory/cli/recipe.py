"""What a recipe may say, printed from the code that reads it: ``factory recipe KIND``.

The meaning of a key is the text below it in its class, or its line under ``Attributes`` or
``Args``; so what is printed cannot differ from what is read.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import re
import textwrap
import types
import typing
from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from factory.config import Config, class_in

WIDTH = 96
NEEDED = inspect.Parameter.empty
"""The default of a key that has none."""
Reader = type[BaseModel] | Callable[..., Any]
"""What reads keys: a class of fields, or a function whose arguments they are."""


class Key(NamedTuple):
    """One key: its name, the annotation of its value, its default, and what it means."""

    name: str
    annotation: Any
    default: Any
    meaning: str


class Kind(NamedTuple):
    """A kind of recipe: what it is for, the class that reads it, and values that make a whole one.

    ``inner`` says who reads the keys below one that the class itself takes as a plain mapping.
    """

    summary: str
    reads: type[Config]
    example: Mapping[str, Any]
    inner: Mapping[str, Reader] = {}


def kinds() -> dict[str, Kind]:
    """Return the recipes of the ``factory`` command."""
    from factory.cli.generate import GenerateRecipe
    from factory.cli.judge import JudgeRecipe
    from factory.records import Sampling
    from factory.stages.generate.policy import Policy
    from factory.stages.judge import Judging
    from factory.stages.select import Selection

    return {
        "generate": Kind(
            "Prompts to traces: `factory generate FILE`",
            GenerateRecipe,
            {
                "source": {"kind": "files", "paths": ["prompts.jsonl"]},
                "engine": {"kind": "vllm", "model": "models/base"},
                "sampling": {"temperature": 0.6, "top_p": 0.95, "max_tokens": 4096},
                "policy": {"kind": "fixed", "n": 4},
            },
            {"policy": Policy, "sampling": Sampling},
        ),
        "select": Kind(
            "Which traces are kept: `factory select FILE`, `factory release NAME FILE`",
            Selection,
            {
                "filters": {"right": "status = 'pass'", "no_loop": "NOT has_loop"},
                "cap_per_prompt": 4,
            },
        ),
        "judge": Kind(
            "A model on what no rule can score: `factory judge FILE`",
            JudgeRecipe,
            {
                "engine": {"kind": "openai", "model": "judge", "revision": "1",
                           "base_url": "http://localhost:8000/v1"},
                "sampling": {"temperature": 0.6, "max_tokens": 1024},
                "judge": {"ask": "unscored"},
            },
            {"judge": Judging, "sampling": Sampling},
        ),
    }  # fmt: skip


def recipe(args: Namespace) -> int:
    """``factory recipe KIND``: print a commented example of a recipe."""
    return show(kinds()[args.kind])


def show(kind: Kind) -> int:
    """Print the example of a kind; return the exit status."""
    from factory.cli.common import out

    out(example(kind).rstrip("\n"))
    return 0


def example(kind: Kind) -> str:
    """Return a recipe that runs, with every other key as a comment at its default.

    >>> example(kinds()["select"]).partition(":")[0]
    '# Which traces are kept'
    """
    note = "A key behind # is at its default. --set KEY=VALUE wins over this file."
    lines = [*_comment(f"{kind.summary}."), *_comment(note), ""]
    for key in keys_of(kind.reads):
        lines += [*_lines(key, kind.example, kind.inner.get(key.name), "", on=True), ""]
    return "\n".join(lines)


def reference(title: str, reads: Reader, inner: Mapping[str, Reader] | None = None) -> str:
    """Return the keys of a recipe as Markdown tables, one for each class in it."""
    todo: dict[str, Reader] = {title: reads}
    parts = []
    while todo:
        name = next(iter(todo))
        reader = todo.pop(name)
        rows = ["| key | form | default | meaning |", "|---|---|---|---|"]
        for key in keys_of(reader):
            below = ((inner or {}).get(key.name) if reader is reads else None) or class_in(
                key.annotation
            )
            form = f"`{form_of(key.annotation)}`".replace("|", "\\|")
            if below is not None:
                # A class that holds itself is told once.
                within = name if below is reader else f"{name}: {key.name}"
                if below is not reader:
                    todo[within] = below
                form = f"keys of [{within}](#{_anchor(within)})"
            default = "**needed**" if key.default is NEEDED else f"`{_flow(key.default)}`"
            rows.append(f"| `{key.name}` | {form} | {default} | {_cell(key.meaning)} |")
        parts.append(f"### {name}\n\n{_cell(_summary(reader))}\n\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def keys_of(reader: Reader) -> list[Key]:
    """Return the keys that a class of fields, or a function by its arguments, takes.

    >>> from factory.stages.generate.policy import Policy
    >>> keys_of(Policy)[2].meaning
    'Passes that are enough (``until``, ``adaptive``).'
    """
    said = _meanings(reader)
    if inspect.isclass(reader) and issubclass(reader, BaseModel):
        found = [
            (name, field.annotation, NEEDED if field.is_required() else
             field.get_default(call_default_factory=True, validated_data={}))
            for name, field in reader.model_fields.items()
        ]  # fmt: skip
    else:
        function = reader.__init__ if inspect.isclass(reader) else reader
        hints = typing.get_type_hints(function)
        found = [
            (p.name, hints.get(p.name, Any), p.default)
            for p in inspect.signature(function).parameters.values()
            if p.name != "self" and p.kind is not p.VAR_KEYWORD
        ]
    keys = [Key(name, form, default, said.get(name, "")) for name, form, default in found]
    return [k if k.meaning else k._replace(meaning=_of_class(k)) for k in keys]


def form_of(annotation: Any) -> str:
    """Return a field's form in words that a writer of YAML uses.

    >>> form_of(dict[str, float] | None), form_of(Literal["a", "b"]), form_of(tuple[str, ...])
    ('{text: number} | null', 'a | b', '[text]')
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " | ".join(form_of(a) for a in inner)
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return f"{{{form_of(inner[0])}: {form_of(inner[1])}}}"
    if origin is not None and inner:
        return f"[{', '.join(form_of(a) for a in inner if a is not Ellipsis)}]"
    names = {str: "text", int: "integer", float: "number", bool: "true | false", Any: "any",
             type(None): "null", None: "null"}  # fmt: skip
    return names.get(annotation) or str(getattr(annotation, "__name__", annotation)).lower()


@cache
def _meanings(reader: Reader) -> dict[str, str]:
    """Return key → what the reader's text says of it."""
    found: dict[str, str] = {}
    classes = reversed(reader.__mro__) if inspect.isclass(reader) else [reader]
    for part in classes:
        if part in (object, BaseModel, Config) or not _is_ours(part):
            continue
        doc = inspect.cleandoc(part.__doc__ or "")
        for section in re.findall(r"^(?:Attributes|Args):\n((?:    .*\n?|\n)+)", doc, re.MULTILINE):
            for names, text in re.findall(
                r"^    ([\w, ]+): (.*(?:\n        .*)*)", section, re.MULTILINE
            ):
                found |= {name.strip(): _joined(text) for name in names.split(",")}
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for field, text in itertools.pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[field.target.id] = _joined(str(text.value.value))
    return found


def _is_ours(part: Any) -> bool:
    return str(getattr(part, "__module__", "")).partition(".")[0] in (
        "factory", "distill", "pipelines", "catalogs"
    )  # fmt: skip


def _lines(
    key: Key, values: Mapping[str, Any], inner: Reader | None, indent: str, *, on: bool
) -> list[str]:
    below = inner or class_in(key.annotation)
    is_on = on and (key.name in values or key.default is NEEDED)
    mark = indent if is_on else f"{indent}# "
    form = "keys below" if below else form_of(key.annotation)
    needed = ", needed" if key.default is NEEDED else ""
    lines = _comment(f"({form}{needed}) {key.meaning}", indent)
    given = values.get(key.name, key.default)
    if below is None:
        return [*lines, f"{mark}{key.name}: {_flow(given)}"]
    given = given if isinstance(given, Mapping) else {}
    lines.append(f"{mark}{key.name}:" + (" {}" if is_on and not given else ""))
    for k in keys_of(below):
        # Below a key that is off every line is off, so that taking its # away brings all of it.
        lines += (
            _lines(k, given, None, f"{indent}  ", on=True) if is_on else
            [f"{indent}#   {k.name}: {_flow(k.default)}  # {form_of(k.annotation)}"]
        )  # fmt: skip
    return lines


def _of_class(key: Key) -> str:
    below = class_in(key.annotation)
    return _summary(below) if below else ""


def _summary(reader: Reader) -> str:
    return _joined(inspect.cleandoc(reader.__doc__ or "").split("\n\n")[0])


def _flow(value: Any) -> str:
    if value is NEEDED:
        return "…"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_defaults=True)
    elif isinstance(value, tuple | frozenset | set):
        value = list(value)
    elif isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)
    elif not isinstance(value, str | int | float | bool | list | dict | None):
        value = str(value)
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True
    )
    return text.strip().removesuffix("...").strip()


def _comment(text: str, indent: str = "") -> list[str]:
    return [f"{indent}# {line}" for line in textwrap.wrap(text, WIDTH - len(indent) - 2)]


def _joined(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _joined(text).replace("``", "`").replace("|", "\\|")


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
