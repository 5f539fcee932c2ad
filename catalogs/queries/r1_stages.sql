-- pass@1 by benchmark of each stage's model, as Table 3 of DeepSeek-R1; mean where there are several seeds
WITH latest AS (
    SELECT * FROM evaluations
    QUALIFY row_number() OVER (PARTITION BY benchmark, model, revision ORDER BY created_at DESC) = 1
)
SELECT benchmark,
    round(avg(pass_at_1) FILTER (model = 'zero'), 4) AS r1_zero,
    round(avg(pass_at_1) FILTER (model = 'dev1'), 4) AS dev1,
    round(avg(pass_at_1) FILTER (model = 'dev2'), 4) AS dev2,
    round(avg(pass_at_1) FILTER (model = 'dev3'), 4) AS dev3,
    round(avg(pass_at_1) FILTER (model = 'r1'), 4) AS r1,
    max(n_prompts) AS n_prompts, max(k) AS k, count(DISTINCT revision) AS n_models
FROM latest WHERE model IN ('zero', 'dev1', 'dev2', 'dev3', 'r1')
GROUP BY benchmark ORDER BY benchmark
