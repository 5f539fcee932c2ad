-- pass rate by source and model: passes ÷ scored, with what is unscored beside it
SELECT source, model,
    count(DISTINCT prompt_id) AS n_prompts,
    count(*) AS n_traces,
    count(*) FILTER (status IN ('pass', 'fail')) AS n_scored,
    count(*) FILTER (status = 'pass') AS n_pass,
    round(n_pass / nullif(n_scored, 0), 4) AS pass_rate,
    count(*) FILTER (status = 'unscored') AS n_unscored,
    count(*) FILTER (status IS NULL) AS n_unverified
FROM wide GROUP BY source, model ORDER BY source, model
