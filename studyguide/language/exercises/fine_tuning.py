"""Exercises of notebook 3.7, fine tuning."""

EXERCISES = ()
