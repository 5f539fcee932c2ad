"""What depends on the whole set: duplicates, contamination, caps, mixtures."""
