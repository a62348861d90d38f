"""The exercises of chapter 04, one module per notebook."""

from studyguide.text.exercises import bleu, rouge_and_meteor, semantic_similarity

EXERCISES = (*bleu.EXERCISES, *rouge_and_meteor.EXERCISES, *semantic_similarity.EXERCISES)
