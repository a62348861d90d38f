"""Rates corrected for a judge's errors: by hand, by their formulas in numpy, and by how often the interval holds."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from studyguide.rag.rates import corrected_rate

METHODS = ("classical", "ppi", "tuned", "rogan-gladen")
Z = norm.ppf(0.975)
seeds = st.integers(0, 10_000)
close = torch.testing.assert_close


def draw(seed, n=60, others=500, sensitivity=0.85, specificity=0.8, rate=0.6, rows=()):
    """Labels, verdicts on the same items, and verdicts on others."""
    rng = np.random.default_rng(seed)

    def judge(truth):
        u = rng.random(truth.shape)
        return np.where(truth == 1, u < sensitivity, u > specificity).astype(float)

    labels, rest = ((rng.random((*rows, size)) < rate).astype(float) for size in (n, others))
    return labels, judge(labels), judge(rest)


def as_list(interval):
    return [interval.estimate.item(), interval.low.item(), interval.high.item()]


@settings(deadline=None, max_examples=50)
@given(seeds)
def test_the_formulas_in_numpy(seed):
    y, f, g = draw(seed)
    error = y.std(ddof=1) / math.sqrt(60)
    assert as_list(corrected_rate(y, f, g, "classical")) == pytest.approx(
        [y.mean(), y.mean() - Z * error, y.mean() + Z * error]
    )
    rate = g.mean() + (y - f).mean()
    error = math.sqrt((y - f).var(ddof=1) / 60 + g.var(ddof=1) / 500)
    assert as_list(corrected_rate(y, f, g, "ppi")) == pytest.approx([rate, rate - Z * error, rate + Z * error])
    s, c = f[y == 1].mean(), 1 - f[y == 0].mean()
    rate = (g.mean() + c - 1) / (s + c - 1)
    error = math.sqrt(
        g.mean() * (1 - g.mean()) / 500
        + rate**2 * s * (1 - s) / y.sum()
        + (1 - rate) ** 2 * c * (1 - c) / (1 - y).sum()
    ) / (s + c - 1)
    assert as_list(corrected_rate(y, f, g, "rogan-gladen")) == pytest.approx([rate, rate - Z * error, rate + Z * error])


@settings(deadline=None, max_examples=30)
@given(seeds)
def test_the_tuned_weight_has_the_least_variance(seed):
    """Found by search: the variance of mean(y) + l (mean(g) - mean(f)), with one variance for all verdicts."""
    y, f, g = draw(seed)
    spread = (59 * f.var(ddof=1) + 499 * g.var(ddof=1)) / 558
    shared = np.cov(y, f)[0, 1]
    weight = minimize_scalar(lambda x: (x * x * spread - 2 * x * shared) / 60 + x * x * spread / 500).x
    tuned = corrected_rate(y, f, g)
    assert tuned.estimate.item() == pytest.approx(y.mean() + weight * (g.mean() - f.mean()), abs=1e-6)


def test_rogan_gladen_undoes_known_errors():
    """10 of 20 true, the judge finds 8 of them and 3 others: on the same items it gives back the truth."""
    y = [1] * 10 + [0] * 10
    f = [1] * 8 + [0] * 2 + [1] * 3 + [0] * 7
    assert corrected_rate(y, f, f, "rogan-gladen").estimate.item() == pytest.approx(0.5)
    # 0.65 judged positive: (0.65 + 0.7 - 1) / (0.8 + 0.7 - 1) = 0.7
    assert corrected_rate(y, f, [1] * 13 + [0] * 7, "rogan-gladen").estimate.item() == pytest.approx(0.7)


def test_a_perfect_judge_counts_for_all_and_a_constant_one_for_nothing():
    y, _, _ = draw(0)
    rest = draw(1)[0][:500]
    perfect = corrected_rate(y, y, rest, "ppi")
    assert as_list(perfect)[0] == pytest.approx(rest.mean())
    constant = corrected_rate(y, np.ones(60), np.ones(500))
    assert as_list(constant) == pytest.approx(as_list(corrected_rate(y, y, rest, "classical")))


@pytest.mark.parametrize("method", METHODS)
def test_intervals_hold_the_truth_as_often_as_they_say(method):
    y, f, g = draw(7, n=150, others=1000, rows=(4000,))
    interval = corrected_rate(y, f, g, method)
    held = ((interval.low <= 0.6) & (interval.high >= 0.6)).double().mean().item()
    assert 0.935 < held < 0.965
    assert interval.estimate.mean().item() == pytest.approx(0.6, abs=0.005)


def test_tuned_is_narrower_than_both_where_the_judge_is_middling():
    y, f, g = draw(3, n=200, others=5000, sensitivity=0.7, specificity=0.7)
    widths = {m: (i := corrected_rate(y, f, g, m)).high.item() - i.low.item() for m in METHODS}
    assert widths["tuned"] < widths["classical"] < widths["ppi"]


@pytest.mark.parametrize("method", METHODS)
def test_batches_dtypes_and_order(method):
    y, f, g = draw(5, rows=(2, 3))
    batch = corrected_rate(y, f, g, method)
    assert batch.estimate.shape == (2, 3)
    close(batch.low[1, 2], corrected_rate(y[1, 2], f[1, 2], g[1, 2], method).low)
    flipped = corrected_rate(y[..., ::-1].copy(), f[..., ::-1].copy(), g[..., ::-1].copy(), method)
    close(flipped.high, batch.high)
    single = corrected_rate(torch.tensor(y).float(), torch.tensor(f).float(), torch.tensor(g).float(), method)
    assert single.estimate.dtype == torch.float32
    close(single.estimate.double(), batch.estimate, atol=1e-5, rtol=0)


def test_scores_instead_of_verdicts():
    rng = np.random.default_rng(0)
    y = rng.normal(3, 1, 80)
    f, g = y + rng.normal(1, 0.3, 80), rng.normal(4, 1.04, 2000)
    interval = corrected_rate(y, f, g)
    assert interval.low < 3 < interval.high
    assert interval.high - interval.low < 0.5 * (corrected_rate(y, f, g, "classical").high - y.mean()) * 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "average"}, ValueError, "method is 'average'; expected one of 'classical'"),
        ({"confidence": 95}, ValueError, "confidence is 95"),
        ({"judged": [1, 0]}, ValueError, "there are 4 labels and 2 judged; expected as many"),
        ({"unlabelled": [1]}, ValueError, "unlabelled has 1 along the last axis; expected at least 2"),
        ({"labels": [1, 0, 1, math.nan]}, ValueError, "labels contains nan"),
        ({"labels": ["yes", "no", "yes", "no"]}, TypeError, "labels cannot be read as an array of numbers"),
        ({"labels": [1, 1, 1, 1]}, ValueError, "labels are all alike"),
        ({"judged": [0, 1, 0, 1]}, ValueError, "sensitivity + specificity - 1 is -1; expected more than 0"),
        ({"unlabelled": [0.5, 1]}, ValueError, "unlabelled holds more than 0 and 1"),
    ],
)
def test_errors(change, error, message):
    arguments = {"labels": [1, 0, 1, 0], "judged": [1, 0, 1, 0], "unlabelled": [1, 0, 1], "method": "rogan-gladen"}
    with pytest.raises(error, match=re.escape(message)):
        corrected_rate(**arguments | change)


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_cuda_agrees_with_cpu(method):
    arguments = [torch.tensor(side) for side in draw(0, rows=(3,))]
    there = corrected_rate(*(side.cuda() for side in arguments), method)
    assert there.low.device.type == "cuda"
    close(there.low.cpu(), corrected_rate(*arguments, method).low)
