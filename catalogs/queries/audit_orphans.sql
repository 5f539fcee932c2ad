-- audit: facts that refer to nothing (a trace without its prompt, a verdict without its trace)
SELECT 'trace without prompt' AS problem, trace_id AS key
FROM traces ANTI JOIN prompts USING (prompt_id) ANTI JOIN revoked_prompts USING (prompt_id)
UNION ALL
SELECT 'verdict without trace', verdict_id
FROM verdicts ANTI JOIN traces USING (trace_id) ANTI JOIN revoked_traces USING (trace_id)
UNION ALL
SELECT 'source without prompt', source_id
FROM prompt_sources ANTI JOIN prompts USING (prompt_id) ANTI JOIN revoked_prompts USING (prompt_id)
