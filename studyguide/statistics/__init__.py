"""Chapter 02: whether a difference is real, how large it is, and how to read the errors of a classifier."""
