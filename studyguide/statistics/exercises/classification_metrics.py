"""Exercises of notebook 2.3: classification metrics."""

EXERCISES = ()
