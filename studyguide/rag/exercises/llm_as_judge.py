"""Exercises of notebook 6.4, LLM as judge."""

EXERCISES = ()
