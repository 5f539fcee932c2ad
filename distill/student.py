"""What a training run is told: the student file and the run's own few settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import field_validator

from distill.templates import Template, adopt, template_for
from factory import model_files
from factory.config import Config, apply_override, read_yaml
from factory.errors import ConfigError, UsageError

_STUDENTS = Path(__file__).parent / "students"
# Set by us, for the reasons in the docstrings above; a student file that sets them is refused.
_OURS = frozenset(
    {
        *("output_dir", "seed", "max_length", "eos_token", "pad_token", "model_init_kwargs"),
        *("completion_only_loss", "assistant_only_loss", "chat_template_path"),
        *("dataset_kwargs", "dataset_text_field", "remove_unused_columns", "disable_tqdm"),
        *("trust_remote_code", "use_cpu", "resume_from_checkpoint"),
    }
)


class Lora(Config):
    """Low-rank adapters instead of all weights; merged into the model when the run ends.

    Attributes:
        r: rank.
        alpha: the adapters' output is scaled by ``alpha / r``.
        dropout: on the adapters' input, while training.
        target_modules: names of the layers that get adapters, or ``all-linear``.
    """

    r: int
    alpha: int
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"


def peft_config(lora: Lora | None, *, task: str = "CAUSAL_LM") -> Any:
    """Return peft's form of adapters; None where all weights are trained.

    Args:
        lora: of a student file or a run.
        task: ``CAUSAL_LM``, or ``SEQ_CLS``, whose new output is trained whole beside them.
    """
    if lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type=task,
    )


class Student(Config):
    """A student file.

    Attributes:
        base: ``name@revision`` of a hub model, or a folder.
        template: ``qwen``, ``llama`` or ``own`` (see ``distill.templates``).
        batch_size: packs (rows without packing) behind one update, over all devices; None leaves
            it to ``trl.gradient_accumulation_steps``.
        max_length: tokens of the longest row that is kept.
        max_over_fraction: fraction of rows that may be longer before the run is refused.
        max_bad_fraction: fraction of rows that may be unusable (no JSON, thinking never closed …)
            and are left out; of fewer than a thousand rows none may.
        dtype: of the weights in memory.
        attention: implementation in transformers; None lets it choose.
        lora: None trains all weights.
        trl: passed to ``trl.SFTConfig`` as it stands.
    """

    base: str
    template: str
    batch_size: int | None = None
    max_length: int
    max_over_fraction: float = 0.05
    max_bad_fraction: float = 0.001
    dtype: str = "float32"
    attention: str | None = None
    lora: Lora | None = None
    trl: dict[str, Any]

    @field_validator("trl")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(_OURS & value.keys())
        if taken:
            raise ValueError(f"{', '.join(taken)} set by the factory, not in the trl block")
        return value


class SftConfig(Config):
    """One run.

    Attributes:
        student: name of a file in ``distill/students``, or a path to one.
        data: prompt–completion rows: JSON Lines (also .gz, .zst), Parquet, or a folder of them.
        out: folder of the model.
        base: takes the place of the student file's ``base``.
        seed: of the order of rows and of adapters.
        max_rows: use the first rows only; None uses all.
        overrides: ``key=value`` over the student file, such as ``trl.learning_rate=1e-4``.
    """

    student: str
    data: Path
    out: Path
    base: str | None = None
    seed: int = 0
    max_rows: int | None = None
    overrides: tuple[str, ...] = ()


def load_student(name: str, *, overrides: Sequence[str] = (), base: str | None = None) -> Student:
    """Read a student file by its name or path.

    Raises:
        ConfigError: there is none, or a key does not fit.

    >>> load_student("r1-distill-qwen-7b").trl["learning_rate"]
    8e-05
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = _STUDENTS / f"{name}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in _STUDENTS.glob("*.yaml")))
            raise ConfigError(f"unknown student {name!r}", f"known: {known}; or give a .yaml path")
    values = read_yaml(path)
    for assignment in overrides:
        apply_override(values, assignment)
    if base is not None:
        values["base"] = base
    return Student.make(values, where=str(path))


def split_revision(base: str) -> tuple[str, str | None]:
    """Split ``name@revision``; a folder's name is left alone.

    >>> split_revision("Qwen/Qwen2.5-7B@abc")
    ('Qwen/Qwen2.5-7B', 'abc')
    """
    if Path(base).exists():
        return base, None
    name, _, revision = base.partition("@")
    return name, revision or None


_OF_A_MODEL = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt")


def local_folder(base: str) -> str:
    """Return the folder of a model's files: itself, or the hub's at the pinned revision.

    Libraries that are given a name alone load the newest commit; a folder is of one commit for all.

    Raises:
        UsageError: the hub does not know it, or cannot be reached.
    """
    name, revision = split_revision(base)
    if Path(name).is_dir():
        return name
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(name, revision=revision, allow_patterns=list(_OF_A_MODEL))
    except Exception as error:  # noqa: BLE001 - the hub client raises its own and the network's
        raise model_files.not_found("base model", base, error) from None


def context_of(base: str) -> int:
    """Return the longest sequence that a model's configuration allows, in tokens; 0: not said."""
    return int(model_files.configuration(local_folder(base)).get("max_position_embeddings") or 0)


def load_tokenizer(student: Student) -> tuple[Any, Template]:
    """Return the student's tokenizer, made to render by its training template.

    Raises:
        UsageError: the base cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        folder = local_folder(student.base)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise unloadable(student.base, error) from None
    template = template_for(tokenizer, student.template)
    adopt(tokenizer, template)
    return tokenizer, template


def unloadable(base: str, error: Exception) -> UsageError:
    """Return the error of a base model that cannot be loaded."""
    detail = " ".join(str(error).split())[:200]
    return UsageError(f"cannot load the base model {base!r} ({detail})", "check name or folder")
