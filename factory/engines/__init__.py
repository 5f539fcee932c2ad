"""Engines turn requests into traces, one file each."""
