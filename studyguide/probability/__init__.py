"""Chapter 01: probabilities of tokens, and how far apart two distributions are."""
