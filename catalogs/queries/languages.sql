-- language of completions by language of the prompt, with mean consistency (needs the score language)
SELECT model, prompt_language, lang, count(*) AS n_traces,
    round(avg(language_consistency), 4) AS language_consistency
FROM wide GROUP BY model, prompt_language, lang ORDER BY model, n_traces DESC, lang
