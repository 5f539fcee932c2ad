"""The stages of the R1 script, each a method; their order and their reasons are in ``r1.py``.

What a stage makes lies in the recipe's folder: ``zero``, ``dev1`` and so on are models, ``data``
holds the rows that SFT reads. A stage that is finished returns at once.
"""

from __future__ import annotations

import json
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from distill.prepare import data_digests
from distill.runs import file_digest, read_run
from distill.student import local_folder
from factory import model_files
from factory.cli.common import say, step
from factory.engines.vllm_start import prepare_environment
from factory.errors import UsageError
from factory.records import Sampling
from factory.scores.reward_model import RewardModel
from factory.store import Store
from factory.store.durable import replacing
from pipelines.all_scenarios_rl import preference_gain, section_of
from pipelines.cold_start import Refiner, cold_start, model_refiner, read_edits
from pipelines.common import (
    Engines,
    Pair,
    grown,
    keys_of,
    once,
    room,
    run_grpo,
    run_reward_model,
    run_sft,
)
from pipelines.decontamination import Guard
from pipelines.general import Mixture, composition_lines, general_rows, write_mixture
from pipelines.preference_pairs import preference_rows
from pipelines.r1_evaluate import Evaluator, labelled, write_report
from pipelines.r1_recipe import Recipe, SftOf, StudentOf, folder_of
from pipelines.rejection_sampling import rejection_sampling
from pipelines.safety_review import MAX_REVIEWED_TOKENS, review_file
from pipelines.sample_and_select import Sampled

EVALUATED = ("dev", "eval", "dev_general")
"""Prompts that nothing may be trained on."""


class Stages:
    """A recipe's stages over its store, folder and engines.

    Args:
        recipe: of a scale.
        restart: a training that was stopped begins anew; what is finished stays.
    """

    def __init__(self, recipe: Recipe, *, restart: bool = False) -> None:
        self.restart = restart
        self.device = prepare_environment()
        self.recipe, self.folder = recipe, folder_of(recipe)
        self.store = Store(recipe.store)
        self.engines = Engines(options=recipe.engine)
        self.evaluator = Evaluator(
            self.store, recipe.evaluation, self.engines, prompt_tokens=recipe.prompt_tokens
        )
        self.cold_rows = self.folder / "data" / f"{recipe.name}-cold-start.jsonl"
        self.reasoning_rows = self.folder / "data" / f"{recipe.name}-reasoning.jsonl"
        self.general_rows = self.folder / "data" / f"{recipe.name}-general.jsonl"
        self.preference_pairs = self.folder / "data" / f"{recipe.name}-preferences.jsonl"
        self._prompts: dict[str, list[Pair]] = {}

    def close(self) -> None:
        """Free the engines."""
        self.engines.close()

    def prompts(self, name: str) -> list[Pair]:
        """Return the recipe's prompts of that name, clear of what is evaluated on."""
        if name not in self._prompts:
            found = self.recipe.prompts[name].pairs(seed=self.recipe.seed)
            guard = self.guard if name not in EVALUATED else None
            self._prompts[name] = guard.pairs(name, found) if guard is not None else found
        return self._prompts[name]

    @cached_property
    def guard(self) -> Guard | None:
        """What keeps training sets clear of benchmarks; None where the recipe does not ask."""
        values = self.recipe.decontaminate
        if values is None:
            return None
        evaluated = {n: self.prompts(n) for n in EVALUATED if n in self.recipe.prompts}
        return Guard(values, evaluated, folder=self.folder / "decontamination")

    def base(self) -> str:
        """Return the base, grown where the recipe says so."""
        return grown(self.recipe.base, out=self.folder / "base", seed=self.recipe.seed)

    def student_bases(self) -> dict[str, str]:
        """Return each student's base, grown where the recipe says so."""
        return {
            name: grown(student.base, out=self.folder / f"base-{name}", seed=self.recipe.seed + 100)
            for name, student in self.recipe.students.items()
        }

    def reinforce(
        self, name: str, start: str, section: dict[str, Any], *, pairs: list[Pair] | None = None
    ) -> Path:  # fmt: skip
        """Train folder ``name`` with GRPO from ``start``, on the prompts ``rl`` or on ``pairs``."""
        step(f"{name}: reinforcement learning from {Path(start).name}")
        return run_grpo(
            section, base=start, out=self.folder / name, pairs=pairs or self.prompts("rl"),
            store=self.store, engines=self.engines, launch=self.recipe.launch,
            seed=self.recipe.seed, restart=self.restart,
        )  # fmt: skip

    def fine_tune(self, name: str, how: SftOf | StudentOf, base: str, rows: Path) -> None:
        """Train folder ``name`` with SFT of ``base`` on ``rows``."""
        run_sft(
            student=how.student, overrides=how.overrides, base=base, seed=self.recipe.seed,
            data=rows, out=self.folder / name, launch=self.recipe.launch, engines=self.engines,
            restart=self.restart,
        )  # fmt: skip

    def make_cold_start(self, model: str) -> None:
        """Sample ``model`` and refine what passes into ``cold_rows``."""
        recipe, values, prompts = self.recipe, self.recipe.cold_start, self.prompts("cold_start")

        def work() -> dict[str, Any]:
            refine = None
            if recipe.refiner is not None:
                refine = self._refiner(recipe.refiner, values.max_tokens)
            made, _ = cold_start(
                self.store, values, prompts, self._engine(model, values), name=self.cold_rows.stem,
                out=self.cold_rows.parent, refine=refine,
            )  # fmt: skip
            self._clear(self.cold_rows)
            n_sampled, rows = len(prompts) * values.n_samples, made.manifest["rows"]
            return {"version": made.version, "n_sampled": n_sampled, "rows": rows}

        review = values.review.read_text(encoding="utf-8") if values.review else None
        inputs = {
            "values": values.model_dump(mode="json"), "prompts": keys_of(prompts),
            "model": model_files.revision_of(model), "refiner": recipe.refiner, "review": review,
        }  # fmt: skip
        once(
            self.folder / "cold-start", kind="cold_start", inputs=inputs, work=work,
            n_devices=self.engines.n_devices,
        )  # fmt: skip

    def _engine(self, model: str, values: Sampled) -> Any:
        """Return an engine for a stage that samples; its answers are kept to the context."""
        left = room(model, values.max_tokens, prompt_tokens=self.recipe.prompt_tokens)
        if left < values.max_tokens:
            raise UsageError(
                f"{model}: completions of {values.max_tokens} tokens do not fit into its context",
                f"set max_tokens of the stage to {left} at most, or raise the base's context",
            )
        return self.engines.get(model, longest=values.max_tokens + self.recipe.prompt_tokens)

    def _refiner(self, model: str, draft_tokens: int) -> Refiner:
        """Return the refiner of a model, which is started when drafts are there.

        It reads a draft and writes as much: half of its context is the longest draft.
        """
        from distill.student import context_of

        context = context_of(model) or 2 * draft_tokens
        answer = min(draft_tokens, (context - self.recipe.prompt_tokens) // 2)
        longest = draft_tokens + answer + self.recipe.prompt_tokens
        sampling = Sampling(temperature=0.6, max_tokens=answer)
        # The sampler's engine is closed only now: before the drafts it is still asked.
        return model_refiner(
            self.store,
            lambda: self.engines.get(model, longest=longest),
            sampling=sampling,
            examples=read_edits(review) if (review := self.recipe.cold_start.review) else (),
        )

    def make_reasoning_rows(self, model: str) -> None:
        """Sample ``model`` and keep what passes the filters as ``reasoning_rows``."""
        values, prompts = self.recipe.rejection_sampling, self.prompts("rejection")
        judge, judge_tokens = self.recipe.judge, values.judging.max_tokens if values.judging else 0
        longest = values.max_tokens + judge_tokens + 2 * self.recipe.prompt_tokens

        def work() -> dict[str, Any]:
            made, _ = rejection_sampling(
                self.store, values, prompts, self._engine(model, values),
                name=self.reasoning_rows.stem, out=self.reasoning_rows.parent,
                judge=partial(self.engines.get, judge, longest=longest) if judge else None,
            )  # fmt: skip
            self._clear(self.reasoning_rows)
            n_sampled, rows = len(prompts) * values.n_samples, made.manifest["rows"]
            return {"version": made.version, "n_sampled": n_sampled, "rows": rows}

        inputs = {
            "values": values.model_dump(mode="json"), "prompts": keys_of(prompts),
            "model": model_files.revision_of(model),
            "judge": model_files.revision_of(judge) if judge and values.judging else None,
        }  # fmt: skip
        folder = self.folder / "rejection-sampling"
        once(
            folder, kind="rejection_sampling", inputs=inputs, work=work,
            n_devices=self.engines.n_devices,
        )  # fmt: skip

    def _clear(self, rows: Path) -> None:
        """Look through rows that were made, before they are trained on."""
        if self.guard is not None:
            self.guard.rows(rows)

    def make_general_rows(self) -> None:
        """Take general rows from the recipe's own set, or from a model, as ``general_rows``."""
        recipe, general = self.recipe, self.recipe.general
        assert general is not None
        own = None if general.rows is None else self._own_rows("general", general.rows)
        values = general.model_copy(update={"rows": own})
        prompts = self.prompts("general") if "general" in recipe.prompts else []
        model = recipe.refiner
        if values.rows is None and model is None:
            raise UsageError("nobody answers the general prompts", "give refiner, or general.rows")

        def engine() -> Any:
            return self.engines.get(str(model), longest=values.max_tokens + recipe.prompt_tokens)

        def work() -> dict[str, Any]:
            rows, dropped = general_rows(values, prompts, store=self.store, engine=engine)
            self.general_rows.parent.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            self.general_rows.write_text("".join(lines), encoding="utf-8")
            self._clear(self.general_rows)
            gone = ", ".join(f"{n} {why}" for why, n in dropped.most_common()) or "none"
            say(f"general data: {len(rows)} rows; left out: {gone}")
            return {"n_sampled": len(rows) + dropped.total(), "rows": len(rows), **dropped}

        inputs = {
            "values": values.model_dump(mode="json", exclude={"rows"}),
            "prompts": keys_of(prompts),
            "model": model_files.revision_of(model) if model and values.rows is None else None,
            "rows": data_digests(values.rows) if values.rows is not None else None,
        }  # fmt: skip
        once(
            self.folder / "general", kind="general", inputs=inputs, work=work,
            n_devices=self.engines.n_devices,
        )  # fmt: skip

    def _own_rows(self, kind: Any, path: Path) -> Path:
        """Return a file of the recipe's own; ``miniature`` names one that is made here."""
        if path.name != "miniature":
            return path
        from pipelines.miniature.general import rows

        out = self.folder / "data" / f"{self.recipe.name}-made-{kind}.jsonl"
        lines = (json.dumps(r, ensure_ascii=False) + "\n" for r in rows(kind, n=1200, seed=0))
        with replacing(out) as part:
            part.write_text("".join(lines), encoding="utf-8")
        return out

    def mixed_rows(self, base: str) -> Path:
        """Return the reasoning rows mixed with the general ones; ``base``'s tokens are counted."""
        values, sets = self.recipe.mixture or Mixture(), {
            "reasoning": self.reasoning_rows, "general": self.general_rows,
        }  # fmt: skip
        out = self.folder / "data" / f"{self.recipe.name}-mixture.jsonl"

        def work() -> dict[str, Any]:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(local_folder(base), trust_remote_code=False)
            made = write_mixture(
                values, sets, self.prompts("rejection"), out=out, seed=self.recipe.seed,
                count=lambda text: len(tokenizer(text)["input_ids"]),
            )  # fmt: skip
            for line in composition_lines(made):
                say(line)
            n_read = sum(len(path.read_bytes().splitlines()) for path in sets.values())
            return {"n_sampled": n_read, "rows": made[-1]["rows"], "composition": made}

        inputs = {
            "values": values.model_dump(mode="json"), "seed": self.recipe.seed,
            "sets": {name: file_digest(path) for name, path in sets.items()},
        }  # fmt: skip
        once(self.folder / "mixture", kind="mixture", inputs=inputs, work=work)
        return out

    def training_rows(self, base: str) -> Path:
        """Return the rows of the second SFT and of the students, mixed and reviewed as asked for.

        Args:
            base: whose tokens the composition counts.
        """
        recipe, values = self.recipe, self.recipe.safety
        data = self.reasoning_rows if recipe.general is None else self.mixed_rows(base)
        if values is None:
            return data
        out = self.folder / "data" / f"{recipe.name}-reviewed.jsonl"
        judge, longest = recipe.judge, values.judge_tokens + MAX_REVIEWED_TOKENS

        def work() -> dict[str, Any]:
            found, n_gone = review_file(
                data, out=out, queue=out.with_name(f"{recipe.name}-safety-queue.jsonl"),
                drop=values.drop, store=Store(self.store.root / "safety"),
                engine=None if judge is None else partial(self.engines.get, judge, longest=longest),
                sampling=Sampling(temperature=0.0, max_tokens=values.judge_tokens),
            )  # fmt: skip
            return {
                "n_sampled": found.n_rows, "rows": found.n_rows - n_gone,
                "by_words": dict(found.by_words), "by_judge": dict(found.by_judge),
                "n_unknown": found.n_unknown, "n_dropped": n_gone,
            }  # fmt: skip

        inputs = {
            "values": values.model_dump(mode="json"), "rows": file_digest(data),
            "judge": model_files.revision_of(judge) if judge is not None else None,
        }  # fmt: skip
        once(
            self.folder / "safety-review", kind="safety_review", inputs=inputs, work=work,
            n_devices=self.engines.n_devices if judge is not None else 0,
        )  # fmt: skip
        return out

    def make_preferences(self, model: str) -> None:
        """Let ``model`` answer and the judge compare: pairs for the helpful model."""
        recipe, values, judge = self.recipe, self.recipe.preferences, self.recipe.judge
        assert values is not None
        name = "preferences" if "preferences" in recipe.prompts else "rl_general"
        if judge is None or name not in recipe.prompts:
            raise UsageError(
                "nobody judges the preferences" if judge is None else "preferences has no prompts",
                "give judge" if judge is None else "give prompts.preferences",
            )
        prompts = self.prompts(name)

        def work() -> dict[str, Any]:
            left = room(model, values.max_tokens, prompt_tokens=recipe.prompt_tokens)
            # The judge reads both answers.
            judged = 2 * (left + recipe.prompt_tokens) + values.judge_tokens
            return preference_rows(
                self.store, values.model_copy(update={"max_tokens": left}), prompts,
                partial(self.engines.get, model, longest=left + recipe.prompt_tokens),
                partial(self.engines.get, judge, longest=judged), out=self.preference_pairs,
            )  # fmt: skip

        inputs = {
            "values": values.model_dump(mode="json"), "prompts": keys_of(prompts),
            "model": model_files.revision_of(model), "judge": model_files.revision_of(judge),
        }  # fmt: skip
        once(
            self.folder / "preferences", kind="preferences", inputs=inputs, work=work,
            n_devices=self.engines.n_devices,
        )  # fmt: skip

    def train_reward_models(self, base: str) -> None:
        """Train the recipe's reward models from ``base``."""
        models = self.recipe.reward_models
        for kind, section in (models.sections if models is not None else {}).items():
            # A helpful model without data of its own has the recipe's pairs.
            own = {"data": self.preference_pairs} if kind == "helpful" else {}
            own |= {k: self._own_rows(kind, Path(v)) for k, v in section.items() if k == "data"}
            run_reward_model(
                section | own, base=base, out=self.folder / f"{kind}-model", seed=self.recipe.seed,
                launch=self.recipe.launch, engines=self.engines, restart=self.restart,
            )  # fmt: skip

    def reinforce_for_all(self, start: str) -> None:
        """Train ``r1`` from ``start`` on reasoning and general prompts, and measure the gain."""
        recipe, models = self.recipe, self.recipe.reward_models
        assert recipe.all_scenarios is not None
        kinds = models.sections if models is not None else {}
        folders = {kind: self.folder / f"{kind}-model" for kind in kinds}
        general = self.prompts("rl_general") if "rl_general" in recipe.prompts else []
        section = section_of(recipe.all_scenarios, folders)
        trained = self.reinforce("r1", start, section, pairs=[*self.prompts("rl"), *general])
        if "helpful" not in folders or "dev_general" not in recipe.prompts:
            return
        values, prompts = recipe.evaluation, self.prompts("dev_general")
        sampling = Sampling(
            temperature=values.temperature, top_p=values.top_p, max_tokens=values.max_tokens,
            prefill=values.prefill,
        )  # fmt: skip

        def work() -> dict[str, Any]:
            gain = preference_gain(
                self.store, [partial(self.engines.get, m) for m in (start, str(trained))], prompts,
                RewardModel.load(str(folders["helpful"])), k=values.k_dev, sampling=sampling,
            )  # fmt: skip
            return {"gain": gain.mean, "low": gain.low, "high": gain.high, "n": gain.n}

        inputs = {
            "prompts": keys_of(prompts), "k": values.k_dev, "sampling": sampling.sampling_id,
            "models": [model_files.revision_of(m) for m in (start, str(trained))],
        }  # fmt: skip
        once(self.folder / "preference-gain", kind="preference", inputs=inputs, work=work)

    def reinforce_directly(self, name: str, base: str) -> None:
        """Train a student's base with GRPO at each rate, and note which is best on ``dev``."""
        runs = []
        for rate in self.recipe.direct_rl.rates:
            section = direct_section(self.recipe, self.folder, name, rate)
            runs.append(self.reinforce(f"direct-{name}-{rate:g}", base, section))
        step(f"student {name}: the rate of direct RL, on development problems")
        self.evaluator.choose(runs, self.prompts("dev"), out=self.folder / f"choice-{name}")

    def evaluate(self, base: str, student_bases: dict[str, str]) -> None:
        """Evaluate every model that is there on the prompts ``eval``, and write the report."""
        labels = labelled(self.folder, base, student_bases)
        self.evaluator.all(labels, self.prompts("eval"), out=self.folder / "evaluation")
        write_report(self.store, self.recipe, folder=self.folder)


def direct_section(recipe: Recipe, folder: Path, name: str, rate: float) -> dict[str, Any]:
    """Return the GRPO section of a student's direct RL, with the compute of its distillation."""
    section = {**recipe.direct_rl.grpo}
    section["trl"] = {**section.get("trl", {}), "learning_rate": rate}
    share = recipe.direct_rl.share_of_distillation
    if share is not None:
        runs = [read_run(folder / part) for part in ("rejection-sampling", f"distilled-{name}")]
        if None in runs:
            raise UsageError(
                f"direct RL of {name} has the compute of its distillation, which is not finished",
                "run the stages rejection_sampling and distill first",
            )
        spent = sum(float(run["metrics"]["cpu_s"]) for run in runs if run is not None)
        section["max_cpu_s"] = round(share * spent, 1)
    return section
