-- audit: rows of releases that are evaluation (a test split, a benchmark's answers), not asked for by name
WITH rows AS (
    SELECT r.release, r.version, r.trace_id, t.prompt_id, t.run_id, h.universe
    FROM release_rows AS r
    JOIN releases AS h USING (release, version)
    JOIN traces AS t USING (trace_id)
), found AS (
    SELECT release, version, trace_id, 'split ' || s.split AS why
    FROM rows JOIN prompt_sources AS s USING (prompt_id)
    WHERE is_evaluation_split(s.split)
        AND NOT coalesce(list_contains(json_extract_string(universe, '$.splits[*]'), s.split), false)
    UNION
    SELECT release, version, trace_id, 'run of an evaluation ' || runs.run_id
    FROM rows JOIN runs USING (run_id)
    WHERE runs.kind = 'evaluate'
        AND NOT coalesce(list_contains(json_extract_string(universe, '$.runs[*]'), runs.run_id), false)
)
SELECT release, version, why, count(*) AS n_rows, min(trace_id) AS one_of_them
FROM found GROUP BY ALL ORDER BY release, version, why
