"""Exercises of notebook 3.3, perplexity."""

EXERCISES = ()
