"""The HTML form of a report: one file that fetches nothing, from the templates beside it.

Every text of a model, a prompt or a recipe is escaped; a content security policy in the page allows
no request and no script but KaTeX's, by its hash, should an escape ever be missed. Bars are SVG.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.rows.texts import visible

TEMPLATES = Path(__file__).parent / "templates"
_STATIC = Path(__file__).parent.parent / "browse" / "static"
_TYPESET = """
renderMathInElement(document.body, { delimiters: [
  { left: "$$", right: "$$", display: true }, { left: "\\\\[", right: "\\\\]", display: true },
  { left: "\\\\(", right: "\\\\)", display: false }, { left: "$", right: "$", display: false } ],
  output: "mathml", throwOnError: false, strict: "ignore", trust: false, maxExpand: 200,
  ignoredTags: ["script", "noscript", "style", "textarea", "pre", "code"] });
"""
_MATH = ("$", "\\(", "\\[")


def environment() -> Any:
    """Return the templates of the report: everything is escaped, hidden characters are shown."""
    import jinja2

    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=printed,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= FILTERS
    return env


def printed(value: Any) -> Any:
    """Return a value as templates print it: nothing for None, hidden characters shown."""
    if value is None:
        return ""
    is_plain = isinstance(value, str) and not hasattr(value, "__html__")
    return visible(value) if is_plain else value


def page(data: Any) -> str:
    """Return the whole page of a ``ReportData``."""
    from markupsafe import Markup

    texts = [text for s in data.samples for text in (s.prompt, s.text)]
    scripts: list[str] = []
    if any(mark in text for text in texts for mark in _MATH):
        katex = _STATIC / "vendor" / "katex"
        scripts = [
            (katex / name).read_text("utf-8") for name in ("katex.min.js", "auto-render.min.js")
        ]
        scripts.append(_TYPESET)
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{d}'" for d in digests) or "'none'"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}"
    return str(
        environment().get_template("report.html.j2").render(
            data=data,
            policy=policy,
            style=page_style(),
            scripts=[Markup(s) for s in scripts],
        )
    )  # fmt: skip


def page_style() -> Any:
    """Return the style sheet of the browser's pages, to stand inside a page."""
    from markupsafe import Markup

    return Markup((_STATIC / "app.css").read_text("utf-8"))


def escape(text: str) -> str:
    r"""Return text safe inside an element or a quoted attribute; hidden characters are shown.

    >>> escape('<b onclick="x">\x1b')
    '&lt;b onclick=&quot;x&quot;&gt;␛'
    """
    return html.escape(visible(text), quote=True)


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


def cell(value: Any) -> str:
    """Return a value of a table as a reader wants it.

    >>> cell([1, "b"]), cell(float("nan"))
    ('1, b', '–')
    """
    if isinstance(value, float):
        return number(value) if math.isfinite(value) else "–"
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        return ", ".join(str(v) for v in value)
    return number(value)


def short(text: str | None, n: int = 80) -> str:
    """Return the beginning of a text.

    >>> short("abcdef", 4)
    'abc…'
    """
    text = text or ""
    return text if len(text) <= n else text[: n - 1] + "…"


def middle(text: str, n: int) -> str:
    """Return a text without its middle where it is longer than ``n`` characters.

    >>> middle("abcdefgh", 4)
    'abc\\n… 4 characters left out …\\nh'
    """
    if len(text) <= n:
        return text
    head = n * 3 // 4
    return f"{text[:head]}\n… {len(text) - n:,} characters left out …\n{text[head - n :]}"


FILTERS = {"number": number, "percent": percent, "cell": cell, "short": short, "middle": middle}
"""What templates call on values."""
