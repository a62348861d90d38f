"""Exercises of notebook 3.5, context length."""

EXERCISES = ()
