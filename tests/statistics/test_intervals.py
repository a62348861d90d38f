"""Intervals and effect sizes against statsmodels and scipy, hand calculations, and their coverage."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from studyguide.statistics.intervals import (
    Interval,
    cohens_d,
    difference_of_means_interval,
    difference_of_proportions_interval,
    hedges_g,
    mean_interval,
    proportion_interval,
    rule_of_three,
)

PEERS = {
    "wilson": "wilson",
    "clopper-pearson": "beta",
    "wald": "normal",
    "agresti-coull": "agresti_coull",
    "jeffreys": "jeffreys",
}
each_method = pytest.mark.parametrize("method", PEERS)
properties = settings(deadline=None, max_examples=60)


def close(actual, expected, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=rtol, atol=atol)


def same_limits(interval, limits, **tolerance):
    close(interval.low, limits[0], **tolerance)
    close(interval.high, limits[1], **tolerance)


def random_samples(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(3 + i, 1 + i, size=shape) for i, shape in enumerate(shapes)]


@st.composite
def counts(draw):
    n = draw(st.integers(1, 10**6))
    return draw(st.sampled_from([0, n]) | st.integers(0, n)), n


# Means


def test_mean_by_hand():
    # 4.4 stars from 100 users, sd 0.8: the standard error is 0.8 / 10, t with 99 degrees of freedom is 1.984217
    shape = np.random.default_rng(0).normal(size=100)
    ratings = 4.4 + 0.8 * (shape - shape.mean()) / shape.std(ddof=1)
    same_limits(mean_interval(ratings), (4.4 - 1.984217 * 0.08, 4.4 + 1.984217 * 0.08), atol=1e-7, rtol=0)
    # [1, 2, 3]: mean 2, sd 1, standard error 1/sqrt(3), t with 2 degrees of freedom is 4.302653
    same_limits(mean_interval([1, 2, 3]), (2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), atol=1e-6, rtol=0)


@pytest.mark.parametrize("n", [2, 3, 30, 2000])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_mean_agrees_with_statsmodels(n, confidence):
    [x] = random_samples((4, n), seed=n)
    interval = mean_interval(x, confidence)
    close(interval.estimate, x.mean(-1))
    same_limits(interval, DescrStatsW(x.T).tconfint_mean(alpha=1 - confidence))


@pytest.mark.parametrize("sizes", [(2, 2), (2, 50), (40, 30), (1000, 7)])
@pytest.mark.parametrize(("method", "usevar"), [("welch", "unequal"), ("pooled", "pooled")])
def test_difference_of_means_agrees_with_statsmodels(sizes, method, usevar):
    a, b = random_samples(*sizes, seed=sum(sizes))
    interval = difference_of_means_interval(a, b, 0.9, method)
    close(interval.estimate, a.mean() - b.mean())
    same_limits(interval, CompareMeans(DescrStatsW(a), DescrStatsW(b)).tconfint_diff(0.1, usevar=usevar))


def test_constant_samples_have_a_width_of_0():
    for interval in (mean_interval([0.1] * 3), difference_of_means_interval([0.1] * 3, [0.3] * 4, method="pooled")):
        assert interval.low == interval.high == interval.estimate
    interval = difference_of_means_interval([2.0] * 3, [1.0, 2.0, 3.0])  # one of them constant: only the other counts
    same_limits(interval, 2 - np.array(stats.t.interval(0.95, 2, 2, 1 / 3**0.5))[::-1])


def test_a_large_offset_costs_no_precision():
    [x] = random_samples(50)
    grid = np.round(x * 1024) / 1024  # exact in float64, with the offset too
    interval, shifted = mean_interval(grid), mean_interval(grid + 2**40)
    close(shifted.high - shifted.low, interval.high - interval.low, rtol=0, atol=1e-3)
    huge, plain = (
        difference_of_means_interval(grid * 2.0**500, grid[::-1] * 2.0**501),
        difference_of_means_interval(grid, grid[::-1] * 2),
    )
    same_limits(huge, (plain.low * 2.0**500, plain.high * 2.0**500))


# Proportions


@each_method
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_proportion_agrees_with_statsmodels(method, confidence):
    k = np.array([0, 1, 2, 9, 10, 0, 1, 37, 99, 100, 0, 1, 450, 999_999])
    n = np.array([10] * 5 + [100] * 5 + [1, 1, 1000, 1_000_000])
    interval = proportion_interval(k, n, confidence, method)
    close(interval.estimate, k / n)
    same_limits(interval, proportion_confint(k, n, 1 - confidence, PEERS[method]))


def test_proportion_by_hand():
    z = 1.959963984540054
    # Wilson, 9 of 10: centre (9 + z^2/2) / (10 + z^2), margin z sqrt(.9 * .1 * 10 + z^2/4) / (10 + z^2)
    centre, margin = (9 + z**2 / 2) / (10 + z**2), z * math.sqrt(0.9 + z**2 / 4) / (10 + z**2)
    same_limits(proportion_interval(9, 10), (centre - margin, centre + margin))
    same_limits(
        proportion_interval(450, 1000, method="wald"),
        (0.45 - z * math.sqrt(0.45 * 0.55 / 1000), 0.45 + z * math.sqrt(0.45 * 0.55 / 1000)),
    )
    # Clopper-Pearson, 0 of 20: the upper limit p has (1 - p)^20 = 0.025
    same_limits(proportion_interval(0, 20, method="clopper-pearson"), (0, 1 - 0.025 ** (1 / 20)))


@each_method
def test_ends(method):
    none, every = proportion_interval(0, 20, method=method), proportion_interval(20, 20, method=method)
    if method == "jeffreys":  # cuts both tails all the same
        assert none.low > 0
        assert every.high < 1
    else:
        assert none.low == 0
        assert every.high == 1
    assert (none.high > 0) == (every.low < 1) == (method != "wald")  # Wald claims certainty


@each_method
@properties
@given(counts())
def test_proportion_properties(method, pair):
    k, n = pair
    interval, mirrored = proportion_interval(k, n, method=method), proportion_interval(n - k, n, method=method)
    assert 0 <= interval.low <= interval.high <= 1
    if method != "jeffreys":  # whose tails at 0 and n are cut like all others
        assert interval.low <= interval.estimate <= interval.high
    close(mirrored.low, 1 - interval.high, atol=1e-10)
    close(mirrored.high, 1 - interval.low, atol=1e-10)
    wider = proportion_interval(k, n, 0.99, method)
    assert (wider.low <= interval.low) & (wider.high >= interval.high)


def test_coverage_of_clopper_pearson_and_of_wald():
    """The exact coverage, a sum over all outcomes: never below 95 % for one, far below for the other."""
    k, n = np.arange(31), 30
    for p in (0.02, 0.1, 0.5, 0.93):
        covered = {m: (i.low <= p) & (p <= i.high) for m in PEERS for i in [proportion_interval(k, n, method=m)]}
        coverage = {m: float(stats.binom.pmf(k, n, p)[c.numpy()].sum()) for m, c in covered.items()}
        assert coverage["clopper-pearson"] >= 0.95
    assert coverage["wald"] < 0.9 < coverage["wilson"]


@pytest.mark.parametrize(("method", "peer"), [("newcombe", "newcomb"), ("wald", "wald")])
def test_difference_of_proportions_agrees_with_statsmodels(method, peer):
    for k_a, n_a, k_b, n_b in [(520, 1000, 450, 1000), (0, 10, 0, 20), (10, 10, 0, 7), (3, 40, 9, 50), (1, 1, 0, 1)]:
        interval = difference_of_proportions_interval(k_a, n_a, k_b, n_b, 0.9, method)
        close(interval.estimate, k_a / n_a - k_b / n_b)
        same_limits(interval, confint_proportions_2indep(k_a, n_a, k_b, n_b, method=peer, alpha=0.1))


@properties
@given(counts(), counts())
def test_newcombe_properties(a, b):
    interval = difference_of_proportions_interval(*a, *b)
    swapped = difference_of_proportions_interval(*b, *a)
    assert -1 - 1e-12 <= interval.low <= interval.estimate <= interval.high <= 1 + 1e-12
    close(swapped.low, -interval.high)


def test_newcombe_of_his_paper():
    # Newcombe (1998), table II, examples (a) and (c), method 10
    same_limits(difference_of_proportions_interval(56, 70, 48, 80), (0.0524, 0.3339), atol=5e-5, rtol=0)
    same_limits(difference_of_proportions_interval(10, 10, 0, 10), (0.6075, 1.0), atol=5e-5, rtol=0)


def test_rule_of_three():
    close(rule_of_three(100), 1 - 0.05**0.01)
    for n in (30, 300, 3000):
        assert 2.85 < n * rule_of_three(n) < -math.log(0.05) < 3
    close(rule_of_three(50, 0.975), proportion_confint(0, 50, 0.05, "beta")[1])  # one tail of Clopper-Pearson
    close(rule_of_three(1, 0.99), 0.99)


# Effect sizes


def test_effect_sizes_by_hand():
    # x = 1..5 and x + 1: the difference is 1, both variances 10 / 4
    a, b = [2, 3, 4, 5, 6], [1, 2, 3, 4, 5]
    close(cohens_d(a, b), 1 / math.sqrt(2.5))
    close(cohens_d(b, a), -1 / math.sqrt(2.5))
    # half of 8 degrees of freedom: Gamma(4) / (2 Gamma(3.5)), Gamma(3.5) = 15 sqrt(pi) / 8
    close(hedges_g(a, b), 6 / (2 * 15 * math.sqrt(math.pi) / 8) / math.sqrt(2.5))
    # differences 1, 2, 3: mean 2, sd 1
    close(cohens_d([2, 4, 6], [1, 2, 3], paired=True), 2)


@pytest.mark.parametrize("sizes", [(2, 2), (5, 90), (300, 200)])
def test_effect_sizes_agree_with_their_t_statistics(sizes):
    a, b = random_samples(*sizes)
    n, m = sizes
    t = stats.ttest_ind(a, b).statistic
    close(cohens_d(a, b), t * math.sqrt(1 / n + 1 / m))
    half = (n + m - 2) / 2
    factor = math.exp(math.lgamma(half) - math.lgamma(half - 0.5)) / math.sqrt(half)
    close(hedges_g(a, b), factor * t * math.sqrt(1 / n + 1 / m))
    if n == m:
        close(cohens_d(a, b, paired=True), stats.ttest_rel(a, b).statistic / math.sqrt(n))


def test_hedges_g_is_unbiased_where_d_is_not():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.8, 1, (40_000, 5)), rng.normal(0, 1, (40_000, 5))
    d, g = cohens_d(a, b), hedges_g(a, b)
    assert abs(g.mean() - 0.8) < 4 * g.std() / 200  # four standard errors
    assert d.mean() - 0.8 > 0.06


def test_effect_sizes_without_spread():
    assert cohens_d([1, 1], [1, 1]) == hedges_g([1, 1], [1, 1]) == cohens_d([1, 2], [1, 2], paired=True) == 0
    assert cohens_d([1, 1], [2, 2]) == hedges_g([1, 1], [2, 2]) == cohens_d([1, 2], [3, 4], paired=True) == -math.inf


@properties
@given(*[st.lists(st.integers(-50, 50), min_size=2, max_size=8)] * 2, st.integers(-99, 99), st.integers(1, 9))
def test_effect_sizes_have_no_unit(a, b, shift, scale):
    d = cohens_d(a, b)
    close(cohens_d(b, a), -d)
    close(cohens_d([scale * x + shift for x in a], [scale * x + shift for x in b]), d)
    assert abs(hedges_g(a, b)) <= abs(d)


# Text, shapes, dtypes, devices, errors


def test_an_interval_as_text():
    assert str(proportion_interval(9, 10)) == "0.9 (95 % interval 0.5958 to 0.9821)"
    batch = Interval(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 1.5]), torch.tensor([1.5, 2.25]), 0.999)
    assert str(batch) == "[1, 2] (99.9 % interval [0.5, 1.5] to [1.5, 2.25])"


def test_batches_equal_a_loop():
    a, b = random_samples((3, 1, 8), (4, 5))
    for function in (difference_of_means_interval, cohens_d, hedges_g):
        for i, j in np.ndindex(3, 4):
            batch, one = function(a, b), function(a[i, 0], b[j])
            if function is difference_of_means_interval:
                assert batch.low.shape == (3, 4)
                batch, one = batch.low, one.low
            close(batch[i, j], one)
    grid = proportion_interval([[1], [5]], [10, 20, 30])
    assert grid.low.shape == grid.high.shape == grid.estimate.shape == (2, 3)
    close(grid.low[1, 2], proportion_interval(5, 30).low)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_dtypes(dtype):
    x, y = torch.tensor([1, 2, 4], dtype=dtype), torch.tensor([3, 5, 4], dtype=dtype)
    k, n = torch.tensor(3, dtype=dtype), torch.tensor(7, dtype=dtype)
    intervals = [
        mean_interval(x),
        difference_of_means_interval(x, y),
        proportion_interval(k, n),
        difference_of_proportions_interval(k, n, k, n),
    ]
    assert {part.dtype for i in intervals for part in (i.estimate, i.low, i.high)} == {dtype}
    assert cohens_d(x, y).dtype == cohens_d(x, y, paired=True).dtype == hedges_g(x, y).dtype == dtype
    assert rule_of_three(n).dtype == dtype
    assert mean_interval([1, 2]).low.dtype == proportion_interval(1, 2).low.dtype == torch.float64


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(cuda):
    a, b = (torch.tensor(x) for x in random_samples((5, 40), (5, 30)))
    k, n = torch.arange(11), torch.tensor(10)
    for function, arguments in [
        (mean_interval, (a,)),
        (difference_of_means_interval, (a, b)),
        (difference_of_proportions_interval, (k, n, n - k, n)),
        *((lambda *p, m=m: proportion_interval(*p, method=m), (k, n)) for m in PEERS),
    ]:
        here, there = function(*arguments), function(*(x.to(cuda) for x in arguments))
        assert there.low.device == cuda
        same_limits(here, (there.low.cpu(), there.high.cpu()))
    close(hedges_g(a.to(cuda), b.to(cuda)).cpu(), hedges_g(a, b))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mean_interval([1]), ValueError, "x has 1 along the last axis; expected at least 2 numbers"),
        (lambda: mean_interval([]), ValueError, "x is empty"),
        (lambda: mean_interval(3), ValueError, "x is a single number"),
        (lambda: mean_interval([1, math.nan]), ValueError, "x contains nan; expected finite numbers"),
        (lambda: mean_interval([1e200, -1e200]), ValueError, "the samples reach 1e\\+200; expected numbers whose"),
        (lambda: mean_interval(["a"]), TypeError, "x cannot be read"),
        (lambda: mean_interval([1, 2], 95), ValueError, "confidence is 95; expected a number strictly between"),
        (lambda: mean_interval([1, 2], "0.95"), TypeError, "confidence is '0.95'"),
        (lambda: difference_of_means_interval([1, 2], [1]), ValueError, "b has 1 along"),
        (lambda: difference_of_means_interval([1, 2], [1, 2], method="z"), ValueError, "method is 'z'; expected one"),
        (lambda: difference_of_means_interval([[1, 2]] * 2, [[1, 2]] * 3), ValueError, "leading axes that broadcast"),
        (lambda: proportion_interval(3, 2), ValueError, "successes reaches 3, n goes down to 2"),
        (lambda: proportion_interval(0, 0), ValueError, "n goes down to 0; expected at least one trial"),
        (lambda: proportion_interval(-1, 2), ValueError, "successes contains -1; expected whole numbers"),
        (lambda: proportion_interval(0.45, 10), ValueError, "successes contains 0.45; expected whole numbers"),
        (lambda: proportion_interval(math.inf, 10), ValueError, "successes contains inf"),
        (lambda: proportion_interval([1, 2], [3, 4, 5]), ValueError, r"successes \(2,\) and n \(3,\); expected shapes"),
        (lambda: proportion_interval(1, 2, method="exact"), ValueError, "method is 'exact'; expected one of 'wilson'"),
        (
            lambda: difference_of_proportions_interval(1, 2, 3, 2),
            ValueError,
            "successes_b reaches 3, n_b goes down to 2",
        ),
        (lambda: difference_of_proportions_interval(1, 2, 1, 2, method="z"), ValueError, "method is 'z'"),
        (lambda: cohens_d([1, 2], [1, 2, 3], paired=True), ValueError, "a has 2 numbers, b 3; expected pairs"),
        (lambda: hedges_g([1], [1, 2]), ValueError, "a has 1 along the last axis"),
        (lambda: rule_of_three(0), ValueError, "n goes down to 0"),
        (lambda: rule_of_three(10, 1), ValueError, "confidence is 1"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
