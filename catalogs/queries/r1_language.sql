-- language consistency of the thinking and accuracy, run by run, in eighths of each run's steps
WITH last AS (
    SELECT * FROM rollouts WHERE is_used
    QUALIFY attempt = max(attempt) OVER (PARTITION BY rl_run, step)
), parts AS (
    SELECT *, 1 + step * 8 // (1 + max(step) OVER (PARTITION BY rl_run)) AS eighth FROM last
)
SELECT rl_run, eighth, min(step) AS from_step, count(*) AS n, round(avg(language), 4) AS language,
    round(avg(language) - first_value(avg(language)) OVER (PARTITION BY rl_run ORDER BY eighth), 4)
        AS since_first,
    round(avg(accuracy), 4) AS accuracy, round(avg(reward), 4) AS reward
FROM parts GROUP BY rl_run, eighth ORDER BY rl_run, eighth
