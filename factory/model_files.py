"""Models by name or path: their revision, their chat template, and what is refused.

Safetensors only; a model that brings code of its own is refused, whatever flags say.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from factory.dialects import THINK_CLOSE, THINK_OPEN
from factory.errors import Refused, UsageError
from factory.records.ids import text_hash

_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json",
    "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json",
)  # fmt: skip
_UNREACHED = {
    "ConnectError", "ConnectionError", "ConnectTimeout", "ReadTimeout", "LocalEntryNotFoundError",
    "OfflineModeIsEnabled",
}  # fmt: skip
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def is_local(model: str) -> bool:
    """Tell whether ``model`` is a folder of this machine."""
    return Path(model).is_dir()


def name_of(model: str) -> str:
    """Return the name that enters keys: of a local model its folder's, wherever that lies."""
    return Path(model).resolve().name if is_local(model) else model


def check_safe(model: str) -> None:
    """Refuse a local model that is no safetensors model or brings code.

    Raises:
        UsageError: the folder is no model.
        Refused: pickled weights, ``auto_map``, or Python files.
    """
    folder = Path(model)
    if not folder.is_dir():
        return  # a hub model: checked in its snapshot folder, after its download
    config = folder / "config.json"
    if not config.is_file():
        raise UsageError(f"{model!r} is no model folder", "it must hold a config.json")
    if any(folder.glob("*.py")) or "auto_map" in _json(config):
        raise Refused(
            f"model {model!r} brings its own code", "models run without trust_remote_code"
        )
    if not any(folder.glob("*.safetensors")):
        pickled = any(p for pattern in _PICKLES for p in folder.glob(pattern))
        detail = "has pickled weights only" if pickled else "has no weights"
        raise Refused(f"model {model!r} {detail}", "convert it to safetensors")


def revision_of(model: str, revision: str | None = None) -> str:
    """Return what stands for the weights in keys.

    A local model: a digest of its weights, configuration and tokenizer. A hub model: its commit
    (40 hexadecimal characters), looked up where a branch or nothing is given.

    Raises:
        UsageError: the hub does not know it or cannot be reached.
    """
    if is_local(model):
        check_safe(model)
        return _digest(model, _stamp(model))
    return hub_commit(model, revision)


def hub_commit(name: str, revision: str | None = None, *, kind: str = "model") -> str:
    """Return the commit (40 hexadecimal characters) of a model or data set of the hub.

    It is looked up where a branch or nothing is given. Where the hub cannot be reached, as on the
    compute nodes of many clusters, it is the commit that this machine's cache holds of the branch.

    Raises:
        UsageError: the hub does not know it, or cannot be reached and the cache holds none.
    """
    if revision and len(revision) == 40 and all(c in "0123456789abcdef" for c in revision):
        return revision
    import huggingface_hub

    ask = huggingface_hub.model_info if kind == "model" else huggingface_hub.dataset_info
    try:
        return str(ask(name, revision=revision).sha)
    except Exception as error:  # noqa: BLE001 - the hub client raises its own and the network's
        known = "config.json" if kind == "model" else "README.md"
        with contextlib.suppress(huggingface_hub.errors.HFValidationError):
            cached = huggingface_hub.try_to_load_from_cache(
                name, known, revision=revision, repo_type=kind
            )
            if isinstance(cached, str):
                return Path(cached).parent.name
        raise not_found(kind, name, error) from None


def not_found(kind: str, name: str, error: Exception) -> UsageError:
    """Return the error of a model or data set that no folder and no hub gave."""
    what = f"{kind} {name!r} is neither a folder nor found on the hub"
    if type(error).__name__ in _UNREACHED:
        return UsageError(
            f"{what}, which cannot be reached ({type(error).__name__})",
            "check the network, then the name; or give a local path",
        )
    return UsageError(f"{what} ({type(error).__name__})", "check the name, or give a local path")


def _stamp(model: str) -> tuple[tuple[str, int, int], ...]:
    files = [*Path(model).glob("*.safetensors"), Path(model) / "config.json"]
    files += [Path(model) / n for n in _TOKENIZER_FILES]
    return tuple(
        (p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(files) if p.is_file()
    )


@functools.lru_cache(maxsize=64)
def _digest(model: str, stamp: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, size, _ in stamp:
        digest.update(f"{name}:{size}:".encode())
        with (Path(model) / name).open("rb") as handle:
            while block := handle.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def configuration(model: str, revision: str | None = None) -> dict[str, Any]:
    """Return a model's configuration: of a folder its ``config.json``, of a hub model likewise.

    Raises:
        UsageError: it cannot be read.
    """
    if is_local(model):
        config = Path(model) / "config.json"
        return _json(config) if config.is_file() else {}
    try:
        from huggingface_hub import hf_hub_download

        return _json(Path(hf_hub_download(model, "config.json", revision=revision)))
    except Exception as error:  # noqa: BLE001 - the hub client raises its own and the network's
        raise not_found("model", model, error) from None


def chat_template(model: str) -> str | None:
    """Return the text of a local model's chat template; None where it has none."""
    folder = Path(model)
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        return jinja.read_text(encoding="utf-8")
    config = folder / "tokenizer_config.json"
    template = _json(config).get("chat_template") if config.is_file() else None
    return template if isinstance(template, str) else None


def template_hash(template: str | None) -> str:
    """Return what stands for the template in keys; ``plain`` where messages are simply joined."""
    return "plain" if template is None else text_hash(template)[:16]


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} is not readable JSON ({error})", "check the model folder"
        ) from None
    return data if isinstance(data, dict) else {}


class DataText:
    """Texts of data in a prompt: what reads like a control token in them stays text.

    A chat template joins data and control tokens into one text, where a tokenizer cannot tell them
    apart: a trace that quotes ``<|im_end|>`` would end the turn in its middle. Such places are
    hidden behind a private character before the template is rendered, and tokenised as text after.
    The thinking tags are part of the data wherever they stand.

    Args:
        tokenizer: a transformers tokenizer.
        texts: all texts of the data that will be hidden with this object.
    """

    def __init__(self, tokenizer: Any, texts: Iterable[str]) -> None:
        self._tokenizer = tokenizer
        known = [
            token.content
            for token in getattr(tokenizer, "added_tokens_decoder", {}).values()
            if token.special and token.content not in (THINK_OPEN, THINK_CLOSE)
        ]
        every = "".join(texts)
        self._found = sorted((token for token in known if token in every), key=len, reverse=True)
        free = (chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in every)
        self._signs = {token: next(free) for token in self._found}

    @property
    def is_plain(self) -> bool:
        """Whether nothing is hidden: rendered texts may go to the tokenizer as they are."""
        return not self._found

    def hide(self, text: str) -> str:
        """Return the text with a private character for each control token in it."""
        for token in self._found:
            text = text.replace(token, self._signs[token])
        return text

    def show(self, text: str) -> str:
        """Undo ``hide`` in a rendered text."""
        for token, sign in self._signs.items():
            text = text.replace(sign, token)
        return text

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Return the tokens of a rendered text in which data was hidden."""
        if not self._found:
            found = self._tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]
            return [int(i) for i in found]
        out: list[int] = []
        tokens = {sign: token for token, sign in self._signs.items()}
        for number, part in enumerate(re.split(f"([{''.join(tokens)}])", text)):
            values = self._tokenizer(
                tokens.get(part, part),
                add_special_tokens=add_special_tokens and number == 0,
                split_special_tokens=part in tokens,
            )["input_ids"]
            out += [int(i) for i in values]
        return out


def render(tokenizer: Any, messages: Any, *, template: str | None, prefill: str) -> list[int]:
    """Return the token ids of a rendered prompt with its prefill.

    Args:
        tokenizer: a transformers tokenizer.
        messages: the prompt's messages.
        template: Jinja chat template; None joins the contents as plain text (a base model).
        prefill: text that the completion is made to begin with.
    """
    contents = [str(m.get("content") or "") for m in messages]
    data = DataText(tokenizer, [*contents, prefill])
    if template is None:
        text = "\n\n".join(data.hide(content) for content in contents)
    else:
        hidden = [
            {**m, "content": data.hide(m["content"])} if isinstance(m.get("content"), str) else m
            for m in messages
        ]
        text = tokenizer.apply_chat_template(
            hidden, chat_template=template, add_generation_prompt=True, tokenize=False
        )
    return data.encode(text + data.hide(prefill), add_special_tokens=template is None)
