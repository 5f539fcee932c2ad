"""General data: writing, factual questions, self-cognition, translation; and the mixture of SFT.

    python -m pipelines.r1 RECIPE --only general,sft2

DeepSeek-R1 mixes about 200k such rows into its second SFT (v2, B.3.3, Table 5): parts of an SFT set
that is there already, and answers that a model writes to prompts of these kinds, with a chain of
thought where it helps and without one where the query is trivial ("hello"). No rule can score them;
the funnel holds what can be measured, and people may look through the queue.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field

from distill.preferences import messages_of, rows_of, text_of
from factory import plugins
from factory.cli.common import say
from factory.config import Config
from factory.dialects import join_reasoning, split_reasoning
from factory.engines.base import Engine
from factory.errors import UsageError
from factory.records import Message, Prompt, PromptSource, Sampling
from factory.records.text import trace_text
from factory.sets.mixtures import R1_TABLE_5, mixture, r1_shares
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.stages.reading import texts_of
from factory.store import Store
from pipelines.common import Pair

KINDS = ("writing", "qa", "self_cognition", "translation", "software")
_TABLE = {"math": "math", "spans": "math", "code": "code", "choice": "stem", "logic": "logic"}
_WORD = re.compile(r"[\w']+")
_TRIVIAL = re.compile(
    r"(?:hi|hello|hey|thanks?|thank you|good (?:morning|evening|night)|bye|who are you|how are you|"
    r"你好|您好|谢谢|再见|早上好|晚安|你是谁)[\s!?.,。！？，~]*",
    re.I,
)
# DeepSeek-R1 v2, B.3.3, in our words: what its thinking is asked to be like.
THINK = (
    "Answer the request below. Before that, think about it: what the person wants and knows, what "
    "a good answer needs. Write your thinking between <think> and </think>, in the language of "
    "the request, in short paragraphs of plain prose without headings, lists or code; then the "
    "answer, which must be complete without the thinking.\n\n{request}"
)


class General(Config):
    """General data of a recipe; its prompts, where a model answers them, are ``prompts.general``.

    Attributes:
        rows: an SFT set of one's own: rows with ``prompt`` and ``completion``, and ``domain`` where
            it is known. None: a model answers the prompts.
        think: domains that are answered with a chain of thought; a trivial query never is.
        max_trivial_words: a prompt of so few words that ends in no question is trivial, beside
            greetings and thanks.
        temperature, top_p, max_tokens: of the sampling.
        max_words: longer answers are left out, as are empty ones and those that were cut off.
        max_rows: kept in all.
    """

    rows: Path | None = None
    think: tuple[str, ...] = ("writing", "qa", "software")
    max_trivial_words: int = Field(default=2, ge=0)
    temperature: float = 0.7
    top_p: float = 0.95
    max_tokens: int = 4096
    max_words: int = Field(default=4000, ge=1)
    max_rows: int | None = Field(default=None, ge=1)


class Mixture(Config):
    """Domains of the second SFT set, brought to target shares.

    Attributes:
        shares: domain → share of the rows; None: DeepSeek-R1's Table 5. Domains that have no rows
            are left out, and said.
        total: rows wanted; None takes the most that the scarcest domain allows.
    """

    shares: dict[str, float] | None = None
    total: int | None = Field(default=None, ge=1)


def is_trivial(text: str, *, max_words: int) -> bool:
    """Tell whether a query needs no thinking: a greeting, or very few words that ask nothing.

    >>> is_trivial("hello!", max_words=2), is_trivial("Why is the sky blue?", max_words=2)
    (True, False)
    >>> is_trivial("Why?", max_words=2), is_trivial("你好", max_words=2)
    (False, True)
    """
    text = text.strip()
    if _TRIVIAL.fullmatch(text):
        return True
    is_question = text.endswith(("?", "？"))
    return not is_question and text.isascii() and len(_WORD.findall(text)) <= max_words


def general_rows(
    values: General,
    pairs: Sequence[Pair],
    *,
    store: Store,
    engine: Callable[[], Engine],
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Return rows to train on, and how many went for which reason.

    Args:
        values: of the recipe.
        pairs: prompts; their ``domain`` says what they are. Not read where ``values.rows`` is.
        store: where a model's answers go: asked once, and kept.
        engine: gives the model's engine when there is something to ask.
    """
    found = _own(values) if values.rows is not None else _asked(values, pairs, store, engine)
    rows: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    seen: set[str] = set()
    for messages, domain, text in found:
        why = _fault(values, text)
        key = json.dumps([list(messages), text], ensure_ascii=False, sort_keys=True)
        if why is None and key in seen:
            why = "double"
        if why is not None:
            dropped[why] += 1
            continue
        seen.add(key)
        rows.append(row_of(messages, _without_needless(values, messages, text), domain))
        if values.max_rows is not None and len(rows) >= values.max_rows:
            break
    return rows, dropped


def row_of(messages: Sequence[Message], text: str, domain: str | None) -> dict[str, Any]:
    """Return a training row."""
    return {
        "prompt": list(messages),
        "completion": [{"role": "assistant", "content": text}],
        "domain": domain or "general",
    }


def _own(values: General) -> Iterator[tuple[tuple[Message, ...], str | None, str | None]]:
    assert values.rows is not None
    for where, row in rows_of(values.rows):
        domain = row.get("domain") or row.get("category")
        text = text_of(row.get("completion"), where)
        yield messages_of(row, where), None if domain is None else str(domain), text


def _asked(
    values: General, pairs: Sequence[Pair], store: Store, engine: Callable[[], Engine]
) -> Iterator[tuple[tuple[Message, ...], str | None, str | None]]:
    """Yield a model's answers; of one that was cut off, no text."""
    if not pairs:
        raise UsageError("there is no general data", "give general.rows, or prompts.general")
    questions = [_question(values, p, s) for p, s in pairs]
    made = generate(
        store,
        [(q, PromptSource(prompt_id=q.prompt_id, source="general", item="-")) for q in questions],
        engine(), verify=False, policy=Policy(kind="fixed", n=1),
        sampling=Sampling(
            temperature=values.temperature, top_p=values.top_p, max_tokens=values.max_tokens
        ),
    )  # fmt: skip
    texts: dict[str, str | None] = {}
    for row in texts_of(store, made.universe["trace_id"].to_list()):
        is_whole = row.get("finish_reason") != "length"
        text = trace_text(row["prefill"], row["completion"])
        texts[row["prompt_id"]] = text if is_whole else None
    for (prompt, source), asked in zip(pairs, questions, strict=True):
        yield tuple(prompt.messages), source.domain, texts.get(asked.prompt_id)


def _question(values: General, prompt: Prompt, source: PromptSource) -> Prompt:
    """Return what a model is asked: with the wish to think first where the kind wants it."""
    trivial = is_trivial(prompt.text, max_words=values.max_trivial_words)
    if trivial or source.domain not in values.think:
        return prompt
    *before, last = prompt.messages
    content = THINK.replace("{request}", str(last["content"]))
    return Prompt(messages=(*before, {**last, "content": content}))


def _fault(values: General, text: str | None) -> str | None:
    if text is None:
        return "cut off"
    halves = split_reasoning(text)
    if not halves.answer.strip():
        return "empty"
    if len(_WORD.findall(text)) > values.max_words:
        return "too long"
    return None


def _without_needless(values: General, messages: Sequence[Message], text: str | None) -> str:
    """Return the answer; the thinking about a trivial query is left out."""
    halves = split_reasoning(text or "")
    question = str(messages[-1].get("content") or "")
    if not halves.reasoning.strip() or is_trivial(question, max_words=values.max_trivial_words):
        return halves.answer.strip()
    return join_reasoning(halves.reasoning.strip(), halves.answer.strip())


# ---- the mixture


def table_domain(source: PromptSource) -> str:
    """Return the domain of Table 5 that a prompt belongs to, by what checks its answers.

    >>> table_domain(PromptSource(prompt_id="p", source="s", item="0", gold="C"))
    'stem'
    """
    if source.domain in R1_TABLE_5:
        return str(source.domain)
    if source.gold is None:
        return "general"
    return _TABLE.get(source.verifier or plugins.verifier_of_gold(source.gold), "general")


def write_mixture(
    values: Mixture,
    sets: Mapping[str, Path],
    pairs: Sequence[Pair],
    *,
    out: Path,
    count: Callable[[str], int],
    seed: int,
) -> list[dict[str, Any]]:
    """Write the second SFT set, its domains at their shares; return its composition.

    Args:
        values: of the recipe.
        sets: name → rows; those of ``general`` are general, the others' domain is their prompt's.
        pairs: the prompts of the others.
        out: file of the rows.
        count: tokens of a text.
        seed: of the draw.
    """
    domains = {p.prompt_id: table_domain(s) for p, s in pairs}
    rows: list[dict[str, Any]] = []
    for name, path in sets.items():
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            key = Prompt(messages=tuple(row["prompt"])).prompt_id
            domain = "general" if name == "general" else domains.get(key, "general")
            rows.append({**row, "domain": domain})
    keys = [json.dumps([r["prompt"], r["completion"]], ensure_ascii=False) for r in rows]
    frame = pl.DataFrame({"trace_id": keys, "domain": [r["domain"] for r in rows]})
    there = set(frame["domain"].to_list())
    wanted = dict(values.shares or r1_shares())
    shares = {d: share for d, share in wanted.items() if d in there}
    if missing := sorted(wanted.keys() - shares.keys()):
        say(f"mixture: no rows of {', '.join(missing)}; the others keep their proportions")
    keep = mixture(frame, shares, total=values.total, seed=seed).to_list()
    chosen = [row for row, kept in zip(rows, keep, strict=True) if kept]
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in chosen]
    out.write_text("".join(lines), encoding="utf-8")
    return composition(chosen, count=count)


def composition(
    rows: Sequence[Mapping[str, Any]], *, count: Callable[[str], int]
) -> list[dict[str, Any]]:
    """Return per domain, and in all: rows, share, mean rounds, mean tokens of the completion.

    Args:
        rows: of a training set, with ``domain``.
        count: tokens of a text.

    >>> made = composition([row_of(Prompt.of("hi").messages, "a b", "math")], count=len)
    >>> [(r["domain"], r["rows"], r["tokens"]) for r in made]
    [('math', 1, 3.0), ('total', 1, 3.0)]
    """
    of = [
        {
            "domain": str(row["domain"]),
            "rounds": sum(m["role"] == "user" for m in row["prompt"]),
            "tokens": count(str(row["completion"][-1]["content"])),
        }
        for row in rows
    ]
    frame = pl.DataFrame(of, schema={"domain": pl.String, "rounds": pl.Int64, "tokens": pl.Int64})
    means = [pl.len().alias("rows"), pl.col("rounds").mean(), pl.col("tokens").mean()]
    by = frame.group_by("domain").agg(means).sort("domain")
    total = frame.select(pl.lit("total").alias("domain"), *means)
    out = pl.concat([by, total.select(by.columns)])
    return out.with_columns((pl.col("rows") / max(1, frame.height)).alias("share")).to_dicts()


def composition_lines(made: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a composition as a table beside DeepSeek-R1's Table 5."""
    whole = sum(n for n, _ in R1_TABLE_5.values())
    tokens = sum(n * mean for n, mean in R1_TABLE_5.values()) / whole
    table = {**R1_TABLE_5, "total": (whole, tokens)}
    yield "| domain | rows | share | rounds | tokens | Table 5: rows | share | tokens |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for row in made:
        n, mean = table.get(row["domain"], (0, 0.0))
        paper = f"{n:,} | {100 * n / whole:.1f} % | {mean:,.1f}" if n else "- | - | -"
        if row["rounds"] is None:
            continue
        yield (
            f"| {row['domain']} | {row['rows']:,} | {100 * row['share']:.1f} % | "
            f"{row['rounds']:.1f} | {row['tokens']:,.1f} | {paper} |"
        )
