"""Cosines of 2,000 pairs, each text read once and pair by pair (half a minute each); greedy matching by bert-score.

Reading dominates, so the gain over pair by pair is largest where a call's overhead is: with short texts, and where
systems share references.
"""

import random

import pytest
import torch
from bert_score.utils import greedy_cos_idf
from sentence_transformers import util

from studyguide.models import load_sentence_encoder
from studyguide.text.semantic import greedy_match, semantic_similarity

PAIRS = 2000
WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "in",
    "mat",
    "house",
    "big",
    "small",
    "red",
    "blue",
    "saw",
    "city",
]


def answers(words, systems, seed=0):
    """Candidates of so many systems, random texts, and a reference for each question, which the systems share."""
    draw = random.Random(seed)
    references = [" ".join(draw.choices(WORDS, k=words)) for _ in range(PAIRS // systems)] * systems
    return [" ".join(draw.choices(WORDS, k=words)) for _ in range(PAIRS)], references


@pytest.fixture(scope="module")
def encoder():
    return load_sentence_encoder()


def pair_by_pair(encoder, candidates, references):
    pairs = zip(candidates, references, strict=True)
    return torch.tensor([util.cos_sim(*encoder.encode([a, b])).item() for a, b in pairs])


@pytest.mark.parametrize(("words", "systems"), [(3, 1), (8, 1), (8, 10)])
@pytest.mark.parametrize(("library", "score"), [("studyguide", semantic_similarity), ("pair by pair", pair_by_pair)])
def test_similarity(benchmark, encoder, words, systems, library, score):
    candidates, references = answers(words, systems)
    few = candidates[:20], references[:20]
    torch.testing.assert_close(score(encoder, *few), pair_by_pair(encoder, *few))  # the same task
    benchmark.group = f"2k pairs of {words} words, {systems} system{'s' * (systems > 1)}"
    benchmark.extra_info["library"] = library
    benchmark.pedantic(score, (encoder, candidates, references), rounds=3 if library == "studyguide" else 1)


def tokens(seed, rows=2000, length=24, d=384):
    vectors = torch.randn(rows, length, d, generator=torch.Generator().manual_seed(seed))
    return vectors, torch.ones(rows, length), torch.ones(rows, length)


def ours(a, b):
    return greedy_match(a[0], b[0], a[1], b[1], a[2], b[2]).f1


def bert_score(a, b):
    return greedy_cos_idf(*(x.clone() for x in (*b, *a)))[2]  # it overwrites what it is given


@pytest.mark.parametrize(("library", "match"), [("studyguide", ours), ("bert-score", bert_score)])
def test_greedy_match(benchmark, library, match):
    sides = tokens(0), tokens(1)
    torch.testing.assert_close(match(*sides), ours(*sides), atol=1e-5, rtol=0)
    benchmark.group = "greedy match, 2k x 24 tokens"
    benchmark.extra_info["library"] = library
    benchmark.pedantic(match, sides, rounds=3)
