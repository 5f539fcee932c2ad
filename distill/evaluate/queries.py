"""One SQL query behind every number of an evaluation, over ``evaluation_samples``.

The page prints them, and ``factory sql`` runs them; a test holds that they give what was said.
"""

from __future__ import annotations

_MEAN = """SELECT avg(value) FROM (
    SELECT prompt_id, avg({value}) AS value FROM evaluation_samples
    WHERE evaluation_id = '{id}' AND {where} GROUP BY prompt_id
)"""
_SCORED = "status IN ('pass', 'fail')"
_CONS = """WITH mine AS (
    SELECT * FROM evaluation_samples
    WHERE evaluation_id = '{id}' AND status IN ('pass', 'fail')
), votes AS (
    SELECT prompt_id, vote, count(*) AS n FROM mine WHERE vote IS NOT NULL GROUP BY ALL
), winners AS (
    SELECT *, max(n) OVER (PARTITION BY prompt_id) AS most FROM votes
), points AS (
    SELECT prompt_id, avg((vote = 'right')::INT) AS point FROM winners WHERE n = most
    GROUP BY prompt_id
)
SELECT avg(coalesce(point, 0)) FROM (
    SELECT prompt_id FROM mine GROUP BY prompt_id HAVING count(*) >= {k}
) LEFT JOIN points USING (prompt_id)"""
_PASS_AT = """SELECT avg(pass_at_k(n, c, {k})) FROM (
    SELECT prompt_id, count(*) AS n, count(*) FILTER (status = 'pass') AS c
    FROM evaluation_samples
    WHERE evaluation_id = '{id}' AND status IN ('pass', 'fail') GROUP BY prompt_id
)"""
_SEEDS = """SELECT avg(run) FROM (
    SELECT sample_index, avg((status = 'pass')::INT) AS run FROM evaluation_samples
    WHERE evaluation_id = '{id}' AND status IN ('pass', 'fail') GROUP BY sample_index
)"""
_CLEAN = f"{_SCORED} AND is_contaminated IS FALSE"
_VALUES = {
    "pass@1": ("(status = 'pass')::INT", _SCORED),
    "pass@1 uncontaminated": ("(status = 'pass')::INT", _CLEAN),
    "reward": ("reward", _SCORED),
    "truncated": ("(finish_reason = 'length')::INT", "status <> 'missing'"),
    "format": ("format", "status <> 'missing'"),
    "language_consistency": ("language_consistency", "status <> 'missing'"),
    "readability": ("readability", "status <> 'missing'"),
    "completion_tokens": ("n_completion_tokens", "status <> 'missing'"),
    "reasoning_chars": ("reasoning_chars", "status <> 'missing'"),
}


def query(metric: str, *, evaluation_id: str, k: int) -> str:
    """Return the query that gives a number.

    Args:
        metric: a name of ``Evaluation.metrics``, ``pass@K`` or ``seeds``.
        evaluation_id: of the evaluation.
        k: samples per prompt.

    >>> query("pass@8", evaluation_id="…", k=16).splitlines()[0]
    'SELECT avg(pass_at_k(n, c, 8)) FROM ('
    """
    if metric in _VALUES:
        value, where = _VALUES[metric]
        return _MEAN.format(value=value, where=where, id=evaluation_id)
    if metric == "seeds":
        return _SEEDS.format(id=evaluation_id)
    if metric == "cons@k":
        return _CONS.format(id=evaluation_id, k=k)
    return _PASS_AT.format(id=evaluation_id, k=int(metric.partition("@")[2]))
