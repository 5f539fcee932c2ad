"""Mixtures: a dataset's shares per domain brought to a target; R1's Table 5 as a preset."""

from __future__ import annotations

import math
from collections.abc import Mapping

import polars as pl

from factory.errors import UsageError
from factory.sets.caps import _mask

R1_TABLE_5: Mapping[str, tuple[int, float]] = {
    "math": (395_285, 6094.2),
    "code": (211_129, 7435.7),
    "stem": (10_124, 4928.8),
    "logic": (10_395, 2739.0),
    "general": (177_812, 1419.8),
}
"""Domain → (samples, average tokens) of the 800k set (DeepSeek-R1 v2, Table 5)."""


def r1_shares() -> dict[str, float]:
    """Return Table 5's shares of samples.

    >>> round(r1_shares()["math"], 4)
    0.4912
    """
    total = sum(n for n, _ in R1_TABLE_5.values())
    return {domain: n / total for domain, (n, _) in R1_TABLE_5.items()}


def quotas(
    available: Mapping[str, int], shares: Mapping[str, float], *, total: int | None = None
) -> dict[str, int]:
    """Return how many rows to take of each domain, by largest remainders.

    Args:
        available: domain → rows there are.
        shares: domain → target share; scaled to sum 1. Domains not named are left out.
        total: rows wanted; None takes the most that the scarcest domain allows.

    Raises:
        UsageError: no share is positive, or a domain has fewer rows than ``total`` asks for.

    >>> quotas({"math": 100, "code": 10}, {"math": 3, "code": 1})
    {'math': 30, 'code': 10}
    """
    whole = sum(shares.values())
    if whole <= 0 or any(s < 0 or not math.isfinite(s) for s in shares.values()):
        raise UsageError("the shares of a mixture must be >= 0 and not all 0")
    wanted = {domain: share / whole for domain, share in shares.items()}
    reach = min(available.get(d, 0) / s for d, s in wanted.items() if s > 0)
    size = math.floor(reach + 1e-9) if total is None else total
    exact = {d: s * size for d, s in wanted.items()}
    out = {d: math.floor(x + 1e-9) for d, x in exact.items()}
    rest = sorted(exact, key=lambda d: (out[d] - exact[d], d))
    for domain in rest[: size - sum(out.values())]:
        out[domain] += 1
    if total is None:
        return {d: min(n, available.get(d, 0)) for d, n in out.items()}
    short = {d: n for d, n in out.items() if n > available.get(d, 0)}
    if short:
        detail = ", ".join(f"{d} {available.get(d, 0)} of {n}" for d, n in short.items())
        raise UsageError(f"too few rows for {total}: {detail}", f"at most {math.floor(reach)}")
    return out


def mixture(
    df: pl.DataFrame,
    shares: Mapping[str, float],
    *,
    by: str = "domain",
    total: int | None = None,
    key: str = "trace_id",
    seed: int = 0,
    among: pl.Series | None = None,
) -> pl.Series:
    """Choose rows so that the domains have the target shares.

    Rows are drawn by the hash of their key and the seed: the same rows give the same choice in
    any order, and a smaller total takes a part of what a larger one takes.

    Args:
        df: rows.
        shares: domain → target share (``r1_shares()``).
        by: column of the domain.
        total: rows wanted; None takes as many as the shares allow.
        key: column that is hashed.
        seed: another draw.
        among: Boolean, one per row: rows that may be taken.

    Returns:
        Boolean ``keep``, one per row in order.

    Raises:
        UsageError: a column is missing, or there are too few rows.

    >>> frame = pl.DataFrame({"trace_id": list("abcdef"), "domain": ["m", "m", "m", "m", "c", "c"]})
    >>> keep = mixture(frame, {"m": 0.5, "c": 0.5})
    >>> frame.filter(keep)["domain"].value_counts().sort("domain").rows()
    [('c', 2), ('m', 2)]
    """
    for name in (by, key):
        if name not in df.columns:
            raise UsageError(f"no column {name!r}", f"it has {', '.join(df.columns)}")
    rows = df.select(by, key).with_row_index("__row")
    if among is not None:
        rows = rows.filter(among.fill_null(False))
    counts = dict(rows.group_by(by).len().iter_rows())
    quota = quotas({str(d): n for d, n in counts.items()}, shares, total=total)
    order = rows.with_columns(pl.Series("__draw", draws(rows[key], seed), dtype=pl.UInt64))
    order = order.sort("__draw", key, "__row")
    limit = pl.col(by).replace_strict(quota, default=0, return_dtype=pl.Int64)
    kept = order.filter(pl.int_range(pl.len()).over(by) < limit)["__row"]
    return _mask(df.height, kept)


def draws(keys: pl.Series, seed: int) -> list[int]:
    """Return a number for each key: the same for the same key and seed, in any set and order.

    >>> draws(pl.Series(["a", "b"]), 0)[1] == draws(pl.Series(["b"]), 0)[0]
    True
    """
    # Not Polars' own hash, which may change from one version to the next.
    import hashlib

    salt = str(seed).encode()
    return [
        int.from_bytes(hashlib.blake2b(str(k).encode(), digest_size=8, key=salt).digest(), "big")
        for k in keys.to_list()
    ]
