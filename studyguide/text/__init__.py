"""Chapter 04: scores for generated text, from n-grams to embeddings."""
