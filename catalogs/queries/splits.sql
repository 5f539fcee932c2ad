-- rows and prompts of every latest release by the split of their prompts, and whether it is evaluation
SELECT r.release, r.version, coalesce(w.split, 'none') AS split, count(*) AS n_rows,
    count(DISTINCT w.prompt_id) AS n_prompts, is_evaluation_split(w.split) AS is_evaluation
FROM release_rows AS r JOIN releases AS h USING (release, version) JOIN wide AS w USING (trace_id)
WHERE h.is_latest
GROUP BY r.release, r.version, w.split ORDER BY r.release, r.version, n_rows DESC, split
