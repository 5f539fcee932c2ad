-- prompts, traces and verdicts by stage and domain: sampled, paid in RL, kept in releases
WITH paid AS (
    SELECT 'RL' AS stage, model AS name, coalesce(domain, 'none') AS domain, last.prompt_id, last.status
    FROM rollouts AS last JOIN wide USING (trace_id) WHERE is_used
), sampled AS (
    SELECT 'sampled' AS stage, model AS name, coalesce(domain, 'none') AS domain, prompt_id, status
    FROM wide WHERE NOT is_evaluation_split(coalesce(split, ''))
    AND trace_id NOT IN (SELECT trace_id FROM rollouts)
), kept AS (
    SELECT 'kept' AS stage, release AS name, coalesce(domain, 'none') AS domain, prompt_id, status
    FROM release_rows JOIN releases USING (release, version) JOIN wide USING (trace_id)
    WHERE is_latest
)
SELECT stage, name, domain, count(DISTINCT prompt_id) AS n_prompts, count(*) AS n_traces,
    count(*) FILTER (status = 'pass') AS n_pass, count(*) FILTER (status = 'fail') AS n_fail,
    count(*) FILTER (status = 'unscored' OR status IS NULL) AS n_unscored
FROM (FROM sampled UNION ALL FROM paid UNION ALL FROM kept)
GROUP BY ALL ORDER BY name, stage DESC, domain
