-- audit: keys that stand twice (every fact once)
SELECT 'wide' AS relation, trace_id AS key FROM wide GROUP BY trace_id HAVING count(*) > 1
UNION ALL
SELECT 'prompts', prompt_id FROM prompts GROUP BY prompt_id HAVING count(*) > 1
UNION ALL
SELECT 'verdicts', min(verdict_id) FROM verdicts
GROUP BY verifier, version, verdict_id HAVING count(*) > 1
