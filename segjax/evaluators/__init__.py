"""Scores over a whole split: one evaluator a task, and the neutral report."""
