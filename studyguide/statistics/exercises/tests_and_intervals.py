"""Exercises of notebook 2.1: tests and intervals."""

EXERCISES = ()
