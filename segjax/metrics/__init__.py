"""Counts of what was right and wrong, and the scores that are made of them."""
