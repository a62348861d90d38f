"""Whether a confidence of 80 % is right 80 % of the time. `studyguide.statistics.classification` offers these too."""

import numpy as np
import torch

from studyguide.probability.validation import common_dtype, floating, normalised, one_of, positive_integer, samples


def expected_calibration_error(confidences, correct, n_bins=15, norm="l1"):
    """Expected calibration error: how far confidence and accuracy lie apart, over bins of similar confidence.

    Shapes: confidences and correct (..., n), result (...); correct is 0, 1 or booleans. Range: 0 to 1.
    norm: "l1" is the mean gap over all items (ECE), "l2" the root of the mean squared gap, "max" the largest gap (MCE).
    Errors: confidences outside 0 to 1, other values in correct, shapes that differ, an unknown norm.
    Convention: n_bins equal bins, each with its right edge; 0 belongs to the first. Empty bins count nothing. The value
    depends on n_bins, and chance alone makes it positive: few items per bin look badly calibrated.
    Source: Guo et al. (2017), "On Calibration of Modern Neural Networks", section 2; Naeini et al. (2015).

    >>> expected_calibration_error([0.6, 0.7, 0.9, 0.9], [0, 1, 1, 1], n_bins=2)
    tensor(0.0250, dtype=torch.float64)
    """
    one_of("norm", norm, ("l1", "l2", "max"))
    counts, confidence, hits, dtype = _bins(confidences, correct, n_bins)
    gaps = (confidence - hits).abs() / counts.clamp(min=1)
    if norm == "max":
        return gaps.amax(-1).to(dtype)
    shares = counts / counts.sum(-1, keepdim=True)
    return ((shares * gaps).sum(-1) if norm == "l1" else (shares * gaps**2).sum(-1).sqrt()).to(dtype)


def brier_score(y_true, probabilities):
    """Brier score: the mean squared distance between the probabilities and what happened.

    Shapes: y_true (..., n). Binary: 0, 1 or booleans, with probabilities of a 1 (..., n). More classes: integers from 0 to
    k - 1, with probabilities (..., n, k) that sum to 1. Result (...).
    Range: 0 to 1 if binary, 0 to 2 with probabilities of all classes, lower is better. With two classes the second form
    is twice the first. Errors: other labels, probabilities outside 0 to 1, sums other than 1, shapes that do not fit.
    Convention: the sum over classes is not halved, as Brier defined it, and scikit-learn by default.
    Source: Brier (1950), "Verification of forecasts expressed in terms of probability".

    >>> brier_score([1, 0], [0.8, 0.4]), brier_score([2, 0], [[0.1, 0.1, 0.8], [0.6, 0.2, 0.2]])
    (tensor(0.1000, dtype=torch.float64), tensor(0.1500, dtype=torch.float64))
    """
    [p] = samples(probabilities=probabilities)
    dtype, work = common_dtype(p)
    if np.shape(y_true) == p.shape:
        happened, p = outcomes(y_true=y_true, probabilities=_probabilities("probabilities", p))
        return (p - happened).square().mean(-1).to(dtype)
    p, labels = floating(probabilities=probabilities, y_true=y_true)
    if labels.shape != p.shape[:-1]:
        shapes = f"y_true has shape {tuple(labels.shape)}, probabilities {tuple(p.shape)}"
        raise ValueError(f"{shapes}; expected one shape, or an axis more for the classes")
    if not ((labels == labels.round()) & (labels >= 0) & (labels < p.shape[-1])).all():
        raise ValueError(f"y_true holds other than 0 to {p.shape[-1] - 1}; expected an integer class for each item")
    happened = torch.nn.functional.one_hot(labels.long(), p.shape[-1])
    return (normalised("probabilities", p, work) - happened).square().sum(-1).mean(-1).to(dtype)


def reliability_diagram(confidences, correct, n_bins=10, title="Reliability diagram"):
    """Accuracy against confidence, bin by bin, beside the diagonal of perfect calibration; below, the items per bin.

    Shapes: confidences and correct (n,). Returns the matplotlib figure. Errors and bins: those of
    `expected_calibration_error`. Source: Murphy and Winkler (1977); Guo et al. (2017), figure 1.
    """
    import matplotlib.pyplot as plt

    from studyguide.course.style import BLUE, GRAY, SKY

    counts, confidence, hits = (part.cpu().numpy() for part in _bins(confidences, correct, n_bins)[:3])
    if counts.ndim > 1:
        raise ValueError(f"confidences and correct are a batch of {len(counts)}; expected (n,), for one diagram")
    used = counts > 0
    middles = (np.arange(n_bins) + 0.5)[used] / n_bins
    accuracy, confidence = hits[used] / counts[used], confidence[used] / counts[used]
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(5.6, 5.6), height_ratios=(3, 1))
    top.bar(middles, accuracy, width=0.94 / n_bins, color=SKY)
    top.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1.2)
    top.text(0.2, 0.24, "calibrated", color=GRAY, ha="right")
    top.plot(confidence, accuracy, "o", color=BLUE, markersize=6, clip_on=False, zorder=3)
    top.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share correct", title=title)
    bars = bottom.bar(middles, counts[used], width=0.94 / n_bins, color=GRAY)
    bottom.bar_label(bars, fmt="%d", fontsize=9)
    bottom.margins(y=0.25)
    bottom.set(xlabel="confidence", ylabel="items")
    return figure


def outcomes(**sides):
    """What happened (0, 1 or booleans) as float64, and the number given for each, (..., n) both.

    >>> outcomes(correct=[True, False], confidences=[0.9, 0.8])
    (tensor([1., 0.], dtype=torch.float64), tensor([0.9000, 0.8000], dtype=torch.float64))
    """
    (name, happened), (other, numbers) = sides.items()
    happened = happened if isinstance(happened, torch.Tensor) else np.asarray(happened)
    if str(happened.dtype) in ("bool", "torch.bool"):
        happened = happened * 1
    numbers, happened = samples(**{other: numbers, name: happened})
    if numbers.shape != happened.shape:
        shapes = f"{name} has {happened.shape[-1]} items along the last axis, {other} {numbers.shape[-1]}"
        raise ValueError(f"{shapes}; expected as many")
    if (odd := (happened != 0) & (happened != 1)).any():
        raise ValueError(f"{name} contains {happened[odd][0]:g}; expected 0, 1 or booleans")
    return happened.double(), numbers


def _probabilities(name, p):
    if p.amin() < 0 or p.amax() > 1:
        raise ValueError(f"{name} contains {(p.amin() if p.amin() < 0 else p.amax()):g}; expected numbers from 0 to 1")
    return p


def _bins(confidences, correct, n_bins):
    """Items, sum of confidence and correct items per bin (..., n_bins), in float64; and the dtype of a result."""
    correct, confidences = outcomes(correct=correct, confidences=confidences)
    _probabilities("confidences", confidences)
    size = positive_integer("n_bins", n_bins)
    edges = torch.arange(1, size, device=confidences.device, dtype=torch.float64) / size
    # In the dtype of the confidences, so that a float32 0.3 is on the edge 0.3; an edge belongs to the bin below it.
    place = torch.bucketize(confidences.contiguous(), edges.to(confidences.dtype))
    empty = correct.new_zeros(*correct.shape[:-1], size)
    parts = (torch.ones_like(correct), confidences.double(), correct)
    return *(empty.scatter_add(-1, place, part) for part in parts), confidences.dtype
