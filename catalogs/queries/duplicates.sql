-- traces of the same prompt with exactly the same text, most copies first
SELECT source, item, model, count(*) AS n_copies, min(trace_id) AS a_trace_id
FROM wide GROUP BY prompt_id, source, item, model, text_hash HAVING count(*) > 1
ORDER BY n_copies DESC, source, item, model
