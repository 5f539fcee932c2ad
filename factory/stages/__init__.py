"""The stages of a pipeline, each one verb."""
