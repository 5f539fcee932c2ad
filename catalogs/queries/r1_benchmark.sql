-- a benchmark over the steps of RL: pass rate with its interval, tokens, and the step that was best
SELECT rl_run, step, n_prompts, k, round(pass_rate, 4) AS pass_rate, round(low, 4) AS low,
    round(high, 4) AS high, round(completion_tokens, 1) AS tokens,
    round(truncated_fraction, 4) AS truncated, is_best
FROM rl_evaluations QUALIFY attempt = max(attempt) OVER (PARTITION BY rl_run, step)
ORDER BY rl_run, step
