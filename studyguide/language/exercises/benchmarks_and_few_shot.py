"""Exercises of notebook 3.6, benchmarks and few shot."""

EXERCISES = ()
