-- audit: rows of a release that its own decisions do not keep
SELECT r.release, r.version, r.trace_id, d.is_kept, d.dropped_by
FROM release_rows AS r
JOIN (SELECT DISTINCT release, version FROM release_decisions) USING (release, version)
LEFT JOIN release_decisions AS d USING (release, version, trace_id)
WHERE d.is_kept IS NOT true
