"""Exercises of notebook 7.2, Peeking and interleaving."""

EXERCISES = ()
