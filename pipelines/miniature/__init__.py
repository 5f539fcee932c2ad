"""The little world that needs no download."""
