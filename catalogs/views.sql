-- Views. {traces}, {prompts}, {prompt_sources} and {verdicts} stand for the store's Parquet files,
-- named one by one by absolute path (any client opens them from any folder), revoked runs left out.
-- Every score's table ("scores.length@1") and any further table of the store is such a view too.

COMMENT ON TABLE wide IS 'one row per trace: its source, verdicts and scores; see wide_columns';
COMMENT ON COLUMN wide.status IS 'pass | fail | unscored, by the verifier that the source names';
COMMENT ON COLUMN wide.text_hash IS 'hash of prefill + completion: equal texts, equal hash';
COMMENT ON COLUMN wide.seconds IS 'wall seconds of the request';
COMMENT ON COLUMN wide.n_sources IS 'sources of the prompt; the one shown is chosen by a fixed rule';

CREATE VIEW traces AS SELECT {trace_columns} FROM wide;
COMMENT ON VIEW traces IS 'one completion each and how it was made; key trace_id; text: trace_texts';

CREATE VIEW verdicts AS SELECT * FROM {verdicts};
COMMENT ON VIEW verdicts IS
    'every verdict of every version; key: verifier, version, verdict_id';

CREATE VIEW trace_texts AS SELECT trace_id, prompt_id, prefill, completion FROM {traces};
COMMENT ON VIEW trace_texts IS 'completions, by trace_id; the model wrote what follows the prefill';

CREATE VIEW prompt_texts AS SELECT prompt_id, text, messages FROM {prompts};
COMMENT ON VIEW prompt_texts IS 'prompts, by prompt_id; text: the last user message; messages: JSON';

CREATE VIEW golds AS SELECT source_id, prompt_id, gold FROM {prompt_sources};
COMMENT ON VIEW golds IS 'whole answer keys, by source_id';

CREATE VIEW release_texts AS
SELECT release, version, trace_id, prompt_id, p.text AS prompt, t.prefill, t.completion
FROM release_rows JOIN trace_texts t USING (trace_id) JOIN prompt_texts p USING (prompt_id);
COMMENT ON VIEW release_texts IS 'rows of releases with their prompt and completion';

CREATE VIEW release_parents AS
SELECT release, version, unnest(from_json(parents, '["VARCHAR"]')) AS parent FROM releases;
COMMENT ON VIEW release_parents IS
    'lineage: the releases (name/version) and models that a release came from, one a row';

CREATE VIEW funnel AS
SELECT f.* FROM release_filters f JOIN releases USING (release, version) WHERE is_latest;
COMMENT ON VIEW funnel IS 'release_filters of the latest version of each release';

CREATE VIEW evaluation_texts AS
SELECT e.benchmark, e.model, s.*, p.text AS prompt, t.prefill, t.completion
FROM evaluation_samples s
JOIN evaluations e USING (evaluation_id)
LEFT JOIN trace_texts t ON t.trace_id = s.trace_id
LEFT JOIN prompt_texts p ON p.prompt_id = s.prompt_id;
COMMENT ON VIEW evaluation_texts IS
    'samples of evaluations with benchmark, model, prompt and completion; NULL: not made';

CREATE VIEW revoked_traces AS
SELECT trace_id, prompt_id FROM {all_traces}
WHERE run_id IN (SELECT excluded_run_id FROM exclusions);
COMMENT ON VIEW revoked_traces IS 'traces of revoked runs, which no other relation holds';

CREATE VIEW revoked_prompts AS
SELECT prompt_id FROM {all_prompts} WHERE run_id IN (SELECT excluded_run_id FROM exclusions);
COMMENT ON VIEW revoked_prompts IS 'prompts of revoked runs, which no other relation holds';

-- Unbiased pass@k (Chen et al. 2021, eq. 1) of one prompt: n samples, c of them right; NULL: n < k.
CREATE MACRO pass_at_k(n, c, k) AS CASE
    WHEN n < k THEN NULL
    WHEN n - c < k THEN 1.0
    ELSE 1.0 - exp(lgamma(n - c + 1) + lgamma(n - k + 1) - lgamma(n - c - k + 1) - lgamma(n + 1))
END;

-- Whether a split is one of evaluation by its name (test, validation, dev …): factory.sets.splits.
CREATE MACRO is_evaluation_split(split) AS {evaluation_split};
