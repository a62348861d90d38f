"""Tests against scipy and statsmodels, exact enumerations and hand calculations; A/A tests; and `compare_models`."""

import math
from functools import partial
from itertools import combinations, product

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.nonparametric import rank_compare_2indep
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest

from studyguide.statistics import hypothesis
from studyguide.statistics.hypothesis import (
    adjust_p_values,
    chi_square_test,
    compare_models,
    fisher_exact_test,
    mann_whitney_test,
    mcnemar_test,
    paired_t_test,
    permutation_test,
    two_proportion_z_test,
    welch_t_test,
    wilcoxon_test,
)

TWO_SAMPLES = [welch_t_test, paired_t_test, mann_whitney_test, wilcoxon_test]
each_alternative = pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
properties = settings(deadline=None, max_examples=60)
values = st.lists(st.integers(-9, 9), min_size=6, max_size=6)


def close(actual, expected, rtol=1e-10, atol=1e-12):
    expected = expected.copy() if isinstance(expected, np.ndarray) else expected  # scipy's may be read-only
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=rtol, atol=atol)


def same_limits(interval, limits, **tolerance):
    close(interval.low, limits[0], **tolerance)
    close(interval.high, limits[1], **tolerance)


def random_pair(*shape, seed=0, shift=0.5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape), rng.normal(shift, 1.5, size=shape)


def stars(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(1, 6, size=shape), rng.integers(2, 6, size=shape)


# Means


def test_the_two_chatbots_by_hand():
    """4.2 against 4.4 stars, 100 users each, both sd 0.8: the standard error is 0.8 sqrt(2 / 100) = 0.1131."""
    shape = np.random.default_rng(0).normal(size=100)
    shape = (shape - shape.mean()) / shape.std(ddof=1)
    result = welch_t_test(4.4 + 0.8 * shape, 4.2 + 0.8 * shape)
    close(result.statistic, 0.2 / (0.8 * math.sqrt(2 / 100)))
    close(result.df, 198)
    assert [round(float(x), 4) for x in (result.statistic, result.p_value)] == [1.7678, 0.0786]
    assert [round(float(x), 3) for x in (result.interval.low, result.interval.high)] == [-0.023, 0.423]


@each_alternative
@pytest.mark.parametrize("sizes", [(2, 2), (3, 40), (500, 20)])
def test_welch_agrees_with_scipy(sizes, alternative):
    a, b = random_pair(4, sizes[0])[0], random_pair(4, sizes[1], seed=1)[1]
    result = welch_t_test(a, b, 0.9, alternative)
    peer = stats.ttest_ind(a, b, axis=-1, equal_var=False, alternative=alternative)
    close(result.estimate, a.mean(-1) - b.mean(-1))
    close(result.statistic, peer.statistic)
    close(result.p_value, peer.pvalue)
    close(result.df, peer.df)
    same_limits(result.interval, peer.confidence_interval(0.9))


@each_alternative
@pytest.mark.parametrize("n", [2, 5, 300])
def test_paired_agrees_with_scipy(n, alternative):
    a, b = random_pair(4, n, seed=n)
    result = paired_t_test(a, b, 0.99, alternative)
    peer = stats.ttest_rel(a, b, axis=-1, alternative=alternative)
    close(result.statistic, peer.statistic)
    close(result.p_value, peer.pvalue)
    close(result.df, peer.df)
    same_limits(result.interval, peer.confidence_interval(0.99))


def test_constant_samples_have_the_limit_as_their_value():
    for test in (welch_t_test, paired_t_test):
        equal, apart = test([0.1] * 3, [0.1] * 3), test([0.1] * 3, [0.3] * 3)
        assert (equal.statistic, equal.p_value, equal.interval.low, equal.interval.high) == (0, 1, 0, 0)
        assert (apart.statistic, apart.p_value) == (-math.inf, 0)
        assert apart.interval.low == apart.interval.high == apart.estimate
        assert equal.df.isfinite()


@properties
@given(values, values, st.floats(0.5, 0.999))
def test_interval_and_p_of_one_model_never_disagree(a, b, confidence):
    for test in (welch_t_test, paired_t_test):
        result = test(a, b, confidence)
        if abs(result.p_value - (1 - confidence)) > 1e-9 and result.estimate != 0:
            outside = bool((result.interval.low > 0) | (result.interval.high < 0))
            assert outside == bool(result.p_value < 1 - confidence)


# Proportions and tables


def test_thumbs_up():
    table = np.array([[450, 550], [520, 480]])
    # expected counts 485 and 515 in each row: each cell is off by 35
    by_hand = 2 * 35**2 * (1 / 485 + 1 / 515)
    assert (round(by_hand, 3), round(2 * 34.5**2 * (1 / 485 + 1 / 515), 3)) == (9.809, 9.531)
    close(chi_square_test(table).statistic, by_hand)
    close(chi_square_test(table, correction=True).statistic, by_hand * (34.5 / 35) ** 2)
    z = two_proportion_z_test(520, 1000, 450, 1000)
    close(z.statistic, math.sqrt(by_hand))
    close(z.p_value, chi_square_test(table).p_value)
    assert round(float(z.p_value), 5) == 0.00174
    assert [round(float(x), 3) for x in (z.interval.low, z.interval.high)] == [0.026, 0.113]


@pytest.mark.parametrize("counts", [(520, 1000, 450, 1000), (1, 10, 9, 30), (0, 10, 3, 10), (10, 10, 0, 5)])
def test_z_agrees_with_statsmodels(counts):
    k_a, n_a, k_b, n_b = counts
    result = two_proportion_z_test(*counts, confidence=0.9)
    statistic, p_value = proportions_ztest([k_a, k_b], [n_a, n_b])
    close(result.statistic, statistic)
    close(result.p_value, p_value)
    close(result.estimate, k_a / n_a - k_b / n_b)
    same_limits(result.interval, confint_proportions_2indep(*counts, method="newcomb", alpha=0.1))


def test_all_or_none_succeed():
    result = two_proportion_z_test([0, 10], 10, [0, 20], 20)
    close(result.statistic, [0, 0])
    close(result.p_value, [1, 1])


@pytest.mark.parametrize("correction", [False, True])
@pytest.mark.parametrize("shape", [(2, 2), (2, 5), (4, 3)])
def test_chi_square_agrees_with_scipy(shape, correction):
    tables = np.random.default_rng(0).integers(1, 60, size=(5, *shape))
    result = chi_square_test(tables, correction)
    for i, table in enumerate(tables):
        peer = stats.chi2_contingency(table, correction=correction)
        close(result.statistic[i], peer.statistic)
        close(result.p_value[i], peer.pvalue)
        close(result.df[i], peer.dof)
        close(result.estimate[i], stats.contingency.association(table, method="cramer"))


def test_yates_never_overshoots():
    close(chi_square_test([[2, 2], [2, 2]], correction=True).statistic, 0)
    close(chi_square_test([[3, 3], [3, 4]], correction=True).statistic, 0)  # all gaps are below one half


def test_perfect_association():
    result = chi_square_test([[10, 0], [0, 7]])
    close(result.estimate, 1)
    close(result.statistic, 17)


@pytest.mark.parametrize(
    "table", [[[8, 2], [1, 5]], [[3, 0], [0, 4]], [[0, 5], [6, 1]], [[12, 9], [9, 12]], [[1, 1], [1, 1]]]
)
def test_fisher_agrees_with_scipy(table):
    result = fisher_exact_test(table, 0.9)
    odds = stats.contingency.odds_ratio(table)
    close(result.p_value, stats.fisher_exact(table).pvalue)
    close(result.estimate, odds.statistic)
    same_limits(result.interval, odds.confidence_interval(0.9))
    close(result.statistic, table[0][0])


def test_fisher_by_hand():
    # 3 and 4 items, 3 successes: 1 of the C(7, 3) = 35 ways is as extreme, and none on the other side
    close(fisher_exact_test([[3, 0], [0, 4]]).p_value, 1 / 35)


@pytest.mark.parametrize("table", [[[60, 5], [15, 20]], [[0, 3], [3, 0]], [[9, 0], [6, 1]], [[1, 400], [330, 7]]])
def test_mcnemar_agrees_with_statsmodels(table):
    close(mcnemar_test(table).p_value, mcnemar(table).pvalue)
    peer, result = mcnemar(table, exact=False, correction=False), mcnemar_test(table, exact=False)
    close(result.statistic, peer.statistic)
    close(result.p_value, peer.pvalue)
    close(result.df, 1)
    assert mcnemar_test(table).df is None


def test_mcnemar_by_hand():
    # 20 disagree, 5 of them for a: 2 P(X <= 5), X of 20 fair coins
    result = mcnemar_test([[60, 5], [15, 20]])
    close(result.p_value, 2 * sum(math.comb(20, k) for k in range(6)) / 2**20)
    close(result.estimate, 65 / 100 - 75 / 100)
    close(result.statistic, 5)
    # Bonett and Price: one more of either kind, 102 pairs
    centre, spread = (6 - 16) / 102, 22 / 102 - (10 / 102) ** 2
    margin = 1.959963984540054 * math.sqrt(spread / 102)
    same_limits(result.interval, (centre - margin, centre + margin))
    same_limits(mcnemar_test([[60, 15], [5, 20]]).interval, (-centre - margin, -centre + margin))


def test_mcnemar_without_disagreement():
    for exact in (True, False):
        result = mcnemar_test([[[5, 0], [0, 3]], [[0, 0], [0, 1]]], exact)
        close(result.p_value, [1, 1])
        close(result.estimate, [0, 0])
        assert ((result.interval.low < 0) & (result.interval.high > 0)).all()


def test_coverage_of_the_paired_interval():
    """Over 20,000 simulated evaluations of 40 items on which two models disagree a fifth of the time."""
    counts = np.random.default_rng(0).multinomial(40, [0.6, 0.12, 0.06, 0.22], size=20_000)
    interval = mcnemar_test(counts.reshape(-1, 2, 2)).interval
    assert 0.94 < ((interval.low <= 0.06) & (interval.high >= 0.06)).double().mean() < 0.975


# Ranks


@pytest.mark.parametrize("sizes", [(2, 3), (8, 8), (7, 30), (60, 50)])
@pytest.mark.parametrize("make", [random_pair, stars])
def test_mann_whitney_agrees_with_scipy_and_statsmodels(make, sizes):
    a, b = make(sizes[0], seed=3)[0], make(sizes[1], seed=4)[1]
    result = mann_whitney_test(a, b, 0.9)
    peer = stats.mannwhitneyu(a, b)
    close(result.statistic, peer.statistic)
    close(result.p_value, peer.pvalue)
    ranks = rank_compare_2indep(a, b)
    close(result.estimate, ranks.prob1)
    same_limits(result.interval, np.clip(ranks.conf_int(alpha=0.1), 0, 1))


def test_probability_of_superiority_by_hand():
    # of the 4 pairs (1, 2), (1, 3), (3, 2), (3, 3): one win, one tie
    close(mann_whitney_test([1, 3], [2, 3]).estimate, 1.5 / 4)


def test_separate_and_equal_samples_keep_an_honest_interval():
    above, tied = mann_whitney_test([4, 5, 6], [1, 2, 3, 0]), mann_whitney_test([3] * 5, [3] * 4)
    close(above.estimate, 1)
    same_limits(above.interval, (0.05 ** (1 / 3), 1))  # three independent pairs, all won: 1 - (1 - 0.05^(1/3))
    assert (tied.estimate, tied.p_value) == (0.5, 1)
    assert tied.interval.low < 0.5 < tied.interval.high


def signed_rank_p(d):
    """The exact signed-rank test, by all 2^n signs, as its definition says."""
    ranks = stats.rankdata(np.abs(d))
    null = [sum(r for r, s in zip(ranks, signs, strict=True) if s) for signs in product([0, 1], repeat=len(d))]
    observed = ranks[np.asarray(d) > 0].sum()
    tail = min(np.mean(np.array(null) <= observed), np.mean(np.array(null) >= observed))
    return min(1, 2 * tail)


@pytest.mark.parametrize("n", [1, 2, 6, 12, 50, 51, 120])
def test_wilcoxon_agrees_with_scipy(n):
    a, b = random_pair(3, n, seed=n)
    result = wilcoxon_test(a, b)
    for i in range(3):
        peer = stats.wilcoxon(a[i], b[i])
        close(result.statistic[i], peer.statistic)
        close(result.p_value[i], peer.pvalue)
        walsh = [(x + y) / 2 for k, x in enumerate(a[i] - b[i]) for y in (a[i] - b[i])[k:]]
        close(result.estimate[i], np.median(walsh))


@pytest.mark.parametrize("n", [5, 6, 9, 30, 80])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_signed_rank_interval_inverts_the_test(n, confidence):
    """Shifts within the interval are not rejected; shifts just outside are."""
    a, b = random_pair(n, seed=n)
    interval = wilcoxon_test(a, b, confidence).interval
    low, high = float(interval.low), float(interval.high)
    if n == 5 and confidence == 0.95:
        assert (low, high) == (-math.inf, math.inf)  # no shift is ever rejected: the smallest p is 2 / 32
        return
    for shift, inside in ((low + 1e-9, True), (low - 1e-9, False), (high - 1e-9, True), (high + 1e-9, False)):
        assert (stats.wilcoxon(a - b - shift).pvalue > 1 - confidence) == inside


def test_signed_rank_p_by_enumeration():
    for d in ([1.5, -2, 3, 4.5, 5], [1, 1, -2, 3, 3, 4], [-7]):
        close(wilcoxon_test(d, [0] * len(d)).p_value, signed_rank_p(d))


def test_wilcoxon_without_differences():
    result = wilcoxon_test([[1, 2, 3, 4, 5, 6]] * 2, [[1, 2, 3, 4, 5, 6], [0, 0, 1, 2, 2, 3]])
    assert (result.statistic[0], result.p_value[0], result.estimate[0]) == (0, 1, 0)
    same_limits(result.interval, ([0, 1], [0, 3]))


@pytest.mark.parametrize("test", [mann_whitney_test, wilcoxon_test])
def test_a_tie_in_one_row_changes_no_other(test):
    a, b = random_pair(2, 7)
    a[0, :2] = b[0, :2] = 1.0
    batch = test(a, b)
    for row in (0, 1):
        one = test(a[row], b[row])
        close(batch.p_value[row], one.p_value)
        close(batch.interval.low[row], one.interval.low)


# Permutations


def pooled_p(a, b, alternative):
    """All ways to regroup the items, one by one."""
    items = list(map(float, [*a, *b]))
    null = []
    for chosen in combinations(range(len(items)), len(a)):
        rest = [x for i, x in enumerate(items) if i not in chosen]
        null.append(round(np.mean([items[i] for i in chosen]) - np.mean(rest), 9))
    observed = round(np.mean(a) - np.mean(b), 9)
    below, above = (np.mean([sign * x <= sign * observed for x in null]) for sign in (1, -1))
    return {"less": below, "greater": above, "two-sided": min(1, 2 * min(below, above))}[alternative]


@each_alternative
@pytest.mark.parametrize("sizes", [(1, 1), (3, 3), (2, 7), (6, 5)])
@pytest.mark.parametrize("make", [random_pair, stars])
def test_regrouping_equals_scipy_and_the_enumeration(make, sizes, alternative):
    a, b = make(sizes[0], seed=5)[0], make(sizes[1], seed=6)[1]
    result = permutation_test(a, b, alternative=alternative, rng=0)
    close(result.p_value, pooled_p(a, b, alternative))

    def difference(x, y, axis):
        return x.mean(axis) - y.mean(axis)

    if min(sizes) > 1:  # scipy takes no single observation
        peer = stats.permutation_test((a, b), difference, vectorized=True, alternative=alternative, n_resamples=np.inf)
        close(result.p_value, peer.pvalue)
        close(result.statistic, peer.statistic)


@each_alternative
@pytest.mark.parametrize("n", [1, 2, 7, 13])
@pytest.mark.parametrize("make", [random_pair, stars])
def test_sign_flips_equal_scipy(make, n, alternative):
    a, b = make(n, seed=n)
    result = permutation_test(a, b, paired=True, alternative=alternative, rng=0)
    d = np.asarray(a, dtype=float) - b
    null = np.array(list(product([1, -1], repeat=n))) @ d
    below, above = np.mean(null <= d.sum() + 1e-9), np.mean(null >= d.sum() - 1e-9)
    expected = {"less": below, "greater": above, "two-sided": min(1, 2 * min(below, above))}[alternative]
    close(result.p_value, expected)
    if n > 1:
        peer = stats.permutation_test(
            (d,), lambda x, axis: x.mean(axis), permutation_type="samples", vectorized=True, alternative=alternative
        )
        close(result.p_value, peer.pvalue)


def test_ties_survive_rounding():
    # 0.1 + 0.2 is not 0.3 in floating point, but these two sums tie
    a, b = [0.1, 0.2, 0.7], [0.3, 0.6, 0.1]
    close(permutation_test(a, b, rng=0).p_value, pooled_p(a, b, "two-sided"))
    close(permutation_test([0.1, 0.2], [0.3, 0.0], paired=True, rng=0).p_value, 1)  # differences -0.2 and 0.2
    close(
        permutation_test(*torch.tensor([[0.1, 0.2, 0.7], [0.3, 0.6, 0.1]]), rng=0).p_value.double(),
        pooled_p(a, b, "two-sided"),
        atol=1e-7,
    )


@pytest.mark.parametrize("paired", [False, True])
def test_random_deals_come_near_the_exact_p(paired):
    a, b = random_pair(9, seed=1)
    exact = float(permutation_test(a, b, paired, n_resamples=10**5, rng=0).p_value)
    for seed in (0, 1):
        p_value = permutation_test(a, b, paired, n_resamples=500, rng=seed).p_value * 501 - 1
        assert float(p_value) == pytest.approx(500 * exact, abs=4 * 2 * math.sqrt(500 * exact))


def test_a_random_p_is_never_0_and_counts_the_sample():
    a, b = np.arange(30.0), np.arange(100.0, 130.0)
    for paired in (False, True):
        close(permutation_test(a, b, paired, "less", n_resamples=99, rng=0).p_value, 1 / 100)
        close(permutation_test(a, b, paired, n_resamples=99, rng=0).p_value, 2 / 100)
        close(permutation_test(a, a, paired, n_resamples=99, rng=0).p_value, 1)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("n", [4, 20])
def test_blocks_and_batches_change_nothing(paired, n, monkeypatch):
    a, b = random_pair(3, n)
    batch = permutation_test(a, b, paired, n_resamples=400, rng=7)
    for i in range(3):
        close(batch.p_value[i], permutation_test(a[i], b[i], paired, n_resamples=400, rng=7).p_value)
    monkeypatch.setattr(hypothesis, "BLOCK", 30)
    close(permutation_test(a, b, paired, n_resamples=400, rng=7).p_value, batch.p_value)


def test_deals_depend_on_rng_alone():
    run = partial(permutation_test, *random_pair(30, seed=2), n_resamples=200)
    rng = torch.Generator().manual_seed(3)
    before = torch.random.get_rng_state()
    assert run(rng=3).p_value == run(rng=3).p_value == run(rng=rng).p_value
    assert len({float(run(rng=rng).p_value) for _ in range(5)}) > 1, "the generator must advance"
    assert (torch.random.get_rng_state() == before).all()


# A/A tests: the rate of false alarms is alpha


def within_three_standard_errors(p_values, alpha=0.05):
    rate = float((p_values <= alpha).double().mean())
    return abs(rate - alpha) <= 3 * math.sqrt(alpha * (1 - alpha) / len(p_values))


@pytest.mark.parametrize("n", [10, 100])
def test_t_tests_alarm_at_alpha(n):
    rng = torch.Generator().manual_seed(0)
    difficulty = torch.randn(20_000, n, generator=rng, dtype=torch.float64)
    a, b = (difficulty + torch.randn(20_000, n, generator=rng, dtype=torch.float64) for _ in range(2))
    assert within_three_standard_errors(paired_t_test(a, b).p_value)
    assert within_three_standard_errors(welch_t_test(a, b.flip(0)).p_value)  # other rows: independent samples


def test_welch_holds_with_unequal_variances_and_sizes():
    rng = torch.Generator().manual_seed(1)
    a = torch.randn(20_000, 40, generator=rng, dtype=torch.float64)
    b = 4 * torch.randn(20_000, 12, generator=rng, dtype=torch.float64)
    assert within_three_standard_errors(welch_t_test(a, b).p_value)
    assert not within_three_standard_errors(torch.as_tensor(stats.ttest_ind(a, b, axis=-1).pvalue))  # pooled: 3 times


def test_sign_flips_alarm_at_alpha():
    """Whatever the shape of the scores, if both models have the same: here most are near 0 and few near 1."""
    rng = torch.Generator().manual_seed(2)
    a, b = (torch.rand(4000, 30, generator=rng, dtype=torch.float64) ** 5 for _ in range(2))
    assert within_three_standard_errors(permutation_test(a, b, paired=True, n_resamples=999, rng=0).p_value)
    assert within_three_standard_errors(permutation_test(a, b, n_resamples=999, rng=0).p_value)


def test_exact_tests_never_exceed_alpha():
    rng = torch.Generator().manual_seed(3)
    a, b = (torch.rand(20_000, 50, generator=rng) < 0.7 for _ in range(2))
    tables = torch.stack([(x & y).sum(-1) for x in (a, ~a) for y in (b, ~b)], -1).reshape(-1, 2, 2)
    for confidence in (0.95, 0.8):
        assert (mcnemar_test(tables).p_value <= 1 - confidence).double().mean() < 1 - confidence


# Many p-values


@pytest.mark.parametrize(("method", "peer"), [("holm", "holm"), ("bonferroni", "bonferroni"), ("bh", "fdr_bh")])
def test_adjusted_p_values_agree_with_statsmodels(method, peer):
    rng = np.random.default_rng(0)
    for p in (rng.uniform(size=(4, 7)) ** 3, rng.integers(0, 4, size=(4, 9)) / 3, np.ones((1, 1)) * 0.02):
        close(adjust_p_values(p, method), np.array([multipletests(row, method=peer)[1] for row in p]))


def test_adjusted_p_values_by_hand():
    p = [0.01, 0.04, 0.03, 0.005]
    close(adjust_p_values(p), [0.03, 0.06, 0.06, 0.02])
    close(adjust_p_values(p, "bonferroni"), [0.04, 0.16, 0.12, 0.02])
    close(adjust_p_values(p, "bh"), [0.02, 0.04, 0.04, 0.02])


@properties
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_adjusted_p_values_keep_their_order(p):
    bonferroni, holm, bh = (adjust_p_values(p, method) for method in ("bonferroni", "holm", "bh"))
    p = torch.tensor(p, dtype=torch.float64)
    assert ((p <= bh + 1e-12) & (bh <= holm + 1e-12) & (holm <= bonferroni + 1e-12) & (bonferroni <= 1)).all()
    for adjusted in (bonferroni, holm, bh):
        assert (adjusted[p.argsort()].diff() >= -1e-12).all()


# Properties of all two-sample tests


@properties
@given(values, values)
def test_swapping_the_samples_turns_the_sign(a, b):
    for test in TWO_SAMPLES:
        one, other = test(a, b), test(b, a)
        close(other.p_value, one.p_value)
        whole = 1 if test is mann_whitney_test else 0
        close(other.estimate, whole - one.estimate)
        same_limits(other.interval, (whole - one.interval.high, whole - one.interval.low))
        assert 0 <= one.p_value <= 1
        assert one.interval.low <= one.estimate <= one.interval.high
    assert permutation_test(a, b, rng=0).p_value == permutation_test(b, a, rng=0).p_value


@pytest.mark.parametrize("test", TWO_SAMPLES)
def test_batches_equal_a_loop(test):
    a, b = random_pair(2, 1, 12)[0], random_pair(3, 12)[1]
    batch = test(a, b)
    assert batch.p_value.shape == batch.interval.low.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        one = test(a[i, 0], b[j])
        for field in ("estimate", "statistic", "p_value"):
            close(getattr(batch, field)[i, j], getattr(one, field))
        close(batch.interval.high[i, j], one.interval.high)


def numbers(result):
    parts = [result.estimate, result.statistic, result.p_value]
    parts += [] if result.df is None else [result.df]
    return parts + ([result.interval.low, result.interval.high] if result.interval else [])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtypes(dtype):
    a, b = (torch.tensor(x, dtype=dtype) for x in random_pair(9))
    table, n = torch.tensor([[8, 2], [1, 5]], dtype=dtype), torch.tensor(9, dtype=dtype)
    results = [test(a, b) for test in TWO_SAMPLES]
    results += [test(table) for test in (chi_square_test, fisher_exact_test, mcnemar_test)]
    results += [two_proportion_z_test(n - 2, n, n - 5, n), permutation_test(a, b, rng=0)]
    results += [mcnemar_test(table, exact=False), permutation_test(a, b, True, rng=0)]
    assert {part.dtype for result in results for part in numbers(result)} == {dtype}
    assert adjust_p_values(a.sigmoid()).dtype == dtype
    comparison = compare_models(a, b, rng=0)
    fields = ("mean_a", "mean_b", "p_value", "effect_size", "power", "detectable")
    assert {getattr(comparison, field).dtype for field in fields} == {comparison.difference.low.dtype} == {dtype}


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(cuda):
    a, b = (torch.tensor(x) for x in random_pair(3, 11))
    table = torch.tensor([[8, 2], [1, 5]])
    calls = [(test, (a, b)) for test in TWO_SAMPLES]
    calls += [(test, (table,)) for test in (chi_square_test, fisher_exact_test, mcnemar_test)]
    calls += [(two_proportion_z_test, (a.new_tensor(5), a.new_tensor(9), a.new_tensor(2), a.new_tensor(9)))]
    calls += [(partial(permutation_test, rng=0, paired=True), (a, b))]
    for test, arguments in calls:
        here, there = test(*arguments), test(*(x.to(cuda) for x in arguments))
        for one, other in zip(numbers(here), numbers(there), strict=True):
            assert other.device == cuda
            close(other.cpu(), one)
    assert 0 < permutation_test(a.flatten().to(cuda), b.flatten().to(cuda), rng=0).p_value <= 1
    assert str(compare_models(a[0].to(cuda), b[0].to(cuda), rng=0)) == str(compare_models(a[0], b[0], rng=0))


# The whole answer


def test_comparison_of_scores():
    a, b = random_pair(40, seed=8, shift=0.3)
    result = compare_models(a, b, rng=0)
    peer = stats.ttest_rel(b, a)
    close(result.difference.estimate, b.mean() - a.mean())
    same_limits(result.difference, peer.confidence_interval())
    close(result.mean_a, a.mean())
    close(result.mean_b, b.mean())
    close(result.effect_size, (b - a).mean() / (b - a).std(ddof=1))
    close(result.p_value, permutation_test(b, a, paired=True, rng=0).p_value)
    assert float(result.p_value) == pytest.approx(peer.pvalue, abs=0.02)
    power = TTestPower()
    close(result.power, power.power(abs(result.effect_size.item()), 40, 0.05), rtol=1e-7)
    detectable = power.solve_power(nobs=40, alpha=0.05, power=0.8) * (b - a).std(ddof=1)
    close(result.detectable, detectable, rtol=1e-5)
    assert (result.n_items, result.n_clusters, result.table, result.mcnemar_p_value) == (40, 40, None, None)


@pytest.mark.parametrize("sizes", [[5] * 12, [1, 9, 2, 30, 3, 3, 14], [2, 2]])
def test_clustered_error_agrees_with_statsmodels(sizes):
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    a = rng.normal(size=len(groups))
    b = a + 0.3 + rng.normal(size=len(sizes))[groups] + 0.3 * rng.normal(size=len(groups))
    order = rng.permutation(len(groups))
    a, b, groups = a[order], b[order], groups[order]
    result = compare_models(a, b, clusters=[f"document {g}" for g in groups], confidence=0.9, rng=0)
    fit = sm.OLS(b - a, np.ones(len(a))).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    close(result.difference.estimate, fit.params[0])
    same_limits(result.difference, fit.conf_int(0.1)[0])
    sums = [(b - a)[groups == g].sum() for g in dict.fromkeys(groups)]
    close(result.p_value, permutation_test(sums, np.zeros(len(sums)), paired=True, rng=0).p_value)
    assert result.n_clusters == len(sizes)
    # detectable: as many pairs as clusters, each with the spread that gives the clustered error
    effect = TTestPower().solve_power(nobs=len(sizes), alpha=0.1, power=0.8)
    close(result.detectable, effect * fit.bse[0] * math.sqrt(len(sizes)), rtol=1e-5)


def test_clusters_of_one_change_nothing():
    a, b = random_pair(20)
    alone, clustered = compare_models(a, b, rng=0), compare_models(a, b, clusters=range(20), rng=0)
    assert str(alone) == str(clustered)


def test_the_clustered_interval_keeps_its_promise():
    """Ten questions on each of 12 documents: the naive interval misses a true difference of 0 far too often."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 10)
    covered, naive = 0, 0
    for _ in range(400):
        d = rng.normal(size=12)[groups] + rng.normal(size=120)
        for clusters in (groups, None):
            interval = compare_models(np.zeros(120), d, clusters, n_resamples=1, rng=0).difference
            hit = bool((interval.low <= 0) & (interval.high >= 0))
            covered, naive = covered + (hit and clusters is not None), naive + (hit and clusters is None)
    assert abs(covered / 400 - 0.95) <= 3 * math.sqrt(0.95 * 0.05 / 400)
    assert naive / 400 < 0.75


def test_right_and_wrong_answers():
    rng = np.random.default_rng(0)
    a, b = rng.random(200) < 0.7, rng.random(200) < 0.8
    result = compare_models(a, b, rng=0)
    table = [[int((x & y).sum()) for y in (b, ~b)] for x in (a, ~a)]
    close(result.table, table)
    close(result.mcnemar_p_value, mcnemar(table).pvalue)
    half = compare_models(
        torch.tensor(np.tile(a, 30)).half(), torch.tensor(np.tile(b, 30)).half(), n_resamples=9, rng=0
    )
    close(half.table, 30 * result.table)  # counts beyond what half precision can hold
    same = compare_models(a.astype(int), torch.tensor(b), rng=0)
    assert str(same) == str(compare_models(a.tolist(), b.tolist(), rng=0)) == str(result)
    # few enough for the exact p: sign flips of -1, 0 and 1 are McNemar's coin tosses
    small = compare_models([1, 0, 0, 0, 1, 1, 0], [1, 1, 1, 1, 0, 1, 1], rng=0)
    close(small.p_value, small.mcnemar_p_value)
    assert compare_models(a, b, clusters=np.arange(200) // 2, rng=0).table is None
    assert compare_models([0, 1, 0.5], [0, 1, 1], rng=0).table is None


def test_degenerate_comparisons_are_defined():
    same = compare_models([0.1, 0.4, 0.2], [0.1, 0.4, 0.2], rng=0)
    assert (same.p_value, same.effect_size, same.detectable) == (1, 0, 0)
    close(same.power, 0.05)
    shifted = compare_models([1, 2, 3], [2, 3, 4], rng=0)
    assert (shifted.p_value, shifted.effect_size, shifted.power, shifted.detectable) == (0.25, math.inf, 1, 0)
    for comparison in (same, shifted):
        assert "nan" not in str(comparison)


def test_the_comparison_as_text():
    result = compare_models([0, 1, 1, 0, 0], [1, 1, 1, 0, 1], clusters=list("aabbb"), rng=0)
    # differences 1, 0 | 0, 0, 1: less 0.4 they sum to 0.2 and -0.2; error^2 = 2 (0.04 + 0.04) / 5^2 = 0.08^2
    spread = 0.08 * math.sqrt(2)
    power = TTestPower().power(0.4 / spread, 2, 0.05)
    detectable = TTestPower().solve_power(nobs=2, alpha=0.05, power=0.8) * spread
    assert repr(result) == str(result)
    assert str(result).splitlines() == [
        "B less A on the same 5 items in 2 clusters",
        "mean of A                 0.4",
        "mean of B                 0.8",
        "difference B - A          0.4",
        f"95 % interval             {0.4 - 12.7062 * 0.08:.4f} to {0.4 + 12.7062 * 0.08:.4f}",
        "p (sign flips)            0.5",
        "effect size d_z           0.7303",
        f"power at this difference  {power:.4f}",
        f"detectable at 80 % power  {detectable:.4f}",
    ]


# Errors


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: welch_t_test([1], [1, 2]), ValueError, "a has 1 along the last axis; expected at least 2 numbers"),
        (lambda: welch_t_test([1, 2], [1, math.nan]), ValueError, "b contains nan; expected finite numbers"),
        (
            lambda: welch_t_test([1, 2], [1, 2], alternative="more"),
            ValueError,
            "alternative is 'more'; expected one of",
        ),
        (lambda: welch_t_test([1, 2], [1, 2], 1.0), ValueError, "confidence is 1.0; expected a number strictly"),
        (lambda: welch_t_test([1e200, 1], [1, 2]), ValueError, "the samples reach 1e\\+200; expected numbers whose"),
        (lambda: paired_t_test([1, 2, 3], [1, 2]), ValueError, "a has 3 numbers, b 2; expected pairs: the same items"),
        (lambda: paired_t_test([1], [2]), ValueError, "a has 1 along"),
        (lambda: paired_t_test("ab", [1, 2]), TypeError, "a cannot be read"),
        (lambda: two_proportion_z_test(3, 2, 1, 2), ValueError, "successes_a reaches 3, n_a goes down to 2"),
        (lambda: two_proportion_z_test(1, 2, 0.5, 2), ValueError, "successes_b contains 0.5; expected whole numbers"),
        (lambda: chi_square_test([[1, 2]]), ValueError, r"table has shape \(1, 2\); expected two rows and two columns"),
        (lambda: chi_square_test([1, 2]), ValueError, r"table has shape \(2,\)"),
        (lambda: chi_square_test([[1, 2], [0, 0]]), ValueError, "table has an empty row; expected at least one count"),
        (lambda: chi_square_test([[1, 0], [2, 0]]), ValueError, "table has an empty column"),
        (lambda: chi_square_test([[1, -2], [2, 2]]), ValueError, "table contains -2; expected counts"),
        (lambda: chi_square_test([[1, 0.5], [2, 2]]), ValueError, "table contains 0.5; expected counts, whole numbers"),
        (lambda: chi_square_test([[1, math.nan], [2, 2]]), ValueError, "table contains nan"),
        (lambda: fisher_exact_test([[1, 2, 3], [1, 2, 3]]), ValueError, r"shape \(2, 3\); expected \(..., 2, 2\)"),
        (lambda: fisher_exact_test([[[1, 2], [3, 4]]]), ValueError, r"shape \(1, 2, 2\); expected \(2, 2\), since"),
        (lambda: fisher_exact_test([[1, 2], [0, 0]]), ValueError, "table has an empty row"),
        (lambda: mcnemar_test([[0, 0], [0, 0]]), ValueError, "table is all 0; expected at least one count"),
        (lambda: mcnemar_test([[1, 2], [3, 4]], confidence=0), ValueError, "confidence is 0"),
        (lambda: mann_whitney_test([1], [1, 2]), ValueError, "a has 1 along the last axis"),
        (lambda: wilcoxon_test([1, 2], [1]), ValueError, "a has 2 numbers, b 1; expected pairs"),
        (lambda: permutation_test([1], [], rng=0), ValueError, "b is empty"),
        (lambda: permutation_test([1, 2], [1], paired=True, rng=0), ValueError, "a has 2 numbers, b 1"),
        (lambda: permutation_test([1], [2], n_resamples=0, rng=0), ValueError, "n_resamples is 0"),
        (
            lambda: permutation_test([1e308], [-1e308], paired=True, rng=0),
            ValueError,
            "the difference of a and b contains inf",
        ),
        (lambda: permutation_test(range(30), range(30), rng="seed"), TypeError, "rng is 'seed'"),
        (lambda: adjust_p_values([0.5, 1.5]), ValueError, "p contains 1.5; expected p-values from 0 to 1"),
        (lambda: adjust_p_values([]), ValueError, "p is empty"),
        (lambda: adjust_p_values([0.5], "fdr"), ValueError, "method is 'fdr'; expected one of 'holm'"),
        (
            lambda: compare_models([1, 2, 3], [1, 2], rng=0),
            ValueError,
            "scores_b has 2 numbers, scores_a 3; expected pairs",
        ),
        (lambda: compare_models([1], [1], rng=0), ValueError, "scores_a has 1 along the last axis"),
        (lambda: compare_models([[1, 2]], [[1, 2]], rng=0), ValueError, r"shape \(1, 2\); expected \(n,\)"),
        (lambda: compare_models([1, 2], [1, math.nan], rng=0), ValueError, "scores_b contains nan"),
        (lambda: compare_models([1, 2], ["a", "b"], rng=0), TypeError, "scores_b cannot be read"),
        (lambda: compare_models([1, 2], [1, 2], ["a"], rng=0), ValueError, "clusters has 1 labels, the scores 2"),
        (lambda: compare_models([1, 2], [1, 2], "aa", rng=0), ValueError, "clusters has the one label 'a'"),
        (lambda: compare_models([1, 2], [1, 2], ["a", None], rng=0), ValueError, "clusters contains None"),
        (lambda: compare_models([1, 2], [1, 2], [0, math.nan], rng=0), ValueError, "clusters contains nan"),
        (lambda: compare_models([1, 2], [1, 2], confidence=95, rng=0), ValueError, "confidence is 95"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
