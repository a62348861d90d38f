"""Exercises of notebook 5.3, Captioning and VQA."""

EXERCISES = ()
