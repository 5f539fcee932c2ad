"""Prompt templates: what is asked and how the answer is checked, in one file.

A template holds the text around a prompt, a system prompt, and for each verifier that it serves the
options that fit what it asks for: a reward never looks for a box that nobody asked for. Files of
``factory/sources/templates/``, or one of your own by its path. Every source takes one:
``source: {kind: hub, dataset: …, template: boxed}``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from factory import plugins
from factory.dialects import DIALECTS
from factory.errors import ConfigError, UsageError
from factory.records import Prompt, PromptSource

FOLDER = Path(__file__).parent / "templates"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A prompt template.

    Attributes:
        name: of its file; ``about``: what it asks for.
        prompt: text with ``{prompt}`` (the last user message) and maybe ``{letters}`` (of the
            options) and ``{domain}`` (of the source).
        system: system prompt; None leaves the prompt's own.
        dialect: in which the answer is asked for, a name of ``factory.dialects.DIALECTS``.
        verifiers: verifier that it serves → options that fit what it asks for.
    """

    name: str
    about: str = ""
    prompt: str = "{prompt}"
    system: str | None = None
    dialect: str = "think"
    verifiers: Mapping[str, Mapping[str, Any]]

    def apply(self, prompt: Prompt, source: PromptSource) -> tuple[Prompt, PromptSource]:
        """Return the prompt as it is asked, and its source with the options that go with that.

        Raises:
            ConfigError: the gold is checked by a verifier that the template does not serve.
        """
        options = dict(source.options)
        if source.verifier is not None:
            if source.verifier not in self.verifiers:
                raise ConfigError(
                    f"template {self.name!r} does not ask for what the verifier "
                    f"{source.verifier!r} of {source.source} {source.item} checks",
                    f"it serves {', '.join(self.verifiers)}; choose another template",
                )
            options |= self.verifiers[source.verifier]
        given = options.get("options")
        n_letters = len(given) if isinstance(given, list | dict) else 4
        messages = [dict(m) for m in prompt.messages]
        last = max((i for i, m in enumerate(messages) if m["role"] == "user"), default=None)
        if last is not None:
            asked = self.prompt.replace("{letters}", _LETTERS[:n_letters])
            asked = asked.replace("{domain}", source.domain or "general knowledge")
            messages[last]["content"] = asked.replace("{prompt}", messages[last]["content"])
        if self.system is not None:
            messages = [m for m in messages if m["role"] != "system"]
            messages.insert(0, {"role": "system", "content": self.system})
        made = Prompt(messages=tuple(messages))
        return made, dataclasses.replace(source, prompt_id=made.prompt_id, options=options)


def names() -> list[str]:
    """Return the templates that come with the factory.

    >>> "boxed" in names()
    True
    """
    return sorted(p.stem for p in FOLDER.glob("*.yaml"))


def load(name: str) -> Template:
    """Return a template by name, or by a path that ends in ``.yaml``.

    Raises:
        ConfigError: there is none, or the file does not fit.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if path.parent == FOLDER and path.stem not in names():
        raise ConfigError(
            f"unknown template {name!r}", f"known: {', '.join(names())}; or give a .yaml file"
        )
    try:
        fields = yaml.safe_load(path.read_text("utf-8"))
        made = Template(name=path.stem, **fields)
    except OSError as error:
        raise ConfigError(f"no template {name!r} ({error.strerror})", "check the path") from None
    except (yaml.YAMLError, TypeError, ValueError) as error:
        detail = " ".join(str(error).split())[:160]
        raise ConfigError(f"template {name!r}: {detail}", "see factory/sources/templates") from None
    _check(made)
    return made


def _check(made: Template) -> None:
    if not isinstance(made.prompt, str) or "{prompt}" not in made.prompt:
        raise ConfigError(f"template {made.name!r} has no {{prompt}}", "its prompt must hold it")
    if made.dialect not in DIALECTS:
        raise ConfigError(
            f"template {made.name!r}: unknown dialect {made.dialect!r}",
            f"known: {', '.join(DIALECTS)}",
        )
    serves = made.verifiers
    if not isinstance(serves, dict) or not all(isinstance(o, dict) for o in serves.values()):
        raise ConfigError(
            f"template {made.name!r}: verifiers", "write {math: {mode: boxed}} and the like"
        )


def open_source(kind: str, options: Mapping[str, Any]) -> Iterator[tuple[Prompt, PromptSource]]:
    """Yield the prompts of a source, asked as its ``template`` says.

    Args:
        kind: name or path of a source.
        options: arguments of the source, and ``template``.

    Raises:
        UsageError: no such source or template, or an argument that it does not take.
    """
    values = dict(options)
    template = values.pop("template", None)
    module = plugins.load("sources", kind)
    if template is not None:
        # What a source asks for of its own accord would stand twice.
        values = {**getattr(module, "WITH_TEMPLATE", {}), **values}
    try:
        pairs = module.prompts(**values)
    except TypeError as error:
        raise UsageError(f"source {kind!r}: {error}", "see its docstring") from None
    yield from pairs if template is None else asked(pairs, str(template))


def asked(
    pairs: Iterable[tuple[Prompt, PromptSource]], name: str
) -> Iterator[tuple[Prompt, PromptSource]]:
    """Yield prompts as a template asks them."""
    template = load(name)
    for prompt, source in pairs:
        yield template.apply(prompt, source)
