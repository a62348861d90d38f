"""Leakage of 2,000 evaluation texts against 20,000 training texts.

Comparing every pair would take difflib hours, so it gets 5 of the evaluation texts; brute force on n-grams gets 100.
The label says which share of the pairs that is: multiply the printed ratio by its denominator. On their share of the
texts, all methods find the same pairs.
"""

from difflib import SequenceMatcher

import numpy as np
import pytest

from studyguide.statistics.leakage import find_leakage, ngrams

THRESHOLD = 0.8


@pytest.fixture(scope="module")
def texts():
    """20,000 training texts and 2,000 evaluation texts of 12 to 30 words, and which pairs are leaks.

    The first 200 evaluation texts have leaked, each into one training text: as they are, with a full stop in place of
    the question mark, or with two more words at the end.
    """
    rng = np.random.default_rng(0)
    vocabulary = np.array(
        ["".join(rng.choice(list("abcdefghijklmnoprstuvwy"), rng.integers(2, 9))) for _ in range(5000)]
    )
    train, evaluation = (
        [" ".join(rng.choice(vocabulary, rng.integers(12, 31))) + "?" for _ in range(size)] for size in (20_000, 2_000)
    )
    leaked = {(int(i), int(j)) for i, j in zip(range(200), rng.permutation(20_000)[:200], strict=True)}
    for i, j in leaked:
        copy = evaluation[i]
        train[j] = (copy, copy.replace("?", "."), f"{copy} Answer: {rng.choice(vocabulary)}")[i % 3]
    return train, evaluation, leaked


def by_index(train, evaluation):
    return {(leak.evaluation_index, leak.train_index) for leak in find_leakage(train, evaluation, THRESHOLD).leaks}


def by_difflib(train, evaluation):
    found = set()
    for i, asked in enumerate(evaluation):
        for j, seen in enumerate(train):
            if SequenceMatcher(None, asked, seen).ratio() >= THRESHOLD:
                found.add((i, j))
    return found


def by_brute_force(train, evaluation):
    seen, found = [set(ngrams(text)) for text in train], set()
    for i, text in enumerate(evaluation):
        asked = set(ngrams(text))
        found |= {(i, j) for j, grams in enumerate(seen) if len(asked & grams) / len(asked | grams) >= THRESHOLD}
    return found


@pytest.mark.parametrize(
    ("method", "items", "label"),
    [
        (by_index, 2_000, "studyguide"),
        (by_difflib, 5, "difflib 1/400"),
        (by_brute_force, 100, "n-grams 1/20"),
    ],
)
def test_leakage(benchmark, texts, method, items, label):
    train, evaluation, leaked = texts
    benchmark.group = "leakage, 2k x 20k texts"
    benchmark.extra_info["library"] = label
    found = benchmark.pedantic(method, (train, evaluation[:items]), rounds=3 if method is by_index else 1)
    assert found == {(i, j) for i, j in leaked if i < items}  # the planted pairs, no other: the same for all methods
