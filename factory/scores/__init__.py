"""Scores are measured columns of a trace, one file each."""
