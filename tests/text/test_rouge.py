"""ROUGE against rouge-score on random, multilingual and degenerate text; LCS against its definition and its table."""

from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from studyguide.text.rouge import RougeScore, corpus_rouge, lcs_length, lcs_table, rouge_l, rouge_lsum, rouge_n

KINDS = ["rouge1", "rouge2", "rouge3", "rougeL", "rougeLsum"]
PIECES = [
    "the",
    "The",
    "cat",
    "cats",
    "running",
    "runs",
    "a",
    "is",
    "3",
    "x-ray",
    ".",
    "\n",
    "é",
    "über",
    "قطة",
    "猫",
    "İ",
    "😀",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join)
REFERENCES = st.lists(TEXTS, min_size=1, max_size=3)
SEQUENCES = st.lists(st.integers(0, 3), max_size=9)
NOTHING = RougeScore(0.0, 0.0, 0.0)
properties = settings(max_examples=150, deadline=None)
each_metric = pytest.mark.parametrize("metric", [rouge_n, rouge_l, rouge_lsum])


def numbers(score):
    return score.precision, score.recall, score.f1 if isinstance(score, RougeScore) else score.fmeasure


def longest_common_subsequence(a, b):
    """By definition: the longest selection of items of `a` that is also one of `b`."""
    chosen = ([set(combinations(x, k)) for k in range(len(x) + 1)] for x in (a, b))
    return max(k for k, (x, y) in enumerate(zip(*chosen, strict=False)) if x & y)


# --- parity


@pytest.mark.parametrize("stem", [False, True])
@given(hypothesis=TEXTS, references=REFERENCES)
@properties
def test_it_equals_rouge_score(stem, hypothesis, references):
    theirs = RougeScorer(KINDS, use_stemmer=stem).score_multi(references, hypothesis)
    ours = corpus_rouge([hypothesis], [references], KINDS, tokenize="rouge", stem=stem)
    for kind in KINDS:
        assert numbers(ours[kind]) == pytest.approx(numbers(theirs[kind]), abs=1e-9)


@given(hypothesis=st.text(max_size=60), reference=st.text(max_size=60))
@properties
def test_it_equals_rouge_score_on_any_characters(hypothesis, reference):
    theirs = RougeScorer(KINDS).score(reference, hypothesis)
    ours = corpus_rouge([hypothesis], [[reference]], KINDS, tokenize="rouge")
    for kind in KINDS:
        assert numbers(ours[kind]) == pytest.approx(numbers(theirs[kind]), abs=1e-9)


def test_a_corpus_is_the_mean_of_its_texts():
    texts = ["the cat sat", "a dog barked at the cat", "", "the the the"]
    references = [["the cat sat down"], ["the dog barked", "a cat"], ["nothing"], ["the end"]]
    scorer = RougeScorer(["rouge1", "rougeL"])
    theirs = [scorer.score_multi(r, t) for t, r in zip(texts, references, strict=True)]
    for kind, score in corpus_rouge(texts, references, ["rouge1", "rougeL"], tokenize="rouge").items():
        assert score.precision == pytest.approx(fmean(t[kind].precision for t in theirs), abs=1e-12)
        assert score.recall == pytest.approx(fmean(t[kind].recall for t in theirs), abs=1e-12)
        assert score.f1 == pytest.approx(fmean(t[kind].fmeasure for t in theirs), abs=1e-12)


def test_long_texts_with_repeated_words():
    a = " ".join(f"w{i * i % 37}" for i in range(500))
    b = " ".join(f"w{i * 7 % 41}" for i in range(450))
    theirs = RougeScorer(KINDS).score(b, a)
    ours = corpus_rouge([a], [[b]], KINDS, tokenize="rouge")
    assert all(numbers(ours[kind]) == pytest.approx(numbers(theirs[kind]), abs=1e-9) for kind in KINDS)


# --- by hand


def test_rouge_n_by_hand():
    # "the" twice and twice: 2; "cat" once and once: 1. Bigrams "the cat": once and once.
    hypothesis, references = "the cat the cat on the mat", ["the cat sat on the mat"]
    assert numbers(rouge_n(hypothesis, references)) == pytest.approx((5 / 7, 5 / 6, 10 / 13))
    assert numbers(rouge_n(hypothesis, references, n=2)) == pytest.approx((3 / 6, 3 / 5, 6 / 11))
    assert rouge_n(hypothesis, references, n=5) == NOTHING


def test_rouge_l_is_about_order():
    assert rouge_l("mat on sat cat", ["cat sat on mat"]).f1 == 1 / 4
    assert rouge_n("mat on sat cat", ["cat sat on mat"]).f1 == 1


def test_lsum_is_the_paper_s_union():
    # Lin (2004), section 3.2: w1 w2 w3 w4 w5 against w1 w2 w6 w7 w8 and w1 w3 w8 w9 w5 has the union w1 w2 w3 w5: recall 4 / 5.
    score = rouge_lsum("w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", ["w1 w2 w3 w4 w5"])
    assert numbers(score) == pytest.approx((4 / 10, 4 / 5, 8 / 15))


def test_lsum_without_newlines_is_rouge_l():
    texts = "the cat sat on the mat", ["on the mat the cat sat"]
    assert rouge_lsum(*texts) == rouge_l(*texts)


def test_several_references():
    references = ["the cat", "the cat sat on the mat", "a dog"]
    single = [rouge_n("the cat sat", [reference]) for reference in references]
    assert rouge_n("the cat sat", references) == max(single, key=lambda score: score.f1)
    mean = rouge_n("the cat sat", references, reduce="mean")
    assert numbers(mean) == pytest.approx([fmean(column) for column in zip(*map(numbers, single), strict=True)])


# --- tokens


@pytest.mark.parametrize(
    "text", ["القطة على السجادة", "قِطّة", "แมวนั่ง", "猫坐在垫子上", "कैट", "Кошка", "naïve café", "x"]
)
@each_metric
def test_a_text_in_any_script_agrees_with_itself(metric, text):
    assert metric(text, [text]) == RougeScore(1.0, 1.0, 1.0)


def test_rouge_tokens_lose_arabic():
    assert rouge_n("مرحبا GPT", ["وداعا GPT"], tokenize="rouge").f1 == 1
    assert rouge_n("مرحبا GPT", ["وداعا GPT"]).f1 == 0.5
    assert rouge_n("مرحبا", ["مرحبا"], tokenize="rouge") == NOTHING


def test_tokenisation_is_part_of_the_metric():
    texts = "The cats were running quickly.", ["the cat was running quickly"]
    settings = {"tokenize": "whitespace"}, {"tokenize": "rouge"}, {"tokenize": "rouge", "stem": True}
    assert [rouge_n(*texts, **s).f1 for s in settings] == pytest.approx([0.2, 0.6, 0.8])


# --- properties and edges


@each_metric
@pytest.mark.parametrize(("hypothesis", "reference"), [("", "a b"), ("a b", ""), ("", ""), ("...", "a"), ("\n", "\n")])
def test_an_empty_text_scores_0(metric, hypothesis, reference):
    assert metric(hypothesis, [reference]) == NOTHING


@each_metric
@given(hypothesis=TEXTS, references=REFERENCES)
@properties
def test_bounds_and_the_order_of_references(metric, hypothesis, references):
    score = metric(hypothesis, references)
    assert all(0 <= value <= 1 for value in numbers(score))
    assert metric(hypothesis, references[::-1]).f1 == score.f1
    assert metric(hypothesis, [*references, hypothesis]).f1 in (0, 1)


@each_metric
@given(a=TEXTS, b=TEXTS)
@properties
def test_swapping_the_sides_swaps_precision_and_recall(metric, a, b):
    if metric is rouge_lsum:  # its union runs over the reference's lines
        a, b = a.replace("\n", " "), b.replace("\n", " ")
    score, swapped = metric(a, [b]), metric(b, [a])
    assert numbers(swapped) == pytest.approx((score.recall, score.precision, score.f1))


# --- LCS


@given(SEQUENCES, SEQUENCES)
@properties
def test_lcs_is_the_longest(a, b):
    assert lcs_length(a, b) == lcs_table(a, b)[-1][-1] == longest_common_subsequence(a, b)


@given(st.lists(st.integers(0, 20), max_size=150), st.lists(st.integers(0, 20), max_size=150))
@properties
def test_the_fast_length_is_the_table_s(a, b):
    table = lcs_table(a, b)
    assert (len(table), len(table[0])) == (len(a) + 1, len(b) + 1)
    assert lcs_length(a, b) == lcs_length(b, a) == table[-1][-1]
    assert lcs_length(a, a) == len(a)


def test_lcs_of_huge_sequences():
    a = list(range(3000))
    assert lcs_length(a, a[::-1]) == 1
    assert lcs_length(a, a[::3]) == 1000
    assert lcs_length(a, []) == lcs_length([], a) == 0


# --- errors


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rouge_n("a", "a"), TypeError, "references is the str 'a'; expected a list of texts"),
        (lambda: rouge_l("a", []), ValueError, "references is empty"),
        (lambda: rouge_l(["a"], ["a"]), TypeError, "hypothesis is ['a']; expected a str"),
        (lambda: rouge_n("a", ["a"], n=0), ValueError, "n is 0; expected at least 1"),
        (lambda: rouge_n("a", ["a"], n=1.5), TypeError, "n is 1.5"),
        (lambda: rouge_n("a", ["a"], tokenize="word"), ValueError, "'word'; expected one of"),
        (lambda: rouge_n("a", ["a"], reduce="median"), ValueError, "reduce is 'median'; expected one of 'max', 'mean'"),
        (lambda: corpus_rouge(["a"], ["a"]), TypeError, "references[0] is the str 'a'"),
        (lambda: corpus_rouge(["a"], [["a"], ["b"]]), ValueError, "1 hypotheses and 2 lists of references"),
        (lambda: corpus_rouge([], []), ValueError, "hypotheses is empty"),
        (lambda: corpus_rouge(["a"], [["a"]], ["rouge0"]), ValueError, "kinds contains 'rouge0'"),
        (lambda: corpus_rouge(["a"], [["a"]], ["bleu"]), ValueError, "kinds contains 'bleu'"),
        (lambda: corpus_rouge(["a"], [["a"]], "rouge1"), TypeError, "kinds is 'rouge1'; expected a list"),
        (lambda: corpus_rouge(["a"], [["a"]], []), TypeError, "kinds is []"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)
