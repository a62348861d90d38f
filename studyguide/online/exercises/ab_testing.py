"""Exercises of notebook 7.1, Comparing two models on live traffic."""

EXERCISES = ()
