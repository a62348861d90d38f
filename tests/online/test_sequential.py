"""Sequential tests against published tables, scipy's integrals, recorded gbstats and spotify-confidence values, and A/A runs."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats
from statsmodels.stats.proportion import proportion_confint

from studyguide.online import sequential
from studyguide.online.sequential import (
    always_valid_p_value,
    confidence_sequence,
    crossing_probability,
    difference_of_moments,
    group_sequential_bounds,
    mixture_bounds,
    running_moments,
    sequential_test,
    simulate_peeking,
)
from studyguide.statistics.hypothesis import welch_t_test

FIVE = [0.2, 0.4, 0.6, 0.8, 1.0]
properties = settings(deadline=None, max_examples=40)


def close(actual, expected, rtol=1e-9, atol=1e-12):
    actual = torch.as_tensor(actual, dtype=torch.float64)
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=torch.float64), rtol=rtol, atol=atol)


def holds(rate, count, target):
    """Whether `target` lies in the 99.9 % interval of a simulated rate."""
    low, high = proportion_confint(round(rate * count), count, 0.001, "wilson")
    return low <= target <= high


# Moments


def test_running_moments_are_those_of_each_prefix():
    x = np.random.default_rng(0).normal(1e6, 1, size=(3, 50))
    found = running_moments(x)
    assert found.n.tolist() == list(range(2, 51))
    close(found.mean, np.stack([x[:, :n].mean(-1) for n in range(2, 51)], -1))
    close(found.variance, np.stack([x[:, :n].var(-1, ddof=1) for n in range(2, 51)], -1), rtol=1e-6)
    some = running_moments(x, [7, 30])
    close(some.variance, found.variance[:, [5, 28]])


def test_the_variance_of_equal_values_is_exactly_zero():
    assert running_moments([0.1] * 9).variance.tolist() == [0.0] * 8


def test_a_difference_has_welchs_standard_error():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=40), rng.normal(0.3, 2, size=90)
    found = difference_of_moments(running_moments(a, [40]), running_moments(b, [90]))
    close(found.n, [130.0])
    close(found.mean, [a.mean() - b.mean()])
    close(found.variance / found.n, [stats.ttest_ind(a, b, equal_var=False)._standard_error ** 2])


@pytest.mark.parametrize("looks", [[1, 2], [3, 3], [4, 2], [2, 11], [2.5], [[2, 3]]])
def test_looks_must_be_sizes_that_grow(looks):
    with pytest.raises(ValueError, match="expected whole numbers that grow, from 2 to 10"):
        running_moments(range(10), looks)


# Confidence sequences


@pytest.mark.parametrize(
    ("n", "tuned_to", "alpha"), [(1, 100, 0.05), (100, 100, 0.05), (5000, 80, 0.01), (40, 900, 0.2)]
)
def test_the_limit_is_where_robbins_mixture_reaches_one_over_alpha(n, tuned_to, alpha):
    """The likelihood ratio of a drift, averaged over a normal prior of variance rho^2, by numerical integration."""
    rho = math.sqrt((math.log(1 - 2 * math.log(alpha)) - 2 * math.log(alpha)) / tuned_to)

    def mixture(z):
        total = z * math.sqrt(n)
        peak = total * rho**2 / (n * rho**2 + 1)
        width = rho / math.sqrt(n * rho**2 + 1)

        def ratio(drift):
            return math.exp(drift * total - drift**2 * n / 2 - drift**2 / rho**2 / 2) / math.sqrt(2 * math.pi) / rho

        return integrate.quad(ratio, peak - 12 * width, peak + 12 * width, epsabs=0, epsrel=1e-11)[0]

    expected = optimize.brentq(lambda z: math.log(mixture(z) * alpha), 0.1, 20, xtol=1e-12)
    close(mixture_bounds(n, tuned_to, alpha), expected, rtol=1e-8)


def test_the_tuning_is_within_half_a_percent_of_the_best():
    n = 1000.0
    for alpha in (0.2, 0.05, 0.001):
        best = min(float(mixture_bounds(n, tuned, alpha)) for tuned in np.geomspace(100, 10_000, 2001))
        assert best <= mixture_bounds(n, n, alpha) <= 1.005 * best


GBSTATS = [  # gbstats 0.8.0, SequentialTwoSidedTTest, absolute: (n, mean, variance) of a and b, tuning, alpha, interval, p
    (
        (1000, 0.45, 0.2475),
        (1000, 0.52, 0.2496),
        5000,
        0.05,
        (0.00035303510609593913, 0.13964696489390407),
        0.048149655568072,
    ),
    (
        (1000, 0.45, 0.2475),
        (1000, 0.52, 0.2496),
        2000,
        0.05,
        (0.002327771012429633, 0.13767222898757037),
        0.03755307803074593,
    ),
    (
        (50, 4.2, 48 / 49),
        (60, 275 / 60, (1330 - 275**2 / 60) / 59),
        200,
        0.05,
        (-0.22499630688491357, 0.9916629735515793),
        0.5050385778196601,
    ),
    (
        (3000, 4.2, 1080 / 2999),
        (2900, 4.3, 1189 / 2899),
        5000,
        0.1,
        (0.05529307843246287, 0.14470692156753642),
        1.379444921597257e-07,
    ),
]


@pytest.mark.parametrize(("a", "b", "tuned_to", "alpha", "limits", "p"), GBSTATS)
def test_intervals_and_p_values_are_those_of_gbstats(a, b, tuned_to, alpha, limits, p):
    """A proportion has the variance p(1 - p) there. What it calls the tuning parameter is `tuned_to`."""
    moments = difference_of_moments(b, a)
    found = confidence_sequence(moments, tuned_to, 1 - alpha)
    close([found.low, found.high], limits, rtol=1e-8)
    close(always_valid_p_value(moments, tuned_to, alpha), p, rtol=1e-8)


@properties
@given(st.floats(-3, 3), st.floats(0.01, 9), st.integers(2, 10**6), st.integers(1, 10**6), st.floats(0.01, 0.5))
def test_interval_and_p_value_never_disagree(mean, variance, n, tuned_to, alpha):
    interval = confidence_sequence((n, mean, variance), tuned_to, 1 - alpha)
    p = float(always_valid_p_value((n, mean, variance), tuned_to, alpha))
    assert 0 <= p <= 1
    if abs(p - alpha) > 1e-9:
        assert (p < alpha) == bool((interval.low > 0) | (interval.high < 0))
    fixed = stats.norm.isf(alpha / 2) * math.sqrt(variance / n)
    assert interval.low < mean - fixed
    assert interval.high > mean + fixed


def test_without_spread_nothing_is_known():
    interval = confidence_sequence(([10, 20], [0.0, 0.1], [0.0, 0.09]), tuned_to=100)
    assert interval.low.tolist()[0] == -math.inf
    assert interval.high.tolist()[0] == math.inf
    assert interval.low.isfinite().tolist() == [False, True]
    assert always_valid_p_value((10, 1.0, 0.0), tuned_to=100) == 1


DRAWS = {
    "normal": (lambda rng, size: rng.normal(size=size), 0.0, 30, 0.05),  # how to draw, truth, first look, missed
    "uniform scores": (lambda rng, size: rng.uniform(0.7, 1.0, size=size), 0.85, 30, 0.05),
    "clicks": (lambda rng, size: (rng.random(size=size) < 0.3) * 1.0, 0.3, 70, 0.05),
    "skewed": (lambda rng, size: rng.exponential(size=size), 1.0, 100, 0.05),
    "skewed, too early": (lambda rng, size: rng.exponential(size=size), 1.0, 30, 0.07),
    "rare": (lambda rng, size: (rng.random(size=size) < 0.05) * 1.0, 0.05, 400, 0.04),
    "rare, too early": (lambda rng, size: (rng.random(size=size) < 0.05) * 1.0, 0.05, 30, 0.13),
}


@pytest.mark.parametrize("name", DRAWS)
def test_all_intervals_together_hold_the_truth_as_often_as_they_claim(name):
    """Looked at after every single observation up to the 1,000th, with an estimated variance."""
    draw, truth, start, claimed = DRAWS[name]
    moments = running_moments(draw(np.random.default_rng(0), (3000, 1000)), range(start, 1001))
    interval = confidence_sequence(moments, tuned_to=300)
    missed = ((interval.low > truth) | (interval.high < truth)).any(-1).double().mean()
    low, high = proportion_confint(claimed * 3000, 3000, 0.001, "wilson")  # the error of the simulation
    assert missed <= high
    assert missed >= low or claimed == 0.05
    single = stats.norm.isf(0.025) * (moments.variance / moments.n).sqrt()
    assert ((moments.mean - truth).abs() > single).any(-1).double().mean() > 0.2


# Group sequential bounds


@pytest.mark.parametrize(
    ("spending", "expected"),
    [
        ("obrien_fleming", [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
        ("pocock", [2.4380, 2.4268, 2.4101, 2.3966, 2.3859]),
    ],
)
def test_bounds_are_the_published_ones(spending, expected):
    """Five equal looks, two-sided 5 %, as ldbounds and gsDesign print them (to their last digit)."""
    close(group_sequential_bounds(FIVE, spending).bounds, expected, rtol=0, atol=1.2e-4)


SPOTIFY = [  # spotify-confidence 4.1.0, sequential_bound_solver.bounds(t, alpha, rho, ztrun=8, sides=2)
    (FIVE, 2, 0.05, [3.090232306167813, 2.7140784033493683, 2.4727370728911673, 2.2798109461451133, 2.113967900571434]),
    (
        FIVE,
        1,
        0.05,
        [2.5758293035489004, 2.491931534168853, 2.4107719002495402, 2.3390790276572138, 2.2754458842342546],
    ),
    (
        [0.1, 0.35, 0.5, 0.9, 1.0],
        3,
        0.01,
        [4.417173413467605, 3.527391375977139, 3.292759937534205, 2.71931938292906, 2.6974728806498294],
    ),
]


@pytest.mark.parametrize(("times", "power", "alpha", "expected"), SPOTIFY)
def test_bounds_are_those_of_spotify_confidence(times, power, alpha, expected):
    """It spends alpha t^power, and integrates by trapezoids to about four digits."""
    close(group_sequential_bounds(times, lambda t: t**power, alpha).bounds, expected, rtol=0, atol=1.2e-4)


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
def test_the_second_bound_solves_the_bivariate_normal(spending):
    times = [0.3, 0.7]
    first, second = group_sequential_bounds(times, spending, 0.1).bounds.tolist()
    if spending == "pocock":
        spent = [0.1 * math.log(1 + (math.e - 1) * t) for t in times]
    else:
        spent = [4 * stats.norm.sf(stats.norm.isf(0.025) / math.sqrt(t)) for t in times]
    close(2 * stats.norm.sf(first), spent[0])
    correlation = math.sqrt(times[0] / times[1])
    both = stats.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]])
    inside = both.cdf([first, second], lower_limit=[-first, -second])
    close(inside, 1 - spent[1], rtol=1e-8)


@properties
@given(
    st.lists(st.floats(0.01, 1), min_size=1, max_size=6),
    st.sampled_from(["obrien_fleming", "pocock"]),
    st.floats(0.005, 0.3),
)
def test_bounds_spend_what_they_may(steps, spending, alpha):
    times = np.cumsum(steps) / sum(steps)
    found = group_sequential_bounds(times, spending, alpha)
    close(crossing_probability(times, found.bounds), found.spent, rtol=1e-8, atol=1e-12)
    close(found.spent[-1], alpha)
    assert (found.bounds >= stats.norm.isf(alpha / 2) - 1e-9).all()


def test_one_look_is_the_ordinary_test():
    for spending in ("obrien_fleming", "pocock"):
        close(group_sequential_bounds([1], spending, 0.1).bounds, [stats.norm.isf(0.05)])


def test_a_look_so_early_that_nothing_may_be_spent_has_no_limit():
    found = group_sequential_bounds([0.0005, 1])
    assert found.bounds[0] == math.inf
    close(found.bounds[1], stats.norm.isf(0.025))


@pytest.mark.parametrize(
    ("looks", "rate"),
    [(1, 0.050), (2, 0.083), (3, 0.107), (4, 0.126), (5, 0.142), (10, 0.193), (20, 0.248), (50, 0.320), (100, 0.374)],
)
def test_peeking_costs_what_armitage_mcpherson_and_rowe_print(looks, rate):
    """Their table 2 of 1969: the limit of one look, 5 %, at each of so many."""
    times = np.arange(1, looks + 1) / looks
    assert abs(crossing_probability(times, stats.norm.isf(0.025))[-1] - rate) < 6e-4


@pytest.mark.parametrize(("looks", "pocock", "fleming"), [(2, 2.178, 1.977), (5, 2.413, 2.040), (10, 2.555, 2.087)])
def test_the_classical_constants_have_level_five_percent(looks, pocock, fleming):
    """Jennison and Turnbull (2000), tables 2.1 and 2.3: a constant limit, and one over the root of the time."""
    times = np.arange(1, looks + 1) / looks
    for bounds in (pocock, fleming / np.sqrt(times)):
        close(crossing_probability(times, bounds)[-1], 0.05, rtol=0, atol=1e-4)


@pytest.mark.parametrize("drift", [-3.0, 0.5, 2.8016, 12.0])
def test_power_agrees_with_brute_force_and_with_one_look(drift):
    bounds = group_sequential_bounds(FIVE).bounds
    steps = np.random.default_rng(0).normal(drift * 0.2, math.sqrt(0.2), size=(100_000, 5))
    z = steps.cumsum(-1) / np.sqrt(FIVE)
    crossed = np.maximum.accumulate(np.abs(z) > bounds.numpy(), -1).mean(0)
    for exact, rate in zip(crossing_probability(FIVE, bounds, drift).tolist(), crossed, strict=True):
        assert holds(rate, 100_000, exact)
    once = stats.norm.sf(1.96 - drift) + stats.norm.cdf(-1.96 - drift)
    close(crossing_probability([1], 1.96, drift), [once])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 0.5],), "expected shares that grow"),
        (([0.5, 0.500001],), "expected shares that grow"),
        (([0.6, 0.4],), "expected shares that grow"),
        (([0.0, 1.0],), "expected (k,) shares above 0 and up to 1"),
        (([0.5, 1.2],), "expected (k,) shares above 0 and up to 1"),
        (([[0.5, 1]],), "expected (k,) shares"),
        (([0.5, math.nan],), "expected finite numbers"),
        (([1], "fleming"), "spending is 'fleming'"),
        (([1], "pocock", 1.0), "alpha is 1.0"),
        (([0.5, 1], lambda t: 1 - t), "expected to grow from 0 to 1"),
    ],
)
def test_plans_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        group_sequential_bounds(*arguments)


def test_limits_that_do_not_fit_the_looks_are_refused():
    for bounds in ([1.96, 2.0, 2.1], 0.0, [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="expected one drift, and one limit or 2, above 0"):
            crossing_probability([0.5, 1], bounds)


# The decision


def test_the_decision_of_each_kind():
    plan = group_sequential_bounds([0.5, 1]).bounds  # 2.9626, 1.9686
    size, one = [100, 200], [1.0, 1.0]
    assert sequential_test(([100], [0.29], [1.0]), plan).decision == "go on"
    assert sequential_test((size, [0.31, 0.0], one), plan).decision == "above 0"
    assert sequential_test((size, [-0.29, -0.14], one), plan).decision == "below 0"
    last = sequential_test((size, [0.29, 0.13], one), plan)
    assert (last.decision, last.look, last.reason) == ("not shown", 2, "look 2 of 2: z is 1.84, the limit 1.97")
    close([last.interval.low, last.interval.high], 0.13 + np.array([-1, 1]) * float(plan[1]) / math.sqrt(200))


def test_what_comes_after_the_first_crossing_does_not_count():
    plan = group_sequential_bounds(FIVE, "pocock").bounds
    result = sequential_test(([20, 40, 60], [0.1, 0.5, -0.9], [1.0] * 3), plan)
    assert (result.decision, result.look) == ("above 0", 2)


def test_no_spread_is_no_crossing():
    result = sequential_test(([20], [1.0], [0.0]), [2.0])
    assert result.decision == "not shown"
    assert (result.interval.low, result.interval.high) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("moments", "bounds"),
    [
        (([20, 40], [0.1, 0.1], [1.0, 1.0]), [2.0]),
        ((20, 0.1, 1.0), [2.0]),
        (([20], [0.1], [1.0]), [-2.0]),
        (([20], [0.1], [1.0]), 2.0),
    ],
)
def test_more_looks_than_planned_are_refused(moments, bounds):
    with pytest.raises(ValueError, match="at least as many limits, above 0"):
        sequential_test(moments, bounds)


# What it costs


def test_false_alarms_of_every_way_to_look_are_those_claimed():
    found = simulate_peeking(looks=20, n=1000, replications=40_000, rng=1)
    exact = {"one look": 0.05, "pocock": 0.05, "obrien_fleming": 0.05, "every look": 0.2479}
    for name, rate in exact.items():
        assert holds(found.rate[name], 40_000, rate)
    assert found.high["confidence sequence"] < 0.05
    assert found.mean_n["one look"] == 1000
    assert found.mean_n["every look"] < 900


def test_power_and_sample_size_agree_with_the_exact_recursion():
    times, drift = np.arange(1, 6) / 5, 2.8016
    found = simulate_peeking(looks=5, n=400, replications=40_000, effect=drift / 20, rng=2)
    for name in ("pocock", "obrien_fleming"):
        crossed = crossing_probability(times, group_sequential_bounds(times, name).bounds, drift)
        assert holds(found.rate[name], 40_000, float(crossed[-1]))
        mean_n = 80 * (1 + (1 - crossed[:-1]).sum())
        assert abs(found.mean_n[name] - mean_n) < 3
    assert holds(found.rate["one look"], 40_000, 0.8)


def test_the_guides_scores_peeked_at():
    """E3-28: uniform scores without a difference, two arms of 1,000, Welch's p at every 50: a fifth to a third "win"."""
    scores = torch.rand(2, 2000, 1000, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 0.3 + 0.7
    looks = range(50, 1001, 50)
    p = torch.stack([welch_t_test(*scores[..., :n]).p_value for n in looks], -1)
    assert holds(float((p[:, -1] < 0.05).double().mean()), 2000, 0.05)
    assert holds(float((p < 0.05).any(-1).double().mean()), 2000, 0.25)
    moments = difference_of_moments(*(running_moments(arm, looks) for arm in scores))
    plan = group_sequential_bounds(np.arange(1, 21) / 20).bounds
    z = moments.mean / (moments.variance / moments.n).sqrt()
    assert holds(float((z.abs() > plan).any(-1).double().mean()), 2000, 0.05)
    assert (always_valid_p_value(moments, 2000) < 0.05).any(-1).double().mean() < 0.03


def test_the_simulation_is_repeatable_and_bounded_in_memory(monkeypatch):
    first = simulate_peeking(3, 30, 500, rng=5)
    assert first.equals(simulate_peeking(3, 30, 500, rng=torch.Generator().manual_seed(5)))
    monkeypatch.setattr(sequential, "BLOCK", 30)
    assert abs(simulate_peeking(3, 30, 500, rng=5).rate - first.rate).max() < 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"looks": 31}, "at most one look per observation"),
        ({"effect": math.inf}, "effect"),
        ({"alpha": 0}, "alpha is 0"),
    ],
)
def test_simulations_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate_peeking(**({"looks": 3, "n": 30} | arguments), rng=0)


# Input


@pytest.mark.parametrize(
    ("moments", "error", "message"),
    [
        (5, TypeError, "expected Moments, or (n, mean, variance)"),
        ((1, 2), TypeError, "expected Moments"),
        ((1, 0.0, 1.0), ValueError, "whole n of at least 2"),
        ((2.5, 0.0, 1.0), ValueError, "whole n of at least 2"),
        ((5, 0.0, -1.0), ValueError, "variances of at least 0"),
        ((5, math.nan, 1.0), ValueError, "mean of moments contains nan"),
        (([5, 6], [0.1, 0.2, 0.3], 1.0), ValueError, "expected shapes that broadcast"),
        ((5, "x", 1.0), TypeError, "mean cannot be read"),
    ],
)
def test_bad_moments_are_refused(moments, error, message):
    for function in (confidence_sequence, always_valid_p_value):
        with pytest.raises(error, match=re.escape(message)):
            function(moments, 100)


def test_bad_tuning_is_refused():
    for tuned_to in (0, -5, math.inf):
        with pytest.raises(ValueError, match="tuned_to contains"):
            mixture_bounds(10, tuned_to)
    with pytest.raises(ValueError, match="confidence is 1.5"):
        confidence_sequence((5, 0.0, 1.0), 100, 1.5)


def test_float32_stays_float32():
    moments = running_moments(torch.rand(4, 50))
    interval = confidence_sequence(moments, 50)
    assert {part.dtype for part in (moments.mean, interval.low, interval.high)} == {torch.float32}
    assert always_valid_p_value(moments, 50).dtype == torch.float32


@pytest.mark.gpu
def test_the_gpu_gives_the_same(cuda):
    x = torch.rand(5, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    here = confidence_sequence(running_moments(x), 100)
    there = confidence_sequence(running_moments(x.to(cuda)), 100)
    assert there.low.device == cuda
    close(there.low.cpu(), here.low)
    p = always_valid_p_value(running_moments(x.to(cuda)), 100)
    close(p.cpu(), always_valid_p_value(running_moments(x), 100))
