"""An executable study guide to evaluating generative AI: the tested package behind the notebooks."""

__version__ = "0.1.0"
