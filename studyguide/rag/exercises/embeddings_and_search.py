"""Exercises of notebook 6.1, Embeddings and search."""

EXERCISES = ()
