-- audit: releases that differ from their manifest or hold traces that the store does not have
WITH held AS (
    SELECT release, version, count(*) AS n, count(DISTINCT trace_id) AS n_distinct,
        count(*) FILTER (trace_id NOT IN (SELECT trace_id FROM wide)) AS n_unknown
    FROM release_rows GROUP BY release, version
)
SELECT release, version, n_rows, coalesce(n, 0) AS n_found, n_distinct, n_unknown, problem
FROM releases LEFT JOIN held USING (release, version)
WHERE problem IS NOT NULL OR n_rows <> coalesce(n, 0) OR n_distinct <> n OR n_unknown > 0
