-- models and settings that made traces
SELECT model, revision, temperature, top_p, max_tokens, count(*) AS n_traces,
    count(DISTINCT prompt_id) AS n_prompts, max(sample_index) + 1 AS samples_per_prompt,
    sum(n_completion_tokens) AS completion_tokens
FROM wide GROUP BY ALL ORDER BY model, revision, temperature, top_p, max_tokens
