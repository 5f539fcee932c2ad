-- what each filter of the latest releases dropped: in its turn, of the whole universe, it alone
SELECT release, version, filter, is_on, n_in, n_dropped_here, n_dropped, n_dropped_only, n_undefined, predicate
FROM release_filters JOIN releases USING (release, version)
WHERE is_latest ORDER BY release, version, position
