-- verdicts by version of each verifier: what a new version changed in all
SELECT verifier, version, count(*) AS n_verdicts,
    count(*) FILTER (status = 'pass') AS n_pass,
    count(*) FILTER (status = 'fail') AS n_fail,
    count(*) FILTER (status = 'unscored') AS n_unscored
FROM verdicts GROUP BY verifier, version ORDER BY verifier, try_cast(version AS INT)
