"""The exercises of chapter 07, one module per notebook."""

from studyguide.online.exercises import (
    ab_testing,
    bandits,
    drift,
    monitoring_and_alerting,
    sequential_and_interleaving,
)

EXERCISES = (
    *ab_testing.EXERCISES,
    *sequential_and_interleaving.EXERCISES,
    *bandits.EXERCISES,
    *drift.EXERCISES,
    *monitoring_and_alerting.EXERCISES,
)
