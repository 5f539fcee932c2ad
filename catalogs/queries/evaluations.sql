-- evaluations, newest first: pass@1 with its interval, cons@k, and what is missing or unscored
SELECT benchmark, model, k, n_prompts, n_samples, n_missing, n_unscored,
    round(pass_at_1, 4) AS pass_at_1, round(pass_at_1_low, 4) AS low,
    round(pass_at_1_high, 4) AS high, round(pass_at_1_seed_sd, 4) AS seed_sd,
    round(cons_at_k, 4) AS cons_at_k, round(mean_reward, 4) AS reward,
    round(truncated_fraction, 4) AS truncated, round(mean_completion_tokens) AS tokens,
    n_contaminated, evaluation_id
FROM evaluations ORDER BY created_at DESC, evaluation_id
