"""Predictions over HTTP: one model, several requests in a batch, and a page to correct it."""
