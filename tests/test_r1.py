"""The recipe's scripts: plans start nothing, cold start keeps what it should and verifies again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distill.grpo import GrpoConfig, trl_values
from distill.reward_model import RewardModelConfig
from factory.config import ConfigError
from factory.engines.replay import Engine
from factory.errors import UsageError
from factory.records import Prompt, PromptSource, Sampling
from factory.store import Store
from pipelines.cold_start import (
    TRANSLATE,
    ColdStart,
    Draft,
    cold_start,
    model_refiner,
    read_edits,
    read_review,
    rule_refiner,
    special_form,
    write_review,
)
from pipelines.common import PromptSet, shape_of, write_pairs
from pipelines.r1_plan import gold_lines, plan_lines, stages
from pipelines.r1_recipe import STAGES, Recipe, stages_of
from pipelines.rejection_sampling import RejectionSampling, rejection_sampling

RECIPES = Path(__file__).parents[1] / "pipelines" / "recipes"
SCALES = ["miniature", "one-gpu", "node", "cluster"]


@pytest.mark.parametrize("scale", SCALES)
def test_every_recipe_has_a_plan_that_starts_nothing(
    scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.load(RECIPES / f"{scale}.yaml")
    lines = list(plan_lines(recipe, STAGES))
    named = {line.split()[0] for line in lines[2:-1]}
    assert named == set(stages_of(recipe))
    assert lines[-1].endswith("nothing was started")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scale", ["one-gpu", "node", "cluster"])
def test_gpu_recipes_have_every_stage_and_what_it_needs(scale: str) -> None:
    recipe = Recipe.load(RECIPES / f"{scale}.yaml")
    assert stages_of(recipe) == STAGES
    lines = {line.split()[0]: line for line in plan_lines(recipe, STAGES)}
    assert "dev3: helpful, safety" in lines["reward_models"]
    assert recipe.judge is not None
    assert {"general", "preferences", "rl_general", "dev_general"} <= recipe.prompts.keys()
    assert recipe.reward_models is not None
    for section in recipe.reward_models.sections.values():
        config = RewardModelConfig.make({"data": "made", **section, "base": "b", "out": "o"})
        assert config.max_length == 8192
        assert config.batch_size == (64 if scale == "one-gpu" else 256)


def test_the_cluster_has_the_papers_last_stages_and_six_students() -> None:
    recipe = Recipe.load(RECIPES / "cluster.yaml")
    assert recipe.all_scenarios is not None
    config = GrpoConfig.make({**recipe.all_scenarios, "base": "b", "out": "o"})
    assert (trl_values(config)["max_steps"], config.last_steps) == (1700, 400)
    assert trl_values(config)["temperature"] == 0.7
    assert {s.student for s in recipe.students.values()} == {
        p.stem for p in (RECIPES.parents[1] / "distill" / "students").glob("r1-distill-*.yaml")
    }
    assert len(recipe.students) == 6
    planned = {s.stage: s.inputs for s in stages(recipe)}
    assert "804,745 rows" in planned["mixture"]
    assert "264,000 judgements" in planned["preferences"]


def test_the_plan_counts_tokens() -> None:
    recipe = Recipe.load(RECIPES / "cluster.yaml")
    planned = {s.stage: s for s in stages(recipe)}
    # 10,400 updates of 512 outputs.
    assert planned["zero"].sampled == 10_400 * 512 * recipe.plan.mean_completion_tokens
    assert planned["sft2"].trained == 804_745 * 2 * recipe.plan.mean_completion_tokens
    assert planned["distill qwen-1.5b"].relative_size < 0.1


def test_the_plan_names_bad_golds_of_files_and_files_that_are_missing(tmp_path: Path) -> None:
    rows = [{"problem": f"What is {n} + {n}?", "answer": a} for n, a in ((1, "2"), (2, "?"))]
    (tmp_path / "rl.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = {"verifier": "math", "language": "en"}
    prompts = {
        name: PromptSet(source="files", options={**options, "paths": str(tmp_path / name)})
        for name in ("rl.jsonl", "dev.jsonl")
    }
    recipe = Recipe.load(RECIPES / "cluster.yaml").model_copy(update={"prompts": prompts})
    rl, dev = gold_lines(recipe)
    assert "1 of the first 2 have a bad gold" in rl
    assert "gold_unparsable 1" in rl
    assert dev.startswith("prompts dev.jsonl: not read: no file")


def test_a_typo_in_a_recipe_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown key 'coldstart'"):
        Recipe.load(RECIPES / "miniature.yaml", overrides=["coldstart.n_samples=3"])


# ---- cold start on planted samples


def _problem(i: int, language: str = "en") -> tuple[Prompt, PromptSource]:
    text = (
        f"Tom has {i} pens and buys 2. How many?" if language == "en" else f"小明有{i}支笔,买了2。"
    )
    prompt = Prompt.of(text)
    return prompt, PromptSource(
        prompt_id=prompt.prompt_id, source="planted", item=str(i), gold=str(i + 2),
        verifier="math", options={"mode": "boxed"}, language=language,
    )  # fmt: skip


def _text(i: int, value: int, *, words: str = "I start with {i}. First I get {i}+2={v}.") -> str:
    pad = words.format(i=i, v=value)
    return f"<think>\n{pad}\n</think>\n\nThe answer is \\boxed{{{value}}}."


_MIXED = "我从{i}开始。 First I get {i}+2={v}."
PLANTED = {
    "right": lambda i: _text(i, i + 2),
    "mixed": lambda i: _text(i, i + 2, words=_MIXED),
    "wrong": lambda i: _text(i, i + 3),
    "no_thinking": lambda i: f"The answer is \\boxed{{{i + 2}}}.",
    "no_sums": lambda i: _text(i, i + 2, words="I know this one by heart, since I saw it once."),
    "loop": lambda i: _text(i, i + 2, words="I start with {i}. " + "I get {i}+2={v}. " * 60),
}


def _planted() -> tuple[list[tuple[Prompt, PromptSource]], dict[str, Any], dict[str, str]]:
    pairs, recorded, kinds = [], {}, {}
    for i, kind in enumerate(sorted(PLANTED) * 3):
        pair = _problem(i + 3)
        pairs.append(pair)
        key = f"{pair[0].prompt_id}:0"
        recorded[key] = {"completion": PLANTED[kind](i + 3), "n_completion_tokens": 30}
        kinds[pair[0].prompt_id] = kind
    return pairs, recorded, kinds


VALUES = ColdStart(
    n_samples=1, temperature=1.0, max_tokens=512, cap_per_prompt=1, refiner="rules",
    filters={"right": "math_status = 'pass'", "formed": "format_status = 'pass'",
             "no_loop": "NOT has_loop"},
    refined_filters={"right": "math_status = 'pass'",
                     "one_language": "coalesce(language_consistency >= 0.95, false)"},
)  # fmt: skip


def _run(tmp_path: Path, **options: Any) -> tuple[Any, Any, dict[str, str]]:
    pairs, recorded, kinds = _planted()
    store = Store(tmp_path / "data")
    values = options.pop("values", VALUES)
    dataset, selected = cold_start(
        store, values, pairs, Engine("zero", answers=recorded), name="cold", out=tmp_path / "out",
        **options,
    )  # fmt: skip
    return dataset, selected, kinds


def test_cold_start_keeps_exactly_the_right_and_readable_and_translates(tmp_path: Path) -> None:
    dataset, _, kinds = _run(tmp_path)
    rows = dataset.read()
    assert sorted(kinds[p] for p in rows["prompt_id"]) == ["mixed"] * 3 + ["right"] * 3
    assert rows["language_consistency"].min() >= 0.95
    assert all("开始" not in text for text in rows["completion"])
    lines = (tmp_path / "out" / "cold.jsonl").read_text().splitlines()
    assert len(lines) == 6
    special = (tmp_path / "out" / "cold-special.jsonl").read_text().splitlines()
    assert json.loads(special[0])["completion"].startswith("|special_token|I start")


def test_a_refiner_is_asked_about_survivors_only_and_its_answer_is_verified_again(
    tmp_path: Path,
) -> None:
    seen: list[Draft] = []

    def spoil(drafts: Any) -> list[str | None]:
        seen.extend(drafts)
        texts = rule_refiner(drafts)
        spoilt = [t and t.replace("boxed{", "boxed{1") for t in texts[:2]]
        return [*spoilt, *texts[2:]]

    dataset, selected, kinds = _run(tmp_path, refine=spoil)
    asked = sorted(kinds[d.prompt.prompt_id] for d in seen)
    assert asked == ["mixed"] * 3 + ["no_sums"] * 3 + ["right"] * 3
    n_spoilt = sum(1 for t in rule_refiner(seen)[:2] if t)
    assert dataset.manifest["rows"] == 6 - n_spoilt
    assert next(f for f in selected.funnel if f["name"] == "right")["n_dropped"] == n_spoilt


@pytest.mark.slow
def test_what_a_person_drops_is_left_out(tmp_path: Path) -> None:
    dataset, _, _ = _run(tmp_path)
    queue = tmp_path / "out" / "cold-review.jsonl"
    rows = [json.loads(line) for line in queue.read_text().splitlines()]
    rows[0]["decision"] = "drop"
    reviewed = tmp_path / "reviewed.jsonl"
    reviewed.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert read_review(reviewed) == {rows[0]["trace_id"]}
    values = VALUES.model_copy(update={"review": reviewed})
    again, _, _ = _run(tmp_path, values=values)
    assert set(dataset.read()["trace_id"]) - set(again.read()["trace_id"]) == {rows[0]["trace_id"]}
    rows[0]["decision"] = "maybe"
    reviewed.write_text("".join(json.dumps(r) + "\n" for r in rows))
    with pytest.raises(UsageError, match="decision 'maybe'"):
        read_review(reviewed)
    write_review(again, queue)
    assert len(queue.read_text().splitlines()) == 5


@pytest.mark.slow
def test_a_second_run_makes_nothing_again(tmp_path: Path) -> None:
    first, _, _ = _run(tmp_path)
    store = Store(tmp_path / "data")
    before = {name: store.table(name).n_rows() for name in store.tables()}
    second, _, _ = _run(tmp_path)
    assert second.version == first.version
    assert {name: store.table(name).n_rows() for name in store.tables()} == before


def test_the_rule_refiner_tells_the_sums_in_the_prompts_language() -> None:
    prompt, source = _problem(5, "zh")
    draft = Draft(prompt, source, "I start with 5. 5+2=7 5+2=7", "7", "7", True)
    (text,) = rule_refiner([draft])
    assert text == "<think>\n我从5开始。首先得到5+2=7。\n</think>\n\n答案是 \\boxed{7}。"
    other = Draft(prompt, source, "5+2=8", "7", "7", True)
    assert rule_refiner([other]) == [None]


def test_the_rule_refiner_writes_no_character_that_the_crawl_lacks() -> None:
    from pipelines.miniature.corpus import documents

    read = {c for d in documents(n=2000, seed=0) for c in d.question + d.completion}
    for language in ("en", "zh"):
        prompt, source = _problem(5, language)
        sums = "5+2=7 7-3=4 4×2=8 8÷2=4 4+9=13"
        (text,) = rule_refiner([Draft(prompt, source, sums, "13", "13", True)])
        assert text is not None
        assert set(text) <= read


class _Stronger(Engine):
    """Answers as a model that rewrites: the thinking first, then a summary of it."""

    def __init__(self) -> None:
        super().__init__("stronger", answers={})
        self.asked: list[str] = []

    def run(self, requests: Any, on_partial: Any = None) -> Any:
        for request in requests:
            if request is None:
                yield None
                continue
            text = str(request.messages[0]["content"])
            self.asked.append(text)
            answer = "Let me see: 5+2=7." if "Draft:" in text else "So \\boxed{7}."
            yield request.trace(answer, finish_reason="stop", n_completion_tokens=5)


def test_a_model_refines_and_summarises_in_two_questions(tmp_path: Path) -> None:
    engine = _Stronger()
    refine = model_refiner(
        Store(tmp_path / "data"),
        lambda: engine,
        sampling=Sampling(temperature=0.6, max_tokens=64),
    )
    prompt, source = _problem(5)
    drafts = [Draft(prompt, source, "5加2是7", "7", "7", is_mixed=True)]
    assert refine(drafts) == ["<think>\nLet me see: 5+2=7.\n</think>\n\nSo \\boxed{7}."]
    assert TRANSLATE in engine.asked[0]
    assert "never mention" in engine.asked[1]
    assert "Let me see: 5+2=7." in engine.asked[1]
    refine(drafts)
    assert len(engine.asked) == 2


def test_what_people_rewrote_is_shown_to_the_refiner(tmp_path: Path) -> None:
    path, edited = tmp_path / "review.jsonl", "<think>\nI look at it calmly.\n</think>\n\n7"
    ask = [{"role": "user", "content": "What is 3+4?"}]
    rows = [
        {"trace_id": "a", "messages": ask, "completion": edited, "decision": "edit"},
        {"trace_id": "b", "messages": ask, "completion": "x", "decision": "drop"},
        {"trace_id": "c", "messages": ask, "completion": "x", "decision": ""},
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert read_review(path) == {"b"}
    assert read_edits(path) == [("What is 3+4?", "I look at it calmly.")]
    engine = _Stronger()
    refine = model_refiner(
        Store(tmp_path / "data"), lambda: engine, examples=read_edits(path),
        sampling=Sampling(temperature=0.6, max_tokens=64),
    )  # fmt: skip
    prompt, source = _problem(5)
    refine([Draft(prompt, source, "5加2是7", "7", "7", is_mixed=True)])
    assert engine.asked[0].startswith("For example, of this problem:\nWhat is 3+4?")
    assert "I look at it calmly." in engine.asked[0]
    assert "I look at it calmly." not in engine.asked[1], "the summary is asked for without them"
    rows[0]["completion"] = "no thinking"
    path.write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(UsageError, match="has no thinking"):
        read_edits(path)


def test_the_special_form_round_trips_text_with_tags_in_it() -> None:
    text = "<think>\nwhat does <think> mean?\n</think>\n\nA tag."
    assert special_form(text) == "|special_token|what does <think> mean?|special_token|A tag."


# ---- rejection sampling


def test_rejection_sampling_keeps_right_ones_under_the_cap(tmp_path: Path) -> None:
    pairs, recorded = [], {}
    for i in range(8):
        pair = _problem(i + 3)
        pairs.append(pair)
        for j in range(4):
            value = i + 5 if j <= i % 4 else i + 9
            words = "I start with {i}. First I get {i}+2={v}. " + f"That is try {j}."
            recorded[f"{pair[0].prompt_id}:{j}"] = {
                "completion": _text(i + 3, value, words=words), "n_completion_tokens": 30,
            }  # fmt: skip
    values = RejectionSampling(
        n_samples=4, temperature=1.0, max_tokens=64, cap_per_prompt=2,
        filters={"right": "math_status = 'pass'",
                 "mixed_languages": "coalesce(language_consistency >= 0.95, false)",
                 "long_paragraphs": "max_paragraph_words <= 600",
                 "code_blocks": "n_code_blocks = 0"},
    )  # fmt: skip
    store = Store(tmp_path / "data")
    dataset, selected = rejection_sampling(
        store, values, pairs, Engine("dev2", answers=recorded), name="reasoning", out=tmp_path
    )
    # Right: 1, 2, 3, 4 of four samples, twice; at most two are kept.
    assert dataset.manifest["rows"] == 2 * (1 + 2 + 2 + 2)
    dropped = {f["name"]: f["n_dropped"] for f in selected.funnel}
    assert dropped["right"] == 32 - 20
    again, _ = rejection_sampling(
        store, values, pairs, Engine("dev2", answers={}), name="reasoning", out=tmp_path
    )
    assert again.version == dataset.version


# ---- shared parts


def test_prompts_survive_a_file(tmp_path: Path) -> None:
    from distill.prompts import read_prompts

    pairs = [_problem(3), _problem(4, "zh")]
    write_pairs(pairs, tmp_path / "p.jsonl")
    assert read_prompts(str(tmp_path / "p.jsonl")) == pairs


def test_prompt_sets_load_the_little_world() -> None:
    found = PromptSet(source="miniature", options={"n": 4, "split": "dev"}).pairs(seed=1)
    assert [s.language for _, s in found] == ["en", "zh", "en", "zh"]
    assert all(s.item.startswith("dev-1-") for _, s in found)


def test_a_trained_model_has_the_shape_of_its_base(tmp_path: Path) -> None:
    keys = []
    for name, config in {
        "base": {"hidden_size": 64, "use_cache": True},
        "trained": {"hidden_size": 64, "use_cache": False, "dtype": "float32"},
        "wider": {"hidden_size": 96, "use_cache": True},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        keys.append(shape_of(tmp_path / name))
    assert keys[0] == keys[1] != keys[2]


def test_vllm_can_look_at_every_object_of_a_process_that_used_numba() -> None:
    ffi = pytest.importorskip("llvmlite.binding.ffi")
    from factory.engines.vllm_start import hide_dict_of_llvmlite

    for _ in range(2):
        hide_dict_of_llvmlite()
        assert vars(ffi.lib).get("kernel") is None, "as vLLM's dispatcher of kernels asks"
        assert callable(ffi.lib.LLVMPY_GetVersionInfo)


def test_what_was_launched_and_has_finished_is_launched_for_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distill import grpo, sft
    from distill.launch import Launch
    from distill.runs import write_run
    from pipelines import common

    asked: list[list[str]] = []
    monkeypatch.setattr(Launch, "run", lambda _, words: asked.append(list(words)))
    how: dict[str, Any] = {"seed": 0, "engines": common.Engines(), "launch": Launch()}
    rows, student, reward = tmp_path / "rows.jsonl", tmp_path / "own.yaml", tmp_path / "own.py"
    rows.write_text("{}\n")
    own = "base: b\ntemplate: qwen\nmax_length: 64\ntrl: {}\n"
    student.write_text(own)
    reward.write_text("def reward(**_):\n    return []\n")
    store = Store(tmp_path / "data")
    trained: dict[str, Any] = {"student": str(student), "data": rows, "base": "b",
                               "out": tmp_path / "s"}  # fmt: skip
    section = {"preset": "r1_zero", "per_device": 1, "rewards": {str(reward): 1.0}}
    base = "owner/base@" + 40 * "0"
    asks: dict[str, Any] = {"base": base, "out": tmp_path / "g", "store": store}
    config = grpo.GrpoConfig.make({**section, "base": base, "out": tmp_path / "g", "seed": 0})
    keys = {
        "s": sft.inputs_of(sft.SftConfig(seed=0, **trained)),
        "g": grpo.inputs_of_run(config, [_problem(1)], store),
    }
    for name, inputs in keys.items():
        write_run(tmp_path / name, kind="x", inputs=inputs, config={}, metrics={})

    def launch() -> None:
        common.run_sft(**trained, **how)
        common.run_grpo(section, pairs=[_problem(1)], **asks, **how)

    launch()
    assert asked == []
    # The same name does not make the same run: what stands in the files does.
    for path, other in ((rows, "{} \n"), (student, own.replace("64", "65")),
                        (reward, "def reward(**_):\n    return [1]\n")):  # fmt: skip
        before = path.read_text()
        path.write_text(other)
        with pytest.raises(UsageError, match="finished run of other inputs"):
            launch()
        path.write_text(before)
    assert asked == []


def test_restart_reaches_the_trainers_of_a_recipe_and_no_lanes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distill.launch import Launch
    from pipelines import common, r1

    asked: list[list[str]] = []
    (tmp_path / "rows.jsonl").write_text("{}\n")
    monkeypatch.setattr(Launch, "run", lambda _, words: asked.append(list(words)))
    how: dict[str, Any] = {"seed": 0, "engines": common.Engines(), "launch": Launch()}
    common.run_sft(student="small", data=tmp_path / "rows.jsonl", base="b", out=tmp_path / "s",
                   restart=True, **how)  # fmt: skip
    common.run_grpo({"preset": "r1_zero", "per_device": 1}, base="b", out=tmp_path / "g",
                    pairs=[_problem(1)], store=Store(tmp_path / "data"), restart=True,
                    **how)  # fmt: skip
    common.run_sft(student="small", data=tmp_path / "rows.jsonl", base="b", out=tmp_path / "t",
                   **how)  # fmt: skip
    assert ["--restart" in words for words in asked] == [True, True, False]
    monkeypatch.setattr("sys.argv", ["r1", str(RECIPES / "miniature.yaml"), "--restart",
                                     "--lanes", "2"])  # fmt: skip
    with pytest.raises(UsageError, match="--restart with several jobs"):
        r1.run(r1.arguments())
