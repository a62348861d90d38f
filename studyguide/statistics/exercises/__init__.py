"""Exercises of chapter 02, one module per notebook."""

from studyguide.statistics.exercises import (
    bootstrap_and_power,
    classification_metrics,
    overfitting_and_leakage,
    tests_and_intervals,
)

EXERCISES = (
    *tests_and_intervals.EXERCISES,
    *bootstrap_and_power.EXERCISES,
    *classification_metrics.EXERCISES,
    *overfitting_and_leakage.EXERCISES,
)
