"""Shapes of public data sets, one file each; `factory.sources.shape` says what a shape is."""
