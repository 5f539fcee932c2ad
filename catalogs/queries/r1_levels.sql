-- accuracy of each level of the prompts over RL, in eighths of each run's steps
WITH last AS (
    SELECT * FROM rollouts WHERE is_used
    QUALIFY attempt = max(attempt) OVER (PARTITION BY rl_run, step)
), parts AS (
    SELECT *, 1 + step * 8 // (1 + max(step) OVER (PARTITION BY rl_run)) AS eighth FROM last
), levels AS (
    SELECT prompt_id, min(level) AS level FROM prompt_sources WHERE level IS NOT NULL GROUP BY ALL
)
SELECT rl_run, level, eighth, min(step) AS from_step, count(accuracy) AS n,
    round(avg(accuracy), 4) AS accuracy
FROM parts JOIN levels USING (prompt_id) GROUP BY rl_run, level, eighth
ORDER BY rl_run, level, eighth
