"""Annotations of other tools, read into one neutral record and written from it."""
