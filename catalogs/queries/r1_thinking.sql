-- thinking over RL: tokens, words, reflective words per answer and over step 0 (needs the score dynamics)
WITH last AS (
    SELECT * FROM rollouts WHERE is_used
    QUALIFY attempt = max(attempt) OVER (PARTITION BY rl_run, step)
), steps AS (
    SELECT rl_run, any_value(model) AS model, step, count(*) AS n,
        avg(last.n_completion_tokens) AS tokens, avg(n_reflective) AS reflective,
        avg(n_wait) AS waits, sum(n_reflective) * 1000 / sum(last.n_completion_tokens) AS per_1k
    FROM last JOIN wide USING (trace_id) GROUP BY rl_run, step
)
SELECT rl_run, model, step, n, round(tokens, 1) AS tokens, round(reflective, 3) AS reflective,
    round(waits, 3) AS waits, round(per_1k, 3) AS reflective_per_1k_tokens,
    round(reflective / nullif(first_value(reflective) OVER run, 0), 2) AS times_step_0,
    round(per_1k / nullif(first_value(per_1k) OVER run, 0), 2) AS per_1k_times_step_0
FROM steps WINDOW run AS (PARTITION BY rl_run ORDER BY step) ORDER BY rl_run, step
