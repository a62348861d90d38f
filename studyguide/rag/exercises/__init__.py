"""The exercises of chapter 06, one module per notebook."""

from studyguide.rag.exercises import embeddings_and_search, llm_as_judge, rag_evaluation, ranking_metrics

EXERCISES = (
    *embeddings_and_search.EXERCISES,
    *ranking_metrics.EXERCISES,
    *rag_evaluation.EXERCISES,
    *llm_as_judge.EXERCISES,
)
