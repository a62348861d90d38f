"""Tinyworld, a small English whose every probability is known.

The grammar is the text file ``data/tinyworld/grammar.txt``, which explains its own notation.

    >>> from studyguide.datasets import tinyworld
    >>> round(tinyworld.next_word_distribution("The weather today is")["sunny"], 2)
    0.4
"""

from functools import lru_cache

from studyguide.datasets import path
from studyguide.datasets.grammar import END, Grammar

__all__ = ["END", "grammar", "log_prob", "next_word_distribution", "sample"]


@lru_cache
def grammar(start="text"):
    """The course's grammar; another `start` rule gives one part of the language, such as "password"."""
    return Grammar(path("tinyworld/grammar.txt").read_text(encoding="utf-8"), start)


def sample(n, rng):
    """`n` independent texts of tinyworld. `rng` is an int seed or a numpy Generator.

    >>> sample(2, rng=0) == sample(2, rng=0)
    True
    """
    return grammar().sample(n, rng)


def log_prob(text):
    """Exact natural log-probability of a whole text (nats); -inf outside the language.

    >>> log_prob("Colorless green ideas sleep furiously.")
    -inf
    """
    return grammar().log_prob(text)


def next_word_distribution(prefix):
    """Exact distribution of the next word: {word: probability}, most probable first, summing to 1.

    END is the end of the text. A prefix that no text begins with is a ValueError.

    >>> {word: round(p, 2) for word, p in next_word_distribution("I love").items()}
    {'you': 0.4, 'pizza': 0.3, 'it': 0.2, 'dogs': 0.1}
    """
    return grammar().next_word_distribution(prefix)
