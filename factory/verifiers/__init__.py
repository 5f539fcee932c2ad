"""Verifiers turn a completion and a gold into a verdict, one file each."""
