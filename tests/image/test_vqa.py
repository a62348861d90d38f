"""VQA accuracy against the published numbers and a loop over the annotators; evaluation against both, and the bootstrap."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from studyguide.datasets import shapes
from studyguide.image.captioning import generate_texts
from studyguide.image.vqa import annotator_accuracy, evaluate_vqa, normalize_answer, score_answers, vqa_accuracy
from studyguide.models import load_vqa
from studyguide.statistics.bootstrap import bootstrap_interval
from tests.image.tiny_models import Processor, encoder_decoder, images

QUESTIONS = ["what colour is the circle", "how many", "is there a red square on the star", "how many stars are there"]
ANSWERS = [
    ["red"] * 9 + ["blue"],
    ["4"] * 6 + ["four"] * 3 + ["2"],
    ["no"] * 5 + ["yes"] * 5,
    ["circle"] * 4 + ["x"] * 6,
]
KINDS = ["colour", "count", "colour", "count"]
properties = settings(max_examples=200, deadline=None)
words = st.sampled_from(["red", "blue", "a red", "Red.", "two", "2", ""])
panels = st.lists(words, min_size=4, max_size=12)


def close(a, b, rtol=0.0, atol=1e-12):
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


# Normalisation


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Cat", "cat"),
        ("  a  Cat\n", "cat"),
        ("the cat.", "cat"),
        ("An apple!", "apple"),
        ("banana", "banana"),  # articles are words
        ("Two", "2"),
        ("none", "0"),
        ("ten", "10"),
        ("eleven", "eleven"),
        ("someone", "someone"),
        ("one of the ten", "1 of 10"),
        ("dont", "don't"),
        ("couldn'tve", "couldn't've"),
        ("Im", "i'm"),
        ("shed", "shed"),  # a word of its own, unlike
        ("she's", "she's"),
        ("well", "well"),
        ("yes, it is", "yes it is"),
        ("black-and-white", "black and white"),
        ("blue/green", "blue green"),
        ("left - right", "left right"),
        ("x-ray -", "xray"),  # one mark at a blank, and each like it is taken out
        ("1,000", "1000"),
        ("$1,000/day", "$1000day"),
        ("3.5", "3.5"),
        (".5", ".5"),
        ("U.S.", "us"),
        ("5 p.m.", "5 pm"),
        ("No.5", "no.5"),
        ("dog's", "dog's"),
        ("A", "a"),
        ("the", "the"),
        ("", ""),
        ("?!", ""),
        ("left: 2", "left: 2"),  # a colon is no punctuation there
    ],
)
def test_normalisation(answer, expected):
    assert normalize_answer(answer) == expected


@properties
@given(st.text(alphabet="ab12 .,-'!THEone", max_size=20))
def test_normalised_answers_are_lower_case_without_surplus_blanks(answer):
    normal = normalize_answer(answer)
    assert normal == " ".join(normal.lower().split())
    assert not set(normal) & set(',-!"')
    assert normalize_answer(f" {answer.upper()}\t") == normal


# Accuracy


@pytest.mark.parametrize(("matches", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (9, 1), (10, 1)])
def test_ten_annotators(matches, expected):
    close(vqa_accuracy("cat", ["cat"] * matches + ["dog"] * (10 - matches)), expected)


@properties
@given(words, panels)
def test_accuracy_equals_the_mean_over_the_subsets(prediction, answers):
    same = {"red": 0, "a red": 0, "Red.": 0, "blue": 1, "two": 2, "2": 2, "": 3}  # normalised by hand
    subsets = [answers[:i] + answers[i + 1 :] for i in range(len(answers))]
    credit = [min(sum(same[other] == same[prediction] for other in subset) / 3, 1) for subset in subsets]
    close(vqa_accuracy(prediction, answers), sum(credit) / len(credit))


@properties
@given(words, panels, st.randoms())
def test_bounds_and_the_order_of_the_annotators(prediction, answers, random):
    accuracy = vqa_accuracy(prediction, answers)
    assert 0 <= accuracy <= 1
    random.shuffle(answers)
    close(vqa_accuracy(prediction, answers), accuracy)


@properties
@given(st.integers(4, 15))
def test_accuracy_rises_with_the_matches_to_1(n):
    accuracies = [vqa_accuracy("x", ["x"] * k + ["y"] * (n - k)) for k in range(n + 1)]
    assert accuracies == sorted(accuracies)
    assert accuracies[0] == 0
    close(accuracies[4:], [1] * (n - 3))


def test_a_unanimous_answer_is_normalised_too():
    assert vqa_accuracy("Black.", ["black"] * 10) == 1
    assert vqa_accuracy("", ["a"] * 10) == vqa_accuracy("the", ["a"] * 10) == 0


@properties
@given(panels)
def test_annotators_are_held_against_the_others_one_by_one(answers):
    normal = [{"a red": "red", "Red.": "red", "two": "2"}.get(answer, answer) for answer in answers]
    credit = [min((normal.count(answer) - 1) / 3, 1) for answer in normal]
    accuracy = annotator_accuracy(answers)
    close(accuracy, np.mean(credit))
    # nobody does worse by giving the commonest answer
    assert max(vqa_accuracy(answer, answers) for answer in answers) >= accuracy - 1e-12


def test_annotators_by_hand():
    assert annotator_accuracy(["no"] * 10) == 1
    assert annotator_accuracy(["red", "blue", "pink", "green"]) == 0
    close(annotator_accuracy(["no"] * 3 + ["yes"] * 7), (3 * 2 / 3 + 7) / 10)


@pytest.mark.parametrize(
    ("prediction", "answers", "error", "message"),
    [
        ("cat", "cat", TypeError, "answers is the str 'cat'; expected a list of texts"),
        (7, ["cat"] * 10, TypeError, "answer is 7; expected a str"),
        ("cat", ["cat"] * 9 + [None], TypeError, "answer is None; expected a str"),
        ("cat", ["cat"] * 3, ValueError, "there are 3 answers; expected 4 or more"),
        ("cat", [], ValueError, "there are 0 answers"),
    ],
)
def test_errors_of_accuracy(prediction, answers, error, message):
    with pytest.raises(error, match=re.escape(message)):
        vqa_accuracy(prediction, answers)
    if prediction == "cat":
        with pytest.raises(error, match=re.escape(message)):
            annotator_accuracy(answers)


# Scores of many


def test_scores_by_hand():
    scores = score_answers(["Blue", "four", "no", "star"], ANSWERS, kinds=KINDS)
    close(scores.question_accuracy, [0.3, 1, 1, 0])  # one of ten; nine of ten after normalisation; five; none
    close(scores.question_exact_match, [0, 0, 1, 0])  # "four" is not "4"; of the tied "no" and "yes" the first counts
    close([scores.accuracy.estimate, scores.exact_match.estimate], [2.3 / 4, 1 / 4])
    close([scores.kinds[kind].estimate for kind in ("colour", "count")], [1.3 / 2, 1 / 2])
    assert list(scores.kinds) == ["colour", "count"]
    assert str(scores).splitlines()[0] == "answers given, 4 questions"


def test_intervals_without_groups_are_the_bootstrap_of_the_questions():
    """All resamples of three questions, from enumeration."""
    scores = score_answers(["blue", "4", "x"], ANSWERS[:3], rng=1)
    values = [0.3, 1, 0]
    means = sorted(sum(values[i] for i in (a, b, c)) / 3 for a in range(3) for b in range(3) for c in range(3))
    close([scores.accuracy.low, scores.accuracy.high], [means[0], means[-1]])
    expected = bootstrap_interval((values, [1, 1, 1]), lambda s, n: s.sum(-1) / n.sum(-1), paired=True, rng=1)
    assert str(scores.accuracy) == str(expected)


def test_groups_are_drawn_whole():
    predictions = ["red", "blue", "circle", "circle", "y", "y"]  # right, then wrong: twice, once and three times
    answers = [["red"] * 10, ["red"] * 10, *[["circle"] * 10] * 4]
    groups = ["a", "b", "a", "a", "b", "c"]
    scores = score_answers(predictions, answers, groups=groups, rng=0)
    # a: 3 of 3 right, b: 0 of 2, c: 0 of 1. The 27 resamples of the groups:
    right, size = {"a": 3, "b": 0, "c": 0}, {"a": 3, "b": 2, "c": 1}
    draws = [(x, y, z) for x in right for y in right for z in right]
    shares = np.array([sum(map(right.get, d)) / sum(map(size.get, d)) for d in draws])
    close(scores.accuracy.estimate, 0.5)
    low, high = np.quantile(shares, [0.025, 0.975], method="inverted_cdf")
    close([scores.accuracy.low, scores.accuracy.high], [low, high])
    # one by one: of 6 draws with a chance of 1/2 each, none is right in 1.6 % of all cases, at most one in 10.9 %
    close(score_answers(predictions, answers, groups=list("xyzuvw"), rng=0).accuracy.low, 1 / 6)
    assert low == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"predictions": "red"},
            TypeError,
            "predictions is the str 'red'; expected a list with one entry per question",
        ),
        ({"answers": ["red", "2", "no", "x"]}, TypeError, "answers is the str 'red'; expected a list of texts"),
        ({"answers": ANSWERS[:3]}, ValueError, "length of answers is 3; expected 4, one entry per question"),
        ({"kinds": KINDS[:1]}, ValueError, "length of kinds is 1; expected 4"),
        (
            {"kinds": ["a", "a", "a", "b"]},
            ValueError,
            "the number of questions, or of their groups, is 1 (b); expected 2",
        ),
        ({"groups": [1, 1, 1, 1]}, ValueError, "or of their groups, is 1 (all); expected 2"),
        ({"groups": [1]}, ValueError, "length of groups is 1"),
        ({"predictions": [], "answers": []}, ValueError, "or of their groups, is 0 (all)"),
    ],
)
def test_errors_of_scores(change, error, message):
    with pytest.raises(error, match=re.escape(message)):
        score_answers(**{"predictions": ["a"] * 4, "answers": ANSWERS} | change)


# Evaluation


@pytest.fixture(scope="module")
def model():
    return encoder_decoder()


def test_evaluation_is_generation_and_scores_whatever_the_batch_size(model):
    pictures, processor = images(4), Processor()
    predictions = generate_texts(model, processor, pictures, QUESTIONS, max_new_tokens=1)
    assert predictions == ["four", "blue", "four", "circle"]
    answers = [["four", "star"] * 5, ["red"] * 10, ["4"] * 10, ["circle"] * 10]
    expected = score_answers(predictions, answers, kinds=KINDS, rng=2)
    close(expected.question_accuracy, [1, 0, 1, 1])
    for batch_size in (1, 2, 4):
        arguments = pictures, QUESTIONS, answers, batch_size
        scores = evaluate_vqa(model, processor, *arguments, max_new_tokens=1, kinds=KINDS, rng=2)
        assert scores.predictions == predictions
        assert str(scores).splitlines()[1:] == str(expected).splitlines()[1:]
        assert scores.model == "VisionEncoderDecoderModel"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"questions": QUESTIONS[0]}, TypeError, "questions is the str 'what colour"),
        ({"questions": QUESTIONS[:3]}, ValueError, "length of questions is 3; expected 4"),
        ({"answers": [*ANSWERS[:3], ["x"]]}, ValueError, "there are 1 answers; expected 4 or more"),
        ({"batch_size": 0}, ValueError, "batch_size is 0; expected at least 1"),
    ],
)
def test_errors_of_evaluation(model, change, error, message):
    arguments = {"images": images(4), "questions": QUESTIONS, "answers": ANSWERS} | change
    with pytest.raises(error, match=re.escape(message)):
        evaluate_vqa(model, Processor(), **arguments)


def test_the_prompt_of_the_shipped_model_is_cut_off():
    """A decoder: what it writes, decoded whole, is question and answer."""
    (model, processor), scenes = load_vqa(), shapes.scenes("test")[:12]
    model, asked = model.double(), [scene["questions"][i % 5]["question"] for i, scene in enumerate(scenes)]
    pictures = shapes.images(scenes)
    predictions = generate_texts(model, processor, pictures, asked)
    for i in range(len(asked)):
        inputs = processor(images=(255 * pictures[i]).byte(), text=asked[i], return_tensors="pt").to(torch.float64)
        [whole] = processor.batch_decode(model.generate(**inputs, max_new_tokens=10), skip_special_tokens=True)
        assert whole.replace(" ", "") == f"{asked[i]}{predictions[i]}".replace(" ", "")
    assert generate_texts(model, processor, pictures, asked, batch_size=1) == predictions
    assert all(predictions)


@pytest.mark.gpu
def test_cuda_agrees_with_cpu(model):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    arguments = Processor(), images(4), QUESTIONS, ANSWERS
    expected = evaluate_vqa(model, *arguments)
    scores = evaluate_vqa(encoder_decoder().to("cuda"), *arguments)
    assert scores.predictions == expected.predictions
    close(scores.question_accuracy, expected.question_accuracy)
