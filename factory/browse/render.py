"""Templates: every text that is written into a page is escaped, and its hidden characters shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup

from factory.report.html import FILTERS, TEMPLATES, printed

HERE = Path(__file__).parent


def environment(base: str) -> jinja2.Environment:
    """Return the templates of the pages and of the report.

    Args:
        base: path before every address of ours, the token in it.
    """
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader([HERE / "templates", TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=printed,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.globals |= {"base": base, "query": query, "url": url, "importmap": Markup(importmap(base))}
    env.filters |= {**FILTERS, "size": size, "path": lambda text: quote(str(text), safe="/")}
    return env


def importmap(base: str) -> str:
    """Return where the browser finds the modules of charts; stands in their pages as it is."""
    vendor = f"{base}/static/vendor/vega/vega-interpreter.js"
    names = {"vega-interpreter": vendor, "vega-util": f"{base}/static/vega-util.js"}
    return json.dumps({"imports": names})


def query(**values: Any) -> str:
    """Return the query of an address; empty values are left out."""
    return "?" + urlencode({k: v for k, v in values.items() if v not in (None, "")}, doseq=True)


def url(base: str, *parts: str) -> str:
    """Return an address of ours from its parts, each one quoted."""
    return "/".join([base, *(quote(str(p), safe="") for p in parts)])


def size(n_bytes: float) -> str:
    """Return a number of bytes for a reader.

    >>> size(2_500_000)
    '2.5 MB'
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return f"{n_bytes:.0f} B"
