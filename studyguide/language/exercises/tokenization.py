"""Exercises of notebook 3.1, tokenization."""

EXERCISES = ()
