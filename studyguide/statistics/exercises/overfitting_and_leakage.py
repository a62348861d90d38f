"""Exercises of notebook 2.4: overfitting and leakage."""

EXERCISES = ()
