-- candidate "aha" moments: right rollouts that say wait, most of it first (needs the score dynamics)
WITH last AS (
    SELECT * FROM rollouts WHERE is_used
    QUALIFY attempt = max(attempt) OVER (PARTITION BY rl_run, step)
), bases AS (
    SELECT rl_run, avg((status = 'pass' AND n_wait > 0)::INT) AS base_rate FROM (
        SELECT last.rl_run, last.status, n_wait FROM last JOIN wide USING (trace_id)
        QUALIFY last.step = min(last.step) OVER (PARTITION BY last.rl_run)
    ) GROUP BY rl_run
)
SELECT last.rl_run, last.step, trace_id, n_wait, n_reflective, last.n_completion_tokens AS tokens,
    round(base_rate, 4) AS base_rate
FROM last JOIN wide USING (trace_id) JOIN bases ON bases.rl_run = last.rl_run
WHERE last.status = 'pass' AND n_wait > 0
QUALIFY row_number() OVER (
    PARTITION BY last.rl_run ORDER BY n_wait DESC, n_reflective DESC, trace_id
) <= 10
ORDER BY last.rl_run, n_wait DESC, n_reflective DESC, trace_id
