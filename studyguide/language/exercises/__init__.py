"""Exercises of chapter 03, one module per notebook."""

from studyguide.language.exercises import (
    attention,
    benchmarks_and_few_shot,
    context_length,
    fine_tuning,
    perplexity,
    sampling,
    tokenization,
)

EXERCISES = (
    *tokenization.EXERCISES,
    *attention.EXERCISES,
    *perplexity.EXERCISES,
    *sampling.EXERCISES,
    *context_length.EXERCISES,
    *benchmarks_and_few_shot.EXERCISES,
    *fine_tuning.EXERCISES,
)
