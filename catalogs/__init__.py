"""The DuckDB catalog: derived from the store, rebuildable, read-only for its readers."""
