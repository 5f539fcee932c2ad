"""Rehearsals: a recipe, whole, with tiny models, before a cluster is paid for.

    python -m pipelines.r1 RECIPE --rehearse [--ranks 2] [--launch fsdp2-sharded]

``recipe`` makes the recipe small and leaves its form: the same stages, launch files, presets,
templates, filters, rewards and verifiers. ``models`` makes a tiny model of each model's family.
``drive`` runs the recipe as a program of its own, kills it in its stages and runs it again, and
``table`` says of each stage, from what it left on disk, whether it did what it must.
"""
