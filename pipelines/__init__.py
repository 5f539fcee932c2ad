"""Pipelines: straight scripts that a reader follows from top to bottom."""
