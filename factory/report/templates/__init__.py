"""Templates of the report; the browser's pages of releases use the same."""

from pathlib import Path

FOLDER = Path(__file__).parent
