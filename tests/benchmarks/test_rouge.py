"""ROUGE-1, ROUGE-2 and ROUGE-L of 2,000 pairs of 60 words, from text to mean scores, with rouge-score's tokenizer."""

from statistics import fmean

import pytest
from rouge_score.rouge_scorer import RougeScorer

from studyguide.text import ngrams
from studyguide.text.rouge import corpus_rouge

PAIRS, WORDS = 2000, 60
KINDS = ["rouge1", "rouge2", "rougeL"]


@pytest.fixture(scope="module")
def corpus(random_texts):
    return random_texts(PAIRS, WORDS)


def studyguide(hypotheses, references, stem):
    scores = corpus_rouge(hypotheses, [[text] for text in references], KINDS, tokenize="rouge", stem=stem)
    return [scores[kind].f1 for kind in KINDS]


def rouge_score(hypotheses, references, stem):
    scorer = RougeScorer(KINDS, use_stemmer=stem)
    scores = [scorer.score(reference, text) for text, reference in zip(hypotheses, references, strict=True)]
    return [fmean(score[kind].fmeasure for score in scores) for kind in KINDS]


@pytest.mark.parametrize("stem", [False, True], ids=["words", "stems"])
@pytest.mark.parametrize("run", [studyguide, rouge_score], ids=lambda run: run.__name__)
def test_rouge(benchmark, corpus, run, stem):
    assert run(*corpus, stem) == pytest.approx(studyguide(*corpus, stem), abs=1e-9)  # the same task
    benchmark.group = f"ROUGE-1/2/L, {PAIRS:,} x {WORDS} {'stems' if stem else 'words'}"
    benchmark.extra_info["library"] = run.__name__
    setup = ngrams._stem.cache_clear if stem else None  # our stems are remembered: each round begins without
    benchmark.pedantic(run, (*corpus, stem), setup=setup, rounds=3)
