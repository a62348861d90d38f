"""Exercises of notebook 3.4, sampling."""

EXERCISES = ()
