"""Exercises of notebook 7.5, Monitoring and alerting."""

EXERCISES = ()
