"""Which splits are for evaluation: they stay out of training sets unless asked for by name.

Data sets name their splits freely (``test``, ``validation``, ``dev``, ``test_sft``, ``testmini``,
``gsm8k-eval``). A split is one of evaluation when one of its words says so and none says ``train``;
a split of any other name, and no split at all, is material for training.
"""

from __future__ import annotations

import re

_EVALUATION = (
    "(^|[^a-z])(test[a-z]*|valid|validation|val|dev|devel|development|evals?|evaluation"
    "|held|heldout|hold|holdout|bench|benchmark)([^a-z]|$)"
)
_TRAIN = "(^|[^a-z])train(ing)?([^a-z]|$)"


def is_evaluation(split: str | None) -> bool:
    """Tell whether a split is one of evaluation.

    >>> splits = ("train", "test", "testmini", "test_sft", "train_eval", None)
    >>> [split for split in splits if is_evaluation(split)]
    ['test', 'testmini', 'test_sft']
    """
    name = (split or "").lower()
    return bool(re.search(_EVALUATION, name)) and not re.search(_TRAIN, name)


def evaluation_sql(column: str) -> str:
    """Return the same rule as a SQL expression for DuckDB, never NULL.

    Args:
        column: an expression that holds the name of a split.
    """
    name = f"lower({column})"
    return (
        f"coalesce(regexp_matches({name}, '{_EVALUATION}') "
        f"AND NOT regexp_matches({name}, '{_TRAIN}'), false)"
    )
