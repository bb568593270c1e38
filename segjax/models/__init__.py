"""Semantic models: one paper a file, each with a `Model`; what they share is in `base`."""
