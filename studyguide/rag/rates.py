"""From what a judge says of many items, and people of a few, to the true rate: with an interval that can be trusted."""

from functools import partial

import torch
from scipy import stats

from studyguide.probability.validation import one_of, open_fraction, samples
from studyguide.statistics.intervals import Interval, moments


def corrected_rate(labels, judged, unlabelled, method="tuned", confidence=0.95):
    """The mean of the true labels of all items, from the labels of a few and a judge's verdicts on all.

    `labels` are the truth of n items, 0 or 1 or a score; `judged` is what the judge says of the same items, in the same
    order; `unlabelled` is what it says of N others. Both sets must be drawn at random from the same items, and one by
    one: for claims that share a question, take one a question or expect an interval that is too short.

    - "classical": the labels alone; the judge is not used.
    - "ppi": prediction-powered, the judge's mean on the others plus its mean error on the labelled.
    - "tuned": the labels' mean plus l times the difference of the judge's two means, l as the data suggest: near 0 for a
      judge that knows nothing, near 1 for a good one. For large samples never wider than "classical" or "ppi".
    - "rogan-gladen": (q + c - 1) / (s + c - 1), where q is the judge's rate on the others, s and c its sensitivity and
      specificity on the labelled. For labels and verdicts that are 0 or 1.

    Shapes: (..., n), (..., n) and (..., N), n and N of 2 or more; the fields of the Interval (...). Limits are normal, and
    not cut at 0 and 1.
    Errors: samples that do not fit or are not finite; another method; for "rogan-gladen" what is neither 0 nor 1,
    labels all alike, and a judge no better than chance (s + c of 1 or less) are a ValueError.
    Source: Angelopoulos et al. (2023), "Prediction-powered inference"; Angelopoulos, Duchi and Zrnic (2023), "PPI++",
    for l; Rogan and Gladen (1978), "Estimating prevalence from the results of a screening test".

    >>> labels, judged = [1, 0, 1, 1, 0, 1, 0, 1], [1, 0, 1, 1, 1, 1, 0, 1]
    >>> print(corrected_rate(labels, judged, [1, 1, 0, 1] * 40))
    0.625 (95 % interval 0.3776 to 0.8724)
    """
    one_of("method", method, ("classical", "ppi", "tuned", "rogan-gladen"))
    confidence = open_fraction("confidence", confidence)
    labels, judged, unlabelled = samples(at_least=2, labels=labels, judged=judged, unlabelled=unlabelled)
    if labels.shape[-1] != judged.shape[-1]:
        raise ValueError(f"there are {labels.shape[-1]} labels and {judged.shape[-1]} judged; expected as many")
    dtype = labels.dtype
    labels, judged, unlabelled = labels.double(), judged.double(), unlabelled.double()
    estimate = _rogan_gladen if method == "rogan-gladen" else partial(_powered, method=method)
    rate, variance = estimate(labels, judged, unlabelled)
    margin = stats.norm.isf((1 - confidence) / 2) * variance.sqrt()
    return Interval(rate.to(dtype), (rate - margin).to(dtype), (rate + margin).to(dtype), confidence)


def _powered(labels, judged, unlabelled, method):
    """mean(labels) + weight * (mean(unlabelled) - mean(judged)), and its variance."""
    n, others = labels.shape[-1], unlabelled.shape[-1]
    (mean, _), (seen, spread), (rest, spread_rest) = map(moments, (labels, judged, unlabelled))
    weight = torch.full_like(mean, method == "ppi")
    if method == "tuned":
        shared = ((labels - mean[..., None]) * (judged - seen[..., None])).sum(-1) / (n - 1)
        pooled = ((n - 1) * spread + (others - 1) * spread_rest) / (n + others - 2)
        weight = torch.where(pooled > 0, shared / ((1 + n / others) * pooled), 0)  # a constant judge tells nothing
    variance = moments(labels - weight[..., None] * judged)[1] / n + weight**2 * spread_rest / others
    return mean + weight * (rest - seen), variance


def _rogan_gladen(labels, judged, unlabelled):
    """The rate at which this sensitivity and specificity give the judge's rate, and its variance (delta method)."""
    for name, values in (("labels", labels), ("judged", judged), ("unlabelled", unlabelled)):
        if not ((values == 0) | (values == 1)).all():
            raise ValueError(f"{name} holds more than 0 and 1; expected these for rogan-gladen")
    positives, negatives = labels.sum(-1), (1 - labels).sum(-1)
    if not (positives * negatives).all():
        raise ValueError("labels are all alike; expected some 0 and some 1, for sensitivity and specificity")
    sensitivity, specificity = (labels * judged).sum(-1) / positives, ((1 - labels) * (1 - judged)).sum(-1) / negatives
    skill = sensitivity + specificity - 1
    if not (skill > 0).all():
        raise ValueError(
            f"sensitivity + specificity - 1 is {skill.min():.4g}; expected more than 0, a judge with some skill"
        )
    seen = unlabelled.mean(-1)
    rate = (seen + specificity - 1) / skill
    variance = seen * (1 - seen) / unlabelled.shape[-1]
    variance = variance + rate**2 * sensitivity * (1 - sensitivity) / positives
    variance = variance + (1 - rate) ** 2 * specificity * (1 - specificity) / negatives
    return rate, variance / skill**2
