"""The store: append-only tables of facts, their logs and sealed parts, and the relation ``wide``.

>>> import tempfile
>>> sorted(Store(tempfile.mkdtemp()).tables())
[]
"""

from factory.store.repair import check, repair
from factory.store.store import Store, new_run_id, now
from factory.store.table import Table, check_name

__all__ = ["Store", "Table", "check", "check_name", "new_run_id", "now", "repair"]
