r"""Cold start: R1-Zero's samples become a small, readable data set for the first SFT.

    python -m pipelines.r1 RECIPE --only cold_start

Several samples per prompt at T = 1, kept when right, well-formed and readable; refined and
translated into the prompt's language by a stronger model, with a summary of its own; verified
again, since a refiner can spoil an answer; filtered again; offered to a person as a file.
Where there is no stronger model (the miniature) a rule-based refiner stands in for it: it rewrites
the sums of the thinking, in their order, in the prompt's language, and corrects nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from factory import plugins
from factory.cli.common import say
from factory.dialects import join_reasoning, split_reasoning
from factory.engines.base import Engine
from factory.errors import UsageError
from factory.records import Prompt, PromptSource, Sampling, Trace, ids
from factory.records.text import trace_text
from factory.stages.export import export
from factory.stages.generate import generate
from factory.stages.generate.policy import Policy
from factory.stages.release import Release, release
from factory.stages.select import Selected, Selection
from factory.stages.verify import verify
from factory.store import Store
from pipelines.common import Pair
from pipelines.sample_and_select import Sampled, decided, measured, sampled, say_funnel

# DeepSeek-R1 v2, B.3.2, in our words: the paper prints the translation's instruction letter by
# letter, and describes the others.
REFINE = (
    "Below is a problem and a draft of somebody's thinking about it. Rewrite the thinking so that "
    "a person likes to read it: first person, short paragraphs, plain conversational prose without "
    "headings, lists or code, first an understanding of the problem, then each step, its doubts "
    "and checks included. Add no new step and no new conclusion, and correct nothing. {translate}"
    "Reply with the rewritten thinking alone.\n\nProblem:\n{question}\n\nDraft:\n{thinking}"
)
TRANSLATE = "Translate the thinking process to the same language as the question. "
SUMMARISE = (
    "Below is a problem and the thinking that solved it. Write the solution for the reader, in the "
    "language of the problem: clean and concise, its key steps in LaTeX, {final}. Follow the "
    "thinking faithfully: no new step, no other conclusion. Start directly, do not solve the "
    "problem anew, and never mention that there was a thinking process."
    "\n\nProblem:\n{question}\n\nThinking:\n{thinking}{answer}"
)
FINAL = "the final answer in \\boxed{}"
FINALS = {
    "code": "at the end the whole program of the answer below in one fenced block, unchanged",
    "choice": "the chosen option last, in the form that the problem asks for",
    "logic": "the final answer last, in the form that the problem asks for",
}
"""Verifier → what a summary ends with; others end with ``FINAL``."""
EXAMPLE = "For example, of this problem:\n{question}\n\na person wrote:\n{thinking}\n\n"
MOST_EXAMPLES = 3
SPECIAL = "|special_token|"

Refiner = Callable[[Sequence["Draft"]], list[str | None]]


class ColdStart(Sampled):
    """Values of the stage; ``filters`` decide before refining.

    Attributes:
        refined_filters: after it, the answer verified again.
        refiner: ``rules`` rewrites the little world's sums; ``model`` asks an engine.
        review: file of decisions by people (see ``write_review``): rows marked ``drop`` are left
            out; the thinking of those marked ``edit``, as they rewrote it in ``completion``, is
            shown to a model that refines, as examples.
    """

    prefer: str = "reasoning_words DESC, sample_index"
    refined_filters: dict[str, str | None]
    refiner: Literal["rules", "model"]
    review: Path | None = None


@dataclass(frozen=True)
class Draft:
    """A kept sample: what a refiner reads."""

    prompt: Prompt
    source: PromptSource
    thinking: str
    answer: str
    extracted: str
    is_mixed: bool


def cold_start(
    store: Store,
    values: ColdStart,
    pairs: Sequence[Pair],
    engine: Engine,
    *,
    name: str,
    out: Path,
    refine: Refiner | None = None,
) -> tuple[Release, Selected]:
    """Run the stage; what is done already is not made again.

    Args:
        store: where everything goes.
        values: of the recipe.
        pairs: reasoning prompts.
        engine: of R1-Zero.
        name: of the release.
        out: folder of the exported rows (``think`` form and special-token form) and the queue.
        refine: drafts → refined completions (None: the refiner gave none up); by default the
            rule-based one.

    Raises:
        UsageError: the recipe wants a model as refiner and none is given.
    """
    if refine is None:
        if values.refiner != "rules":
            raise UsageError("refiner: model, but no model is given", "name it in the recipe")
        refine = rule_refiner
    first, n_sampled = sampled(store, values, pairs, engine)
    drafts = _drafts(store, first.kept, pairs)
    say(f"cold start: {len(drafts)} of {n_sampled} samples are right and readable")
    say_funnel(first)
    refined = _record(store, drafts, refine(drafts), name=name)
    say(f"cold start: {len(refined)} refined; verified again")
    verify(store, trace_ids=refined)
    measured(store, refined, dialect="think")
    dropped = read_review(values.review) if values.review else set()
    if dropped:
        refined = refined.filter(~refined.is_in(list(dropped)))
    selection = Selection(filters=values.refined_filters, exact_duplicates=values.exact_duplicates)
    kept = decided(store, selection, refined, pairs)
    say_funnel(kept)
    dataset = release(store, name, kept, recipe=values.model_dump(mode="json"))
    out.mkdir(parents=True, exist_ok=True)
    export(store, dataset, form="trl", out=str(out / f"{name}.jsonl"))
    _special_form(dataset, out / f"{name}-special.jsonl")
    write_review(dataset, out / f"{name}-review.jsonl")
    return dataset, kept


def _drafts(store: Store, kept: pl.DataFrame, pairs: Sequence[Pair]) -> list[Draft]:
    by_id = {p.prompt_id: (p, s) for p, s in pairs}
    facts = {r["trace_id"]: r for r in kept.iter_rows(named=True)}
    out = []
    for frame in store.table("traces").batches(["trace_id", "prompt_id", "prefill", "completion"]):
        for row in frame.join(kept.select("trace_id"), on="trace_id", how="semi").iter_rows(
            named=True
        ):
            halves = split_reasoning(trace_text(row["prefill"], row["completion"]))
            fact = facts[row["trace_id"]]
            prompt, source = by_id[row["prompt_id"]]
            consistency = fact.get("language_consistency")
            out.append(
                (
                    row["trace_id"],
                    Draft(
                        prompt=prompt,
                        source=source,
                        thinking=halves.reasoning.strip(),
                        answer=halves.answer.strip(),
                        extracted=str(fact.get("extracted") or ""),
                        is_mixed=consistency is not None and consistency < 0.95,
                    ),
                )
            )
    return [draft for _, draft in sorted(out, key=lambda pair: pair[0])]


def _record(
    store: Store, drafts: Sequence[Draft], completions: Sequence[str | None], *, name: str
) -> pl.Series:
    """Store refined completions as traces of a model of their own; return their keys."""
    run_id = store.start_run("refine", {"name": name, "drafts": len(drafts)})
    rows: dict[str, dict[str, Any]] = {}
    for draft, text in zip(drafts, completions, strict=True):
        if text is None:
            continue
        key = ids.imported_trace_id(
            prompt_id=draft.prompt.prompt_id, model=f"{name}-refiner", completion=text
        )
        trace = Trace(
            trace_id=key,
            prompt_id=draft.prompt.prompt_id,
            model=f"{name}-refiner",
            revision="imported",
            sampling_id=ids.key_of("imported"),
            sample_index=0,
            completion=text,
            finish_reason="imported",
        )
        rows[key] = trace.row(run_id)
    if rows:
        floats = {"seconds": pl.Float64, "cumulative_logprob": pl.Float64, "meta": pl.String,
                  "stop_reason": pl.String, "n_prompt_tokens": pl.Int64,
                  "n_completion_tokens": pl.Int64}  # fmt: skip
        store.table("traces").add(
            pl.DataFrame(list(rows.values()), infer_schema_length=None, schema_overrides=floats)
        )
    store.end_run(run_id, {"refined": len(rows)})
    return pl.Series("trace_id", list(rows), dtype=pl.String)


# ---- refiners

_SUM = re.compile(r"\d+(?:[-+×÷]\d+)+=\d+")
# Words of the crawl alone: characters that the base never read come out broken after so few rows.
_WORDS = {
    "en": ("I start with {v}.", ("First", "Then", "Next", "After that"),
           " {link} I get {sum}.", "The answer is \\boxed{{{v}}}."),
    "zh": ("我从{v}开始。", ("首先", "然后", "接着", "再来"), "{link}得到{sum}。",
           "答案是 \\boxed{{{v}}}。"),
}  # fmt: skip


def rule_refiner(drafts: Sequence[Draft]) -> list[str | None]:
    """Rewrite the sums of the little world's thinking in the prompt's language.

    None where the thinking holds no sums, or they do not lead to its own answer: then there is
    nothing that could be told faithfully.
    """
    return [_by_rule(draft) for draft in drafts]


def _by_rule(draft: Draft) -> str | None:
    opening, links, line, summary = _WORDS.get(draft.source.language or "en", _WORDS["en"])
    sums = list(dict.fromkeys(_SUM.findall(draft.thinking)))
    if not sums or sums[-1].rpartition("=")[2] != draft.extracted:
        return None
    start = re.split(r"[-+×÷]", sums[0])[0]
    text = opening.format(v=start)
    for number, written in enumerate(sums):
        text += line.format(link=links[min(number, 3)], sum=written)
    return join_reasoning(text, summary.format(v=draft.extracted))


def model_refiner(
    store: Store,
    engine: Callable[[], Engine],
    *,
    sampling: Sampling,
    examples: Sequence[tuple[str, str]] = (),
    on_progress: Any = None,
) -> Refiner:
    """Return a refiner that asks a stronger model: first for the thinking, then for the summary.

    Its answers are traces as well: asked once, and kept.

    Args:
        store: where they go.
        engine: gives the model's engine, when there is something to ask.
        sampling: of its answers.
        examples: questions with the thinking that people wrote of them (``read_edits``).
        on_progress: of ``generate``.
    """
    shown = "".join(
        EXAMPLE.format(question=question, thinking=thinking)
        for question, thinking in examples[:MOST_EXAMPLES]
    )

    def ask(texts: Sequence[str]) -> list[str | None]:
        pairs = []
        for text in texts:
            prompt = Prompt.of(text)
            pairs.append(
                (prompt, PromptSource(prompt_id=prompt.prompt_id, source="refine", item="-"))
            )
        made = generate(
            store, pairs, engine(), sampling=sampling, policy=Policy(kind="fixed", n=1),
            verify=False, on_progress=on_progress,
        )  # fmt: skip
        columns = ["trace_id", "prompt_id", "completion", "finish_reason"]
        found: dict[str, str] = {}
        for frame in store.table("traces").batches(columns):
            for row in frame.join(made.universe, on="trace_id", how="semi").iter_rows(named=True):
                if row["finish_reason"] != "length":
                    found[row["prompt_id"]] = split_reasoning(row["completion"]).answer.strip()
        return [found.get(prompt.prompt_id) for prompt, _ in pairs]

    def refine(drafts: Sequence[Draft]) -> list[str | None]:
        thinking = ask(
            [
                shown
                + REFINE.format(
                    translate=TRANSLATE if d.is_mixed else "",
                    question=d.prompt.text,
                    thinking=d.thinking,
                )
                for d in drafts
            ]
        )
        done = [i for i, text in enumerate(thinking) if text]
        summaries = ask(
            [
                SUMMARISE.format(
                    question=drafts[i].prompt.text, thinking=thinking[i], **_final(drafts[i])
                )
                for i in done
            ]
        )  # fmt: skip
        out: list[str | None] = [None] * len(drafts)
        for i, summary in zip(done, summaries, strict=True):
            if summary:
                out[i] = join_reasoning(thinking[i] or "", summary)
        return out

    return refine


def _final(draft: Draft) -> dict[str, str]:
    """Return what a summary of this draft ends with, and the answer where it must be quoted."""
    source = draft.source
    verifier = source.verifier or (plugins.verifier_of_gold(source.gold) if source.gold else "")
    is_boxed = source.options.get("mode") == "boxed"
    final = FINAL if is_boxed else FINALS.get(verifier, FINAL)
    quoted = f"\n\nAnswer:\n{draft.answer}" if verifier == "code" else ""
    return {"final": final, "answer": quoted}


# ---- what people decide, and the paper's own form


def write_review(dataset: Release, path: Path) -> None:
    """Write the queue: a row per trace with an empty ``decision``: ``keep``, ``drop``, ``edit``."""
    rows = dataset.read(["trace_id", "completion", "messages"]).iter_rows(named=True)
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            shown = {**row, "messages": json.loads(row["messages"]), "decision": ""}
            file.write(json.dumps(shown, ensure_ascii=False) + "\n")


def read_review(path: Path) -> set[str]:
    """Return the trace ids that people dropped.

    Raises:
        UsageError: a decision that is neither ``keep``, ``drop``, ``edit`` nor empty.
    """
    return {row["trace_id"] for row in _reviewed(path, "drop")}


def read_edits(path: Path) -> list[tuple[str, str]]:
    """Return the question and the rewritten thinking of each row that people marked ``edit``.

    Raises:
        UsageError: as ``read_review``; or an edited row has no thinking.
    """
    out = []
    for row in _reviewed(path, "edit"):
        thinking = split_reasoning(row["completion"]).reasoning.strip()
        if not thinking:
            raise UsageError(
                f"{path}: the edited completion of {row['trace_id']} has no thinking",
                "rewrite it between <think> and </think>",
            )
        out.append((Prompt(messages=tuple(row["messages"])).text, thinking))
    return out


def _reviewed(path: Path, wanted: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        row = json.loads(line)
        decision = row.get("decision") or "keep"
        if decision not in ("keep", "drop", "edit"):
            raise UsageError(
                f"{path} line {number}: decision {decision!r}", "write keep, drop or edit"
            )
        if decision == wanted:
            yield row


def special_form(completion: str) -> str:
    """Return a completion in the paper's notation (v1, 2.3.1).

    >>> special_form("<think>\\nI add.\\n</think>\\n\\n4")
    '|special_token|I add.|special_token|4'
    """
    halves = split_reasoning(completion)
    return f"{SPECIAL}{halves.reasoning.strip()}{SPECIAL}{halves.answer.strip()}"


def _special_form(dataset: Release, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in dataset.read(["messages", "completion"]).iter_rows(named=True):
            shown = {
                "prompt": json.loads(row["messages"]),
                "completion": special_form(row["completion"]),
            }
            file.write(json.dumps(shown, ensure_ascii=False) + "\n")
