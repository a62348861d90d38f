"""Exercises of this notebook; not written yet."""

EXERCISES = ()
