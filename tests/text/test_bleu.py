"""BLEU against sacrebleu, nltk and numbers written out; intervals and comparisons against sacrebleu and enumeration."""

import itertools
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate import bleu_score as nltk_bleu
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest, _bootstrap_resample

from studyguide.text import bleu as module
from studyguide.text.bleu import (
    SMOOTHINGS,
    Bleu,
    bleu_from_statistics,
    bleu_interval,
    bleu_statistics,
    compare_bleu,
    corpus_bleu,
    sentence_bleu,
)

SACREBLEU = {"13a": "13a", "intl": "intl", "char": "char", "whitespace": "none"}  # their names of our tokenizers
properties = settings(deadline=None, max_examples=150)

WORDS = ["the", "The", "cat", "a,", "on.", "1.5", "don't", "قِطّة", "قط", "猫坐。", "ไม่", "-", "&amp;", "👍", ""]
sentences = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join) | st.text(max_size=8)
settings_of_ours = st.fixed_dictionaries(
    {
        "tokenize": st.sampled_from(sorted(SACREBLEU)),
        "smoothing": st.sampled_from(SMOOTHINGS),
        "max_order": st.sampled_from([1, 2, 3, 4, 4, 4, 6]),
        "lowercase": st.booleans(),
    }
)


@st.composite
def corpora(draw, most_texts=6, most_references=3):
    n = draw(st.integers(1, most_texts))
    references = draw(st.lists(st.lists(sentences, min_size=1, max_size=most_references), min_size=n, max_size=n))
    hypotheses = [
        draw(sentences | st.sampled_from(group) | st.just(" ".join([*group[0].split()[::2], "cat"])))
        for group in references
    ]
    return hypotheses, references


def sacrebleu(tokenize="13a", smoothing="exp", max_order=4, lowercase=False, effective_order=False):
    return BLEU(
        tokenize=SACREBLEU[tokenize],
        smooth_method=smoothing,
        max_ngram_order=max_order,
        lowercase=lowercase,
        effective_order=effective_order,
        force=True,
    )


def streams(references):
    """References as sacrebleu wants them: the first of every text, the second of every text, ..."""
    return list(itertools.zip_longest(*references))


def assert_same(ours, theirs, smoothing):
    assert ours.score == pytest.approx(theirs.score, abs=1e-9)
    assert ours.precisions == pytest.approx(theirs.precisions, abs=1e-9)
    assert ours.brevity_penalty == pytest.approx(theirs.bp, abs=1e-12)
    assert (ours.hypothesis_length, ours.reference_length) == (theirs.sys_len, theirs.ref_len)
    if smoothing != "add-k":  # where sacrebleu adds 1 to the counts themselves
        assert (ours.counts, ours.totals) == (theirs.counts, theirs.totals)


# Against sacrebleu and nltk


@settings(deadline=None, max_examples=400)
@given(corpus=corpora(), options=settings_of_ours)
def test_a_corpus_scores_as_with_sacrebleu(corpus, options):
    hypotheses, references = corpus
    theirs = sacrebleu(**options).corpus_score(hypotheses, streams(references))
    assert_same(corpus_bleu(hypotheses, references, **options), theirs, options["smoothing"])


@settings(deadline=None, max_examples=400)
@given(corpus=corpora(most_texts=1), options=settings_of_ours, effective_order=st.booleans())
def test_a_sentence_scores_as_with_sacrebleu(corpus, options, effective_order):
    (hypothesis,), (references,) = corpus
    scorer = sacrebleu(**options, effective_order=effective_order)
    theirs = BLEU.corpus_score(scorer, [hypothesis], streams([references]))
    ours = sentence_bleu(hypothesis, references, **options, effective_order=effective_order)
    assert_same(ours, theirs, options["smoothing"])


@properties
@given(corpus=corpora(), max_order=st.integers(1, 4))
def test_an_unsmoothed_corpus_scores_as_with_nltk(corpus, max_order):
    """nltk meets the convention where there is a match of each order (elsewhere it gives about 1e-150), and no text is
    shorter than the order: it counts one n-gram too many for those."""
    hypotheses, references = corpus
    hypotheses = [f"{text} the cat a, on." for text in hypotheses]
    ours = corpus_bleu(hypotheses, references, "whitespace", "none", max_order)
    if ours.score:
        split = [[text.split() for text in group] for group in references]
        weights = (1 / max_order,) * max_order
        theirs = nltk_bleu.corpus_bleu(split, [text.split() for text in hypotheses], weights)
        assert ours.score == pytest.approx(100 * theirs, abs=1e-9)


def test_nltk_counts_n_grams_that_short_texts_do_not_have():
    """The corpus of three texts of which the last has no 4-gram: nltk divides 7 by 13, not by 12."""
    hypotheses = [
        "it has been raining here all day long",
        "he went to the shop yesterday to buy some bread",
        "the cat sat",
    ]
    references = [[hypotheses[0]], ["he went to the market yesterday to buy some fresh fish"], [hypotheses[2]]]
    ours = corpus_bleu(hypotheses, references, "whitespace", "none")
    assert (ours.counts, ours.totals) == ([19, 15, 11, 7], [21, 18, 15, 12])
    assert ours.score == pytest.approx(100 * math.exp(1 - 22 / 21) * (19 / 21 * 15 / 18 * 11 / 15 * 7 / 12) ** 0.25)
    theirs = nltk_bleu.corpus_bleu(
        [[text.split() for text in group] for group in references], [t.split() for t in hypotheses]
    )
    assert theirs == pytest.approx(math.exp(1 - 22 / 21) * (19 / 21 * 15 / 18 * 11 / 15 * 7 / 13) ** 0.25)


def test_floor_is_method1_of_nltk():
    hypothesis, reference = "A feline rested on the rug.", "The cat sat on the mat."
    smoother = nltk_bleu.SmoothingFunction(epsilon=0.1).method1
    theirs = nltk_bleu.sentence_bleu([reference.split()], hypothesis.split(), smoothing_function=smoother)
    ours = sentence_bleu(hypothesis, [reference], "whitespace", "floor")
    assert ours.score == pytest.approx(100 * theirs, abs=1e-9)


@pytest.mark.parametrize("tokenize", sorted(SACREBLEU))
@pytest.mark.parametrize("effective_order", [False, True])
@pytest.mark.parametrize("lowercase", [False, True])
def test_the_signature_says_what_sacrebleu_s_says(tokenize, effective_order, lowercase):
    scorer = sacrebleu(tokenize, "none", lowercase=lowercase, effective_order=effective_order)
    scorer.corpus_score(["a"], [["a"], ["b"]])
    theirs = str(scorer.get_signature()).rpartition("|version")[0]
    ours = sentence_bleu("a", ["a", "b"], tokenize, "none", 4, lowercase, effective_order).signature
    assert ours == theirs.replace("tok:none", "tok:whitespace") + "|order:4"


def test_the_signature_says_when_the_number_of_references_varies():
    assert corpus_bleu(["a", "b"], [["a"], ["b", "c"]]).signature.startswith("nrefs:var|case:mixed|eff:no")


# By hand


def test_clipping():
    """Papineni et al. (2002), section 2.1: the references have "the" twice and once."""
    row = bleu_statistics(
        ["the the the the the the the"], [["The cat is on the mat", "There is a cat on the mat"]], lowercase=True
    )
    assert row.tolist() == [[7, 7, 2, 0, 0, 0, 7, 6, 5, 4]]


@pytest.mark.parametrize(
    ("length", "references", "closest"),
    [(5, (6, 4), 4), (5, (4, 6), 4), (5, (9, 6, 4), 4), (5, (8, 6), 6), (0, (3, 2), 2), (7, (3, 7), 7)],
)
def test_of_two_references_equally_close_in_length_the_shorter_counts(length, references, closest):
    row = bleu_statistics(["a " * length], [["a " * other for other in references]])
    assert row[0, :2].tolist() == [length, closest]
    assert nltk_bleu.closest_ref_length([["a"] * other for other in references], length) == closest


@pytest.mark.parametrize(
    ("smoothing", "precisions"),
    [
        ("exp", (3 / 6, 1 / 5, 1 / (2 * 4), 1 / (4 * 3))),
        ("floor", (3 / 6, 1 / 5, 0.1 / 4, 0.1 / 3)),
        ("add-k", (3 / 6, 2 / 6, 1 / 5, 1 / 4)),
        ("none", (3 / 6, 1 / 5, 0, 0)),
    ],
)
def test_smoothing_by_hand(smoothing, precisions):
    score = corpus_bleu(["the cat a b c d"], [["the cat e d f"]], smoothing=smoothing)
    assert score.precisions == pytest.approx([100 * p for p in precisions])
    assert score.score == pytest.approx(100 * math.prod(precisions) ** 0.25)
    assert (score.counts, score.totals) == ([3, 1, 0, 0], [6, 5, 4, 3])


def test_brevity_penalty_by_hand():
    score = corpus_bleu(["a b c d"], [["a b c d e f"]])
    assert score.brevity_penalty == pytest.approx(math.exp(1 - 6 / 4))
    assert score.score == pytest.approx(100 * math.exp(-0.5))
    assert corpus_bleu(["a b c d e f"], [["a b c d"]]).brevity_penalty == 1


def test_a_perfect_text_of_fewer_tokens_than_orders():
    assert sentence_bleu("the cat sat", ["the cat sat"]).score == pytest.approx(100)
    assert corpus_bleu(["the cat sat"], [["the cat sat"]]).score == 0  # no 4-gram in the corpus
    assert corpus_bleu(["the cat sat", "on the mat again"], [["the cat sat"], ["on the mat again"]]).score == 100


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("effective_order", [False, True])
@pytest.mark.parametrize(("hypothesis", "reference"), [("", "a b"), ("", ""), ("a b", ""), ("x y z w v", "a b c d e")])
def test_without_a_match_the_score_is_0(smoothing, effective_order, hypothesis, reference):
    score = sentence_bleu(hypothesis, [reference], smoothing=smoothing, effective_order=effective_order)
    assert score.score == 0
    assert score.precisions == [0] * 4


def test_the_score_prints_with_what_made_it():
    score = corpus_bleu(["a b c d"], [["a b c d e f"]])
    assert str(score) == (
        "BLEU 60.65 = 0.607 x (100.0 100.0 100.0 100.0), 4 tokens for 6  "
        "[nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|order:4]"
    )


# Properties


@properties
@given(corpus=corpora(), options=settings_of_ours)
def test_bounds_and_the_order_of_references(corpus, options):
    hypotheses, references = corpus
    score = corpus_bleu(hypotheses, references, **options)
    assert 0 <= score.score <= 100 + 1e-9
    assert score == corpus_bleu(hypotheses, [group[::-1] for group in references], **options)


@properties
@given(corpus=corpora(), options=settings_of_ours)
def test_a_corpus_against_itself_scores_100_or_has_too_few_tokens(corpus, options):
    hypotheses, _ = corpus
    score = corpus_bleu(hypotheses, [[text] for text in hypotheses], **options)
    assert score.score == pytest.approx(
        100 if score.totals[-1] or (options["smoothing"] == "add-k" and score.totals[0]) else 0
    )


@properties
@given(corpus=corpora(most_texts=8), data=st.data(), options=settings_of_ours)
def test_merging_any_split_gives_the_whole(corpus, data, options):
    hypotheses, references = corpus
    cuts = sorted(data.draw(st.lists(st.integers(0, len(hypotheses)), max_size=4)))
    total = Bleu(**options)
    for start, stop in itertools.pairwise([0, *cuts, len(hypotheses)]):
        part = Bleu(**options)
        if stop > start:
            part.update(hypotheses[start:stop], references[start:stop])
        total.merge(part)
    whole = Bleu(**options)
    whole.update(hypotheses, references)
    assert total.compute() == whole.compute() == corpus_bleu(hypotheses, references, **options)
    assert torch.equal(total.statistics, whole.statistics)


def test_a_merged_state_stays_apart_from_what_was_merged():
    one, two = Bleu(), Bleu()
    one.update(["a b"], [["a b"]])
    two.merge(one)
    one.update(["c"], [["c"]])
    one.merge(one)
    assert (one.texts, one.statistics[0]) == (4, 2 * (2 + 1))  # tokens of both texts, twice
    assert (two.texts, two.statistics[0]) == (1, 2)


@properties
@given(corpus=corpora(), max_order=st.integers(1, 5))
def test_counts_do_not_depend_on_how_texts_are_blocked_or_numbered(corpus, max_order):
    """Many texts in blocks, and numbers that would overflow: the counts are those of each text alone."""
    hypotheses, references = corpus
    alone = torch.cat(
        [bleu_statistics([text], [group], max_order=max_order) for text, group in zip(*corpus, strict=True)]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", 2)
        patch.setattr(module, "LARGEST", 40)
        assert torch.equal(bleu_statistics(hypotheses, references, max_order=max_order), alone)


def test_a_text_of_many_different_words_and_high_order():
    words = [f"w{i}" for i in range(20_000)]
    hypothesis, reference = " ".join(words), " ".join([*words[:10_000], "x", *words[10_000:]])
    row = bleu_statistics([hypothesis], [[reference]], "whitespace", max_order=9)
    orders = range(1, 10)  # the word between them breaks n - 1 n-grams of order n
    assert row[0, 2:11].tolist() == [20_000 - (n - 1) - (n - 1) for n in orders]
    assert row[0, 11:].tolist() == [20_000 - (n - 1) for n in orders]


def test_scores_of_many_rows_at_once():
    texts, references = ["a b c d", "a b x d", "", "a b"], [["a b c d"]] * 4
    rows = bleu_statistics(texts, references)
    for smoothing, effective_order in itertools.product(SMOOTHINGS, [False, True]):
        expected = [
            sentence_bleu(text, group, smoothing=smoothing, effective_order=effective_order).score
            for text, group in zip(texts, references, strict=True)
        ]
        assert bleu_from_statistics(rows, smoothing, effective_order).tolist() == pytest.approx(expected)


# Intervals and comparisons


def systems(n, *qualities):
    """References, and for each quality a system that keeps that share of their words."""
    rng = np.random.default_rng(3)
    words = np.array([f"w{i}" for i in range(50)])
    references = words[rng.integers(50, size=(n, 12))]
    outputs = []
    for quality in qualities:
        changed = np.where(rng.random((n, 12)) < quality, references, words[rng.integers(50, size=(n, 12))])
        outputs.append([" ".join(row) for row in changed])
    return [[" ".join(row)] for row in references], outputs


def test_the_interval_is_that_of_sacrebleu_s_resamples():
    references, [hypotheses] = systems(300, 0.7)
    interval = bleu_interval(bleu_statistics(hypotheses, references), n_resamples=4000, rng=0)
    scorer = sacrebleu()
    statistics = scorer._extract_corpus_statistics(hypotheses, streams(references))
    resampled = [score.score for score in _bootstrap_resample(statistics, scorer, 4000)[1]]
    assert interval.estimate == pytest.approx(corpus_bleu(hypotheses, references).score)
    spread = np.std(resampled)
    assert interval.low.item() == pytest.approx(np.quantile(resampled, 0.025), abs=0.15 * spread)
    assert interval.high.item() == pytest.approx(np.quantile(resampled, 0.975), abs=0.15 * spread)


def test_the_resamples_of_two_texts_are_known():
    """Two texts, BLEU-1 100 and 0: a resample scores 0, 50 or 100 with probability 1/4, 1/2, 1/4."""
    rows = bleu_statistics(["a", "x"], [["a"], ["b"]], max_order=1)
    draws = module._resampled_sums(rows, 8000, np.random.default_rng(0))
    shares = [(bleu_from_statistics(draws) == score).double().mean().item() for score in (0, 50, 100)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.02)
    interval = bleu_interval(rows, rng=0)
    assert [interval.low.item(), interval.high.item()] == [0, 100]


def test_a_wider_confidence_contains_a_narrower_one():
    rows = bleu_statistics(systems(50, 0.7)[1][0], systems(50, 0.7)[0])
    narrow, wide = (bleu_interval(rows, confidence=level, rng=0) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.estimate < narrow.high < wide.high


def test_equal_texts_give_an_interval_of_width_0():
    rows = bleu_statistics(["a b c d x"] * 5, [["a b c d y"]] * 5)
    interval = bleu_interval(rows, rng=0)
    assert interval.low == interval.high == interval.estimate


def test_p_is_that_of_sacrebleu():
    references, (a, b) = systems(200, 0.70, 0.715)
    ours = compare_bleu(*(bleu_statistics(texts, references) for texts in (a, b)), rng=0)
    test = PairedTest([("a", a), ("b", b)], {"BLEU": sacrebleu()}, streams(references), "ar", 10_000)
    theirs = test()[1]["BLEU"][1]
    assert ours.bleu_b == pytest.approx(theirs.score)
    assert 0.01 < theirs.p_value < 0.9  # a case in which p says something
    assert ours.p_value.item() == pytest.approx(theirs.p_value, abs=0.02)
    assert ours.difference.low < ours.bleu_b - ours.bleu_a < ours.difference.high


def test_p_is_the_share_of_all_exchanges_that_are_at_least_as_far_apart():
    references, (a, b) = systems(8, 0.6, 0.9)
    rows_a, rows_b = (bleu_statistics(texts, references) for texts in (a, b))
    apart = []
    for swap in itertools.product([False, True], repeat=8):
        swap = torch.tensor(swap)[:, None]
        first, second = (torch.where(swap, x, y).sum(0) for x, y in ((rows_b, rows_a), (rows_a, rows_b)))
        apart.append((bleu_from_statistics(second) - bleu_from_statistics(first)).abs().item())
    exact = np.mean(np.array(apart) >= apart[0] - 1e-9)
    assert compare_bleu(rows_a, rows_b, rng=0).p_value.item() == pytest.approx(exact, abs=0.01)


def test_a_system_compared_with_itself():
    references, [texts] = systems(30, 0.7)
    rows = bleu_statistics(texts, references)
    result = compare_bleu(rows, rows, rng=0)
    assert result.p_value == 1
    assert result.difference.low == result.difference.high == 0


def test_the_difference_is_b_less_a():
    references, (poor, good) = systems(60, 0.3, 0.9)
    rows = [bleu_statistics(texts, references) for texts in (poor, good)]
    forward, backward = compare_bleu(*rows, rng=0), compare_bleu(*rows[::-1], rng=0)
    assert forward.difference.low > 0 > backward.difference.high
    assert forward.p_value == backward.p_value == 1 / 10_000


def test_randomness_comes_in_through_rng():
    references, (a, b) = systems(40, 0.6, 0.7)
    rows = [bleu_statistics(texts, references) for texts in (a, b)]
    once, again = (compare_bleu(*rows, n_resamples=500, rng=5) for _ in range(2))
    assert str(once) == str(again)
    generator = torch.Generator().manual_seed(5)
    first, second = (bleu_interval(rows[0], n_resamples=500, rng=generator) for _ in range(2))
    assert first.low != second.low


def test_blocks_of_draws_cover_all_resamples(monkeypatch):
    rows = bleu_statistics(*map(list, zip(*[("a b c d", ["a b c d"])] * 7, strict=True)))
    monkeypatch.setattr(module, "DRAWS", 20)
    sums = module._resampled_sums(rows, 11, np.random.default_rng(0))
    assert torch.equal(sums, rows.sum(0).double().expand(11, -1))


# Bad input


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: corpus_bleu(["a cat"], ["a cat"]), TypeError, "references[0] is the str 'a cat'; expected a list"),
        (lambda: corpus_bleu(["a", "b"], [["a", "b"]]), ValueError, "2 hypotheses and 1 lists of references"),
        (lambda: corpus_bleu([], []), ValueError, "hypotheses is empty"),
        (lambda: corpus_bleu("a", [["a"]]), TypeError, "hypotheses is the str 'a'"),
        (lambda: corpus_bleu(["a"], [["a"]], tokenize="14a"), ValueError, "tokenize is '14a'; expected one of '13a'"),
        (lambda: corpus_bleu(["a"], [["a"]], smoothing="method1"), ValueError, "smoothing is 'method1'; expected one"),
        (lambda: corpus_bleu(["a"], [["a"]], max_order=0), ValueError, "max_order is 0"),
        (lambda: sentence_bleu(["a"], ["a"]), TypeError, "hypothesis is ['a']; expected a str"),
        (lambda: sentence_bleu("a", "a"), TypeError, "references is the str 'a'; expected a list of texts"),
        (lambda: sentence_bleu("a", []), ValueError, "references is empty"),
        (lambda: Bleu().compute(), ValueError, "no text was seen"),
        (lambda: Bleu().merge(Bleu("char")), ValueError, "tok:char"),
        (lambda: bleu_from_statistics([1, 2, 3]), ValueError, "statistics has shape (3,); expected (..., 2 + 2 * max_"),
        (lambda: bleu_from_statistics(3), ValueError, "statistics has shape ()"),
        (lambda: bleu_from_statistics([1, 1, 1, 1], "mean"), ValueError, "smoothing is 'mean'"),
        (lambda: bleu_interval([[1, 1, 1, 1]], rng=0), ValueError, "a row for each of 2 texts or more"),
        (lambda: bleu_interval([[1, 1, 1, 1]] * 2, rng=0, confidence=95), ValueError, "confidence is 95"),
        (lambda: bleu_interval([[1, 1, 1, 1]] * 2, rng=0, n_resamples=0), ValueError, "n_resamples is 0"),
        (lambda: bleu_interval([[1, 1, 1, 1]] * 2, rng=None), TypeError, "rng is None"),
        (
            lambda: compare_bleu([[1, 1, 1, 1]] * 2, [[1, 1, 1, 1]] * 3, rng=0),
            ValueError,
            "shapes are (2, 4) and (3, 4); expected the same texts",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_a_score_is_a_value():
    score = sentence_bleu("a b c d", ["a b c d"])
    assert replace(score, score=0.0) != score
    assert type(score.score) is float
    assert all(type(value) is int for value in (*score.counts, *score.totals, score.hypothesis_length))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_counts_may_lie_on_a_gpu():
    references, (a, b) = systems(20, 0.6, 0.7)
    rows = [bleu_statistics(texts, references) for texts in (a, b)]
    moved = [row.cuda() for row in rows]
    for smoothing in SMOOTHINGS:
        scores = bleu_from_statistics(moved[0], smoothing)
        assert scores.is_cuda
        torch.testing.assert_close(scores.cpu(), bleu_from_statistics(rows[0], smoothing))
    here, there = compare_bleu(*rows, n_resamples=200, rng=0), compare_bleu(*moved, n_resamples=200, rng=0)
    torch.testing.assert_close(there.difference.low.cpu(), here.difference.low)
    torch.testing.assert_close(there.p_value.cpu(), here.p_value)
