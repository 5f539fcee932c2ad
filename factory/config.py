"""Configuration: frozen, strict, small. An unknown key is an error before any work starts."""

from __future__ import annotations

import difflib
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


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping (safe loader: tags that build objects are refused).

    Raises:
        ConfigError: missing, unreadable, or not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no file {str(path)!r}", "check the path of the recipe") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        detail = " ".join(str(error).split())
        raise ConfigError(f"{path} is not readable YAML ({detail})", "correct the file") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} holds a {type(values).__name__}", "a recipe is a mapping of keys"
        )
    return values


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
        values[last] = yaml.safe_load(text)
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
        else:
            parts.append(f"{key}: {item['msg']}")
    return "; ".join(parts)


def _hint(cls: type[BaseModel], error: ValidationError) -> str:
    """Return the keys that are nearest to the unknown ones, else all that are known there."""
    unknown = [item["loc"] for item in error.errors() if item["type"] == "extra_forbidden"]
    near = []
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
        cls = (_class_in(field.annotation) if field else None) or cls
    return cls


def _class_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_class_in, get_args(annotation))), None)
