-- prompts by how often they are solved, per model: which are too easy, which too hard
WITH per_prompt AS (
    SELECT model, prompt_id,
        count(*) FILTER (status IN ('pass', 'fail')) AS n,
        count(*) FILTER (status = 'pass') / nullif(n, 0) AS rate
    FROM wide GROUP BY model, prompt_id
)
SELECT model,
    CASE WHEN rate IS NULL THEN 'unscored' WHEN rate = 0 THEN '0' WHEN rate = 1 THEN '1'
        WHEN rate <= 0.25 THEN '(0, 0.25]' WHEN rate <= 0.5 THEN '(0.25, 0.5]'
        WHEN rate <= 0.75 THEN '(0.5, 0.75]' ELSE '(0.75, 1)' END AS pass_rate,
    count(*) AS n_prompts
FROM per_prompt GROUP BY ALL ORDER BY model, min(coalesce(rate, -1))
