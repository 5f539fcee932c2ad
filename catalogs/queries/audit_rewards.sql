-- audit: verdicts whose reward contradicts their status (unscored exactly where it is NULL)
SELECT verifier, version, verdict_id, status, reward FROM verdicts
WHERE (status = 'unscored') <> (reward IS NULL) OR status NOT IN ('pass', 'fail', 'unscored')
    OR reward NOT BETWEEN 0 AND 1 OR isnan(reward)
