"""The recipe of a selection: universe, filters by preset and by name, and what looks at the set."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from factory.config import Config
from factory.errors import UsageError
from factory.sets.filters import preset
from factory.sets.mixtures import r1_shares
from factory.stages.select.funnel import compose


class Universe(Config):
    """Which traces are looked at: prompts × models × samplings × sample indices."""

    sources: list[str] | None = None
    """Names of prompt sources; None means all."""
    models: list[str] | None = None
    """``model`` or ``model@revision``; None means all."""
    samplings: list[str] | None = None
    """Sampling ids; None means all."""
    splits: list[str] | None = None
    """Splits of the prompts. None means all but those of evaluation (test, validation, dev …),
    which are looked at only where they are named here."""
    runs: list[str] | None = None
    """Run ids; None means all but the runs of ``distill evaluate``, which are looked at only where
    they are named here."""
    n: int | None = Field(default=None, ge=1)
    """Sample indices below n; None means all."""
    where: str | None = None
    """A further SQL predicate over wide."""


class NearDuplicates(Config):
    """Near-duplicate clusters keep one trace each, the first by ``prefer``."""

    threshold: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of word n-grams at and above which two texts are one."""
    ngram: int = Field(default=5, ge=1)
    """Words per n-gram."""
    within: Literal["set", "prompt"] = "set"
    """Whether traces of different prompts can be duplicates of each other."""


class Paraphrases(Config):
    """Prompts that say the same as a benchmark's item in other words or another language.

    A second stage: an embedding model proposes the nearest items, a rule or a judge decides.
    """

    model: str
    """Encoder of transformers: ``name@revision`` or a folder."""
    neighbours: int = Field(default=3, ge=1)
    """Items that are proposed for a prompt, at most."""
    similarity: float = Field(default=0.8, ge=0, le=1)
    """Cosine below which an item is not proposed."""
    sure: float = Field(default=0.97, ge=0, le=1)
    """Cosine that the rule asks for where items have fewer than two numbers; with more, the numbers
    must be the same ones."""
    judge: str | None = None
    """A .py file with ``same_task(text, item) -> bool | None``, which decides in the rule's place;
    None leaves a pair to the rule."""


class Decontaminate(Config):
    """Prompts and completions that share an n-gram with a benchmark are dropped."""

    against: list[str]
    """Benchmark files (JSON Lines or Parquet), or ``benchmark:NAME`` (``distill benchmarks``)."""
    ngram: int = Field(default=10, ge=3)
    """Words per n-gram (DeepSeek-R1: 10)."""
    mapping: dict[str, str] = Field(default_factory=dict)
    """``prompt`` and ``solution`` → column, path or template of the benchmarks; by default columns
    of the usual names."""
    ignore_text: list[str] = Field(default_factory=list)
    """Text files of instructions, one a paragraph, that are no sign of contamination; those that
    many prompts of both sides share are set aside anyway."""
    paraphrases: Paraphrases | None = None
    """A second stage for what shares no words with an item; off by default."""


class PassRates(Config):
    """Only prompts whose pass rate lies in a band, over all traces of the universe."""

    low: float = Field(ge=0, le=1)
    """Lowest pass rate that is kept, 0 to 1."""
    high: float = Field(ge=0, le=1)
    """Highest pass rate that is kept, 0 to 1."""
    min_scored: int = Field(default=1, ge=1)
    """Fewer verdicts than these are no statement about a prompt: undefined, not kept."""
    status: str = "status"
    """Column of the verdict: ``status`` is that of the verifier which the source names."""


class Diversity(Config):
    """Traces that lie far apart, by the embeddings of a given model or of a stored column."""

    limit: int = Field(ge=1)
    """Traces kept; time is traces × limit × dimensions."""
    model: str | None = None
    """Encoder of transformers: ``name@revision`` or a folder."""
    of: Literal["prompt", "completion"] = "prompt"
    """What the model embeds."""
    column: str | None = None
    """Instead of a model: a column of wide that holds each vector as JSON (a score's)."""


class Mixture(Config):
    """Domains brought to target shares."""

    shares: dict[str, float] | Literal["r1_table_5"]
    """Domain → share (scaled to sum 1), or DeepSeek-R1's Table 5."""
    by: str = "domain"
    """Column of wide that holds the domain."""
    total: int | None = Field(default=None, ge=1)
    """Traces wanted; None takes the most that the scarcest domain allows."""
    seed: int = 0
    """Of the draw within each domain."""

    def targets(self) -> dict[str, float]:
        """Return domain → share."""
        return r1_shares() if isinstance(self.shares, str) else dict(self.shares)


NOT_EVALUATION = "not_evaluation"
"""The first step of every selection: evaluation stays out."""
SET_STEPS = (
    "pass_rates", "decontaminate", "exact_duplicates", "near_duplicates", "cap_per_prompt",
    "diversity", "mixture", "max_rows",
)  # fmt: skip
"""What depends on the set, in the order in which it is applied, after the filters."""


class Selection(Config):
    """The recipe of a selection."""

    universe: Universe = Universe()
    presets: list[str] = Field(default_factory=list)
    """Presets of ``factory.sets.filters``, such as ``r1_rejection``; ``filters`` come after."""
    filters: dict[str, str | None] = Field(default_factory=dict)
    """Name → SQL predicate over wide; a row is kept where all are true. A name of a preset's
    filter replaces it, and null takes it out."""
    disabled: list[str] = Field(default_factory=list)
    """Names of filters or set steps that are evaluated and counted, but drop nothing."""
    pass_rates: PassRates | None = None
    decontaminate: Decontaminate | None = None
    exact_duplicates: Literal["set", "prompt"] | None = "prompt"
    """Traces with the same text (up to Unicode composition) keep one, the first by ``prefer``:
    one of each ``prompt``, or one in the whole ``set``; null keeps all copies. The steps after it
    count distinct texts."""
    near_duplicates: NearDuplicates | None = None
    cap_per_prompt: int | None = Field(default=None, ge=1)
    """Most traces kept of one prompt."""
    prefer: str = "first"
    """Which traces of a prompt come first: ``first``, ``shortest``, ``longest``,
    ``most_readable``, ``highest COLUMN`` (a reward model's score), ``lowest COLUMN``, or a SQL
    order such as ``answer_words, sample_index``."""
    diversity: Diversity | None = None
    mixture: Mixture | None = None
    max_rows: int | None = Field(default=None, ge=1)
    """Most traces kept in all, in the order of their keys (which is random in the content)."""
    versions: dict[str, str | int] = Field(default_factory=dict)
    """Plug-in → version; by default the newest that the store has."""

    def all_filters(self) -> dict[str, str]:
        """Return name → predicate, presets first.

        Raises:
            UsageError: an unknown preset, or a filter named as another step is.

        >>> names = Selection(presets=["r1_rejection"], filters={"one_language": None})
        >>> list(names.all_filters())
        ['short_paragraphs', 'no_code_in_thinking']
        """
        filters = compose(*(preset(name) for name in self.presets), own=self.filters)
        taken = [name for name in filters if name in (NOT_EVALUATION, *SET_STEPS)]
        if taken:
            raise UsageError(f"filter {taken[0]!r} has the name of a step", "rename it")
        return filters

    def steps(self) -> list[str]:
        """Return the names of all steps that are asked for, in order: filters, then set steps.

        The step ``not_evaluation`` is always there, before them.

        Raises:
            UsageError: see ``all_filters``; or ``disabled`` names one that is not there.
        """
        names = [*self.all_filters(), *(s for s in SET_STEPS if getattr(self, s) is not None)]
        known = [NOT_EVALUATION, *names]
        if stray := sorted(set(self.disabled) - set(known)):
            raise UsageError(f"disabled names {', '.join(stray)}", f"there is {', '.join(known)}")
        return names
