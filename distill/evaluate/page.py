"""The result page of evaluations: one HTML file, nothing fetched, a query behind every number."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from distill.evaluate.queries import query
from distill.evaluate.results import Evaluation
from factory.metrics import Interval

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root {{ color-scheme: light dark; --bar: #2166ac; --line: #8884; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 0 auto; padding: 24px; }}
table {{ border-collapse: collapse; width: 100%; margin: 8px 0 24px; }}
td, th {{ border-bottom: 1px solid var(--line); padding: 5px 12px 5px 0; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }}
.n {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
.bar {{ background: var(--bar); height: 10px; display: inline-block; }}
summary {{ cursor: pointer; color: #777; }}
pre {{ white-space: pre-wrap; font-size: 12px; margin: 4px 0; }}
</style></head><body>
"""
_NOTES = {
    "pass@1": "mean over prompts of the share of right samples",
    "cons@k": "majority of k answers is right; ties share the point",
    "reward": "mean of the verifier's reward (F1 where it is graded)",
    "truncated": "share of samples cut at the limit of tokens",
    "pass@1 uncontaminated": "over the problems that the training data do not hold",
}


def page(found: Sequence[Evaluation]) -> str:
    """Return the page of one or more evaluations.

    Args:
        found: each with its samples.
    """
    title = ", ".join(dict.fromkeys(f"{e.benchmark}: {e.model}" for e in found))
    return _HEAD.format(title=html.escape(title)) + "".join(
        part for e in found for part in _sections(e)
    ) + "</body></html>\n"  # fmt: skip


def _sections(e: Evaluation) -> Iterator[str]:
    yield f"<h1>{html.escape(e.benchmark)}: {html.escape(e.model)}</h1>"
    yield (
        f"<p>{e.per_prompt.height} prompts × k={e.k} = {e.n_samples} samples; "
        f"{e.n_unscored} unscored, {e.n_missing} missing. Revision "
        f"{html.escape(e.revision[:16])}, evaluation {e.evaluation_id}.</p>"
    )
    if e.trained_on is not None:
        said = html.escape(e.trained_on.line(e.per_prompt.height))
        yield f"<p><b>Contamination:</b> {said}.</p>"
    yield "<table><tr><th>figure</th><th class=n>mean</th><th class=n>95 % over prompts</th>"
    yield "<th>what, and its query</th></tr>"
    for name, interval in e.metrics.items():
        yield _figure(e, name, interval, _NOTES.get(name, "mean over prompts"))
    if e.seeds is not None:
        apart = "" if e.seed_sd is None else f"; a single run lies {e.seed_sd:.4f} (sd) from it"
        yield _figure(e, "seeds", e.seeds, f"pass@1 as a mean of k runs{apart}")
    for k, value in e.pass_at.items():
        yield _figure(
            e, f"pass@{k}", Interval(value, None, None, 0, 0), "unbiased", key=f"pass@{k}"
        )
    prompt, completion = e.n_tokens
    money = "" if e.cost is None else f"; they cost {e.cost:,.2f}"
    yield f"</table><p>{prompt:,} tokens of prompts, {completion:,} of answers{money}.</p>"
    yield from _gaps(e)
    yield from _prompts(e)


def _figure(e: Evaluation, name: str, found: Interval, note: str, key: str | None = None) -> str:
    sql = query(key or name, evaluation_id=e.evaluation_id, k=e.k)
    label = f"{name} (unbiased)" if key else name
    ends = "" if found.low is None else f"{found.low:.4g} – {found.high:.4g}"
    mean = "undefined" if found.mean is None else f"{found.mean:.4g}"
    return (
        f"<tr><td>{html.escape(label)}</td><td class=n>{mean}</td><td class=n>{ends}</td>"
        f"<td>{html.escape(note)}<details><summary>SQL</summary><pre>{html.escape(sql)}</pre>"
        "</details></td></tr>"
    )


def _gaps(e: Evaluation) -> Iterator[str]:
    if not e.gaps:
        return
    yield "<h2>Missing and unscored</h2><table><tr><th>what</th><th>why</th><th class=n>n</th></tr>"
    for (status, reason), n in sorted(e.gaps.items()):
        yield f"<tr><td>{status}</td><td>{html.escape(reason)}</td><td class=n>{n}</td></tr>"
    yield "</table><table><tr><th>item</th><th>sample</th><th>what</th><th>why</th></tr>"
    left = [s for s in e.samples if s["status"] in ("missing", "unscored")][:200]
    for s in left:
        yield (
            f"<tr><td>{html.escape(str(s['item']))}</td><td>{s['sample_index']}</td>"
            f"<td>{s['status']}</td><td>{html.escape(str(s['reason'] or ''))}</td></tr>"
        )
    yield "</table>"


def _prompts(e: Evaluation) -> Iterator[str]:
    items = {s["prompt_id"]: str(s["item"]) for s in e.samples}
    hit = frozenset() if e.trained_on is None else e.trained_on.prompts
    yield "<h2>Problems</h2><table><tr><th>item</th><th>pass rate</th><th class=n>right</th>"
    yield "<th class=n>tokens</th><th>note</th></tr>"
    for row in e.per_prompt.sort("pass_rate", nulls_last=True).iter_rows(named=True):
        rate = row["pass_rate"]
        bar = "" if rate is None else f'<span class=bar style="width:{120 * rate:.0f}px"></span>'
        tokens = row["completion_tokens"]
        notes = "in the training data" if row["prompt_id"] in hit else ""
        yield (
            f"<tr><td>{html.escape(items.get(row['prompt_id'], ''))}</td><td>{bar}</td>"
            f"<td class=n>{row['n_pass']} of {row['n'] - row['n_unscored']}</td>"
            f"<td class=n>{'' if tokens is None else f'{tokens:,.0f}'}</td><td>{notes}</td></tr>"
        )
    yield "</table>"
