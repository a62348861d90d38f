"""Chapter 03: what a language model predicts, how surprised it is, and how its benchmark scores are made."""
