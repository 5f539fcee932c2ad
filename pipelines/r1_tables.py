"""Tables of the recipe's results: one seed's, and several seeds side by side with their spread.

A claim is a difference of two models on the same problems, with the margin that it was expected to
reach. Whether it did is computed from the figures, seed by seed, and printed either way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Literal

Triple = Sequence[float | None]
"""Mean, low and high end of the 95 % interval."""
COLUMNS = {
    "pass@1": "pass@1",
    "language_consistency": "language consistency",
    "readability": "readability",
    "format": "format",
    "completion_tokens": "tokens",
}
DIFFERENCES = {
    "pass_rate": "pass@1",
    "language_consistency": "consistency",
    "readability": "readability",
}


@dataclass(frozen=True)
class Claim:
    """An expected difference.

    Attributes:
        title: what it says.
        before, after: labels of models.
        metric: key of ``DIFFERENCES``.
        rule: ``at_least`` the margin on the mean; ``within`` the margin either side of 0;
            ``above``: the whole interval lies over the margin; ``not_below``: the interval does not
            lie under it.
        margin: in the metric's unit.
    """

    title: str
    before: str
    after: str
    metric: str
    rule: Literal["at_least", "within", "above", "not_below"]
    margin: float = 0.0

    def holds(self, found: Triple) -> bool | None:
        """Return whether the difference is as expected; None where it is undefined.

        >>> claim = Claim("gain", "a", "b", "pass_rate", "at_least", 0.3)
        >>> claim.holds([0.31, 0.2, 0.4]), claim.holds([0.29, 0.2, 0.4])
        (True, False)
        """
        value, low, high = found
        if value is None or low is None or high is None:
            return None
        return {
            "at_least": value >= self.margin,
            "within": abs(value) <= self.margin,
            "above": low > self.margin,
            "not_below": high >= self.margin,
        }[self.rule]

    @property
    def expected(self) -> str:
        """The rule in words.

        >>> Claim("coin", "a", "b", "pass_rate", "within", 0.05).expected
        'within 0.050'
        """
        if self.rule == "at_least":
            return f"at least {self.margin:+.3f}"
        if self.rule == "within":
            return f"within {self.margin:.3f}"
        side = "above" if self.rule == "above" else "not below"
        return f"interval {side} {self.margin:.0f}"


def claims(students: Sequence[str]) -> list[Claim]:
    """Return what the recipe is expected to show."""
    zero, lang = "R1-Zero", "R1-Zero + language"
    out = [
        Claim("R1-Zero over its base, no SFT", "base", zero, "pass_rate", "at_least", 0.30),
        Claim("a coin for a reward", "base", "R1-Zero, coin", "pass_rate", "within", 0.05),
        Claim("language reward: consistency", zero, lang, "language_consistency", "at_least", 0.15),
        Claim("cold start over the base", "base", "Dev1", "language_consistency", "above"),
        Claim("cold start over the base", "base", "Dev1", "readability", "above"),
        Claim("cold start over R1-Zero", zero, "Dev1", "language_consistency", "above"),
        Claim("cold start over R1-Zero", zero, "Dev1", "readability", "above"),
        Claim("reasoning RL over the cold start", "Dev1", "Dev2", "pass_rate", "above"),
        Claim("rejection-sampled SFT over the RL teacher", "Dev2", "Dev3", "pass_rate",
              "not_below"),
    ]  # fmt: skip
    for name in students:
        out.append(
            Claim(f"{name}: distillation over direct RL", f"{name} direct RL", f"{name} distilled",
                  "pass_rate", "above")
        )  # fmt: skip
    return out


def pairs_of(students: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of models whose difference is measured: the claims' and the gains."""
    out = list(dict.fromkeys((c.before, c.after) for c in claims(students)))
    for name in students:
        out += [(f"{name} base", f"{name} distilled"), (f"{name} base", f"{name} direct RL")]
    return out


def shown(found: Triple | None, *, signed: bool = False) -> str:
    """Return a mean with its interval.

    >>> shown([0.5, 0.25, 0.75]), shown([0.5, None, None], signed=True), shown(None)
    ('0.500 [0.250, 0.750]', '+0.500', '-')
    """
    if found is None or found[0] is None:
        return "-"
    form = "+.3f" if signed else ".3f"
    ends = "" if found[1] is None else f" [{found[1]:{form}}, {found[2]:{form}}]"
    return f"{found[0]:{form}}{ends}"


def of_seed(results: Mapping[str, Any], students: Sequence[str]) -> list[str]:
    """Return one seed's tables as Markdown."""
    lines = [f"| model | {' | '.join(COLUMNS.values())} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for label, figures in results["models"].items():
        cells = [shown(figures["pass@1"])]
        cells += [_short(figures.get(name)) for name in list(COLUMNS)[1:]]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    lines += [
        "",
        "| difference (paired) | " + " | ".join(DIFFERENCES.values()) + " |",
        "|---|---|---|---|",
    ]
    for key, found in results["differences"].items():
        before, after = key.split(" -> ")
        cells = [shown(found.get(name), signed=True) for name in DIFFERENCES]
        lines.append(f"| {after} over {before} | {' | '.join(cells)} |")
    lines += ["", *claim_lines([results], students)]
    return lines


def _short(found: Triple | None) -> str:
    if found is None or found[0] is None:
        return "-"
    return f"{found[0]:.1f}" if found[0] > 2 else f"{found[0]:.3f}"


def claim_lines(seeds: Sequence[Mapping[str, Any]], students: Sequence[str]) -> list[str]:
    """Return each claim with its figure in every seed and whether it held, as Markdown."""
    names = " | ".join(f"seed {r['seed']}" for r in seeds)
    lines = [f"| expected | {names} | held |", "|---" * (len(seeds) + 2) + "|"]
    for claim in claims(students):
        found = [
            r["differences"].get(f"{claim.before} -> {claim.after}", {}).get(claim.metric)
            for r in seeds
        ]
        held = [claim.holds(f) for f in found if f is not None]
        if not held:
            continue
        cells = " | ".join(shown(f, signed=True) for f in found)
        lines.append(
            f"| {claim.title} ({DIFFERENCES[claim.metric]}): {claim.expected} | {cells} | "
            f"{sum(h is True for h in held)} of {len(held)} |"
        )
    return lines


def over_seeds(seeds: Sequence[Mapping[str, Any]], students: Sequence[str]) -> list[str]:
    """Return the tables over seeds as Markdown: each seed, the mean, and the spread.

    Args:
        seeds: results of each seed, as ``results.json`` holds them.
        students: names of the recipe.

    >>> one = {"seed": 0, "models": {"base": {"pass@1": [0.2, 0.1, 0.3]}}, "differences": {}}
    >>> two = {"seed": 1, "models": {"base": {"pass@1": [0.4, 0.3, 0.5]}}, "differences": {}}
    >>> over_seeds([one, two], [])[2]
    '| base | 0.200 | 0.400 | 0.300 (0.200) | - | - |'
    """
    names = " | ".join(f"pass@1, seed {r['seed']}" for r in seeds)
    lines = [
        f"| model | {names} | mean (spread) | language consistency | readability |",
        "|---" * (len(seeds) + 4) + "|",
    ]
    labels = list(dict.fromkeys(label for r in seeds for label in r["models"]))
    for label in labels:
        rows = [r["models"].get(label) for r in seeds]
        cells = ["-" if r is None else _short(r["pass@1"]) for r in rows]
        cells += [
            _spread([r[name][0] for r in rows if r is not None and r.get(name)])
            for name in ("pass@1", "language_consistency", "readability")
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return [*lines, "", *claim_lines(seeds, students)]


def _spread(values: Sequence[float | None]) -> str:
    known = [v for v in values if v is not None]
    if not known:
        return "-"
    return f"{mean(known):.3f} ({max(known) - min(known):.3f})"


def cost_lines(folders: Sequence[Path]) -> list[str]:
    """Return what the jobs of each seed took, as Markdown."""
    lines = ["| seed's folder | jobs | CPU-s | first start to last end, s |", "|---|---|---|---|"]
    for folder in folders:
        path = folder / "jobs.jsonl"
        if not path.is_file():
            continue
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        wall = max(r["ended"] for r in rows) - min(r["began"] for r in rows)
        cpu = sum(r["cpu_s"] for r in rows)
        lines.append(f"| {folder.name} | {len(rows)} | {cpu:.0f} | {wall:.0f} |")
    return lines
