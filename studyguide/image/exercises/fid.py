"""Exercises of notebook 5.1, FID."""

EXERCISES = ()
