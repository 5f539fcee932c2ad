-- tokens and seconds per model, in all and per right trace
SELECT model, count(*) AS n_traces,
    count(*) FILTER (status = 'pass') AS n_pass,
    sum(n_prompt_tokens) AS prompt_tokens,
    sum(n_completion_tokens) AS completion_tokens,
    round(sum(n_completion_tokens) / nullif(n_pass, 0), 1) AS tokens_per_pass,
    round(sum(seconds), 1) AS seconds,
    round(sum(seconds) / nullif(n_pass, 0), 2) AS seconds_per_pass
FROM wide GROUP BY model ORDER BY model
