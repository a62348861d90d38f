"""Exercises of notebook 5.4, Cross-modal retrieval."""

EXERCISES = ()
