"""Leakage against comparing every pair, similarities worked by hand, and the invariances that must hold."""

import hashlib
import random
import unicodedata
from dataclasses import FrozenInstanceError
from difflib import SequenceMatcher

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from studyguide.datasets import tinyworld
from studyguide.statistics.leakage import Leak, Leakage, find_leakage, fingerprint, ngrams, normalise, words

properties = settings(deadline=None, max_examples=150)
measures = pytest.mark.parametrize("measure", ["jaccard", "containment"])
QUESTION = "What is the capital of France?"
# Few words, so that random texts share many n-grams, and marks that must make no difference.
TEXTS = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "D", "e,", "f."]), min_size=1, max_size=12).map(" ".join),
    min_size=1,
    max_size=8,
)
THRESHOLDS = st.sampled_from([0.01, 0.2, 0.25, 1 / 3, 0.5, 0.6, 2 / 3, 0.75, 0.8, 0.9, 1]) | st.floats(0.001, 1)


def every_pair(train, evaluation, threshold, n, measure):
    """{(evaluation index, train index): similarity} by comparing all pairs; the n-grams are scikit-learn's."""

    def grams(text):
        length = min(n, len(text.split()))
        analyse = CountVectorizer(analyzer="word", ngram_range=(length, length), token_pattern=r"\w+").build_analyzer()
        return set(analyse(text))

    found = {}
    for i, asked in enumerate(map(grams, evaluation)):
        for j, seen in enumerate(map(grams, train)):
            whole = asked if measure == "containment" else asked | seen
            if len(asked & seen) / len(whole) >= threshold:
                found[i, j] = len(asked & seen) / len(whole)
    return found


def pairs(result):
    return {(leak.evaluation_index, leak.train_index): leak.similarity for leak in result.leaks}


# Against comparing every pair


@measures
@properties
@given(train=TEXTS, evaluation=TEXTS, threshold=THRESHOLDS, n=st.integers(1, 5))
def test_the_index_finds_what_comparing_every_pair_finds(train, evaluation, threshold, n, measure):
    result = find_leakage(train, evaluation, threshold, n, measure)
    assert pairs(result) == every_pair(train, evaluation, threshold, n, measure)
    assert len(result.leaks) <= result.comparisons <= len(train) * len(evaluation)


@measures
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 1])
def test_tinyworld_against_comparing_every_pair(measure, threshold):
    train, evaluation = tinyworld.sample(300, rng=0), tinyworld.sample(60, rng=1)
    expected = every_pair(train, evaluation, threshold, 3, measure)
    assert expected
    assert pairs(find_leakage(train, evaluation, threshold, measure=measure)) == expected


@properties
@given(train=TEXTS, evaluation=TEXTS, threshold=THRESHOLDS, n=st.integers(1, 5))
def test_containment_finds_every_pair_that_jaccard_finds(train, evaluation, threshold, n):
    near = pairs(find_leakage(train, evaluation, threshold, n))
    contained = pairs(find_leakage(train, evaluation, threshold, n, "containment"))
    assert all(contained[pair] >= similarity for pair, similarity in near.items())


@properties
@given(a=TEXTS, b=TEXTS, threshold=THRESHOLDS)
def test_jaccard_is_symmetric(a, b, threshold):
    assert pairs(find_leakage(a, b, threshold)) == {
        (i, j): similarity for (j, i), similarity in pairs(find_leakage(b, a, threshold)).items()
    }


# Worked by hand


def test_similarities_by_hand():
    train, evaluation = ["the cat sat on the mat"], ["the cat sat on the sofa"]
    # the-cat-sat, cat-sat-on and sat-on-the are shared, on-the-mat and on-the-sofa are not
    assert pairs(find_leakage(train, evaluation, 0.1)) == {(0, 0): 3 / 5}
    assert pairs(find_leakage(train, evaluation, 0.1, measure="containment")) == {(0, 0): 3 / 4}
    assert pairs(find_leakage(train, evaluation, 0.1, n=1)) == {(0, 0): 4 / 6}  # "the" is one word, said twice


@pytest.mark.parametrize(("threshold", "found"), [(0.8, 1), (0.8000001, 0), (0.7999999, 1)])
def test_a_similarity_equal_to_the_threshold_counts(threshold, found):
    result = find_leakage(["a b c d e"], ["a b c d"], threshold, n=1)  # 4 / 5
    assert len(result.leaks) == found


@pytest.mark.parametrize("size", range(1, 60))
def test_every_share_of_n_grams_is_found_at_its_own_threshold(size):
    """No rounding of the threshold loses a pair: k of `size` words are shared."""
    evaluation = " ".join(f"word{i}" for i in range(size))
    for shared in range(1, size + 1):
        train = " ".join(f"word{i}" for i in range(shared))
        for measure in ("jaccard", "containment"):
            found = find_leakage([train], [evaluation], shared / size, n=1, measure=measure).leaks
            assert [leak.similarity for leak in found] == [shared / size]


def test_a_question_inside_a_document_escapes_symmetric_similarity():
    document = " ".join(tinyworld.sample(30, rng=0)) + " " + QUESTION + " " + " ".join(tinyworld.sample(30, rng=1))
    assert SequenceMatcher(None, QUESTION, document).ratio() < 0.1
    assert find_leakage([document], [QUESTION]).leaks == ()
    assert find_leakage([document], [QUESTION], measure="containment").leaks == (
        Leak(0, 0, "contained", 1.0, "what is the capital of france"),
    )


def test_templates_are_not_flagged():
    greece = "What is the capital of Greece?"
    assert SequenceMatcher(None, QUESTION, greece).ratio() > 0.8
    assert pairs(find_leakage([greece], [QUESTION], 0.1)) == {(0, 0): 3 / 5}
    for measure in ("jaccard", "containment"):
        assert find_leakage([greece], [QUESTION], measure=measure).leaks == ()


# Kinds and passages


@pytest.mark.parametrize(
    ("copy", "kind"),
    [
        (QUESTION, "exact"),
        ("  what IS the\n\tcapital of france? ", "exact"),
        ("What is the capital of Ｆｒａｎｃｅ？", "exact"),
        ("What is the capital of France", "near"),
        ("What is the capital, of France?!", "near"),
    ],
)
def test_kinds(copy, kind):
    assert find_leakage([copy], [QUESTION]).leaks == (Leak(0, 0, kind, 1.0, "what is the capital of france"),)
    contained = find_leakage([copy], [QUESTION], measure="containment").leaks
    assert [leak.kind for leak in contained] == ["exact" if kind == "exact" else "contained"]


@pytest.mark.parametrize(
    ("train", "passage"),
    [
        ("a b c d x y z", "a b c d"),
        ("x a b c y e f g h", "e f g h"),
        ("x a b c y f g h", "a b c"),  # of equal runs the first
    ],
)
def test_the_passage_is_the_longest_shared_run(train, passage):
    assert [leak.passage for leak in find_leakage([train], ["a b c d e f g h"], 0.01).leaks] == [passage]


def test_several_training_texts_leak_one_item():
    result = find_leakage([QUESTION, "The cat sat on the mat.", QUESTION.lower()], ["I love pizza.", QUESTION])
    assert [(leak.evaluation_index, leak.train_index) for leak in result.leaks] == [(1, 0), (1, 2)]
    assert result.rate == 0.5


def test_leaks_are_in_order_of_the_evaluation():
    result = find_leakage(["I love it.", QUESTION, "I love it!"], [QUESTION, "I love it."])
    assert [(leak.evaluation_index, leak.train_index) for leak in result.leaks] == [(0, 1), (1, 0), (1, 2)]


def test_an_item_that_stands_twice_in_the_evaluation_counts_twice():
    assert find_leakage([QUESTION], [QUESTION, QUESTION, "I love pizza."]).rate == 2 / 3


def test_results_are_frozen():
    result = find_leakage([QUESTION], [QUESTION])
    assert isinstance(result, Leakage)
    for part in (result, result.leaks[0]):
        with pytest.raises(FrozenInstanceError):
            part.rate = 0


# Invariances


@measures
@properties
@given(train=TEXTS, evaluation=TEXTS, seed=st.integers(0, 99))
def test_the_order_of_the_training_texts_makes_no_difference(train, evaluation, seed, measure):
    order = random.Random(seed).sample(range(len(train)), len(train))
    shuffled = pairs(find_leakage([train[j] for j in order], evaluation, 0.4, 2, measure))
    assert {(i, order[j]): similarity for (i, j), similarity in shuffled.items()} == pairs(
        find_leakage(train, evaluation, 0.4, 2, measure)
    )


@measures
@properties
@given(train=TEXTS, evaluation=TEXTS)
def test_training_texts_that_stand_twice_leak_twice(train, evaluation, measure):
    once, twice = (find_leakage(texts, evaluation, 0.4, 2, measure) for texts in (train, train + train))
    assert once.rate == twice.rate
    doubled = {(i, j + k): s for (i, j), s in pairs(once).items() for k in (0, len(train))}
    assert pairs(twice) == doubled


@measures
@properties
@given(train=TEXTS, evaluation=TEXTS)
def test_case_space_and_punctuation_make_no_difference(train, evaluation, measure):
    dressed = [f" «{text.upper()}» ".replace(" ", " \n ") + "!" for text in train]
    assert pairs(find_leakage(dressed, evaluation, 0.4, 2, measure)) == pairs(
        find_leakage(train, evaluation, 0.4, 2, measure)
    )


@properties
@given(texts=TEXTS, n=st.integers(1, 15))
def test_a_text_leaks_itself(texts, n):
    result = find_leakage(texts, texts, 1, n)
    assert {(i, i) for i in range(len(texts))} <= set(pairs(result))
    assert result.rate == 1


# Words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat's mat.", "the cat s mat"),
        ("state-of-the-art", "state of the art"),
        ("Straße STRASSE", "strasse strasse"),
        ("ﬁnal Ｆｕｌｌ", "final full"),
        ("cafe\u0301 CAFÉ", "café café"),
        ("2 + 2 = 4", "2 + 2 = 4"),
        ("yes👍no", "yes 👍 no"),
        ("cap\u00adital\u200b", "capital"),
        ("法国的首都", "法 国 的 首 都"),
        ("GPT在2024年", "gpt 在 2024 年"),
        ("ภาษาไทย", "ภ า ษ า ไ ท ย"),
        ("हिन्दी भाषा", "हिन्दी भाषा"),  # the vowel signs belong to the words
        ("서울은 수도", "서울은 수도"),
        ("?!", "?!"),
        ("a\x00b", "a b"),
    ],
)
def test_words(text, expected):
    assert words(text) == unicodedata.normalize("NFKC", expected).split()


def test_text_without_spaces():
    train = ["很多人问：法国的首都是哪里？答案是巴黎。", "希腊的首都是哪里？"]
    contained = find_leakage(train, ["法国的首都是哪里？"], measure="containment").leaks
    assert [(leak.train_index, leak.similarity) for leak in contained] == [(0, 1.0)]
    # of the 6 trigrams of each question, 4 are shared: 的首都, 首都是, 都是哪, 是哪里
    assert pairs(find_leakage(train[1:], ["法国的首都是哪里？"], 0.1)) == {(0, 0): 4 / 8}


def test_ngrams_are_distinct_and_in_order():
    assert list(ngrams("a b a b a", 2)) == [("a", "b"), ("b", "a")]
    assert list(ngrams("a b", 3)) == [("a", "b")]
    assert list(ngrams("...", 3)) == [("...",)]


def test_texts_shorter_than_n_are_found_where_they_are_repeated_whole():
    result = find_leakage(["paris", "It is Paris.", "Paris!"], ["Paris"], measure="containment")
    assert [(leak.train_index, leak.kind) for leak in result.leaks] == [(0, "exact"), (2, "contained")]


def test_fingerprint_is_the_sha256_of_the_normalised_text():
    assert normalise(" The\n CAT ") == "the cat"
    assert fingerprint(" The\n CAT ") == hashlib.sha256(b"the cat").hexdigest()
    assert fingerprint("The cat.") != fingerprint("The cat")


@properties
@given(st.text(min_size=1).filter(str.strip))
def test_any_text_is_read(text):
    assert words(text)
    assert find_leakage([text], [text]).leaks[0].kind == "exact"


# Errors


@pytest.mark.parametrize(
    ("train", "evaluation", "message"),
    [
        ([], ["a"], "train is empty"),
        (["a"], [], "evaluation is empty"),
        (["a", " \n"], ["a"], r"train\[1\] is empty"),
        (["a"], ["a", "b", ""], r"evaluation\[2\] is empty"),
    ],
)
def test_empty_input_is_named(train, evaluation, message):
    with pytest.raises(ValueError, match=message):
        find_leakage(train, evaluation)


@pytest.mark.parametrize(
    ("train", "evaluation", "message"),
    [
        ("a text", ["a"], "train is a str; expected several texts"),
        (["a"], "a text", "evaluation is a str"),
        (["a", None], ["a"], r"train\[1\] is of type NoneType; expected a str"),
        (["a"], [b"a"], r"evaluation\[0\] is of type bytes"),
    ],
)
def test_what_is_no_text_is_named(train, evaluation, message):
    with pytest.raises(TypeError, match=message):
        find_leakage(train, evaluation)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"threshold": 0}, ValueError, "threshold is 0"),
        ({"threshold": 1.01}, ValueError, "threshold is 1.01"),
        ({"threshold": float("nan")}, ValueError, "threshold is nan"),
        ({"threshold": "0.8"}, TypeError, "threshold is '0.8'"),
        ({"n": 0}, ValueError, "n is 0"),
        ({"n": 2.5}, TypeError, "n is 2.5"),
        ({"measure": "cosine"}, ValueError, "measure is 'cosine'; expected one of 'jaccard', 'containment'"),
    ],
)
def test_options_out_of_range(options, error, message):
    with pytest.raises(error, match=message):
        find_leakage(["a"], ["a"], **options)


# Scale


def test_training_texts_are_read_once():
    assert find_leakage((text for text in [QUESTION, "I love pizza."]), [QUESTION]).rate == 1


@pytest.mark.parametrize(("measure", "own_words"), [("jaccard", 2), ("jaccard", 30), ("containment", 30)])
def test_boilerplate_in_all_texts_does_not_bring_all_pairs_back(measure, own_words):
    """Every text has the same 14 words and then some of its own; all pairs would be four million."""
    shared = " ".join(f"shared{i}" for i in range(14))
    train = [f"{shared} " + " ".join(f"t{j}w{k}" for k in range(own_words)) for j in range(20_000)]
    evaluation = [f"{shared} " + " ".join(f"e{i}w{k}" for k in range(own_words)) for i in range(200)]
    leaked = [7, 11, 13]
    result = find_leakage(train + [evaluation[i] for i in leaked], evaluation, measure=measure)
    assert set(pairs(result)) == {(i, 20_000 + k) for k, i in enumerate(leaked)}
    assert result.comparisons < 1000


@measures
def test_items_are_looked_up_by_their_rarest_n_grams(measure):
    """Training texts are made of twenty sentences; each item has one of them, and more words of its own."""
    sentences = [" ".join(f"s{k}w{i}" for i in range(12)) for k in range(20)]
    train = [f"{a} {b} {c}" for a in sentences for b in sentences for c in sentences if a < b < c]
    evaluation = [f"{sentences[i % 20]} " + " ".join(f"e{i}w{k}" for k in range(20)) for i in range(200)]
    result = find_leakage([*train, evaluation[5]], evaluation, measure=measure)
    assert set(pairs(result)) == {(5, len(train))}
    assert result.comparisons == 1
