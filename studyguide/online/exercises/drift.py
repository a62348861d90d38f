"""Exercises of notebook 7.4, Drift."""

EXERCISES = ()
