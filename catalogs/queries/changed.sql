-- traces whose status differs between two versions of one verifier
SELECT a.verifier, a.version AS before, b.version AS after, a.status AS was, b.status AS is_now,
    count(*) AS n_traces, min(a.trace_id) AS a_trace_id
FROM verdicts AS a JOIN verdicts AS b
    ON a.verifier = b.verifier AND a.verdict_id = b.verdict_id
    AND try_cast(a.version AS INT) < try_cast(b.version AS INT)
WHERE a.status <> b.status
GROUP BY ALL ORDER BY a.verifier, before, after, n_traces DESC
