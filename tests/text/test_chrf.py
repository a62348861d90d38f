"""chrF and chrF++ against sacrebleu on random, multilingual and degenerate text, and by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import CHRF

from studyguide.text.chrf import BLOCK, chrf, corpus_chrf

PIECES = ["the cat", "(hi)", '"so"', "x", ".", "...", "It's 3.5%", "قِطّة", "猫坐在", "Кошка", "😀", "\n", "\t", "é"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map(" ".join)
CORPORA = st.integers(1, 3).flatmap(
    lambda k: st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=k, max_size=k)), min_size=1, max_size=5)
)
properties = settings(max_examples=150, deadline=None)


def peer(hypotheses, references, **settings):
    return CHRF(**settings).corpus_score(hypotheses, list(zip(*references, strict=True))).score


# --- parity


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"word_order": 2},
        {"char_order": 0, "word_order": 3},
        {"char_order": 3, "beta": 1, "lowercase": True},
        {"whitespace": True, "word_order": 1},
    ],
)
@given(corpus=CORPORA)
@properties
def test_it_equals_sacrebleu(settings, corpus):
    hypotheses, references = zip(*corpus, strict=True)
    assert corpus_chrf(hypotheses, references, **settings) == pytest.approx(
        peer(hypotheses, references, **settings), abs=1e-9
    )


@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), min_size=1, max_size=4))
@properties
def test_it_equals_sacrebleu_on_any_characters(corpus):
    hypotheses, references = [h for h, _ in corpus], [[r] for _, r in corpus]
    for order in (0, 2):
        ours = corpus_chrf(hypotheses, references, word_order=order)
        assert ours == pytest.approx(peer(hypotheses, references, word_order=order), abs=1e-9)


def test_thousands_of_different_characters_need_their_n_grams_numbered_anew():
    texts = ["".join(chr(0x4E00 + (i * i + 31 * k) % 20000) for i in range(400)) for k in range(BLOCK + 3)]
    references = [[text[5:] + text[:5]] for text in texts]
    assert corpus_chrf(texts, references) == pytest.approx(peer(texts, references), abs=1e-9)


def test_a_corpus_of_several_blocks():
    texts = [f"item {i} of {i % 7} kinds" for i in range(2 * BLOCK + 1)]
    references = [[f"item {i} of {i % 5} kinds", "another one"] for i in range(2 * BLOCK + 1)]
    for order in (0, 2):
        assert corpus_chrf(texts, references, word_order=order) == pytest.approx(
            peer(texts, references, word_order=order)
        )


def test_a_huge_text():
    text = " ".join(f"{i * i % 1009} words" for i in range(5000))
    assert corpus_chrf([text], [[text[100:]]], word_order=2) == pytest.approx(
        peer([text], [[text[100:]]], word_order=2)
    )


def test_references_may_differ_in_number():
    texts, references = ["a cat", "a dog"], [["the cat"], ["a dog", "dogs"]]
    theirs = CHRF().corpus_score(texts, [["the cat", "a dog"], [None, "dogs"]]).score
    assert corpus_chrf(texts, references) == pytest.approx(theirs, abs=1e-9)


# --- by hand


def test_by_hand():
    # "abc" against "abd": 2 of 3 characters, 1 of 2 pairs, 0 of 1 triple; nothing is longer. Mean (2/3 + 1/2 + 0) / 3.
    assert chrf("abc", ["abd"]) == pytest.approx(100 * 7 / 18)
    # "ab" against "abcd": precision 1 and 1, recall 2/4 and 1/3; orders 3 and 4 only the reference has: not counted.
    precision, recall = 1, (1 / 2 + 1 / 3) / 2
    assert chrf("ab", ["abcd"]) == pytest.approx(100 * 5 * precision * recall / (4 * precision + recall))
    # chrF++ adds the words: none of one in common, and no pair of words.
    assert chrf("abc", ["abd"], word_order=2) == pytest.approx(100 * (7 / 6) / 4)


def test_beta_weighs_recall():
    assert chrf("ab", ["abcd"], beta=3) < chrf("ab", ["abcd"], beta=1)
    assert chrf("abcd", ["ab"], beta=3) > chrf("abcd", ["ab"], beta=1)


# --- properties and edges


@given(CORPORA)
@properties
def test_bounds_and_the_order_of_references(corpus):
    hypotheses, references = zip(*corpus, strict=True)
    assert 0 <= corpus_chrf(hypotheses, references) <= 100 + 1e-9
    for hypothesis, others in corpus:
        assert chrf(hypothesis, others) == pytest.approx(chrf(hypothesis, others[::-1]), abs=1e-9)


@pytest.mark.parametrize("text", ["x", "القطة", "แมว", "猫坐在垫子上", "the cat sat"])
def test_identical_texts_score_100(text):
    assert chrf(text, [text]) == pytest.approx(100)
    assert chrf(text, [text], word_order=2) == pytest.approx(100)


@pytest.mark.parametrize(("hypothesis", "reference"), [("", "a"), ("a", ""), ("", ""), (" \n", "a"), ("a", "b")])
def test_nothing_in_common_scores_0(hypothesis, reference):
    assert chrf(hypothesis, [reference]) == 0
    assert chrf(hypothesis, [reference], word_order=2) == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: corpus_chrf(["a"], ["a"]), TypeError, "references[0] is the str 'a'"),
        (lambda: corpus_chrf(["a", "b"], [["a"]]), ValueError, "2 hypotheses and 1 lists"),
        (lambda: corpus_chrf([], []), ValueError, "hypotheses is empty"),
        (lambda: chrf("a", ["a"], char_order=0), ValueError, "char_order and word_order are both 0"),
        (lambda: chrf("a", ["a"], char_order=-1), ValueError, "char_order is -1"),
        (lambda: chrf("a", ["a"], word_order=1.5), TypeError, "word_order is 1.5"),
        (lambda: chrf("a", ["a"], beta=0), ValueError, "beta is 0; expected a positive finite number"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)
