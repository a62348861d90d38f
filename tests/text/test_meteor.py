"""METEOR against nltk without WordNet, against a stand-in for WordNet, and by hand."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.meteor_score import align_words, meteor_score

from studyguide.text.meteor import MeteorScore, meteor, wordnet_synonyms

WORDS = [
    "the",
    "The",
    "cat",
    "cats",
    "running",
    "runs",
    "a",
    "is",
    "study",
    "studies",
    "mat.",
    "dog",
    "hound",
    "قطة",
    "猫",
    "É",
]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
REFERENCES = st.lists(TEXTS, min_size=1, max_size=3)
NOTHING = MeteorScore(0.0, 0.0, 0.0, 0.0, 0.0, 0, ())
MEANINGS = {
    "dog": ["dog", "hound"],
    "hound": ["hound", "dog", "hunting_dog"],
    "cat": ["cat", "dog"],
    "runs": ["is", "studies"],
}
STEMS = st.lists(st.sampled_from(["dog", "hound", "cat", "run", "jog", "mat"]), max_size=9).map(" ".join)
properties = settings(max_examples=200, deadline=None)


def wordnet(meanings):
    """What nltk asks of WordNet, with these meanings."""

    def synsets(word):
        return [SimpleNamespace(lemmas=lambda: [SimpleNamespace(name=lambda n=n: n) for n in meanings.get(word, [])])]

    return SimpleNamespace(synsets=synsets)


def peer(hypothesis, references, meanings=None, **parameters):
    references = [reference.split() for reference in references]
    return meteor_score(references, hypothesis.split(), wordnet=wordnet(meanings or {}), **parameters)


# --- parity


@given(hypothesis=TEXTS, references=REFERENCES)
@properties
def test_it_equals_nltk_on_forms_and_stems(hypothesis, references):
    ours = meteor(hypothesis, references, tokenize="whitespace")
    assert ours.score == pytest.approx(peer(hypothesis, references), abs=1e-9)


@given(TEXTS, TEXTS, st.floats(0, 1), st.floats(0, 5), st.floats(0, 1))
@properties
def test_it_equals_nltk_at_any_parameters(hypothesis, reference, alpha, beta, gamma):
    ours = meteor(hypothesis, [reference], alpha, beta, gamma, tokenize="whitespace").score
    assert ours == pytest.approx(peer(hypothesis, [reference], alpha=alpha, beta=beta, gamma=gamma), abs=1e-9)


@given(hypothesis=st.text(max_size=40), reference=st.text(max_size=40))
@properties
def test_it_equals_nltk_on_any_characters(hypothesis, reference):
    ours = meteor(hypothesis, [reference], tokenize="whitespace").score
    assert ours == pytest.approx(peer(hypothesis, [reference]), abs=1e-9)


@given(hypothesis=STEMS, reference=STEMS)  # nltk looks up the synonyms of stems
@properties
def test_synonyms_equal_nltk_with_the_same_meanings(hypothesis, reference):
    def synonyms(word):
        return [name for name in MEANINGS.get(word, []) if "_" not in name]

    ours = meteor(hypothesis, [reference], tokenize="whitespace", synonyms=synonyms)
    assert ours.score == pytest.approx(peer(hypothesis, [reference], MEANINGS), abs=1e-9)
    theirs, *_ = align_words(hypothesis.split(), reference.split(), wordnet=wordnet(MEANINGS))
    assert [(i, j) for i, j, _ in ours.alignment] == theirs


def test_a_long_text_equals_nltk():
    a = " ".join(WORDS[i * i % 13] for i in range(400))
    b = " ".join(WORDS[i * 7 % 16] for i in range(300))
    assert meteor(a, [b], tokenize="whitespace").score == pytest.approx(peer(a, [b]), abs=1e-9)


# --- by hand


def test_synonyms_are_those_of_the_word_itself():
    result = meteor("two studies", ["two papers"], synonyms={"studies": ["papers"], "two": []}.get)
    assert result.alignment == ((0, 0, "exact"), (1, 1, "synonym"))


def test_by_hand():
    # sat on the mat | cat: five matches in two chunks, one of them by its stem.
    result = meteor("sat on the mat cats", ["a cat sat on the mat"])
    assert result.alignment == ((0, 2, "exact"), (1, 3, "exact"), (2, 4, "exact"), (3, 5, "exact"), (4, 1, "stem"))
    assert (result.chunks, result.precision, result.recall) == (2, 1, 5 / 6)
    assert result.f_mean == pytest.approx((5 / 6) / (0.9 + 0.1 * 5 / 6))
    assert result.penalty == pytest.approx(0.5 * (2 / 5) ** 3)
    assert result.score == pytest.approx((1 - result.penalty) * result.f_mean)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 100])
def test_identical_texts_of_n_words(n):
    text = " ".join(f"w{i}" for i in range(n))
    assert meteor(text, [text]).score == pytest.approx(1 - 0.5 / n**3)


def test_the_alignment_is_greedy_from_the_end():
    # "the" at the front takes the last free "the": two crossings and six chunks, where three were possible.
    result = meteor("on the mat sat the cats", ["the cat sat on the mat"])
    assert [pair[:2] for pair in result.alignment] == [(0, 3), (1, 0), (2, 5), (3, 2), (4, 4), (5, 1)]
    assert result.chunks == 6


def test_a_stem_is_tried_only_for_what_has_no_exact_partner():
    assert [stage for *_, stage in meteor("cats cat", ["cat cats"]).alignment] == ["exact", "exact"]
    assert [stage for *_, stage in meteor("cats cats", ["cat cats"]).alignment] == ["stem", "exact"]


def test_the_best_reference_counts():
    references = ["a dog", "the cat sat", "the cat"]
    assert meteor("the cat", references) == meteor("the cat", ["the cat"])


def test_tokens():
    assert meteor("The mat.", ["the mat"]).score == meteor("the mat", ["the mat"]).score
    assert meteor("The mat.", ["the mat"], tokenize="whitespace").score == pytest.approx(0.5 * 0.5)
    assert meteor("القطة على السجادة", ["القطة على السجادة"]).score == pytest.approx(1 - 0.5 / 27)


# --- properties, edges, errors


@pytest.mark.parametrize(("hypothesis", "reference"), [("", "a b"), ("a b", ""), ("", ""), ("a", "b"), ("...", "...")])
def test_nothing_in_common_scores_0(hypothesis, reference):
    assert meteor(hypothesis, [reference]) == NOTHING


@given(hypothesis=TEXTS, references=REFERENCES)
@properties
def test_bounds_and_the_order_of_references(hypothesis, references):
    result = meteor(hypothesis, references)
    assert 0 <= result.score <= result.f_mean <= 1
    assert result.chunks <= len(result.alignment)
    assert meteor(hypothesis, references[::-1]).score == result.score
    assert len({i for i, _, _ in result.alignment}) == len({j for _, j, _ in result.alignment}) == len(result.alignment)


def test_wordnet_is_never_fetched(monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(LookupError, match="WordNet is not installed"):
        meteor("a dog", ["a hound"], synonyms=wordnet_synonyms)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("a", "a"), TypeError, "references is the str 'a'"),
        (("a", []), ValueError, "references is empty"),
        (("a", ["a"], 1.5), ValueError, "alpha is 1.5; expected a number from 0 to 1"),
        (("a", ["a"], 0.9, -1), ValueError, "beta is -1; expected a number of at least 0"),
        (("a", ["a"], 0.9, float("nan")), ValueError, "beta is nan"),
        (("a", ["a"], 0.9, 3, 2), ValueError, "gamma is 2"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    with pytest.raises(error) as raised:
        meteor(*arguments)
    assert message in str(raised.value)
