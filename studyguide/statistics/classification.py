"""How a classifier errs: the confusion matrix and what is read from it, and metrics of scores and probabilities.

Labels are strings or integers (booleans count as 0 and 1), one per item: lists, arrays, or tensors on any device. The
rows of a matrix are true labels, its columns predictions. Labels that are not given are those that occur, sorted.
What divides by nothing is 0, as in scikit-learn with zero_division=0: the precision of a label that is never
predicted, the recall of one that never occurs.

Errors: labels of both kinds, floats, None or NaN among labels are a TypeError or ValueError; so are no items, sides of
unequal length, and a label that occurs but is not among those given (scikit-learn drops its items silently).
"""

import html
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch

from studyguide.probability.validation import BLOCK, check_finite, one_of
from studyguide.statistics.calibration import (
    brier_score,
    expected_calibration_error,
    outcomes,
    reliability_diagram,
)

__all__ = [
    "ClassRow",
    "ClassificationReport",
    "ConfusionMatrix",
    "PrecisionRecallF1",
    "average_precision",
    "balanced_accuracy",
    "brier_score",
    "classification_report",
    "confusion_matrix",
    "expected_calibration_error",
    "matthews_correlation",
    "plot_confusion_matrix",
    "precision_recall_f1",
    "reliability_diagram",
    "roc_auc",
    "tally",
]

DENSE = 256  # integer labels that span no more than this are counted as they are, without looking for the distinct ones


# The matrix


class ConfusionMatrix:
    """Counts of (true label, predicted label), gathered batch by batch; states merge.

    With `labels` the matrix has these rows and columns in this order, and no other label may occur. Without, labels
    are added as they come, in sorted order. The counts are on the device of the latest batch.

    >>> matrix = ConfusionMatrix()
    >>> matrix.update(["cat", "dog"], ["cat", "cat"])
    >>> matrix.update(["emu"], ["dog"])
    >>> matrix.labels, matrix.compute()
    (['cat', 'dog', 'emu'], tensor([[1, 0, 0],
            [1, 0, 0],
            [0, 1, 0]]))
    """

    def __init__(self, labels=None):
        self.fixed = labels is not None
        self.labels = _distinct(labels) if self.fixed else []
        self.counts = torch.zeros(len(self.labels), len(self.labels), dtype=torch.int64)

    def update(self, y_true, y_pred):
        """Count a batch of true and predicted labels, (n,) each."""
        self._add(*tally(y_true=y_true, y_pred=y_pred))

    def merge(self, other):
        """Add the counts of another matrix, whatever its labels."""
        self._add(other.labels, other.counts)

    def compute(self):
        """The counts as an int64 tensor (k, k) in the order of `labels`; an error if nothing was counted."""
        if not self.counts.any():
            raise ValueError("nothing was counted; expected an update before compute")
        return self.counts

    def report(self):
        """The `ClassificationReport` of all that was counted."""
        return _report(self.labels, self.compute())

    def _add(self, labels, counts):
        known = set(self.labels)
        new = [label for label in labels if label not in known]
        if new and self.fixed:
            raise ValueError(f"label {new[0]!r} occurs, but labels is {self.labels}; expected every label that occurs")
        if len({isinstance(label, str) for label in [*self.labels, *labels]}) > 1:
            raise TypeError(f"labels {self.labels[0]!r} and {labels[0]!r}; expected only strings or only integers")
        grown = sorted([*self.labels, *new]) if new else self.labels
        place = {label: i for i, label in enumerate(grown)}
        total = counts.new_zeros(len(grown), len(grown))
        for own_labels, own_counts in ((self.labels, self.counts), (labels, counts)):
            rows = torch.tensor([place[label] for label in own_labels], dtype=torch.int64, device=total.device)
            total[rows[:, None], rows] += own_counts.to(total.device)
        self.labels, self.counts = grown, total


def confusion_matrix(y_true, y_pred, labels=None):
    """How often each true label (row) met each predicted label (column).

    Shapes: y_true and y_pred (n,), result (k, k), int64. Errors: see the module.
    Convention: rows are true, as in scikit-learn; the order is that of `labels`, or sorted.

    >>> confusion_matrix(["ham", "spam", "spam"], ["ham", "ham", "spam"])
    tensor([[1, 0],
            [1, 1]])
    """
    return _matrix(y_true, y_pred, labels).compute()


def tally(**sides):
    """The labels that occur on two sides, sorted, and how often they met: counts (k, k), the first side in rows.

    >>> tally(y_true=[0, 1, 5], y_pred=[0, 1, 1])
    ([0, 1, 5], tensor([[1, 0, 0],
            [0, 1, 0],
            [0, 1, 0]]))
    """
    (a, first), (b, second) = ((name, _labels(name, value)) for name, value in sides.items())
    if type(first) is not type(second):
        kinds = ["strings" if isinstance(side, list) else "integers" for side in (first, second)]
        raise TypeError(f"{a} holds {kinds[0]}, {b} {kinds[1]}; expected labels of one kind")
    if len(first) != len(second):
        raise ValueError(f"{a} has {len(first)} labels, {b} {len(second)}; expected as many")
    if isinstance(first, list):
        return _tally_strings(first, second)
    devices = {side.device for side in sides.values() if isinstance(side, torch.Tensor)}
    if len(devices) > 1:
        raise ValueError(f"{b} is on {second.device}; expected {first.device}, where {a} is")
    [device] = devices or {first.device}
    return _tally_integers(first.to(device), second.to(device))


# Metrics of the matrix


@dataclass(frozen=True, eq=False)
class PrecisionRecallF1:
    """Precision, recall and F1: of each label (k,), or one average."""

    precision: torch.Tensor
    recall: torch.Tensor
    f1: torch.Tensor


@dataclass(frozen=True, eq=False)
class ClassRow:
    """One label's line of a report."""

    label: str | int
    precision: torch.Tensor
    recall: torch.Tensor
    f1: torch.Tensor
    support: int  # how many items have this true label


@dataclass(frozen=True, eq=False, repr=False)
class ClassificationReport:
    """All that is usually read from one confusion matrix; printed, or shown in Jupyter, it is a table."""

    rows: tuple
    accuracy: torch.Tensor
    macro: PrecisionRecallF1
    micro: PrecisionRecallF1
    weighted: PrecisionRecallF1
    labels: list
    matrix: torch.Tensor  # (k, k) counts, true labels in rows

    def __repr__(self):
        table = self._table()
        width = max(len(row[0]) for row in table)
        return "\n".join(row[0].ljust(width) + "".join(cell.rjust(11) for cell in row[1:]) for row in table)

    def _repr_html_(self):
        (_, *heads), *body = self._table()
        lines = ["<tr><th></th>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"]
        for name, *cells in body:
            lines.append(f'<tr><th dir="auto">{html.escape(name)}</th>{"".join(f"<td>{c}</td>" for c in cells)}</tr>')
        return f"<table>{''.join(lines)}</table>"

    def _table(self):
        """Rows of texts, the heading first."""
        total = str(sum(row.support for row in self.rows))
        table = [["", "precision", "recall", "f1", "support"]]
        table += [[str(row.label), *_texts(row), str(row.support)] for row in self.rows]
        table.append(["accuracy", "", "", f"{self.accuracy.item():.4f}", total])
        return table + [[name, *_texts(getattr(self, name)), total] for name in ("macro", "micro", "weighted")]


def precision_recall_f1(y_true, y_pred, average=None, labels=None):
    """Precision ``tp / (tp + fp)``, recall ``tp / (tp + fn)`` and their harmonic mean F1.

    Shapes: y_true and y_pred (n,); a value per label (k,) in the order of `labels` (or sorted), or 0-d averages.
    Averages: "macro" is the plain mean over the labels, "weighted" the mean by support, "micro" pools the counts of all
    labels, which is accuracy where each item has one label. Macro F1 is the mean of the F1s.
    Range: 0 to 1. Errors: see the module, and an unknown average.
    Convention: 0 where nothing is divided by nothing, and every label counts in the macro average, also one that only
    one side has (scikit-learn with zero_division=0; torchmetrics leaves out labels that neither side has).
    Source: van Rijsbergen, Information Retrieval (1979), chapter 7; Sokolova and Lapalme (2009) for the averages.

    >>> precision_recall_f1([1, 1, 1, 0], [1, 1, 0, 0], average="macro").f1
    tensor(0.7333, dtype=torch.float64)
    """
    one_of("average", average, (None, "macro", "micro", "weighted"))
    return _scores(_matrix(y_true, y_pred, labels).compute(), average)


def classification_report(y_true, y_pred, labels=None):
    """Precision, recall, F1 and support of every label, accuracy, three averages, and the matrix they come from.

    Shapes: y_true and y_pred (n,). Errors and conventions: as in `precision_recall_f1`. Support is an int.

    >>> classification_report(["ham", "spam", "spam"], ["ham", "ham", "spam"])
              precision     recall         f1    support
    ham          0.5000     1.0000     0.6667          1
    spam         1.0000     0.5000     0.6667          2
    accuracy                           0.6667          3
    macro        0.7500     0.7500     0.6667          3
    micro        0.6667     0.6667     0.6667          3
    weighted     0.8333     0.6667     0.6667          3
    """
    return _matrix(y_true, y_pred, labels).report()


def balanced_accuracy(y_true, y_pred):
    """The mean recall over the labels that are true somewhere: what accuracy would be if all were equally frequent.

    Shapes: y_true and y_pred (n,), result 0-d. Range: 0 to 1; 1/k for a constant prediction among k true labels.
    Errors: see the module. Convention: a label that is only predicted has no recall and is left out (scikit-learn).
    Source: Brodersen et al. (2010), "The balanced accuracy and its posterior distribution".

    >>> balanced_accuracy([0, 0, 0, 1], [0, 0, 0, 0])
    tensor(0.5000, dtype=torch.float64)
    """
    counts = confusion_matrix(y_true, y_pred)
    return _scores(counts).recall[counts.sum(1) > 0].mean()


def matthews_correlation(y_true, y_pred):
    """Matthews correlation coefficient: the correlation of true and predicted labels, for any number of labels.

    Shapes: y_true and y_pred (n,), result 0-d. Range: -1 to 1; 0 is no better than chance.
    Errors: see the module. Convention: 0 where one side is constant and the coefficient is undefined (scikit-learn).
    Source: Matthews (1975) for two labels; Gorodkin (2004), "Comparing two K-category assignments", for k.

    >>> matthews_correlation([1, 1, 1, 0], [1, 1, 0, 0])
    tensor(0.5774, dtype=torch.float64)
    """
    return _matthews(confusion_matrix(y_true, y_pred))


# Metrics of scores


def roc_auc(y_true, scores):
    """Area under the ROC curve: the probability that a positive item scores above a negative one, a tie being half.

    Shapes: y_true (0, 1 or booleans) and scores (..., n), result (...). Range: 0 to 1; 0.5 for scores of no use.
    Errors: values other than 0 and 1; scores not finite; a row without positives or without negatives.
    Source: Hanley and McNeil (1982), "The meaning and use of the area under a ROC curve".

    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    tensor(0.7500, dtype=torch.float64)
    """
    hits, misses, dtype = _curve(y_true, scores)
    if not (hits[..., -1] > 0).all() or not (misses[..., -1] > 0).all():
        raise ValueError("y_true holds a single class; expected both 0 and 1, since ROC AUC compares the two")
    widths = misses.diff(dim=-1, prepend=misses.new_zeros(*misses.shape[:-1], 1))
    heights = hits - hits.diff(dim=-1, prepend=hits.new_zeros(*hits.shape[:-1], 1)) / 2  # the middle of each step
    return ((widths * heights).sum(-1) / (hits[..., -1] * misses[..., -1])).to(dtype)


def average_precision(y_true, scores):
    """Average precision: the precision at each threshold, weighted by the recall that the threshold adds.

    Shapes: y_true (0, 1 or booleans) and scores (..., n), result (...). Range: above 0, to 1; useless scores come near
    the share of positives. Errors: values other than 0 and 1; scores not finite; a row without positives.
    Convention: a sum of steps, without interpolation; items of equal score enter together (scikit-learn).
    Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval (2008), section 8.4.

    >>> average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    tensor(0.8333, dtype=torch.float64)
    """
    hits, misses, dtype = _curve(y_true, scores)
    if not (hits[..., -1] > 0).all():
        raise ValueError("y_true holds no 1; expected at least one positive, without which there is no recall")
    gained = hits.diff(dim=-1, prepend=hits.new_zeros(*hits.shape[:-1], 1))
    precision = hits / (hits + misses).clamp(min=1)
    return ((gained * precision).sum(-1) / hits[..., -1]).to(dtype)


# Pictures


def plot_confusion_matrix(matrix, labels, title="Confusion matrix"):
    """A heat map of a confusion matrix: counts in its cells, and their share of the row, which gives the colour.

    Shapes: matrix (k, k), counts with true labels in rows; labels k names. Returns the matplotlib figure.
    Errors: a matrix that is not square, or has not as many rows as there are labels. A row without items has no shares.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    counts = torch.as_tensor(matrix).cpu()
    if counts.shape != (len(labels), len(labels)):
        raise ValueError(
            f"matrix has shape {tuple(counts.shape)}; expected ({len(labels)}, {len(labels)}), as labels has"
        )
    totals = counts.sum(1, keepdim=True)
    shares = counts / totals.clamp(min=1)
    texts = [
        [f"{count}\n{share:.1%}" if total else f"{count}" for count, share in zip(row, row_shares, strict=True)]
        for row, row_shares, total in zip(counts.tolist(), shares.tolist(), totals.flatten().tolist(), strict=True)
    ]
    side = 2.2 + 0.8 * len(labels)
    figure, axes = plt.subplots(figsize=(side + 0.8, side))
    style = {"cmap": "Blues", "vmin": 0, "vmax": 1, "linewidths": 1, "cbar_kws": {"label": "share of the row"}}
    sns.heatmap(shares, annot=np.array(texts), fmt="", xticklabels=labels, yticklabels=labels, ax=axes, **style)
    axes.tick_params(axis="y", rotation=0)
    axes.set(xlabel="predicted label", ylabel="true label", title=title)
    return figure


# Reading labels, counting, dividing


def _labels(name, value):
    """Labels as a list of strings or a tensor of integers."""
    if not isinstance(value, (list, torch.Tensor)):
        array = np.asarray(value)
        value = array.tolist() if array.dtype.kind in "OTU" and array.ndim else array
    if isinstance(value, list) and value:
        kinds = set(map(type, value))
        strings = [issubclass(kind, str) for kind in kinds]
        if all(strings):
            return value
        if any(strings):
            raise TypeError(f"{name} mixes {' and '.join(sorted(kind.__name__ for kind in kinds))}; expected one kind")
    if not isinstance(value, torch.Tensor):
        try:
            value = torch.as_tensor(np.require(value, requirements="CW"))
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name} cannot be read as strings or integers: {error}") from error
    if value.ndim != 1 or value.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(value.shape)}; expected (n,), a label for each of one item or more")
    if value.is_floating_point():
        check_finite(name, value)
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.uint64:
        raise TypeError(f"{name} has dtype {value.dtype}; expected labels, which are strings or integers")
    return value.long()


def _distinct(labels):
    """The labels that the caller gives, as a list; each may stand there once."""
    given = _labels("labels", labels)
    given = given if isinstance(given, list) else given.tolist()
    if len(set(given)) != len(given):
        raise ValueError(f"labels is {given}; expected each label once")
    return given


def _tally_strings(first, second):
    pairs = Counter(zip(first, second, strict=True))
    labels = sorted({label for pair in pairs for label in pair})
    place = {label: i for i, label in enumerate(labels)}
    counts = torch.zeros(len(labels), len(labels), dtype=torch.int64)
    rows, columns = ([place[pair[side]] for pair in pairs] for side in (0, 1))
    counts[rows, columns] = torch.tensor(list(pairs.values()))
    return labels, counts


def _tally_integers(first, second):
    ends = torch.stack([*first.aminmax(), *second.aminmax()])
    low, high = ends.amin().item(), ends.amax().item()
    if high - low < DENSE:
        labels = list(range(low, high + 1))
    else:
        values, codes = torch.cat([first, second]).unique(return_inverse=True)
        low, labels = 0, values.tolist()
        first, second = codes.split(len(first))
    size = len(labels)
    counts = torch.zeros(size**2, dtype=torch.int64, device=first.device)
    step = BLOCK if first.is_cpu else len(first)  # a few at a time stay in the cache
    for rows, columns in zip(first.split(step), second.split(step), strict=True):
        counts += torch.bincount((rows - low) * size + (columns - low), minlength=size**2)
    counts = counts.view(size, size)
    seen = (counts.sum(0) + counts.sum(1)).nonzero().flatten()
    return [labels[i] for i in seen.tolist()], counts[seen[:, None], seen]


def _matrix(y_true, y_pred, labels):
    matrix = ConfusionMatrix(labels)
    matrix.update(y_true, y_pred)
    return matrix


def _scores(counts, average=None):
    hits, true, predicted = counts.diagonal().double(), counts.sum(1).double(), counts.sum(0).double()
    if average == "micro":
        hits, true, predicted = hits.sum(), true.sum(), predicted.sum()
    # Where a divisor is 0 there are no hits either, so that dividing by 1 instead gives 0.
    parts = hits / predicted.clamp(min=1), hits / true.clamp(min=1), 2 * hits / (true + predicted).clamp(min=1)
    if average == "macro":
        parts = [part.mean() for part in parts]
    if average == "weighted":
        parts = [(part * true).sum() / true.sum() for part in parts]
    return PrecisionRecallF1(*parts)


def _report(labels, counts):
    each = _scores(counts)
    columns = zip(labels, each.precision, each.recall, each.f1, counts.sum(1).tolist(), strict=True)
    averages = {name: _scores(counts, name) for name in ("macro", "micro", "weighted")}
    accuracy = counts.diagonal().sum().double() / counts.sum()
    rows = tuple(ClassRow(*column) for column in columns)
    return ClassificationReport(rows=rows, accuracy=accuracy, labels=labels, matrix=counts, **averages)


def _matthews(counts):
    # Whole numbers of Python: exact, whatever their size.
    true, predicted = counts.sum(1).tolist(), counts.sum(0).tolist()
    total, hits = sum(true), counts.diagonal().sum().item()
    covariance = hits * total - sum(t * p for t, p in zip(true, predicted, strict=True))
    spread = math.prod(total**2 - sum(n**2 for n in side) for side in (true, predicted))
    return torch.tensor(covariance / math.sqrt(spread) if spread else 0.0, dtype=torch.float64, device=counts.device)


def _curve(y_true, scores):
    """Positives and negatives at or above each score, from the highest; items of equal score count together."""
    positive, scores = outcomes(y_true=y_true, scores=scores)
    ordered, order = scores.sort(dim=-1, descending=True)
    positive = positive.gather(-1, order)
    last = torch.ones_like(ordered, dtype=torch.bool)  # of the items of its score
    last[..., :-1] = ordered[..., 1:] != ordered[..., :-1]
    hits, misses = positive.cumsum(-1), (1 - positive).cumsum(-1)
    return *(part.where(last, 0).cummax(-1).values for part in (hits, misses)), scores.dtype


def _texts(scores):
    return [f"{value.item():.4f}" for value in (scores.precision, scores.recall, scores.f1)]
