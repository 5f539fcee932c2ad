"""Code, bugs to mend, STEM and logic beside math, through every stage, on recorded answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from catalogs import query
from distill.grpo.record import Recorder
from distill.grpo.reward import Payer
from distill.grpo.rollout import Keys, Sample
from factory.dialects import join_reasoning
from factory.engines.replay import Engine
from factory.errors import ConfigError, UsageError
from factory.records import Prompt, PromptSource, Sampling
from factory.store import Store
from pipelines.cold_start import ColdStart, cold_start, model_refiner
from pipelines.common import PromptSet
from pipelines.rejection_sampling import RejectionSampling, rejection_sampling
from tests.helpers_judge import JudgeModel

THOUGHT = "I read the problem and think of each step with care. Then I check it, and it is right."
FILTERS = {
    "right": "status = 'pass'", "formed": "format_status = 'pass'",
    "code_blocks": "n_code_blocks = 0", "no_loop": "NOT has_loop",
}  # fmt: skip
TESTS = json.dumps({"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"]})
ADDS = "```python\na, b = map(int, input().split())\nprint(a + b)\n```"
TAKES = ADDS.replace("a + b", "a - b")
# domain: verifier, gold, right answer, wrong answer
DOMAINS = {
    "math": ("math", "4", "It is \\boxed{4}.", "It is \\boxed{5}."),
    "code": ("code", TESTS, f"I add both.\n\n{ADDS}", f"I add both.\n\n{TAKES}"),
    "bugs": ("code", TESTS, f"The sign was wrong.\n\n{ADDS}", f"It was right.\n\n{TAKES}"),
    "stem": ("choice", "B", "It is \\boxed{B}.", "It is \\boxed{C}."),
    "logic": ("logic", "No", "It is \\boxed{No}.", "It is \\boxed{Yes}."),
    # What no rule can score: the judge says.
    "proof": ("math", "It is even, as both are.", "\\boxed{It is even.}", "\\boxed{It is odd.}"),
}  # fmt: skip


def pairs() -> list[Any]:
    out = []
    for domain, (verifier, gold, _, _) in DOMAINS.items():
        prompt = Prompt.of(f"A problem of {domain}?")
        options = {} if verifier == "code" else {"mode": "boxed"}
        source = PromptSource(
            prompt_id=prompt.prompt_id, source=domain, item="0", domain=domain, gold=gold,
            verifier=verifier, options=options, language="en",
        )  # fmt: skip
        out.append((prompt, source))
    return out


def texts(domain: str) -> list[str]:
    """Right, right with code in its thinking, wrong, and one that does not end its thinking."""
    _, _, right, wrong = DOMAINS[domain]
    return [
        join_reasoning(THOUGHT, right), join_reasoning(f"{THOUGHT}\n\n{ADDS}", right),
        join_reasoning(THOUGHT, wrong), f"<think>\n{THOUGHT}",
    ]  # fmt: skip


def engine(model: str) -> Engine:
    return Engine(
        model,
        answers={f"{p.prompt_id}:{k}": {"completion": text, "n_completion_tokens": 40}
                 for p, s in pairs() for k, text in enumerate(texts(str(s.domain)))},
    )  # fmt: skip


def refined(text: str, _: int) -> str:
    """What a stronger model would write: thinking of its own words, then the same answer."""
    if "Draft:\n" in text:
        return "I look at it calmly. Each step follows from the one before, so I am sure of it."
    domain = next(d for d in DOMAINS if f"A problem of {d}?" in text)
    if DOMAINS[domain][0] == "code":
        assert "in one fenced block, unchanged" in text
        assert ADDS in text, "a program cannot be written again from the thinking alone"
    else:
        assert "\\boxed{}" in text
    return DOMAINS[domain][2]


def judged(text: str, _: int) -> str:
    is_wrong = (
        "Odd." in text or "{5}" in text or "{C}" in text or "{Yes}" in text or "a - b" in text
    )
    word = "incorrect" if is_wrong else "correct"
    return json.dumps({"analysis": "I compared both.", "correctness": word})


@pytest.mark.slow
def test_every_domain_passes_every_stage_and_sql_counts_them(tmp_path: Path) -> None:
    store, prompts = Store(tmp_path / "data"), pairs()
    values = {"n_samples": 4, "temperature": 1.0, "max_tokens": 64, "cap_per_prompt": 1,
              "filters": FILTERS}  # fmt: skip
    stronger = JudgeModel(refined)
    refine = model_refiner(
        store, lambda: stronger, sampling=Sampling(temperature=0.6, max_tokens=64)
    )
    cold = ColdStart.make({**values, "refined_filters": FILTERS, "refiner": "model"}, where="cold")
    made, _ = cold_start(
        store, cold, prompts, engine("zero"), name="r-cold-start", out=tmp_path / "out",
        refine=refine,
    )  # fmt: skip
    assert made.manifest["rows"] == 5

    # Reasoning RL pays each domain by its own rule.
    payer = Payer({"accuracy": 1.0, "format": 1.0, "language": 1.0}, n_workers=1)
    policy = Sampling(temperature=1.0, max_tokens=64)
    keys = Keys("dev2-1", 1, "dev2", policy.sampling_id)
    record = Recorder(store, keys, policy)
    record.prompts(prompts)
    for step, pair in enumerate(prompts):
        own = texts(str(pair[1].domain))
        samples = [Sample(pair[0].prompt_id, i, t, 40, True) for i, t in enumerate(own)]
        record.rollouts(step, samples, payer.rewards([pair] * 4, own), group_size=4)
    record.close({})

    judge = JudgeModel(judged)
    sampling = RejectionSampling.make(
        {**values, "filters": {**FILTERS, "right": "status = 'pass' OR judge_status = 'pass'"},
         "judging": {"temperature": 0.0, "max_tokens": 64, "measure": {"n": 10, "min_n": 8}}},
        where="rejection",
    )  # fmt: skip
    made, _ = rejection_sampling(
        store, sampling, prompts, engine("dev2"), name="r-reasoning", out=tmp_path / "out",
        judge=lambda: judge,
    )  # fmt: skip
    assert made.manifest["rows"] == 6

    found = query.run(store, "@r1_counts")
    at = [found.columns.index(c) for c in ("stage", "name", "domain", "n_traces", "n_pass")]
    counts = {tuple(row[i] for i in at[:3]): tuple(row[i] for i in at[3:]) for row in found.rows}
    for domain in DOMAINS:
        # Two of four are right where a rule can tell.
        n_pass = 0 if domain == "proof" else 2
        assert counts["sampled", "zero", domain] == (4, n_pass)
        assert counts["RL", "dev2", domain] == (4, n_pass)
        assert counts["sampled", "dev2", domain] == (4, n_pass)
        assert counts["kept", "r-reasoning", domain] == (1, int(domain != "proof"))
        assert counts.get(("kept", "r-cold-start", domain)) == (
            None if domain == "proof" else (1, 1)
        )
    (programs,) = (
        [r["completion"][0]["content"] for r in map(json.loads, path.read_text().splitlines())
         if r["prompt"][0]["content"] == "A problem of bugs?"]
        for path in [tmp_path / "out" / "r-cold-start.jsonl"]
    )  # fmt: skip
    assert programs[0].endswith(ADDS)


def test_a_judge_that_is_asked_for_and_not_there_is_an_error(tmp_path: Path) -> None:
    values = RejectionSampling.make(
        {"n_samples": 1, "temperature": 1.0, "max_tokens": 64, "cap_per_prompt": 1, "filters": {},
         "judging": {}}, where="rejection",
    )  # fmt: skip
    with pytest.raises(UsageError, match="nobody judges the samples"):
        rejection_sampling(
            Store(tmp_path / "data"), values, pairs()[:1], engine("dev2"), name="r", out=tmp_path
        )


def test_sets_of_several_domains_are_asked_each_in_its_own_form(tmp_path: Path) -> None:
    rows = [{"prompt": "2+2?", "gold": "4", "verifier": "math"},
            {"prompt": "Add.", "gold": TESTS, "verifier": "code"}]  # fmt: skip
    path, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    other.write_text(json.dumps(rows[0]) + "\n" + json.dumps({**rows[0], "prompt": "3+3?"}) + "\n")
    options = {"paths": str(path), "limit": 5}
    asked = {"math": "r1", "code": "code"}
    more = {"source": "files", "options": {"paths": str(other), "limit": 3}, "template": "r1"}
    both = PromptSet.make(
        {"source": "files", "options": options, "template": asked, "more": [more]}, where="rl"
    )
    found = both.pairs()
    assert [p.text.split("\n")[0] for p, _ in found] == ["2+2?", "Add.", "3+3?"]
    assert ["\\boxed" in p.text for p, _ in found] == [True, False, True]
    assert both.size == 8
    with pytest.raises(ConfigError, match="no template for the verifier 'code' of a 1"):
        PromptSet(source="files", options=options, template={"math": "r1"}).pairs()
