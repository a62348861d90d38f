"""Exercises of notebook 2.2: bootstrap and power."""

EXERCISES = ()
