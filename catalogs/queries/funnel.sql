-- what each filter of the latest releases dropped, alone and with others
SELECT release, version, filter, is_on, n_in, n_dropped, n_dropped_only, n_undefined, predicate
FROM release_filters JOIN releases USING (release, version)
WHERE is_latest ORDER BY release, version, position
