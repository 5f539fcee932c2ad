-- The fixed tables of the catalog. Key columns hold 32 hexadecimal characters. {…} stands for the
-- columns of the store's table of that name (factory/records/schemas.py), whole texts left out.
-- Beside them: wide (generated, one row per trace) and the views of views.sql.

CREATE TABLE catalog_info (name VARCHAR, value VARCHAR);
COMMENT ON TABLE catalog_info IS 'what this file was built from: store, format, fingerprint';

CREATE TABLE prompts ({prompts});
COMMENT ON TABLE prompts IS 'messages given to a model; key prompt_id; text in prompt_texts';

CREATE TABLE prompt_sources ({prompt_sources});
COMMENT ON TABLE prompt_sources IS
    'where prompts come from and how they are checked; key source_id; whole golds in golds';
COMMENT ON COLUMN prompt_sources.gold_short IS 'the first 200 characters of the gold';

CREATE TABLE samplings ({samplings});
COMMENT ON TABLE samplings IS 'settings that shape sampled text; key sampling_id; fields: all, JSON';

CREATE TABLE failures ({failures});
COMMENT ON TABLE failures IS 'requests that ended without a trace: no facts, tried again';

CREATE TABLE exclusions ({exclusions});
COMMENT ON TABLE exclusions IS 'revoked runs: none of their facts is in this catalog';

CREATE TABLE reviews ({reviews});
COMMENT ON TABLE reviews IS
    'what people said of traces: keep, drop, wrong_verdict, none; the latest is wide.review';

CREATE TABLE trace_places (trace_id VARCHAR, file VARCHAR, row BIGINT);
COMMENT ON TABLE trace_places IS 'where a trace stands: its Parquet file and the row in it, from 0';

CREATE TABLE runs (
    run_id VARCHAR, kind VARCHAR, started_at VARCHAR, ended_at VARCHAR, is_revoked BOOLEAN,
    device_s DOUBLE, details VARCHAR, results VARCHAR
);
COMMENT ON TABLE runs IS 'executions; details and results are JSON; no ended_at: killed or running';
COMMENT ON COLUMN runs.device_s IS
    'seconds × devices that it held: GPUs; of a training on a CPU, processes; NULL: not known';

CREATE TABLE releases (
    release VARCHAR, version VARCHAR, n_rows BIGINT, n_universe BIGINT, created_at VARCHAR,
    is_latest BOOLEAN, universe VARCHAR, parents VARCHAR, recipe VARCHAR, manifest VARCHAR,
    problem VARCHAR
);
COMMENT ON TABLE releases IS
    'versioned datasets; key release and version; universe, parents, recipe, manifest are JSON';
COMMENT ON COLUMN releases.problem IS 'why its files could not be read; NULL where all is well';

CREATE TABLE release_filters (
    release VARCHAR, version VARCHAR, position BIGINT, filter VARCHAR, predicate VARCHAR,
    is_on BOOLEAN, n_in BIGINT, n_dropped_here BIGINT, n_dropped BIGINT, n_dropped_only BIGINT,
    n_undefined BIGINT
);
COMMENT ON TABLE release_filters IS
    'the funnel; n_in, n_dropped_here: in order; n_dropped: of the whole universe; n_dropped_only: by it alone';

CREATE TABLE release_rows (release VARCHAR, version VARCHAR, trace_id VARCHAR);
COMMENT ON TABLE release_rows IS 'the traces of each release';

CREATE TABLE release_decisions (
    release VARCHAR, version VARCHAR, trace_id VARCHAR, is_kept BOOLEAN, dropped_by VARCHAR[],
    undefined_by VARCHAR[]
);
COMMENT ON TABLE release_decisions IS
    'why each trace of a release''s universe was kept or dropped: lists of filter names';

CREATE TABLE wide_columns (
    name VARCHAR, kind VARCHAR, written_by VARCHAR, note VARCHAR, meaning VARCHAR
);
COMMENT ON TABLE wide_columns IS 'columns of wide, what they mean, and who writes them';
