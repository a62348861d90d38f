"""Corpus chrF and chrF++ of 10,000 pairs of 22 words (about 130 characters), ours and sacrebleu's."""

import pytest
from sacrebleu.metrics import CHRF

from studyguide.text.chrf import corpus_chrf

PAIRS, WORDS = 10_000, 22


@pytest.fixture(scope="module")
def corpus(random_texts):
    return random_texts(PAIRS, WORDS)


def studyguide(hypotheses, references, order):
    return corpus_chrf(hypotheses, [[text] for text in references], word_order=order)


def sacrebleu(hypotheses, references, order):
    return CHRF(word_order=order).corpus_score(hypotheses, [references]).score


@pytest.mark.parametrize("order", [0, 2], ids=["chrF", "chrF++"])
@pytest.mark.parametrize("run", [studyguide, sacrebleu], ids=lambda run: run.__name__)
def test_chrf(benchmark, corpus, run, order):
    assert run(*corpus, order) == pytest.approx(studyguide(*corpus, order), abs=1e-9)  # the same task
    benchmark.group = f"chrF{'+' * order}, {PAIRS:,} pairs"
    benchmark.extra_info["library"] = run.__name__
    benchmark.pedantic(run, (*corpus, order), rounds=2)
