-- samples of evaluations that are missing or unscored, by reason
SELECT benchmark, model, k, status, split_part(reason, ':', 1) AS reason, count(*) AS n_samples,
    count(DISTINCT evaluation_samples.prompt_id) AS n_prompts
FROM evaluation_samples JOIN evaluations USING (evaluation_id)
WHERE status IN ('missing', 'unscored')
GROUP BY ALL ORDER BY benchmark, model, k, n_samples DESC
