"""MMLU-Redux 2.0: MMLU read again by people; questions with a fault are left out."""

from factory.sources.benchmarks import Benchmark, LeftOut, Question, Row, mmlu

_SUBJECTS = (
    "abstract_algebra anatomy astronomy business_ethics clinical_knowledge college_biology "
    "college_chemistry college_computer_science college_mathematics college_medicine "
    "college_physics computer_security conceptual_physics econometrics electrical_engineering "
    "elementary_mathematics formal_logic global_facts high_school_biology high_school_chemistry "
    "high_school_computer_science high_school_european_history high_school_geography "
    "high_school_government_and_politics high_school_macroeconomics high_school_mathematics "
    "high_school_microeconomics high_school_physics high_school_psychology "
    "high_school_statistics high_school_us_history high_school_world_history human_aging "
    "human_sexuality international_law jurisprudence logical_fallacies machine_learning "
    "management marketing medical_genetics miscellaneous moral_disputes moral_scenarios "
    "nutrition philosophy prehistory professional_accounting professional_law "
    "professional_medicine professional_psychology public_relations security_studies sociology "
    "us_foreign_policy virology world_religions"
)


def read(row: Row, seed: int) -> Question:
    """Read a row of MMLU-Redux.

    Raises:
        LeftOut: its readers found a fault in question or key.
    """
    if (fault := row.get("error_type") or "ok") != "ok":
        raise LeftOut(str(fault))
    return mmlu.read(row, seed)


BENCHMARK = Benchmark(
    about="5,700 questions of MMLU read again; those with a fault are left out",
    dataset="edinburgh-dawg/mmlu-redux-2.0",
    read=read,
    template="choice_json",
    k=4,
    licence="cc-by-4.0",
    config=tuple(_SUBJECTS.split()),
    of_paper=True,
)
