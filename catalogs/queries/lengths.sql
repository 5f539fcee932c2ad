-- completion tokens by model and status: quantiles, and how many were cut at the limit
SELECT model, status, count(n_completion_tokens) AS n_traces,
    round(avg(n_completion_tokens), 1) AS mean,
    quantile_disc(n_completion_tokens, 0.5) AS median,
    quantile_disc(n_completion_tokens, 0.9) AS q90,
    max(n_completion_tokens) AS longest,
    count(*) FILTER (finish_reason = 'length') AS n_truncated
FROM wide GROUP BY model, status ORDER BY model, status
