"""Connected components of many pairs, without a loop per pair."""

from __future__ import annotations

import numpy as np

from factory.sets.words import Ints


def components(label: Ints, left: Ints, right: Ints) -> Ints:
    """Join the pairs (left, right) and return the new labels: each the smallest of its component.

    Args:
        label: shape (N,), label of each node; a label is the number of its smallest node.
        left: nodes, shape (P,).
        right: nodes, shape (P,).

    >>> components(np.arange(6), np.array([1, 4]), np.array([4, 2])).tolist()
    [0, 1, 1, 3, 1, 5]
    """
    if len(left) == 0:
        return label
    parent = label.copy()
    a, b = parent[left], parent[right]
    while True:
        low, high = np.minimum(a, b), np.maximum(a, b)
        differ = low != high
        if not differ.any():
            return parent
        a, b = low[differ], high[differ]
        # Hook the larger root under the smaller, then flatten: every round at least halves
        # the roots that still have a partner.
        np.minimum.at(parent, b, a)
        while True:
            above = parent[parent]
            if np.array_equal(above, parent):
                break
            parent = above
        a, b = parent[a], parent[b]
