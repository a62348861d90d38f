"""Exercises of notebook 7.3, Bandits."""

EXERCISES = ()
