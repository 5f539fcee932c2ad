-- releases with their size, and what they cost: completion tokens of the universe per kept trace
WITH spent AS (
    SELECT release, version, sum(n_completion_tokens) AS tokens
    FROM release_decisions JOIN wide USING (trace_id) GROUP BY release, version
)
SELECT release, version, created_at, is_latest, n_rows, n_universe,
    round(tokens / nullif(n_rows, 0), 1) AS tokens_per_kept, parents, problem
FROM releases LEFT JOIN spent USING (release, version) ORDER BY release, created_at
