"""Chapter 06: retrieval, its ranking metrics, answers from passages, and judges."""
