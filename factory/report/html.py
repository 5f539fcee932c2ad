"""The HTML form of a report: one file, no script, nothing fetched; bars are inline SVG.

Every text of a model, a prompt or a recipe is escaped; a content security policy in the page
forbids scripts and requests, should an escape ever be missed.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

from factory.report.data import Histogram, Rate, ReportData, Sample
from factory.rows.answers import Answer

SHOWN_CHARS = 8000
_CSP = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --bg: #fff; --text: #1c2430; --soft: #5b6675; --line: #dfe4ea;
  --panel: #f6f8fa; --kept: #2166ac; --all: #b8c2cf; --drop: #c2571a; --only: #7f2f06;
  --good: #1a7f4b; }
@media (prefers-color-scheme: dark) { :root { --bg: #14181e; --text: #e3e8ee; --soft: #98a4b3;
  --line: #2d3640; --panel: #1c222a; --kept: #6cabe6; --all: #465262; --drop: #e08a4f;
  --only: #ffc49b; --good: #5cc491; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 40px 0 4px; padding-top: 16px; border-top: 1px solid var(--line); }
p { margin: 4px 0 12px; }
.soft, caption, .axis { color: var(--soft); font-size: 13px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin: 20px 0 0; }
.tile { background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  padding: 10px 14px; }
.tile b { display: block; font-size: 22px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; margin: 8px 0 4px; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 13px;
  border-bottom: 1px solid var(--line); padding: 6px 10px 6px 0; white-space: nowrap; }
td { border-bottom: 1px solid var(--line); padding: 6px 10px 6px 0; vertical-align: middle; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.bar { width: 26%; min-width: 140px; }
tr.off td { color: var(--soft); }
tr.sum td { font-weight: 600; }
code { font: 12.5px/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
svg { display: block; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
.kept { fill: var(--kept); } .all { fill: var(--all); } .drop { fill: var(--drop); }
.only { fill: var(--only); } .good { fill: var(--good); }
.whisker { stroke: var(--text); stroke-width: 1.5; }
.base { stroke: var(--line); }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin: 0 5px 0 14px; }
.key:first-child { margin-left: 0; }
details { background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  margin: 10px 0; padding: 0 14px; }
summary { cursor: pointer; padding: 10px 0; font-weight: 600; }
summary span { font-weight: 400; color: var(--soft); font-size: 13px; margin-left: 8px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext; margin: 0 0 14px;
  font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Noto Sans Mono CJK SC", monospace; }
.gap { color: var(--drop); font-style: italic; }
.warn { border-left: 4px solid var(--drop); padding: 6px 12px; background: var(--panel); }
@media print { details { break-inside: avoid; } }
"""


def page(data: ReportData) -> str:
    """Return the whole page."""
    title = f"{data.name}/{data.version}"
    sections = [
        _section("Funnel", _funnel(data)),
        _section(
            "What it is made of",
            _table(data.makeup, bar=("n_kept", "n_universe", "kept", "kept ÷ universe")),
        ),
        _section(
            "Splits", _table(data.splits, bar=("n_kept", "n_universe", "kept", "kept ÷ universe"))
        ),
        _section("To know before training on it", _remarks(data.remarks)),
        _section("Lengths", _lengths(data)),
        _section("Languages", _languages(data)),
        _section("Pass rates", _rates(data.rates)),
        _section("Coverage by pass rate", _coverage(data.coverage)),
        _section(
            "Why traces were rejected", _table(data.rejected, bar=("n_traces", None, "drop", ""))
        ),
        _section("Cost", _cost(data.cost)),
        _section("Sample traces", "".join(_sample(s) for s in data.samples)),
        _section("Where it comes from", _provenance(data)),
    ]
    problem = f'<p class="warn">{escape(data.problem)}</p>' if data.problem else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_CSP}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<p class="soft">Release report</p><h1>{escape(title)}</h1>'
        f'<p class="soft">{escape(data.created_at or "")}</p>{problem}'
        f"{_tiles(data)}\n{''.join(sections)}</main>\n</body>\n</html>\n"
    )


def escape(text: str) -> str:
    r"""Return text safe inside an element or a quoted attribute; control characters are shown.

    >>> escape('<b onclick="x">\x1b')
    '&lt;b onclick=&quot;x&quot;&gt;␛'
    """
    shown = "".join(chr(0x2400 + ord(c)) if ord(c) < 32 and c not in "\n\t" else c for c in text)
    return html.escape(shown.replace("\x7f", "␡"), quote=True)


def number(value: Any) -> str:
    """Return a value as a reader wants it; None is a dash.

    >>> number(1234567), number(0.25), number(None)
    ('1,234,567', '0.25', '–')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"
    return str(value)


def percent(value: float | None) -> str:
    """Return a fraction as a percentage; None is a dash.

    >>> percent(0.1234), percent(None)
    ('12.3 %', '–')
    """
    return "–" if value is None else f"{100 * value:.1f} %"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n" if body else ""


def _tiles(data: ReportData) -> str:
    t = data.totals
    pairs = [
        (number(t["n_kept"]), f"kept of {number(t['n_universe'])} traces"),
        (number(t["n_prompts_kept"]), f"prompts of {number(t['n_prompts'])}"),
        (percent(t["pass_rate"]), f"pass rate over {number(t['n_scored'])} scored"),
        (number(t["tokens_per_kept"]), "tokens made per kept trace"),
        (number(t["n_unscored"] + t["n_unverified"]), "without a verdict"),
        (number(t["n_duplicates"]), "exact duplicates in the universe"),
    ]
    tiles = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(what)}</span></div>'
        for value, what in pairs
    )
    return f'<div class="tiles">{tiles}</div>'


def _bar(parts: Sequence[tuple[float, str]]) -> str:
    """Return a bar of parts, each a fraction of the full width with its class."""
    at, rects = 0.0, ""
    for fraction, kind in parts:
        w = max(0.0, min(fraction, 1.0 - at))
        rects += f'<rect class="{kind}" x="{at:.2%}" width="{w:.2%}" height="12" rx="1"/>'
        at += w
    return (
        '<svg width="100%" height="12" aria-hidden="true">'
        f'<line class="base" x1="0" y1="11.5" x2="100%" y2="11.5"/>{rects}</svg>'
    )


def _legend(*entries: tuple[str, str]) -> str:
    keys = "".join(
        f'<span class="key" style="background:var(--{kind})"></span>{escape(text)}'
        for kind, text in entries
    )
    return f'<p class="soft">{keys}</p>'


def _rows(heads: Sequence[tuple[str, str]], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return a table: heads are (text, class), rows are (class, cells as HTML)."""
    head = "".join(f'<th class="{kind}">{escape(text)}</th>' for text, kind in heads)
    body = "".join(
        f'<tr class="{row_kind}">'
        + "".join(
            f'<td class="{kind}">{cell}</td>' for (_, kind), cell in zip(heads, cells, strict=True)
        )
        + "</tr>"
        for row_kind, cells in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _funnel(data: ReportData) -> str:
    heads = [("filter", ""), ("", "bar"), ("in", "n"), ("dropped here", "n"),
             ("dropped in all", "n"), ("only by this", "n"), ("undefined", "n"),
             ("predicate", "")]  # fmt: skip
    rows = []
    for f in data.funnel:
        whole = max(1, data.totals["n_universe"])
        only, dropped = f["n_dropped_only"] or 0, f["n_dropped"] or 0
        bar = _bar([(only / whole, "only"), (max(0, dropped - only) / whole, "drop")])
        name = escape(f["filter"]) + ("" if f["is_on"] else " <span class='soft'>(off)</span>")
        counts = [
            number(f[c])
            for c in ("n_in", "n_dropped_here", "n_dropped", "n_dropped_only", "n_undefined")
        ]
        predicate = f"<code>{escape(f['predicate'] or '')}</code>"
        rows.append(("" if f["is_on"] else "off", [name, bar, *counts, predicate]))
    t = data.totals
    kept = _bar([(t["n_kept"] / max(1, t["n_universe"]), "kept")])
    share = f"{number(t['n_kept'])} traces kept"
    rows.append(("sum", ["kept", kept, number(t["n_universe"]), "", "", "", "", escape(share)]))
    return (
        "<p class='soft'>Every filter sees every trace, so one trace may be dropped by several: "
        "<i>dropped here</i> counts those that came through the filters above, <i>in all</i> is "
        "of the whole universe, as are the bars. "
        "Undefined (NULL) does not keep a trace and is counted in dropped.</p>"
        + _legend(
            ("only", "dropped by this filter alone"),
            ("drop", "dropped, by others too"),
            ("kept", "kept"),
        )
        + _rows(heads, rows)
    )


def _table(answer: Answer, bar: tuple[str, str | None, str, str] | None = None) -> str:
    """Return an answer as a table, with a bar of one column over another (or its largest value).

    ``bar``: column, column that is the whole or None, class, heading.
    """
    if not answer.rows:
        return "<p class='soft'>None.</p>"
    note = f"<p class='soft'>{escape(answer.note)}</p>" if answer.note else ""
    kinds = ["n" if _numeric(answer, i) else "" for i in range(len(answer.columns))]
    heads = [(c.replace("_", " "), k) for c, k in zip(answer.columns, kinds, strict=True)]
    if bar:
        heads.append((bar[3], "bar"))
    largest = max((row[bar[0]] or 0 for row in answer.dicts()), default=0) if bar else 0
    rows = []
    for row in answer.dicts():
        cells = [escape(number(v)) for v in row.values()]
        if bar:
            whole = row[bar[1]] if bar[1] else largest
            cells.append(_bar([((row[bar[0]] or 0) / max(1, whole), bar[2])]))
        rows.append(("", cells))
    return note + _rows(heads, rows)


def _numeric(answer: Answer, column: int) -> bool:
    values = [row[column] for row in answer.rows if row[column] is not None]
    return all(isinstance(v, int | float) for v in values) and bool(values)


def _remarks(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def _lengths(data: ReportData) -> str:
    if data.lengths is None or data.quantiles is None:
        return "<p class='soft'>Not measured: no token counts and no score of lengths.</p>"
    h = data.lengths
    return (
        _legend(("all", f"all traces, by {h.unit}"), ("kept", "kept"))
        + _histogram(h)
        + _table(data.quantiles)
    )


def _histogram(h: Histogram) -> str:
    width, height, left = 960.0, 170.0, 4.0
    top = max(1, *h.n_all)
    step = (width - 2 * left) / len(h.edges)
    parts = []
    for i, (n, kept) in enumerate(zip(h.n_all, h.n_kept, strict=True)):
        last = i == len(h.edges) - 1
        label = f"{h.edges[i]:,} {'and more' if last else f'to {h.edges[i] + h.step - 1:,}'}"
        tip = f"<title>{label} {h.unit}: {n:,} traces, {kept:,} kept</title>"
        for count, kind in ((n, "all"), (kept, "kept")):
            tall = (height - 30) * count / top
            if count:
                parts.append(
                    f'<rect class="{kind}" x="{left + i * step + 1:.1f}" '
                    f'y="{height - 22 - tall:.1f}" width="{step - 2:.1f}" '
                    f'height="{max(tall, 1):.1f}">{tip}</rect>'
                )
        if i % max(1, len(h.edges) // 8) == 0:
            parts.append(f'<text x="{left + i * step:.1f}" y="{height - 6}">{h.edges[i]:,}</text>')
    base = f'<line class="base" x1="0" x2="{width}" y1="{height - 22}" y2="{height - 22}"/>'
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="100%" role="img" '
        f'aria-label="histogram of {h.unit}">{base}{"".join(parts)}'
        f'<text x="{width - left}" y="12" text-anchor="end">tallest bar: {top:,} traces</text>'
        "</svg>"
    )


def _languages(data: ReportData) -> str:
    if data.languages is None:
        return "<p class='soft'>Not measured: the score <code>language</code> has not run.</p>"
    return _table(data.languages, bar=("n_kept", "n_universe", "kept", "kept ÷ universe"))


def _rates(rates: Sequence[Rate]) -> str:
    heads = [("source", ""), ("model", ""), ("prompts", "n"), ("traces", "n"), ("scored", "n"),
             ("pass rate", "n"), ("95 % interval", "n"), ("", "bar")]  # fmt: skip
    rows = []
    for r in rates:
        i = r.interval
        ends = f"{percent(i.low)} … {percent(i.high)}" if i.low is not None else "–"
        texts = [r.source, r.model, number(i.n + i.n_undefined), number(r.n_traces)]
        texts += [number(r.n_scored), percent(i.mean), ends]
        rows.append(("", [*(escape(t) for t in texts), _whisker(r)]))
    return (
        "<p class='soft'>Mean over prompts of passes ÷ scored; the interval resamples prompts. "
        "Unscored traces do not count, prompts without a scored trace are left out.</p>"
        + _rows(heads, rows)
    )


def _whisker(rate: Rate) -> str:
    i = rate.interval
    if i.mean is None:
        return ""
    line = ""
    if i.low is not None and i.high is not None:
        line = f'<line class="whisker" x1="{i.low:.2%}" x2="{i.high:.2%}" y1="6" y2="6"/>'
    return (
        '<svg width="100%" height="12" aria-hidden="true">'
        '<line class="base" x1="0" y1="11.5" x2="100%" y2="11.5"/>'
        f'<rect class="good" width="{i.mean:.2%}" height="12" rx="1"/>{line}</svg>'
    )


def _coverage(answer: Answer) -> str:
    return (
        "<p class='soft'>Prompts by the share of their scored traces that passed, and how many of "
        "them have a kept trace.</p>"
        + _table(answer, bar=("n_prompts_kept", "n_prompts", "kept", "prompts with a kept trace"))
    )


def _cost(answer: Answer) -> str:
    return (
        "<p class='soft'>Of all traces that the release looked at, dropped ones included. Seconds "
        "are those of the requests, which run side by side.</p>" + _table(answer)
    )


def _sample(sample: Sample) -> str:
    text = sample.text
    cut = ""
    if len(text) > SHOWN_CHARS:
        left = len(text) - SHOWN_CHARS
        head, tail = text[: SHOWN_CHARS * 3 // 4], text[-SHOWN_CHARS // 4 :]
        cut = f'<span class="gap">\n… {left:,} characters left out …\n</span>'
        body = f"{escape(head)}{cut}{escape(tail)}"
    else:
        body = escape(text)
    gold = f"<p><b>Gold</b> <code>{escape(sample.gold[:400])}</code></p>" if sample.gold else ""
    return (
        f"<details open><summary>{escape(sample.title)}<span>{escape(sample.facts)}</span>"
        f"</summary><p class='soft'>trace <code>{escape(sample.trace_id)}</code></p>"
        f"<p dir='auto'><b>Prompt</b> {escape(sample.prompt[:2000])}</p>{gold}"
        f"<pre dir='auto'>{body}</pre></details>"
    )


def _provenance(data: ReportData) -> str:
    block: Callable[[str, str], str] = lambda k, v: (  # noqa: E731 - one expression, used once
        f"<details><summary>{escape(k.replace('_', ' '))}</summary><pre>{escape(v)}</pre></details>"
    )
    return "".join(block(k, v) for k, v in data.provenance.items())
