"""Exercises of notebook 2.3: classification metrics."""

import torch

from studyguide.course.exercises import Exercise, Wrong
from studyguide.statistics.classification import average_precision, classification_report, roc_auc


def _t(*values):
    return torch.tensor(values, dtype=torch.float64)


def _scikit_learn(metric, tp, fp, fn, tn, **options):
    from sklearn import metrics

    true, predicted = [1] * tp + [0] * fp + [1] * fn + [0] * tn, [1] * (tp + fp) + [0] * (fn + tn)
    return getattr(metrics, metric)(true, predicted, **options)


def my_f1(tp, fp, fn):
    """F1 of one class from its counts: true positives, false positives, false negatives.

    Returns a number between 0 and 1; 0 if all three counts are 0.
    """
    total = 2 * tp + fp + fn
    return 2 * tp / total if total else 0.0


F1 = Exercise(
    id="f1-from-counts",
    title="F1 from three counts",
    prompt=(
        "Write `my_f1(tp, fp, fn)`: the harmonic mean of precision and recall, from the counts of one class. A model may find "
        "nothing (`tp = 0`), predict nothing (`tp = fp = 0`), or face a text with nothing in it: the result is then 0, not an error."
    ),
    difficulty=1,
    minutes=8,
    hints=(
        "Put tp / (tp + fp) and tp / (tp + fn) into 2PR / (P + R) and simplify on paper. One fraction remains.",
        "F1 = 2 tp / (2 tp + fp + fn). Only one zero is left to take care of.",
    ),
    solution=my_f1,
    peer=lambda tp, fp, fn: _scikit_learn("f1_score", tp, fp, fn, tn=1, zero_division=0),
    cases=((2, 0, 1), (3, 2, 0), (5, 1, 3), (0, 2, 3), (0, 0, 4), (0, 3, 0), (0, 0, 0)),
    wrong=(
        Wrong(
            lambda tp, fp, fn: 2 * (tp / (tp + fp)) * (tp / (tp + fn)) / (tp / (tp + fp) + tp / (tp + fn)),
            "right while something is found, but with tp = 0 you divide by 0. Simplify the formula to one fraction first.",
        ),
        Wrong(
            lambda tp, fp, fn: (tp / max(tp + fp, 1) + tp / max(tp + fn, 1)) / 2,
            "that is the plain mean of precision and recall. The harmonic mean lies nearer the smaller of the two.",
        ),
        Wrong(
            lambda tp, fp, fn: (tp / max(tp + fp, 1) * tp / max(tp + fn, 1)) ** 0.5,
            "that is the geometric mean of precision and recall (the Fowlkes-Mallows index). F1 is the harmonic one.",
        ),
        Wrong(
            lambda tp, fp, fn: tp / max(tp + fp + fn, 1),
            "that is the Jaccard index. F1 counts the true positives twice, above and below the line.",
        ),
        Wrong(
            lambda tp, fp, fn: 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0,
            "right but for the empty case, which you score 1. Here it is 0: say which you chose, since libraries differ.",
        ),
        Wrong(
            lambda tp, fp, fn: tp / max(2 * tp + fp + fn, 1),
            "you lost the factor 2 above the line: a perfect model must score 1.",
        ),
    ),
)


def my_macro_f1(matrix):
    """Macro F1 from a confusion matrix (k, k) of counts, with true labels in rows.

    Returns one number. A label that occurs on neither side has F1 0, and counts.
    """
    hits, true, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    return (2 * hits / (true + predicted).clamp(min=1)).mean()


def _macro_f1_of_items(matrix):
    from sklearn.metrics import f1_score

    cells = [(i, j) for i, row in enumerate(matrix.tolist()) for j, n in enumerate(row) for _ in range(int(n))]
    true, predicted = zip(*cells, strict=True)
    return f1_score(true, predicted, labels=range(len(matrix)), average="macro", zero_division=0)


def _f1_of_means(matrix):
    precision = (matrix.diagonal() / matrix.sum(0).clamp(min=1)).mean()
    recall = (matrix.diagonal() / matrix.sum(1).clamp(min=1)).mean()
    return 2 * precision * recall / (precision + recall)


MACRO_F1 = Exercise(
    id="macro-f1-from-matrix",
    title="Macro F1 from the matrix",
    prompt=(
        "Write `my_macro_f1(matrix)`: the mean over the labels of each label's F1, from a confusion matrix with true labels in its "
        "rows. One of the matrices has a label that occurs nowhere; its F1 is 0 and it counts in the mean."
    ),
    difficulty=2,
    minutes=12,
    hints=(
        "The hits stand on the diagonal. `matrix.sum(1)` counts the true items of each label, `matrix.sum(0)` the predicted ones.",
        "F1 of a label is 2 hits / (true + predicted). Clamp the divisor to at least 1, then take the mean.",
    ),
    solution=my_macro_f1,
    peer=_macro_f1_of_items,
    cases=(
        (_t([380, 5, 15], [5, 330, 15], [20, 20, 210]),),
        (_t([90, 0], [10, 0]),),
        (_t([3, 1, 0], [2, 4, 0], [0, 0, 0]),),
    ),
    wrong=(
        Wrong(
            lambda matrix: matrix.diagonal().sum() / matrix.sum(),
            "that is accuracy, which equals *micro* F1. Macro gives every label the same weight, however rare.",
        ),
        Wrong(
            lambda matrix: (
                (2 * matrix.diagonal() / (matrix.sum(0) + matrix.sum(1)).clamp(min=1) * matrix.sum(1)).sum()
                / matrix.sum()
            ),
            "you weighted by support. That is weighted F1; macro is the plain mean.",
        ),
        Wrong(
            lambda matrix: (2 * matrix.diagonal() / (matrix.sum(0) + matrix.sum(1))).mean(),
            "right while every label occurs; where one does not, 0 / 0 is NaN. Clamp the divisor.",
        ),
        Wrong(
            lambda matrix: (2 * matrix.diagonal() / (matrix.sum(0) + matrix.sum(1))).nanmean(),
            "you leave out the label that occurs nowhere, as torchmetrics does. Here it counts as 0, as in scikit-learn.",
        ),
        Wrong(
            lambda matrix: (matrix.diagonal() / matrix.sum(1).clamp(min=1)).mean(),
            "that is macro recall: you divided by the rows alone.",
        ),
        Wrong(
            lambda matrix: (matrix.diagonal() / matrix.sum(0).clamp(min=1)).mean(),
            "that is macro precision: you divided by the columns alone.",
        ),
        Wrong(
            _f1_of_means,
            "that is the F1 of macro precision and macro recall. Macro F1 is the mean of the F1s: average last.",
        ),
    ),
)


def my_matthews(tp, fp, fn, tn):
    """Matthews correlation of two classes from their four counts.

    Returns a number between -1 and 1; 0 if a row or a column of the matrix is empty.
    """
    spread = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / spread**0.5 if spread else 0.0


MATTHEWS = Exercise(
    id="matthews-from-counts",
    title="Matthews correlation from four counts",
    prompt=(
        "Write `my_matthews(tp, fp, fn, tn)`: Matthews correlation of a two-class model. "
        "A model that always says the same has no correlation with anything; give it 0."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "Above the line: the product of the right cells less the product of the wrong cells.",
        "Below it: the root of the product of all four sums (two rows, two columns). If that product is 0, return 0.",
    ),
    solution=my_matthews,
    peer=lambda tp, fp, fn, tn: _scikit_learn("matthews_corrcoef", tp, fp, fn, tn),
    cases=((50, 20, 10, 20), (6, 1, 2, 3), (2, 5, 4, 1), (70, 30, 0, 0), (0, 0, 5, 95)),
    wrong=(
        Wrong(
            lambda tp, fp, fn, tn: (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5,
            "right for a model that uses both answers; a constant one divides 0 by 0. Give it 0.",
        ),
        Wrong(
            lambda tp, fp, fn, tn: (tp * tn - fp * fn) / max((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn), 1),
            "you forgot the square root below the line.",
        ),
        Wrong(
            lambda tp, fp, fn, tn: 2 * (tp + tn) / (tp + fp + fn + tn) - 1,
            "that is accuracy stretched to −1 to 1. It still rewards always naming the frequent class.",
        ),
        Wrong(
            lambda tp, fp, fn, tn: tp / max(tp + fn, 1) + tn / max(tn + fp, 1) - 1,
            "that is Youden's J, recall of both classes less 1. It equals Matthews only if both rows match both columns.",
        ),
        Wrong(
            lambda tp, fp, fn, tn: (fp * fn - tp * tn) / max((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn), 1) ** 0.5,
            "the sign is wrong: right answers, tp and tn, push it up.",
        ),
        Wrong(
            lambda tp, fp, fn, tn: 2 * tp / max(2 * tp + fp + fn, 1),
            "that is F1, which never looks at the true negatives.",
        ),
    ),
)


def my_ece(confidences, correct, n_bins):
    """Expected calibration error (the mean gap) of 1-D confidences above 0 and correct (0 or 1), in equal bins.

    Returns one number between 0 and 1.
    """
    place = (confidences * n_bins).ceil() - 1
    gaps = [(confidences - correct)[place == b].sum().abs() for b in range(n_bins)]
    return sum(gaps) / len(confidences)


def _mean_gaps(confidences, correct, n_bins):
    """(share of the items, mean confidence less accuracy) of each bin that is used, in plain Python."""
    bins = {}
    for confidence, hit in zip(confidences.tolist(), correct.tolist(), strict=True):
        place = next(b for b in range(n_bins) if confidence <= (b + 1) / n_bins)
        bins.setdefault(place, []).append(confidence - hit)
    return [(len(gaps) / len(confidences), sum(gaps) / len(gaps)) for gaps in bins.values()]


ECE = Exercise(
    id="expected-calibration-error",
    title="Expected calibration error",
    prompt=(
        "Write `my_ece(confidences, correct, n_bins)`: cut the line from 0 to 1 into equal bins, take in each bin the gap between the "
        "mean confidence and the share correct, and average the gaps, weighted by how many items each bin holds. "
        "Bins may be empty."
    ),
    difficulty=3,
    minutes=15,
    hints=(
        "`(confidences * n_bins).ceil() - 1` is the number of the bin, counted from 0.",
        "The weight of a bin times its gap is |sum of confidences − number correct| / n: no division by the bin's size is needed.",
    ),
    solution=my_ece,
    peer=lambda *case: sum(share * abs(gap) for share, gap in _mean_gaps(*case)),
    cases=(
        (_t(0.6, 0.7, 0.9, 0.95), _t(0, 1, 1, 1), 2),
        (_t(0.15, 0.35, 0.36, 0.72, 0.91, 0.97), _t(0, 1, 0, 1, 0, 1), 4),
        (_t(0.99, 0.98, 0.97, 0.55, 0.56), _t(1, 0, 1, 1, 1), 5),
    ),
    wrong=(
        Wrong(
            lambda *case: sum(abs(gap) for _, gap in _mean_gaps(*case)) / len(_mean_gaps(*case)),
            "you gave every bin the same weight. Weigh a bin by its share of the items.",
        ),
        Wrong(
            lambda confidences, correct, n_bins: (confidences.mean() - correct.mean()).abs(),
            "that is the gap over all items at once, one bin. Overconfidence here and underconfidence there cancel in it.",
        ),
        Wrong(
            lambda confidences, correct, n_bins: (confidences - correct).abs().mean(),
            "you took the gap item by item. An item is right or wrong, so only a group can be 80 % right: bin first.",
        ),
        Wrong(
            lambda *case: sum(share * gap**2 for share, gap in _mean_gaps(*case)),
            "you squared the gaps. This is the l1 norm: take absolute values.",
        ),
        Wrong(
            lambda *case: max(abs(gap) for _, gap in _mean_gaps(*case)),
            "that is the largest gap, the *maximum* calibration error. The expected one is the weighted mean.",
        ),
        Wrong(
            lambda confidences, correct, n_bins: torch.stack(
                [(confidences - correct)[((confidences * n_bins).ceil() - 1) == b].mean().abs() for b in range(n_bins)]
            ).mean(),
            "the mean of an empty bin is NaN. Skip empty bins, or work with sums; and weigh each bin by its items.",
        ),
    ),
)


def my_useless_classifier():
    """True labels and predictions of 1000 items, 0 or 1, as two lists."""
    return [1] * 5 + [0] * 995, [0] * 1000


def _verify_useless(answer):
    if not (isinstance(answer, tuple | list) and len(answer) == 2 and all(len(side) == 1000 for side in answer)):
        return "return two lists of 1000 labels: `return y_true, y_pred`."
    report = classification_report(*answer, labels=[0, 1])
    rare = report.rows[1]
    if rare.support == 0:
        return "class 1 never occurs, so there is nothing to miss and the classifier is right. Let it occur."
    if report.accuracy < 0.99:
        return f"accuracy is {report.accuracy:.3f}, below 0.99: the dashboard is not fooled. Make class 1 rarer."
    if rare.recall > 0:
        return f"the classifier still finds {rare.recall:.0%} of class 1. A useless one finds none of it."
    return None


USELESS = Exercise(
    id="break-accuracy",
    title="Useless, and 99 % accurate",
    prompt=(
        "A dashboard shows a fraud filter in green when its accuracy is 0.99 or more. Write `my_useless_classifier()`: true labels and "
        "predictions of 1000 payments (1 is fraud) that keep the dashboard green although not a single fraud is found."
    ),
    difficulty=1,
    minutes=6,
    hints=(
        "Which constant prediction is nearly always right when fraud is rare?",
        "Let at most 10 of the 1000 payments be fraud, and predict 0 for all.",
    ),
    solution=my_useless_classifier,
    verify=_verify_useless,
    wrong=(
        Wrong(
            lambda: ([1] * 100 + [0] * 900, [0] * 1000),
            "accuracy is 0.900, below 0.99: the dashboard is not fooled. Make class 1 rarer.",
        ),
        Wrong(
            lambda: ([0] * 1000, [0] * 1000),
            "class 1 never occurs, so there is nothing to miss and the classifier is right. Let it occur.",
        ),
        Wrong(
            lambda: ([1] * 8 + [0] * 992, [1] * 4 + [0] * 996),
            "the classifier still finds 50% of class 1. A useless one finds none of it.",
        ),
        Wrong(
            lambda: ([1] + [0] * 99, [0] * 100),
            "return two lists of 1000 labels: `return y_true, y_pred`.",
        ),
    ),
)


def my_flattering_auc():
    """True labels (0 or 1) and scores of some items, as two lists."""
    return [0] * 9 + [1] + [0] * 990, list(range(1000, 0, -1))


def _verify_flattering(answer):
    if not (isinstance(answer, tuple | list) and len(answer) == 2):
        return "return labels and scores: `return y_true, scores`."
    if 1 not in list(answer[0]) or 0 not in list(answer[0]):
        return "y_true needs items of both classes."
    area, precision = float(roc_auc(*answer)), float(average_precision(*answer))
    if area <= 0.95:
        return f"ROC AUC is {area:.3f}; it must exceed 0.95. Let the positives beat nearly all negatives."
    if precision >= 0.2:
        return f"average precision is {precision:.3f}; it must be below 0.2. Put more negatives above the positives."
    return None


FLATTERING = Exercise(
    id="break-roc-auc",
    title="A flattering ROC AUC",
    prompt=(
        "A search for rare bugs is advertised with its ROC AUC. Write `my_flattering_auc()`: labels and scores with a ROC AUC above 0.95 "
        "although most of what a reviewer would look at first is no bug (average precision below 0.2)."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "ROC AUC asks what *share* of the negatives stands above a positive. A small share of very many is still a lot.",
        "One positive among 1000 items, with a handful of negatives above it.",
    ),
    solution=my_flattering_auc,
    verify=_verify_flattering,
    wrong=(
        Wrong(
            lambda: ([0] * 9 + [1] + [0] * 20, list(range(30, 0, -1))),
            "ROC AUC is 0.690; it must exceed 0.95. Let the positives beat nearly all negatives.",
        ),
        Wrong(
            lambda: ([1] + [0] * 999, list(range(1000, 0, -1))),
            "average precision is 1.000; it must be below 0.2. Put more negatives above the positives.",
        ),
        Wrong(lambda: ([0] * 10, list(range(10))), "y_true needs items of both classes."),
        Wrong(lambda: [0, 1, 0], "return labels and scores: `return y_true, scores`."),
    ),
)

EXERCISES = (F1, MACRO_F1, MATTHEWS, ECE, USELESS, FLATTERING)
