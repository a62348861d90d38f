"""Exercises of notebook 3.2, attention."""

EXERCISES = ()
