-- requests that ended without a trace, by kind
SELECT kind, count(*) AS n_failures, count(DISTINCT trace_id) AS n_requests,
    max(attempt) AS most_attempts, max(message) AS a_message
FROM failures GROUP BY kind ORDER BY n_failures DESC, kind
