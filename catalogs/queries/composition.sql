-- samples, share and mean completion tokens by domain, as Table 5 of DeepSeek-R1 gives them
SELECT coalesce(domain, 'none') AS domain, count(*) AS samples,
    round(count(*) / sum(count(*)) OVER (), 4) AS share,
    round(avg(n_completion_tokens), 1) AS avg_tokens
FROM wide GROUP BY domain ORDER BY samples DESC, domain
