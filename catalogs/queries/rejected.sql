-- why traces failed or could not be scored, by source, model and reason
SELECT source, model, status, reason, count(*) AS n_traces,
    round(count(*) / sum(count(*)) OVER (PARTITION BY source, model), 4) AS fraction_of_rejected
FROM wide WHERE status IN ('fail', 'unscored')
GROUP BY source, model, status, reason ORDER BY n_traces DESC, source, model, reason
