"""Configuration: frozen, strict, small. An unknown key is an error before any work starts."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from factory.errors import ConfigError

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of every recipe: immutable, and a key that it does not know is refused.

    >>> class Recipe(Config):
    ...     n: int
    >>> Recipe.make({"n": 4}).n
    4
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def make(cls: type[C], values: Mapping[str, Any], *, where: str = "configuration") -> C:
        """Validate ``values``.

        Raises:
            ConfigError: with every unknown, missing or ill-typed key in one line.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(f"{where}: {_one_line(error)}", _hint(cls, error)) from None

    @classmethod
    def load(cls: type[C], path: Path | str, *, overrides: Sequence[str] = ()) -> C:
        """Read a YAML file and apply ``key=value`` overrides (dotted keys reach inside).

        Raises:
            ConfigError: the file is missing, is no YAML mapping, or does not fit.
        """
        path = Path(path)
        values = read_yaml(path)
        for assignment in overrides:
            apply_override(values, assignment)
        return cls.make(values, where=str(path))


MAX_BYTES = 4 << 20
MAX_VALUES = 1_000_000


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses a key that stands twice: the first would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping.

        Raises:
            yaml.YAMLError: a key stands twice.
        """
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    where = key.start_mark
                    raise yaml.YAMLError(f"key {key.value!r} twice, line {where.line + 1}")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


# YAML 1.1 takes 1e-6 for a text, since it has no point; JSON, YAML 1.2 and every reader do not.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)  # fmt: skip


def yaml_value(text: str) -> Any:
    """Return a value of the command line as YAML reads it.

    Raises:
        yaml.YAMLError: it is none.

    >>> yaml_value("1e-6"), yaml_value("[1, a]")
    (1e-06, [1, 'a'])
    """
    return yaml.load(text, _Loader)


def _n_values(value: Any, known: dict[int, int]) -> int:
    """Return how many values there are with every alias written out."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = MAX_VALUES + 1  # one that holds itself never ends
        items = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_n_values(item, known) for item in items)
    return known[id(value)]


_NO_RECIPE = "rows of data are no recipe: `factory recipe KIND` prints one"


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping (safe loader: tags that build objects are refused).

    Raises:
        ConfigError: missing, unreadable, or not a mapping.
    """
    try:
        size = path.stat().st_size
        if path.suffix in (".jsonl", ".ndjson", ".csv", ".parquet"):
            raise ConfigError(f"{path} holds rows", _NO_RECIPE)
        if size > MAX_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_BYTES >> 20} MiB", "it is no recipe")
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        if _n_values(values, {}) > MAX_VALUES:
            raise ConfigError(f"{path} unfolds to millions of values", "use fewer aliases")
    except RecursionError:
        raise ConfigError(f"{path} is nested without end", "correct the file") from None
    except FileNotFoundError:
        raise ConfigError(f"no file {str(path)!r}", "check the path of the recipe") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder", "give a recipe file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        detail, todo = _unreadable(error)
        raise ConfigError(f"{path} is not readable YAML ({detail})", todo) from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} holds a {type(values).__name__}", "a recipe is a mapping of keys"
        )
    return values


def _unreadable(error: Exception) -> tuple[str, str]:
    """Return where a file is no YAML and why, and what to do."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split()), "correct the file"
    detail = f"line {mark.line + 1}: {getattr(error, 'problem', None) or 'it ends too early'}"
    if "\\t" in detail:
        return detail, "indent with spaces"
    if "<document start>" in detail:
        return detail, _NO_RECIPE
    return detail, "correct the file"


def apply_override(values: dict[str, Any], assignment: str) -> None:
    """Apply one ``key=value``; the value is read as YAML, dotted keys reach inside.

    >>> d = {"a": {"b": 1}}; apply_override(d, "a.b=2"); d
    {'a': {'b': 2}}
    """
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {assignment!r}", "write it as key=value")
    *path, last = key.split(".")
    for part in path:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {assignment!r}: {part!r} holds no keys")
        values = inner
    try:
        values[last] = yaml_value(text)
    except yaml.YAMLError:
        values[last] = text


def _one_line(error: ValidationError) -> str:
    parts = []
    for item in error.errors():
        key = ".".join(str(p) for p in item["loc"]) or "value"
        kind = item["type"]
        if kind == "extra_forbidden":
            parts.append(f"unknown key {key!r}")
        elif kind == "missing":
            parts.append(f"missing key {key!r}")
        elif kind == "dict_type":
            parts.append(f"{key}: keys with values are wanted, as in {key}: {{name: value}}")
        else:
            parts.append(f"{key}: {item['msg']}")
    return "; ".join(parts)


_TELLING = {
    "policy": "factory generate", "source": "factory generate", "judge": "factory judge",
    "filters": "factory select", "cap_per_prompt": "factory select", "preset": "distill grpo",
    "template": "distill sft", "zero": "pipelines.r1",
}  # fmt: skip
"""Keys that tell whose recipe a file is, where another verb is given it."""


def _hint(cls: type[BaseModel], error: ValidationError) -> str:
    """Return the keys that are nearest to the unknown ones, else all that are known there."""
    unknown = [item["loc"] for item in error.errors() if item["type"] == "extra_forbidden"]
    near = []
    telling = [str(loc[0]) for loc in unknown if len(loc) == 1 and loc[0] in _TELLING]
    if telling:
        verb = _TELLING[telling[0]]
        return f"{telling[0]!r} stands in files of `{verb}`: is it the right one?"
    for loc in unknown:
        names = list(_class_at(cls, loc[:-1]).model_fields)
        found = difflib.get_close_matches(str(loc[-1]), names, n=1)
        if not found:
            return f"known keys: {', '.join(names)}"
        near.append(f"{loc[-1]!r} is near {found[0]!r}")
    return "; ".join(near) or f"known keys: {', '.join(cls.model_fields)}"


def _class_at(cls: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel]:
    """Return the class that reads the keys at a place in a recipe; the last one known to."""
    for part in loc:
        field = cls.model_fields.get(str(part))
        cls = (class_in(field.annotation) if field else None) or cls
    return cls


def class_in(annotation: Any) -> type[BaseModel] | None:
    """Return the class of keys that a field's annotation holds, such as ``Inner | None``."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(class_in, get_args(annotation))), None)
