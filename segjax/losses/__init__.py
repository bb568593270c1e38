"""Losses as a sum and its weight; void pixels count nothing."""
