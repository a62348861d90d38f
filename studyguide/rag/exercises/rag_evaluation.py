"""Exercises of notebook 6.3, RAG evaluation."""

EXERCISES = ()
