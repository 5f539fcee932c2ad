-- audit: prompts with golds that differ, of one verifier (correct one by importing it again)
SELECT prompt_id, verifier, count(DISTINCT gold_hash) AS n_golds,
    list(DISTINCT gold_short) AS golds, list(DISTINCT source || ' ' || item) AS sources
FROM prompt_sources WHERE gold_hash IS NOT NULL
GROUP BY prompt_id, verifier HAVING count(DISTINCT gold_hash) > 1
