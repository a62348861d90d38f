"""BLEU of 10,000 texts of 26 tokens: corpus, sentence by sentence, and resampled, beside sacrebleu and nltk."""

import numpy as np
import pytest
import sacrebleu
from nltk.translate import bleu_score as nltk_bleu
from sacrebleu.significance import _bootstrap_resample

from studyguide.text import ngrams
from studyguide.text.bleu import bleu_from_statistics, bleu_interval, bleu_statistics, corpus_bleu

TEXTS, RESAMPLES = 10_000, 1000


@pytest.fixture(scope="module")
def corpus():
    """Words drawn by Zipf's law, 24 and two marks to a text; of the hypotheses, three in ten differ."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, 8001)
    words = np.array([f"w{i}" for i in range(8000)])
    references = words[rng.choice(8000, size=(TEXTS, 24), p=shares / shares.sum())]
    hypotheses = np.where(rng.random((TEXTS, 24)) < 0.7, references, words[rng.integers(8000, size=(TEXTS, 24))])
    hypotheses, references = (
        [f"{' '.join(row[:12])}, {' '.join(row[12:])}." for row in rows] for rows in (hypotheses, references)
    )
    return hypotheses, [[text] for text in references]


def forget():
    """Each round splits every word anew."""
    ngrams._split_word_13a.cache_clear()


def ours(hypotheses, references, tokenize):
    return corpus_bleu(hypotheses, references, tokenize).score


def theirs(hypotheses, references, tokenize):
    name = {"whitespace": "none"}.get(tokenize, tokenize)
    return sacrebleu.corpus_bleu(hypotheses, list(zip(*references, strict=True)), tokenize=name, force=True).score


def nltk(hypotheses, references, tokenize):
    split = [[text.split() for text in group] for group in references]
    return 100 * nltk_bleu.corpus_bleu(split, [text.split() for text in hypotheses])


@pytest.mark.parametrize(
    ("tokenize", "library", "score"),
    [
        *[
            (name, *of)
            for name in ("13a", "whitespace", "intl", "char")
            for of in (("studyguide", ours), ("sacrebleu", theirs))
        ],
        ("whitespace", "nltk", nltk),
    ],
)
def test_corpus_bleu(benchmark, corpus, tokenize, library, score):
    assert score(*corpus, tokenize) == pytest.approx(ours(*corpus, tokenize), abs=1e-9)  # the same task
    benchmark.group = f"corpus BLEU, {tokenize}"
    benchmark.extra_info["library"] = library
    benchmark.pedantic(score, (*corpus, tokenize), setup=forget, rounds=1 if tokenize == "char" else 3)


def each_of_ours(hypotheses, references):
    return bleu_from_statistics(bleu_statistics(hypotheses, references), effective_order=True).tolist()


def each_of_theirs(hypotheses, references):
    return [sacrebleu.sentence_bleu(*pair).score for pair in zip(hypotheses, references, strict=True)]


@pytest.mark.parametrize(("library", "score"), [("studyguide", each_of_ours), ("sacrebleu", each_of_theirs)])
def test_sentence_bleu(benchmark, corpus, library, score):
    corpus = [side[:1000] for side in corpus]
    assert score(*corpus) == pytest.approx(each_of_ours(*corpus), abs=1e-9)
    benchmark.group = "sentence BLEU of 1,000 texts"
    benchmark.extra_info["library"] = library
    benchmark.pedantic(score, corpus, setup=forget, rounds=3)


@pytest.mark.parametrize("library", ["studyguide", "sacrebleu"])
def test_bootstrap(benchmark, corpus, library):
    """1,000 resamples of 2,000 texts, from the counts of each text."""
    hypotheses, references = (side[:2000] for side in corpus)
    if library == "studyguide":
        rows = bleu_statistics(hypotheses, references)
        resample = lambda: bleu_interval(rows, n_resamples=RESAMPLES, rng=0)  # noqa: E731
    else:
        scorer = sacrebleu.BLEU(force=True)
        rows = scorer._extract_corpus_statistics(hypotheses, list(zip(*references, strict=True)))
        resample = lambda: _bootstrap_resample(rows, scorer, RESAMPLES)  # noqa: E731
    benchmark.group = "bootstrap of corpus BLEU"
    benchmark.extra_info["library"] = library
    benchmark.pedantic(resample, rounds=3)
