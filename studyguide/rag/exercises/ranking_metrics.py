"""Exercises of notebook 6.2, Ranking metrics."""

EXERCISES = ()
