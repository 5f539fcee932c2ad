-- executions, newest first; one without an end was killed or is running
SELECT run_id, kind, started_at, ended_at, is_revoked, results FROM runs ORDER BY run_id DESC
