"""TER against sacrebleu; word error rate and SQuAD scores against torchmetrics; edit distance against its definition."""

import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import TER
from torchmetrics.functional.text import squad
from torchmetrics.functional.text import word_error_rate as torchmetrics_wer

from studyguide.text.edit import SquadScore, edit_distance, squad_em_f1, ter, word_error_rate

WORDS = ["the", "The", "cat", "sat", "on", "a", "mat.", "قطة", "猫", "😀"]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
CORPORA = st.integers(1, 3).flatmap(
    lambda k: st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=k, max_size=k)), min_size=1, max_size=3)
)
ANSWERS = st.lists(st.sampled_from(["the", "a", "Cat", "cat!", "the-cat", "3.5", "...", "قطة"]), max_size=5).map(
    " ".join
)
properties = settings(max_examples=150, deadline=None)


def peer(hypotheses, references, **settings):
    return TER(**settings).corpus_score(hypotheses, list(zip(*references, strict=True))).score


def levenshtein(a, b):
    """By the recurrence."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        new = [i]
        for j, y in enumerate(b, 1):
            new.append(min(row[j] + 1, new[-1] + 1, row[j - 1] + (x != y)))
        row = new
    return row[-1]


# --- TER


@given(CORPORA)
@properties
def test_ter_equals_sacrebleu(corpus):
    hypotheses, references = zip(*corpus, strict=True)
    assert ter(hypotheses, references) == pytest.approx(peer(hypotheses, references), abs=1e-9)
    cased = peer(hypotheses, references, case_sensitive=True)
    assert ter(hypotheses, references, lowercase=False) == pytest.approx(cased, abs=1e-9)


@pytest.mark.parametrize("vocabulary", [2, 8, 60])
@pytest.mark.parametrize(("words", "others"), [(20, 20), (3, 70), (70, 3), (45, 60), (110, 100)])
def test_ter_equals_sacrebleu_on_long_and_repetitive_texts(vocabulary, words, others):
    rng = random.Random(words + vocabulary)
    hypothesis, reference = (" ".join(str(rng.randrange(vocabulary)) for _ in range(n)) for n in (words, others))
    assert ter([hypothesis], [[reference]]) == pytest.approx(peer([hypothesis], [[reference]]), abs=1e-9)


def test_ter_equals_sacrebleu_on_texts_cut_and_swapped():
    rng = random.Random(0)
    hypotheses, references = [], []
    for _ in range(30):
        words = [str(rng.randrange(40)) for _ in range(rng.randrange(5, 40))]
        cut, other = rng.randrange(len(words)), rng.randrange(len(words))
        references.append([" ".join(words)])
        moved = words[cut:] + words[:cut]
        moved[other] = "new"
        hypotheses.append(" ".join(moved))
    assert ter(hypotheses, references) == pytest.approx(peer(hypotheses, references), abs=1e-9)


def test_ter_by_hand():
    assert ter(["on the mat the cat sat"], [["the cat sat on the mat"]]) == pytest.approx(100 / 6)  # one shift
    assert ter(["the cat sat"], [["the cat sat down now"]]) == pytest.approx(100 * 2 / 5)  # two insertions
    # The second reference needs one edit; both have 4.5 words on average.
    assert ter(["a cat sat up"], [["the dog lay down there", "a cat sat down"]]) == pytest.approx(100 / 4.5)


@pytest.mark.parametrize(
    ("hypothesis", "reference", "score"), [("", "a b", 100), ("a b", "", 100), ("", "", 0), ("a b c", "a", 200)]
)
def test_ter_of_empty_and_of_too_long_texts(hypothesis, reference, score):
    assert ter([hypothesis], [[reference]]) == pytest.approx(score) == peer([hypothesis], [[reference]])


# --- edit distance and word error rate


@given(st.lists(st.integers(0, 3), max_size=40), st.lists(st.integers(0, 3), max_size=40))
@properties
def test_edit_distance_is_levenshtein_s(a, b):
    assert edit_distance(a, b) == edit_distance(b, a) == levenshtein(a, b)


def test_edit_distance_of_long_and_empty_sequences():
    assert edit_distance("a" * 500, "b" * 300) == 500
    assert edit_distance([], [1, 2, 3]) == edit_distance([1, 2, 3], []) == 3
    assert edit_distance([], []) == 0


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5).filter(lambda corpus: any(r for _, r in corpus)))
@properties
def test_word_error_rate_equals_torchmetrics(corpus):
    hypotheses, references = map(list, zip(*corpus, strict=True))
    theirs = float(torchmetrics_wer(hypotheses, references))  # in float32
    assert word_error_rate(hypotheses, references) == pytest.approx(theirs, rel=1e-6)


def test_word_error_rate_by_hand():
    # One word replaced of three, then one inserted to two: 2 edits for 5 words.
    assert word_error_rate(["the cat sit", "a big dog"], ["the cat sat", "a dog"]) == 2 / 5
    assert word_error_rate(["a b c"], ["d"]) == 3


# --- SQuAD


@given(st.lists(st.tuples(ANSWERS, st.lists(ANSWERS, min_size=1, max_size=3)), min_size=1, max_size=4))
@properties
def test_squad_equals_torchmetrics(corpus):
    predictions, references = zip(*corpus, strict=True)
    theirs = squad(
        [{"prediction_text": text, "id": str(i)} for i, text in enumerate(predictions)],
        [{"answers": {"answer_start": [0], "text": r}, "id": str(i)} for i, r in enumerate(references)],
    )
    ours = squad_em_f1(predictions, references)
    assert (ours.exact_match, ours.f1) == pytest.approx((float(theirs["exact_match"]), float(theirs["f1"])), rel=1e-5)


def test_squad_by_hand():
    # "black cat" holds "cat" of the answer: F1 2 * 1 / (2 + 1); the first answer is exact but for an article and a point.
    score = squad_em_f1(["The cat.", "black cat"], [["a cat"], ["dog", "cat"]])
    assert (score.exact_match, score.f1) == (50, pytest.approx(float(100 * (1 + Fraction(2, 3)) / 2)))
    assert squad_em_f1(["the"], [["..."]]) == SquadScore(100.0, 100.0)
    assert squad_em_f1(["the"], [["cat"]]) == SquadScore(0.0, 0.0)
    assert squad_em_f1([""], [[""]]) == SquadScore(100.0, 100.0)


# --- errors


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ter(["a"], ["a"]), TypeError, "references[0] is the str 'a'"),
        (lambda: ter([], []), ValueError, "hypotheses is empty"),
        (lambda: squad_em_f1(["a"], ["b"]), TypeError, "references[0] is the str 'b'"),
        (lambda: squad_em_f1(["a"], []), ValueError, "1 hypotheses and 0 lists"),
        (lambda: word_error_rate(["a"], [["a"]]), TypeError, "references[0][0] is ['a']; expected a str"),
        (lambda: word_error_rate("a", "a"), TypeError, "hypotheses is the str 'a'"),
        (lambda: word_error_rate(["a"], "b"), TypeError, "references is the str 'b'"),
        (lambda: word_error_rate(["a", "b"], ["a"]), ValueError, "2 hypotheses and 1"),
        (lambda: word_error_rate(["a"], [""]), ValueError, "references contain no word"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)
