-- students by benchmark, distilled and by RL alone: pass@1 with its interval, cons@k, as Table 15
WITH latest AS (
    SELECT * FROM evaluations
    QUALIFY row_number() OVER (PARTITION BY benchmark, model, revision ORDER BY created_at DESC) = 1
)
SELECT benchmark, model, k, n_prompts, round(pass_at_1, 4) AS pass_at_1,
    round(pass_at_1_low, 4) AS low, round(pass_at_1_high, 4) AS high,
    round(cons_at_k, 4) AS cons_at_k, round(mean_completion_tokens) AS tokens,
    round(truncated_fraction, 4) AS truncated, revision
FROM latest WHERE model LIKE 'distilled-%' OR model LIKE 'direct-%' OR model LIKE 'base-%'
ORDER BY benchmark, split_part(model, '-', 2), model, created_at
