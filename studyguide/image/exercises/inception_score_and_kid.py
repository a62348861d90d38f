"""Exercises of notebook 5.2, Inception Score and KID."""

EXERCISES = ()
