"""The confusion matrix, what is read from it, and metrics of scores: against scikit-learn, and by hand."""

import math
import subprocess
import sys
import warnings
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.calibration import calibration_curve

from studyguide.statistics import classification
from studyguide.statistics.calibration import outcomes
from studyguide.statistics.classification import (
    ConfusionMatrix,
    average_precision,
    balanced_accuracy,
    brier_score,
    classification_report,
    confusion_matrix,
    expected_calibration_error,
    matthews_correlation,
    plot_confusion_matrix,
    precision_recall_f1,
    reliability_diagram,
    roc_auc,
)

AVERAGES = [None, "macro", "micro", "weighted"]
properties = settings(deadline=None, max_examples=60)  # a busy machine is no failure
pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30)


def close(actual, expected, rtol=1e-10, atol=1e-14):
    expected = torch.as_tensor(np.asarray(expected), dtype=actual.dtype)
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


def random_labels(n, k=5, seed=0):
    rng = np.random.default_rng(seed)
    true = rng.choice(k, size=n, p=np.arange(1, k + 1) / np.arange(1, k + 1).sum())
    return true, np.where(rng.random(n) < 0.7, true, rng.integers(0, k, n))


def sklearns(function, *arguments, **options):
    """What scikit-learn says, without the warnings that it raises of degenerate input."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, **options)


@pytest.fixture
def sentiment():
    """The guide's example: 400 positive, 350 negative and 250 neutral texts."""
    blocks = {
        "positive": {"positive": 380, "neutral": 15, "negative": 5},
        "negative": {"negative": 330, "neutral": 15, "positive": 5},
        "neutral": {"neutral": 210, "positive": 20, "negative": 20},
    }
    cells = [(true, predicted, n) for true, row in blocks.items() for predicted, n in row.items()]
    return [t for t, _, n in cells for _ in range(n)], [p for _, p, n in cells for _ in range(n)]


# The guide's numbers, written out


def test_company_names_by_hand():
    # three companies and two other candidates; the first model finds two, the second all and two wrong ones
    truth = [1, 1, 1, 0, 0]
    careful = precision_recall_f1(truth, [1, 1, 0, 0, 0])
    close(careful.precision[1], 2 / 2)
    close(careful.recall[1], 2 / 3)
    close(careful.f1[1], 0.8)
    eager = precision_recall_f1(truth, [1, 1, 1, 1, 1])
    close(eager.precision[1], 3 / 5)
    close(eager.recall[1], 1)
    close(eager.f1[1], 0.75)


def test_person_names_by_hand():
    truth = [1, 1, 0, 0, 1, 0, 0, 1, 1, 0]
    conservative = precision_recall_f1(truth, [1, 1, 0, 0, 0, 0, 0, 1, 0, 0])
    aggressive = precision_recall_f1(truth, [1, 1, 1, 0, 1, 1, 0, 1, 1, 0])
    close(torch.stack([conservative.precision[1], conservative.recall[1], conservative.f1[1]]), [1, 3 / 5, 6 / 8])
    close(torch.stack([aggressive.precision[1], aggressive.recall[1], aggressive.f1[1]]), [5 / 7, 1, 10 / 12])


def test_the_sentiment_example_by_hand(sentiment):
    labels = ["positive", "negative", "neutral"]
    report = classification_report(*sentiment, labels=labels)
    assert report.matrix.tolist() == [[380, 5, 15], [5, 330, 15], [20, 20, 210]]
    precision = [Fraction(380, 405), Fraction(330, 355), Fraction(210, 240)]
    recall = [Fraction(380, 400), Fraction(330, 350), Fraction(210, 250)]
    f1 = [2 * p * r / (p + r) for p, r in zip(precision, recall, strict=True)]
    for row, label, p, r, f, n in zip(report.rows, labels, precision, recall, f1, (400, 350, 250), strict=True):
        assert (row.label, row.support, type(row.support)) == (label, n, int)
        close(torch.stack([row.precision, row.recall, row.f1]), [float(p), float(r), float(f)])
    close(report.accuracy, 0.92)
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        close(getattr(report.macro, name), float(sum(values) / 3))
        close(
            getattr(report.weighted, name),
            float(sum(v * n for v, n in zip(values, (400, 350, 250), strict=True)) / 1000),
        )
        close(getattr(report.micro, name), 0.92)
    printed = [f"{float(value):.3f}" for value in (report.macro.f1, report.macro.precision, report.macro.recall)]
    assert printed == ["0.912", "0.914", "0.911"]  # the guide prints .911, .915 and .908
    assert f"{report.weighted.f1:.3f}" == "0.920"


def test_macro_f1_counts_a_label_that_no_side_has():
    with_two, with_three = (
        precision_recall_f1([1, 1, 1, 0], [1, 1, 0, 0], average="macro", labels=labels).f1
        for labels in (None, [0, 1, 2])
    )
    close(with_two, (2 / 3 + 4 / 5) / 2)
    close(with_three, (2 / 3 + 4 / 5 + 0) / 3)


# Agreement with scikit-learn

DEGENERATE = {
    "single item": ([3], [3]),
    "single wrong item": ([3], [0]),
    "one class": ([1] * 5, [1] * 5),
    "constant prediction": ([0, 1, 1, 2], [1, 1, 1, 1]),
    "constant truth": ([1, 1, 1, 1], [0, 1, 1, 2]),
    "nothing in common": ([0, 0, 1], [2, 3, 3]),
    "all wrong": ([0, 1], [1, 0]),
    "far apart": ([-5, 10**12, -5], [7, 10**12, 10**12]),
    "extremes": ([-(2**63), 2**63 - 1], [2**63 - 1, 2**63 - 1]),
    "strings": (["b", "a", "b"], ["c", "a", "b"]),
    "Arabic": (["إيجابي", "سلبي", "محايد"], ["إيجابي", "إيجابي", "محايد"]),
}
EXAMPLES = DEGENERATE | {f"random {n} {k}": random_labels(n, k) for n, k in ((1, 5), (7, 5), (1000, 5), (5000, 300))}
each_example = pytest.mark.parametrize(("true", "predicted"), EXAMPLES.values(), ids=list(EXAMPLES))


@each_example
@pytest.mark.parametrize("average", AVERAGES)
def test_precision_recall_f1_agree_with_scikit_learn(true, predicted, average):
    peer = metrics.precision_recall_fscore_support(true, predicted, average=average, zero_division=0)
    ours = precision_recall_f1(true, predicted, average=average)
    for value, expected in zip((ours.precision, ours.recall, ours.f1), peer, strict=False):
        close(value, expected)


@each_example
def test_the_matrix_and_its_coefficients_agree_with_scikit_learn(true, predicted):
    assert confusion_matrix(true, predicted).tolist() == sklearns(metrics.confusion_matrix, true, predicted).tolist()
    close(matthews_correlation(true, predicted), sklearns(metrics.matthews_corrcoef, true, predicted), atol=1e-12)
    close(balanced_accuracy(true, predicted), sklearns(metrics.balanced_accuracy_score, true, predicted))
    close(classification_report(true, predicted).accuracy, metrics.accuracy_score(true, predicted))


def test_labels_given():
    true, predicted = ["b", "a", "b"], ["b", "b", "b"]
    for labels in (["b", "a"], ["c", "b", "a", "d"]):
        peer = metrics.confusion_matrix(true, predicted, labels=labels)
        assert confusion_matrix(true, predicted, labels=labels).tolist() == peer.tolist()
        peer = metrics.precision_recall_fscore_support(true, predicted, labels=labels, zero_division=0)
        close(precision_recall_f1(true, predicted, labels=labels).f1, peer[2])
        peer = metrics.f1_score(true, predicted, labels=labels, average="macro", zero_division=0)
        close(precision_recall_f1(true, predicted, labels=labels, average="macro").f1, peer)
    assert confusion_matrix([5, 3], [5, 5], labels=torch.tensor([5, 4, 3])).tolist() == [
        [1, 0, 0],
        [0, 0, 0],
        [1, 0, 0],
    ]


def test_constant_sides_are_defined():
    for true, predicted in (([1, 1], [1, 1]), ([0, 1], [1, 1]), ([1, 1], [0, 1]), ([1], [0])):
        assert matthews_correlation(true, predicted) == 0
    close(balanced_accuracy([0, 1, 2, 2], [2, 2, 2, 2]), 1 / 3)


def test_matthews_is_exact_for_huge_counts():
    counts = torch.tensor([[3 * 10**9, 10**9], [10**9, 3 * 10**9]])
    assert classification._matthews(counts) == 0.5  # (3·3 - 1·1) / 4² of a symmetric table
    nearly = torch.tensor([[10**9, 1], [1, 0]])
    close(classification._matthews(nearly), -1 / (10**9 + 1), rtol=1e-12)


def test_half_a_million_labels_through_every_way_of_counting(monkeypatch):
    true, predicted = random_labels(500_000, 9)
    expected = metrics.confusion_matrix(true, predicted).tolist()
    assert confusion_matrix(true, predicted).tolist() == expected
    assert confusion_matrix(true * 1000 - 4000, predicted * 1000 - 4000).tolist() == expected
    assert confusion_matrix(*(np.array(list("abcdefghi"))[side] for side in (true, predicted))).tolist() == expected
    monkeypatch.setattr(classification, "BLOCK", 7)
    assert confusion_matrix(true[:100], predicted[:100]).sum() == 100


def test_labels_as_they_come():
    expected = [[1, 1], [0, 2]]
    true, predicted = [0, 0, 1, 1], [0, 1, 1, 1]
    read_only = np.array(true)
    read_only.flags.writeable = False
    for labels in (
        true, tuple(true), np.array(true), np.array(true, dtype=np.uint8), read_only, np.repeat(true, 2)[::2],
        torch.tensor(true), torch.tensor(true, dtype=torch.int8), pd.Series(true), [bool(x) for x in true],
        torch.tensor(true).bool(), [torch.tensor(x) for x in true], [np.int64(x) for x in true],
    ):  # fmt: skip
        assert confusion_matrix(labels, predicted).tolist() == expected
        assert confusion_matrix(predicted, labels).T.tolist() == expected
    words = ["ham", "ham", "spam", "spam"]
    other = ["ham", "spam", "spam", "spam"]
    for labels in (
        tuple(words),
        np.array(words),
        np.array(words, dtype=object),
        pd.Series(words),
        pd.Categorical(words),
    ):
        assert confusion_matrix(labels, other).tolist() == expected
    assert confusion_matrix(list(np.array(words)), other).tolist() == expected


@properties
@given(pairs, st.permutations(range(5)))
def test_properties_of_the_matrix(items, names):
    true, predicted = map(list, zip(*items, strict=True))
    counts = confusion_matrix(true, predicted, labels=range(5))
    assert counts.sum() == len(items)
    assert counts.equal(confusion_matrix(predicted, true, labels=range(5)).T)
    report = classification_report(true, predicted)
    close(report.micro.f1, report.accuracy)
    close(report.weighted.recall, report.accuracy)
    for scores in (precision_recall_f1(true, predicted, average=average) for average in AVERAGES):
        for part in (scores.precision, scores.recall, scores.f1):
            assert ((part >= 0) & (part <= 1)).all()
        if scores.f1.ndim:
            assert (scores.f1 <= torch.maximum(scores.precision, scores.recall) + 1e-12).all()
            assert (scores.f1 >= torch.minimum(scores.precision, scores.recall) - 1e-12).all()
    matthews = matthews_correlation(true, predicted)
    assert -1 <= matthews <= 1
    close(matthews_correlation(predicted, true), matthews.item())
    renamed = [[names[label] for label in side] for side in (true, predicted)]
    close(matthews_correlation(*renamed), matthews.item())
    close(precision_recall_f1(*renamed, average="macro").f1, report.macro.f1.item())
    close(balanced_accuracy(*renamed), balanced_accuracy(true, predicted).item())


@properties
@given(pairs)
def test_a_perfect_classifier(items):
    true = [label for label, _ in items]
    assert classification_report(true, true).macro.f1 == balanced_accuracy(true, true) == 1
    assert matthews_correlation(true, true) == (1 if len(set(true)) > 1 else 0)


# The accumulator


@properties
@given(pairs, st.integers(0, 30), st.booleans())
def test_batches_and_merges_count_as_one_call(items, cut, fixed):
    true, predicted = map(list, zip(*items, strict=True))
    parts = [ConfusionMatrix(range(5) if fixed else None) for _ in range(2)]
    for part, chosen in zip(parts, (slice(None, cut), slice(cut, None)), strict=True):
        if true[chosen]:
            part.update(true[chosen], predicted[chosen])
    left, right = parts
    left.merge(right)
    whole = ConfusionMatrix(range(5) if fixed else None)
    whole.update(true, predicted)
    assert left.labels == whole.labels
    assert left.compute().equal(whole.compute())
    other = ConfusionMatrix()
    other.merge(right)
    assert other.counts.equal(right.counts)  # merging changed neither side nor order


def test_different_label_sets_merge():
    left, right = ConfusionMatrix(), ConfusionMatrix(["emu", "ant"])
    left.update(["cat", "dog"], ["cat", "cat"])
    right.update(["emu"], ["ant"])
    left.merge(right)
    assert left.labels == ["ant", "cat", "dog", "emu"]
    assert left.compute().tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]]
    assert right.labels == ["emu", "ant"]
    assert repr(left.report()) == repr(classification_report(["cat", "dog", "emu"], ["cat", "cat", "ant"]))
    with pytest.raises(ValueError, match=r"label 'cat' occurs, but labels is \['emu', 'ant'\]; expected every label"):
        right.merge(left)
    assert right.compute().tolist() == [[0, 1], [0, 0]], "a failed merge changes nothing"


def test_an_accumulator_needs_something_to_count():
    for matrix in (ConfusionMatrix(), ConfusionMatrix([0, 1])):
        with pytest.raises(ValueError, match="nothing was counted; expected an update before compute"):
            matrix.compute()
        with pytest.raises(ValueError, match="nothing was counted"):
            matrix.report()


# Errors

LABELLED = [
    confusion_matrix, precision_recall_f1, classification_report, balanced_accuracy, matthews_correlation,
]  # fmt: skip


@pytest.mark.parametrize("metric", LABELLED)
@pytest.mark.parametrize(
    ("true", "predicted", "error", "message"),
    [
        ([], [], ValueError, r"y_true has shape \(0,\); expected \(n,\), a label for each of one item or more"),
        ([1], [], ValueError, r"y_pred has shape \(0,\)"),
        (["a"], [], ValueError, r"y_pred has shape \(0,\)"),
        ([1, 0], [1], ValueError, "y_true has 2 labels, y_pred 1; expected as many"),
        (["a"], ["a", "b"], ValueError, "y_true has 1 labels, y_pred 2; expected as many"),
        (["a", 1], ["a", "a"], TypeError, "y_true mixes int and str; expected one kind"),
        (["a", math.nan], ["a", "a"], TypeError, "y_true mixes float and str"),
        (["a", "b"], ["a", None], TypeError, "y_pred mixes NoneType and str"),
        (["a", "b"], [0, 1], TypeError, "y_true holds strings, y_pred integers; expected labels of one kind"),
        ([0, 1], [0, math.nan], ValueError, "y_pred contains nan; expected finite numbers"),
        ([0, 1], [0, math.inf], ValueError, "y_pred contains inf"),
        (
            [0, 1],
            [0.2, 0.9],
            TypeError,
            "y_pred has dtype torch.float64; expected labels, which are strings or integers",
        ),
        ([0, None], [0, 1], TypeError, "y_true cannot be read as strings or integers"),
        (np.array([0, 2**63], dtype=np.uint64), [0, 1], TypeError, "y_true has dtype torch.uint64"),
        ([0, 1], torch.tensor([1j, 0]), TypeError, "y_pred has dtype torch.complex64"),
        ([[0, 1]], [[0, 1]], ValueError, r"y_true has shape \(1, 2\); expected \(n,\)"),
        ("ab", "ab", TypeError, "y_true cannot be read as strings or integers"),
        (3, 3, ValueError, r"y_true has shape \(\)"),
        (["a", ["b"]], ["a", "b"], TypeError, "y_true mixes list and str"),
        (np.array([["a"]]), ["a"], TypeError, "y_true cannot be read as strings or integers"),
        ({0, 1}, [0, 1], TypeError, "y_true cannot be read as strings or integers"),
    ],
)
def test_errors_name_the_argument(metric, true, predicted, error, message):
    with pytest.raises(error, match=message):
        metric(true, predicted)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([0], ValueError, r"label 1 occurs, but labels is \[0\]; expected every label that occurs"),
        ([0, 1, 0], ValueError, r"labels is \[0, 1, 0\]; expected each label once"),
        ([], ValueError, r"labels has shape \(0,\)"),
        (["a", "b"], ValueError, r"label 0 occurs, but labels is \['a', 'b'\]"),
        ([0, "b"], TypeError, "labels mixes int and str"),
        ([0.5, 1], TypeError, "labels has dtype torch.float64"),
    ],
)
def test_errors_of_the_labels_given(labels, error, message):
    for metric in (confusion_matrix, precision_recall_f1, classification_report):
        with pytest.raises(error, match=message):
            metric([0, 1], [1, 1], labels=labels)


def test_strings_and_integers_do_not_accumulate():
    matrix = ConfusionMatrix()
    matrix.update([0, 1], [0, 1])
    with pytest.raises(TypeError, match="labels 0 and 'a'; expected only strings or only integers"):
        matrix.update(["a"], ["a"])


def test_an_unknown_average():
    with pytest.raises(ValueError, match="average is 'binary'; expected one of None, 'macro', 'micro', 'weighted'"):
        precision_recall_f1([0, 1], [0, 1], average="binary")


# The report as text and HTML


def test_the_report_as_text():
    report = classification_report(["no", "yes", "yes", "yes"], ["yes", "yes", "yes", "no"])
    assert str(report).splitlines() == [
        "          precision     recall         f1    support",
        "no           0.0000     0.0000     0.0000          1",
        "yes          0.6667     0.6667     0.6667          3",
        "accuracy                           0.5000          4",
        "macro        0.3333     0.3333     0.3333          4",
        "micro        0.5000     0.5000     0.5000          4",
        "weighted     0.5000     0.5000     0.5000          4",
    ]
    assert repr(report) == str(report)


def test_the_report_as_html_escapes_labels():
    page = classification_report(["<b>&", "إيجابي"], ["<b>&", "إيجابي"])._repr_html_()
    assert '<tr><th dir="auto">&lt;b&gt;&amp;</th><td>1.0000</td>' in page
    assert "<b>" not in page
    assert page.count("<tr>") == 7
    assert page.startswith("<table>")


# ROC AUC and average precision


@st.composite
def scored(draw):
    """Labels of both kinds, and scores with ties."""
    n = draw(st.integers(2, 25))
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n).filter(lambda x: len(set(x)) == 2))
    return np.array(labels), np.array(draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n)), dtype=float)


def test_roc_auc_and_average_precision_by_hand():
    # positives score 3 and 1, negatives 2 and 1: of the four pairs three are won, one of these by half
    close(roc_auc([1, 0, 1, 0], [3, 2, 1, 1]), (1 + 1 + 0 + 0.5) / 4)
    # 3 alone: recall 1/2, precision 1; then 2: no recall gained; then both 1s: recall 1/2 more at precision 2/4
    close(average_precision([1, 0, 1, 0], [3, 2, 1, 1]), 1 / 2 * 1 + 1 / 2 * 2 / 4)


@properties
@given(scored())
def test_scores_with_ties_agree_with_scikit_learn(case):
    labels, scores = case
    close(roc_auc(labels, scores), metrics.roc_auc_score(labels, scores))
    close(average_precision(labels, scores), metrics.average_precision_score(labels, scores))
    close(roc_auc(1 - labels, -scores), roc_auc(labels, scores).item())
    close(roc_auc(labels, -scores), 1 - roc_auc(labels, scores).item())
    close(roc_auc(labels, np.exp(scores)), roc_auc(labels, scores).item())  # any increasing function
    assert 0 < average_precision(labels, scores) <= 1


@pytest.mark.parametrize("decimals", [1, 12])
def test_many_scores_agree_with_scikit_learn(decimals):
    rng = np.random.default_rng(0)
    labels = (rng.random(20_000) < 0.03).astype(int)
    scores = (labels + rng.normal(size=20_000)).round(decimals)
    close(roc_auc(labels, scores), metrics.roc_auc_score(labels, scores))
    close(average_precision(labels, scores), metrics.average_precision_score(labels, scores))


@pytest.mark.parametrize("metric", [roc_auc, average_precision])
def test_a_batch_of_scores_equals_a_loop(metric):
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, (2, 1, 30)), rng.normal(size=(2, 3, 30)).round(1)
    close(
        metric(labels, scores), [[metric(y[0], s).item() for s in row] for y, row in zip(labels, scores, strict=True)]
    )
    close(metric(labels[0, 0], scores[0]), [metric(labels[0, 0], s).item() for s in scores[0]])
    assert metric(torch.tensor([0, 1]), torch.tensor([0.1, 0.2])).dtype == torch.float32
    assert metric(np.array([False, True]), [1, 2]) == 1


def test_extremes_of_scores():
    close(roc_auc([0, 1, 0, 1], [1, 1, 1, 1]), 0.5)
    close(average_precision([0, 1, 0, 1], [1, 1, 1, 1]), 0.5)
    close(roc_auc([0, 1], [-1e308, 1e308]), 1)
    close(roc_auc([1, 0], [-1e-320, 1e-320]), 0)
    close(average_precision([1], [0.3]), 1)
    close(average_precision([1, 1], [0.3, 0.1]), 1)


@pytest.mark.parametrize("metric", [roc_auc, average_precision])
@pytest.mark.parametrize(
    ("labels", "scores", "error", "message"),
    [
        ([0, 0], [1, 2], ValueError, "y_true holds (a single class|no 1)"),
        ([[0, 1], [0, 0]], [1, 2], ValueError, "y_true holds (a single class|no 1)"),
        ([0, 2], [1, 2], ValueError, "y_true contains 2; expected 0, 1 or booleans"),
        ([-1, 1], [1, 2], ValueError, "y_true contains -1; expected 0, 1 or booleans"),
        ([0, math.nan], [1, 2], ValueError, "y_true contains nan"),
        ([0, 1], [1, math.nan], ValueError, "scores contains nan; expected finite"),
        ([0, 1], [1, 2, 3], ValueError, "y_true has 2 items along the last axis, scores 3; expected as many"),
        ([], [], ValueError, "scores is empty"),
        (["no", "yes"], [1, 2], TypeError, "y_true cannot be read as an array of numbers"),
        ([0, 1], ["a", "b"], TypeError, "scores cannot be read as an array of numbers"),
    ],
)
def test_errors_of_scores(metric, labels, scores, error, message):
    with pytest.raises(error, match=message):
        metric(labels, scores)


def test_roc_auc_needs_negatives_and_average_precision_does_not():
    with pytest.raises(ValueError, match="y_true holds a single class; expected both 0 and 1"):
        roc_auc([1, 1], [1, 2])
    assert average_precision([1, 1], [1, 2]) == 1


# Calibration


def plain_ece(confidences, correct, n_bins, norm):
    """ECE in plain Python, item by item, with exact bin edges."""
    bins = [[] for _ in range(n_bins)]
    for confidence, hit in zip(confidences, correct, strict=True):
        place = max(math.ceil(Fraction(float(confidence)) * n_bins) - 1, 0)
        bins[place].append((float(confidence), float(hit)))
    full = [part for part in bins if part]
    gaps = [abs(sum(h for _, h in part) - sum(c for c, _ in part)) / len(part) for part in full]
    shares = [len(part) / len(confidences) for part in full]
    if norm == "max":
        return max(gaps)
    power = {"l1": 1, "l2": 2}[norm]
    return sum(s * g**power for s, g in zip(shares, gaps, strict=True)) ** (1 / power)


def test_ece_in_two_bins_by_hand():
    # bin up to .5: confidences .2, .4 and one of two right; bin above: .6, .8, .9, 1 and three of four right
    confidences, correct = [0.2, 0.4, 0.6, 0.8, 0.9, 1.0], [1, 0, 0, 1, 1, 1]
    low, high = abs(0.3 - 0.5), abs(0.825 - 0.75)
    close(expected_calibration_error(confidences, correct, n_bins=2), 2 / 6 * low + 4 / 6 * high)
    close(expected_calibration_error(confidences, correct, 2, "l2"), math.sqrt(2 / 6 * low**2 + 4 / 6 * high**2))
    close(expected_calibration_error(confidences, correct, 2, "max"), max(low, high))


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("n_bins", [1, 2, 8, 15])
@pytest.mark.parametrize("n", [1, 9, 2000])
def test_ece_agrees_with_plain_python(norm, n_bins, n):
    rng = np.random.default_rng(n)
    confidences = rng.beta(4, 2, n)
    correct = rng.random(n) < confidences**2
    value = expected_calibration_error(confidences, correct, n_bins, norm)
    close(value, plain_ece(confidences, correct, n_bins, norm))
    assert (
        expected_calibration_error(confidences, correct, n_bins) ** 2 <= ((confidences - correct) ** 2).mean()
    )  # Jensen


def test_the_largest_gap_agrees_with_scikit_learns_curve():
    rng = np.random.default_rng(0)
    confidences = rng.random(500).round(1)  # many on an edge
    correct = rng.random(500) < confidences
    accuracy, confidence = calibration_curve(correct, confidences, n_bins=10)
    close(expected_calibration_error(confidences, correct, 10, "max"), abs(accuracy - confidence).max())


def test_an_edge_belongs_to_the_bin_below_it_and_0_to_the_first():
    close(expected_calibration_error([0.0, 0.25, 0.5, 0.75, 1.0], [0, 0, 1, 1, 1], 4, "max"), 0.5)
    # bins: {0, .25}, {.5}, {.75}, {1}; gaps .125, .5, .25, 0
    close(expected_calibration_error([0.0, 0.25, 0.5, 0.75, 1.0], [0, 0, 1, 1, 1], 4), (0.25 + 0.5 + 0.25) / 5)
    close(expected_calibration_error(torch.tensor([0.3]), [1], 10), 0.7, rtol=1e-6)


@properties
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=20), st.integers(1, 12))
def test_properties_of_ece(items, n_bins):
    confidences, correct = map(list, zip(*items, strict=True))
    l1, l2, worst = (expected_calibration_error(confidences, correct, n_bins, norm) for norm in ("l1", "l2", "max"))
    assert 0 <= l1 <= l2 + 1e-12 <= worst + 2e-12 <= 1 + 3e-12
    assert l1 >= abs(np.mean(confidences) - np.mean(correct)) - 1e-12
    assert expected_calibration_error(correct * np.ones(len(correct)), correct, n_bins) == 0
    base = [np.mean(correct)] * len(correct)
    close(expected_calibration_error(base, correct, n_bins), 0, atol=1e-12)  # calibrated, and of no use


def test_a_batch_of_confidences_equals_a_loop():
    rng = np.random.default_rng(0)
    confidences, correct = rng.random((3, 2, 40)), rng.integers(0, 2, (3, 2, 40))
    ours = expected_calibration_error(confidences, correct, 5)
    close(
        ours,
        [
            [plain_ece(*pair, 5, "l1") for pair in zip(*rows, strict=True)]
            for rows in zip(confidences, correct, strict=True)
        ],
    )
    single = expected_calibration_error(torch.tensor(confidences, dtype=torch.float32), correct, 5)
    assert single.dtype == torch.float32
    close(single, ours.numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"confidences": [0.5, 1.2]}, ValueError, "confidences contains 1.2; expected numbers from 0 to 1"),
        ({"confidences": [-0.1, 0.5]}, ValueError, "confidences contains -0.1; expected numbers from 0 to 1"),
        ({"confidences": [math.nan, 0.5]}, ValueError, "confidences contains nan"),
        ({"correct": [0, 0.5]}, ValueError, "correct contains 0.5; expected 0, 1 or booleans"),
        ({"correct": [0, 1, 1]}, ValueError, "correct has 3 items along the last axis, confidences 2"),
        ({"confidences": [], "correct": []}, ValueError, "confidences is empty"),
        ({"n_bins": 0}, ValueError, "n_bins is 0; expected at least 1"),
        ({"n_bins": 2.5}, TypeError, "n_bins is 2.5; expected an integer"),
        ({"norm": "l3"}, ValueError, "norm is 'l3'; expected one of 'l1', 'l2', 'max'"),
        ({"correct": ["no", "yes"]}, TypeError, "correct cannot be read as an array of numbers"),
    ],
)
def test_errors_of_ece(arguments, error, message):
    with pytest.raises(error, match=message):
        expected_calibration_error(**({"confidences": [0.4, 0.5], "correct": [0, 1]} | arguments))


def test_outcomes_share_a_batch():
    happened, numbers = outcomes(happened=[True, False], numbers=[[0.1, 0.2]] * 3)
    assert happened.tolist() == [[1, 0]] * 3
    assert numbers.shape == (3, 2)


# Brier


def test_brier_by_hand():
    close(brier_score([1, 0, 1], [0.9, 0.2, 0.4]), (0.1**2 + 0.2**2 + 0.6**2) / 3)
    close(brier_score([2], [[0.1, 0.2, 0.7]]), 0.1**2 + 0.2**2 + 0.3**2)
    close(brier_score([0], [[0.0, 1.0]]), 2)
    close(brier_score([True], [1.0]), 0)


@pytest.mark.parametrize("n", [2, 500])
def test_brier_agrees_with_scikit_learn(n):
    rng = np.random.default_rng(n)
    p, y = rng.random(n), np.arange(n) % 2
    close(brier_score(y, p), metrics.brier_score_loss(y, p))
    both = np.stack([1 - p, p], axis=1)
    close(brier_score(y, both), 2 * metrics.brier_score_loss(y, p))
    many, classes = rng.dirichlet(np.ones(4), n), rng.integers(0, 4, n)
    close(brier_score(classes, many), metrics.brier_score_loss(classes, many, labels=range(4)))
    close(brier_score(torch.tensor(classes).reshape(2, -1), many.reshape(2, -1, 4)).mean(), brier_score(classes, many))
    assert brier_score(torch.tensor(y), torch.tensor(p, dtype=torch.float32)).dtype == torch.float32
    assert brier_score(classes, torch.tensor(many, dtype=torch.float32)).dtype == torch.float32


@pytest.mark.parametrize(
    ("labels", "p", "error", "message"),
    [
        ([0, 1], [0.5, 1.5], ValueError, "probabilities contains 1.5; expected numbers from 0 to 1"),
        ([0, 2], [0.5, 0.5], ValueError, "y_true contains 2; expected 0, 1 or booleans"),
        ([0, 2], [[0.5, 0.5]] * 2, ValueError, "y_true holds other than 0 to 1; expected an integer class"),
        ([0, -1], [[0.5, 0.5]] * 2, ValueError, "y_true holds other than 0 to 1"),
        ([0, 0.5], [[0.5, 0.5]] * 2, ValueError, "y_true holds other than 0 to 1"),
        ([0, math.nan], [[0.5, 0.5]] * 2, ValueError, "y_true holds other than 0 to 1"),
        ([0, 1], [[0.5, 0.4]] * 2, ValueError, "probabilities sums to 0.9 along the last axis; expected 1"),
        ([0, 1, 1], [0.5, 0.5], ValueError, r"y_true has shape \(3,\), probabilities \(2,\); expected one shape"),
        ([], [], ValueError, "probabilities is empty"),
        ([0, 1], [0.5, math.nan], ValueError, "probabilities contains nan"),
        (["a", "b"], [0.5, 0.5], TypeError, "y_true cannot be read as an array of numbers"),
        (["a", "b"], [[0.5, 0.5]] * 2, TypeError, "y_true cannot be read as an array of numbers"),
    ],
)
def test_errors_of_brier(labels, p, error, message):
    with pytest.raises(error, match=message):
        brier_score(labels, p)


# Pictures


@pytest.fixture
def figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def test_the_heat_map_has_counts_shares_and_names(figures):
    figure = plot_confusion_matrix([[3, 1], [0, 0]], ["ham", "spam"], title="Two kinds")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["3\n75.0%", "1\n25.0%", "0", "0"]
    assert [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())] == ["ham", "spam"] * 2
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted label", "true label")
    assert axes.get_title() == "Two kinds"
    with pytest.raises(ValueError, match=r"matrix has shape \(2, 2\); expected \(3, 3\), as labels has"):
        plot_confusion_matrix(torch.eye(2), "abc")


def test_the_reliability_diagram_shows_its_bins(figures):
    figure = reliability_diagram([0.1, 0.2, 0.9, 0.9, 0.7], [0, 1, 1, 1, 0], n_bins=2)
    top, bottom = figure.axes
    assert [bar.get_height() for bar in top.patches] == [0.5, pytest.approx(2 / 3)]
    points = top.lines[1].get_xydata()
    np.testing.assert_allclose(points, [[0.15, 0.5], [2.5 / 3, 2 / 3]])
    assert [text.get_text() for text in bottom.texts] == ["2", "3"]
    assert len(reliability_diagram([0.1], [True], n_bins=5).axes[0].patches) == 1, "empty bins have no bar"
    with pytest.raises(ValueError, match="confidences and correct are a batch of 2; expected"):
        reliability_diagram([[0.1], [0.2]], [[0], [1]])


def test_the_import_is_light():
    code = "import sys, studyguide.statistics.glue; print(*{'matplotlib', 'seaborn', 'sklearn', 'scipy'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []


# The GPU


@pytest.mark.gpu
def test_cuda_labels(cuda):
    true, predicted = (torch.tensor(side) for side in random_labels(300_000, 7))
    on_gpu = confusion_matrix(true.to(cuda), predicted.to(cuda))
    assert on_gpu.device == cuda
    assert on_gpu.cpu().equal(confusion_matrix(true, predicted))
    assert confusion_matrix(true.to(cuda) * 999, predicted.to(cuda) * 999).cpu().equal(on_gpu.cpu())
    assert confusion_matrix(true.to(cuda), predicted.tolist()).device == cuda
    for metric in (balanced_accuracy, matthews_correlation):
        value = metric(true.to(cuda), predicted.to(cuda))
        assert value.device == cuda
        close(value.cpu(), metric(true, predicted).item())
    report = classification_report(true.to(cuda), predicted.to(cuda))
    assert repr(report) == repr(classification_report(true, predicted))
    assert report.macro.f1.device == cuda
    matrix = ConfusionMatrix()
    matrix.update(true, predicted)
    matrix.update(true.to(cuda), predicted.to(cuda))
    assert matrix.compute().device == cuda
    assert matrix.compute().cpu().equal(2 * confusion_matrix(true, predicted))
    with pytest.raises(ValueError, match="y_pred is on cpu; expected cuda:0, where y_true is"):
        confusion_matrix(true.to(cuda), predicted)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_cuda_scores(cuda, dtype):
    rng = np.random.default_rng(0)
    labels = torch.tensor(rng.integers(0, 2, (3, 5000)))
    p = torch.tensor(rng.random((3, 5000)).round(3), dtype=dtype)
    for metric, arguments in (
        (roc_auc, (labels, p)),
        (average_precision, (labels, p)),
        (brier_score, (labels, p)),
        (expected_calibration_error, (p, labels)),
    ):
        value = metric(*(part.to(cuda) for part in arguments))
        assert (value.device, value.dtype) == (cuda, dtype)
        close(value.cpu(), metric(*arguments).numpy(), rtol=1e-10 if dtype == torch.float64 else 1e-6)
    with pytest.raises(ValueError, match="y_true is on cpu; expected cuda:0"):
        roc_auc(labels, p.to(cuda))
