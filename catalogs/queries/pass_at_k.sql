-- unbiased pass@k by source and model, mean over prompts that have k scored samples (others: not counted)
WITH per_prompt AS (
    SELECT source, model, prompt_id,
        count(*) FILTER (status IN ('pass', 'fail')) AS n,
        count(*) FILTER (status = 'pass') AS c
    FROM wide GROUP BY source, model, prompt_id
)
SELECT source, model, k,
    count(*) FILTER (n >= k) AS n_prompts,
    round(avg(pass_at_k(n, c, k)), 4) AS pass_at_k
FROM per_prompt, (VALUES (1), (4), (8), (16), (64)) AS wanted(k)
GROUP BY source, model, k HAVING count(*) FILTER (n >= k) > 0 ORDER BY source, model, k
