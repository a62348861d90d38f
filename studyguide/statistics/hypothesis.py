"""Whether chance explains a difference: tests, each with its estimate, and one call that compares two models.

Samples lie along the last axis; leading axes are a batch and broadcast, so that ten thousand simulated experiments are
one call. Two-sample functions estimate `a` less `b`, as scipy does; `compare_models` alone says B less A, and prints
it. p-values are two-sided unless `alternative` says "less" or "greater" (of a than of b). Every p-value is the
probability of data at least so extreme if there is no difference, and never the probability that there is none.

Errors: samples that are too short or not finite, counts that are not whole, a table with an empty row or column, pairs
of unequal length and a confidence outside 0 to 1 are a ValueError; what is no array of numbers is a TypeError.
"""

import math
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np
import torch
from scipy import stats

from studyguide.probability.validation import (
    BLOCK,
    check_finite,
    common_dtype,
    floating,
    generator,
    numpy_generator,
    one_of,
    open_fraction,
    positive_integer,
    samples,
)
from studyguide.statistics.intervals import (
    Interval,
    cohens_d,
    difference_of_proportions_interval,
    elementwise,
    mean_difference,
    moments,
    paired_differences,
    ratio,
    rule_of_three,
    t_interval,
    trials,
)
from studyguide.statistics.power import minimum_detectable_effect, power_means

ALTERNATIVES = ("two-sided", "less", "greater")


@dataclass(frozen=True, eq=False)
class HypothesisResult:
    """What a test found; tensors of the batch's shape."""

    estimate: torch.Tensor  # the size of the effect; the test says in which unit
    interval: Interval | None  # of the estimate
    statistic: torch.Tensor
    p_value: torch.Tensor
    df: torch.Tensor | None  # degrees of freedom


# Means


def welch_t_test(a, b, confidence=0.95, alternative="two-sided"):
    """Welch's t-test of two independent samples; the estimate is the mean of `a` less the mean of `b`.

    Shapes: a (..., n) and b (..., m) with n and m of 2 or more, results (...). Errors: see the module.
    Convention: variances may differ. Interval and p-value are of one model, so that the interval leaves 0 out exactly
    where p is below 1 - confidence; it is one-sided with a one-sided alternative. Two constant samples: equal means
    give statistic 0 and p 1, others the limit, an infinite statistic and p 0 (ask `permutation_test` instead).
    Source: Welch (1947), "The generalization of Student's problem when several different variances are involved".

    >>> result = welch_t_test([4, 5, 3, 4, 5], [3, 4, 2, 4, 3])
    >>> print(result.interval)
    1 (95 % interval -0.2202 to 2.2202)
    >>> result.p_value
    tensor(0.0955, dtype=torch.float64)
    """
    return _t_test(*mean_difference(a, b), confidence, alternative)


def paired_t_test(a, b, confidence=0.95, alternative="two-sided"):
    """Student's t-test of pairs, item by item; the estimate is the mean of `a` less `b`.

    Shapes: a and b (..., n) with n of 2 or more, results (...). Errors: see the module.
    Convention: as for `welch_t_test`; what counts here as constant are the differences.
    Source: Student (1908), "The probable error of a mean".

    >>> result = paired_t_test([4, 5, 3, 4, 5], [3, 4, 2, 4, 3])
    >>> print(result.interval)
    1 (95 % interval 0.122 to 1.878)
    >>> result.p_value
    tensor(0.0341, dtype=torch.float64)
    """
    differences, dtype = paired_differences(a=a, b=b)
    mean, variance = moments(differences)
    size = differences.shape[-1]
    return _t_test(mean, (variance / size).sqrt(), size - 1, dtype, confidence, alternative)


# Proportions and tables of counts


def two_proportion_z_test(successes_a, n_a, successes_b, n_b, confidence=0.95):
    """z-test of two independent proportions; the estimate is the proportion of `a` less that of `b`.

    Shapes: the four counts broadcast to the results. Errors: see the module.
    Convention: the statistic pools both samples, since under the null hypothesis they share one proportion (as
    statsmodels' proportions_ztest); the interval is Newcombe's, which does not. Close to p = 1 - confidence the two can
    disagree.
    Where all trials succeed or all fail, the statistic is 0 and p 1. Many trials are assumed, 5 of either outcome per
    sample at least; with fewer see `fisher_exact_test`.
    Source: Fleiss, Levin and Paik, Statistical Methods for Rates and Proportions, section 3.1.

    >>> result = two_proportion_z_test(520, 1000, 450, 1000)
    >>> print(result.interval)
    0.07 (95 % interval 0.0262 to 0.1134)
    >>> result.p_value
    tensor(0.0017, dtype=torch.float64)
    """
    interval = difference_of_proportions_interval(successes_a, n_a, successes_b, n_b, confidence)
    (k_a, n_a, k_b, n_b), dtype = trials(successes_a=successes_a, n_a=n_a, successes_b=successes_b, n_b=n_b)
    pooled = (k_a + k_b) / (n_a + n_b)
    z = ratio(k_a / n_a - k_b / n_b, (pooled * (1 - pooled) * (1 / n_a + 1 / n_b)).sqrt())
    p_value = 2 * elementwise(stats.norm.sf, z.abs())
    return HypothesisResult(interval.estimate, interval, z.to(dtype), p_value.to(dtype), None)


def chi_square_test(table, correction=False):
    """Pearson's chi-square test of whether rows and columns are independent; the estimate is Cramér's V.

    Shapes: table (..., r, c) of counts, results (...). Range of V: 0 to 1, no direction. Errors: see the module.
    Convention: Yates' correction is off, and changes only the statistic of a 2 x 2 table (scipy turns it on): without
    it chi-square is the z of `two_proportion_z_test` squared. V never has it. No interval: V is at least 0 by
    construction, even by chance; for a 2 x 2 table use the difference of proportions.
    Source: Pearson (1900); Cramér (1946), Mathematical Methods of Statistics, section 21.9.

    >>> result = chi_square_test([[450, 550], [520, 480]])
    >>> result.statistic, result.p_value
    (tensor(9.8088, dtype=torch.float64), tensor(0.0017, dtype=torch.float64))
    """
    table, dtype = _table(table)
    total = table.sum((-2, -1), keepdim=True)
    expected = table.sum(-1, keepdim=True) * table.sum(-2, keepdim=True) / total
    gap = (table - expected).abs()
    rows, columns = table.shape[-2:]
    df = (rows - 1) * (columns - 1)
    v = ((gap**2 / expected).sum((-2, -1)) / total[..., 0, 0] / (min(rows, columns) - 1)).sqrt().clamp(max=1)
    if correction and df == 1:
        gap = gap - gap.clamp(max=0.5)
    statistic = (gap**2 / expected).sum((-2, -1))
    p_value = elementwise(stats.chi2.sf, statistic, df)
    return HypothesisResult(
        v.to(dtype), None, statistic.to(dtype), p_value.to(dtype), torch.full_like(v, df, dtype=dtype)
    )


def fisher_exact_test(table, confidence=0.95):
    """Fisher's exact test of a 2 x 2 table; the estimate is the conditional odds ratio, of the first row to the second.

    Shapes: table (2, 2), results 0-d. Range: 0 to infinity, 1 for no difference. Errors: see the module.
    Convention: given the margins, every table that is at most as probable counts as extreme. The statistic is the
    upper left count. The estimate is the conditional maximum likelihood, not the ratio of cross products; the interval
    is exact and cuts both tails alike, so that close to p = 1 - confidence the two can disagree.
    Source: Fisher (1935), The Design of Experiments, chapter 2; Cornfield (1956) for the interval.

    >>> result = fisher_exact_test([[8, 2], [1, 5]])
    >>> print(result.interval)
    15.4658 (95 % interval 1.0088 to 1059.6395)
    >>> result.p_value
    tensor(0.0350, dtype=torch.float64)
    """
    table, dtype = _table(table, (2, 2))
    if table.ndim > 2:
        raise ValueError(f"table has shape {tuple(table.shape)}; expected (2, 2), since the test takes one at a time")
    whole = table.long().cpu().numpy()
    odds = stats.contingency.odds_ratio(whole)
    limits = odds.confidence_interval(open_fraction("confidence", confidence))
    numbers = odds.statistic, limits.low, limits.high, stats.fisher_exact(whole).pvalue
    estimate, low, high, p_value = (torch.tensor(x, dtype=dtype, device=table.device) for x in numbers)
    return HypothesisResult(estimate, Interval(estimate, low, high, confidence), table[0, 0].to(dtype), p_value, None)


def mcnemar_test(table, exact=True, confidence=0.95):
    """McNemar's test of paired yes-or-no outcomes; the estimate is the share of yes of `a` less that of `b`.

    Only the pairs that disagree count: without a difference each is a coin toss.

    Shapes: table (..., 2, 2), rows for a (yes, no), columns for b, results (...). Errors: see the module.
    Convention: `exact` doubles the smaller tail of the binomial, its statistic being the pairs with yes for a alone;
    otherwise the statistic is chi-square with 1 degree of freedom and no continuity correction. Where no pair
    disagrees, p is 1. The interval is Bonett and Price's, Wald's with one pair added to either kind of disagreement:
    not the test's own model, so that close to p = 1 - confidence the two can disagree.
    Source: McNemar (1947); Bonett and Price (2012), "Adjusted Wald confidence interval for a difference of binomial
    proportions based on paired data".

    >>> result = mcnemar_test([[60, 5], [15, 20]])
    >>> print(result.interval)
    -0.1 (95 % interval -0.1861 to -0.0099)
    >>> result.p_value
    tensor(0.0414, dtype=torch.float64)
    """
    table, dtype = _table(table, (2, 2), margins=False)
    n, only_a, only_b = table.sum((-2, -1)), table[..., 0, 1], table[..., 1, 0]
    apart = only_a + only_b
    if exact:
        statistic, df = only_a, None
        p_value = (2 * elementwise(stats.binom.cdf, torch.minimum(only_a, only_b), apart, 0.5)).clamp(max=1)
    else:
        statistic, df = ratio((only_a - only_b) ** 2, apart), torch.ones_like(n, dtype=dtype)
        p_value = elementwise(stats.chi2.sf, statistic, 1)
    z = stats.norm.isf((1 - open_fraction("confidence", confidence)) / 2)
    centre, either = (only_a - only_b) / (n + 2), (apart + 2) / (n + 2)
    margin = z * ((either - centre**2) / (n + 2)).sqrt()
    parts = (only_a - only_b) / n, (centre - margin).clamp(min=-1), (centre + margin).clamp(max=1)
    interval = Interval(*(part.to(dtype) for part in parts), confidence)
    return HypothesisResult(interval.estimate, interval, statistic.to(dtype), p_value.to(dtype), df)


# Ranks


def mann_whitney_test(a, b, confidence=0.95):
    """Mann-Whitney test of two independent samples; the estimate is P(a > b) + P(a = b) / 2, for one item of each.

    For ratings and other values of which only the order is to be trusted.

    Shapes: a (..., n) and b (..., m) with n and m of 2 or more, results (...). Range: 0 to 1, 0.5 for no difference.
    Errors: see the module.
    Convention: p as scipy's mannwhitneyu, exact for a sample of at most 8 without ties, else normal with ties and
    continuity corrected. Its null hypothesis is that both distributions are equal; the interval, Brunner and Munzel's,
    does not suppose that and can disagree. It is cut at 0 and 1. Where all values of one sample exceed those of the
    other, or all are equal, its error would be 0; then `rule_of_three(min(n, m))` stands in for the margin. If all
    values are equal, p is 1.
    Source: Mann and Whitney (1947); Brunner and Munzel (2000), "The nonparametric Behrens-Fisher problem".

    >>> result = mann_whitney_test([5, 4, 5, 3, 5, 4], [3, 4, 2, 4, 3, 1])
    >>> print(result.interval)
    0.8611 (95 % interval 0.633 to 1)
    >>> result.p_value
    tensor(0.0387, dtype=torch.float64)
    """
    a, b = samples(at_least=2, a=a, b=b)
    dtype, device = common_dtype(a, b)[0], a.device
    a, b = (side.detach().double().cpu().numpy() for side in (a, b))
    n, m = a.shape[-1], b.shape[-1]
    statistic, p_value = stats.mannwhitneyu(a, b, axis=-1, method="asymptotic")
    both = np.concatenate([a, b], -1)
    if min(n, m) <= 8:  # row by row, where scipy lets a tie in one row decide for all
        tied = (np.diff(np.sort(both), axis=-1) == 0).any(-1)
        p_value = np.where(tied, p_value, stats.mannwhitneyu(a, b, axis=-1, method="exact").pvalue)
    p_value = np.where(np.ptp(both, axis=-1) == 0, 1.0, p_value)  # of which scipy 1.18 says NaN
    # How many of the other sample lie below each value, ties counting half: its placement.
    pooled = stats.rankdata(both, axis=-1)
    placements = pooled[..., :n] - stats.rankdata(a, axis=-1), pooled[..., n:] - stats.rankdata(b, axis=-1)
    var_a, var_b = (torch.from_numpy(place).var(-1) for place in placements)
    var_a, var_b = var_a / n / m**2, var_b / m / n**2
    share = ratio(var_a, var_a + var_b)
    df = 1 / (share**2 / (n - 1) + (1 - share) ** 2 / (m - 1))
    estimate = torch.as_tensor(statistic / (n * m))
    interval = t_interval(estimate, (var_a + var_b).sqrt(), df, confidence)
    margin = torch.where(var_a + var_b > 0, interval.high - estimate, rule_of_three(min(n, m), confidence))
    parts = estimate, (estimate - margin).clamp(min=0), (estimate + margin).clamp(max=1), statistic, p_value
    estimate, low, high, statistic, p_value = (torch.as_tensor(x, dtype=dtype, device=device) for x in parts)
    return HypothesisResult(estimate, Interval(estimate, low, high, confidence), statistic, p_value, None)


def wilcoxon_test(a, b, confidence=0.95):
    """Wilcoxon's signed-rank test of pairs; the estimate is Hodges and Lehmann's centre of the differences a - b.

    That is the median of the means of all pairs of differences, each with itself too.

    Shapes: a and b (..., n), results (...). Errors: see the module.
    Convention: p as scipy's wilcoxon, exact for at most 50 differences without ties and zeros or 13 with them, else
    normal. Differences of 0 are left out of the p-value, not of the estimate; if all are 0, the statistic is 0 and p 1.
    The interval inverts the test without ties: it leaves 0 out exactly where p is at most 1 - confidence, if there are
    no ties and zeros. It is infinite where n is too small for the confidence (below 6 at 95 %). The differences are
    taken to be symmetric about their centre. Memory grows with the square of n.
    Source: Wilcoxon (1945); Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, sections 3.1 to 3.3.

    >>> result = wilcoxon_test([5, 4, 5, 3, 5, 4, 5], [3, 4, 2, 4, 3, 1, 1])
    >>> print(result.interval)
    2 (95 % interval 0 to 3.5)
    >>> result.p_value
    tensor(0.0625, dtype=torch.float64)
    """
    differences, dtype = paired_differences(at_least=1, a=a, b=b)
    confidence = open_fraction("confidence", confidence)
    cut = _signed_rank_cut(differences.shape[-1], 1 - confidence)
    upper = np.triu_indices(differences.shape[-1])

    def one(row):
        means = np.sort((row[upper[0]] + row[upper[1]]) / 2)
        low, high = (means[cut - 1], means[-cut]) if cut else (-np.inf, np.inf)
        return *(stats.wilcoxon(row) if row.any() else (0.0, 1.0)), np.median(means), low, high

    results = elementwise(lambda rows: np.apply_along_axis(one, -1, rows), differences).to(dtype)
    statistic, p_value, estimate, low, high = results.unbind(-1)
    return HypothesisResult(estimate, Interval(estimate, low, high, confidence), statistic, p_value, None)


# Without a formula


def permutation_test(a, b, paired=False, alternative="two-sided", n_resamples=9999, *, rng):
    """Permutation test of the mean of `a` less the mean of `b`; estimate and statistic are that difference.

    Without a difference the labels a and b mean nothing. So they are dealt again: over all items, or, if `paired`,
    within each pair, which turns the sign of its difference. p is the share of deals at least as far apart.

    Shapes: a (..., n) and b (..., m), n = m if paired, results (...); the rows of a batch share their random deals.
    Errors: see the module; n_resamples below 1.
    Convention: exact where there are at most n_resamples deals; else random ones, and (1 + count) / (1 + n_resamples).
    Two-sided doubles the smaller tail (scipy). Ties count, up to rounding. No interval: the test assumes no model of a
    difference; use `bootstrap_interval`. Memory is bounded whatever n and n_resamples.
    Randomness: `rng` is an int seed, or a torch.Generator, which the call advances; not used where p is exact.
    Source: Good, Permutation Tests; Phipson and Smyth (2010), "Permutation p-values should never be zero".

    >>> result = permutation_test([4, 5, 3, 4, 5], [3, 4, 2, 4, 3], paired=True, rng=0)
    >>> result.estimate, result.p_value  # 4 differ, all for a: 2 of 16 ways to turn the signs
    (tensor(1., dtype=torch.float64), tensor(0.1250, dtype=torch.float64))
    """
    one_of("alternative", alternative, ALTERNATIVES)
    size = positive_integer("n_resamples", n_resamples)
    if paired:
        values, dtype = paired_differences(at_least=1, a=a, b=b)
        n = values.shape[-1]
        every = 2**n
        observed = values.mean(-1)
    else:
        a, b = samples(a=a, b=b)
        n, m, dtype = a.shape[-1], b.shape[-1], common_dtype(a, b)[0]
        values = torch.cat([a, b], -1).double()
        values = values - values.mean(-1, keepdim=True)  # no deal's difference changes, and its rounding is less
        every = math.comb(n + m, n)
        observed = values[..., :n].mean(-1) - values[..., n:].mean(-1)
    check_finite("the difference of a and b", values)
    rows, observed = values.reshape(-1, values.shape[-1]), observed.reshape(-1, 1)
    source = None if every <= size else generator(rng, values.device)
    step = max(1, 8 * BLOCK // max(rows.shape))
    deals = _sign_flips(n, source) if paired else _regroupings(n, m, source)
    tolerance = 64 * torch.finfo(dtype).eps * rows.abs().amax(-1, keepdim=True)
    below = above = torch.zeros(len(rows), dtype=torch.float64, device=values.device)
    for start in range(0, min(every, size), step):
        weights = deals(start, min(step, min(every, size) - start)).to(rows)
        statistics = rows @ weights.T
        below = below + (statistics <= observed + tolerance).sum(-1)
        above = above + (statistics >= observed - tolerance).sum(-1)
    if source:  # the deal that was observed is one more
        below, above, size = below + 1, above + 1, size + 1
    count = {"less": below, "greater": above, "two-sided": 2 * torch.minimum(below, above)}[alternative]
    p_value = (count / min(every, size)).clamp(max=1)
    estimate, p_value = (x.reshape(values.shape[:-1]).to(dtype) for x in (observed, p_value))
    return HypothesisResult(estimate, None, estimate, p_value, None)


# Many tests


def adjust_p_values(p, method="holm"):
    """p-values corrected for how many there are: compare them with alpha as if each were the only one.

    Shapes: p (..., m), result (..., m) in the same order. Range: 0 to 1, never below p. Errors: numbers outside 0 to 1.
    Convention: "bonferroni" and "holm" keep the chance of a single false discovery at alpha, whatever the dependence;
    holm never gives a larger p. "bh" (Benjamini and Hochberg) keeps the expected share of false ones among the
    discoveries at alpha, for independent or positively dependent tests.
    Source: Holm (1979); Benjamini and Hochberg (1995), "Controlling the false discovery rate".

    >>> adjust_p_values([0.01, 0.04, 0.03])
    tensor([0.0300, 0.0600, 0.0600], dtype=torch.float64)
    """
    one_of("method", method, ("holm", "bonferroni", "bh"))
    [p] = samples(p=p)
    if p.amin() < 0 or p.amax() > 1:
        raise ValueError(f"p contains {p[(p < 0) | (p > 1)][0]:g}; expected p-values from 0 to 1")
    size = p.shape[-1]
    if method == "bonferroni":
        return (p * size).clamp(max=1)
    ordered, order = p.sort(-1)
    rank = torch.arange(1, size + 1, device=p.device)
    if method == "holm":
        adjusted = (ordered * (size + 1 - rank)).cummax(-1).values
    else:
        adjusted = (ordered * size / rank).flip(-1).cummin(-1).values.flip(-1)
    return torch.empty_like(p).scatter(-1, order, adjusted.clamp(max=1).to(p.dtype))


# The whole answer


@dataclass(frozen=True, eq=False, repr=False)
class ModelComparison:
    """What `compare_models` found; printed, or shown in Jupyter, it is a table."""

    n_items: int
    n_clusters: int
    mean_a: torch.Tensor
    mean_b: torch.Tensor
    difference: Interval  # B less A
    p_value: torch.Tensor  # of sign flips, whole clusters together
    effect_size: torch.Tensor  # d_z: the mean difference in standard deviations of the differences
    power: torch.Tensor  # at the observed difference
    detectable: torch.Tensor  # the difference found with 80 % power
    table: torch.Tensor | None  # [[both right, only A], [only B, neither]], if scores are 0 and 1 without clusters
    mcnemar_p_value: torch.Tensor | None  # exact, of that table

    def __str__(self):
        from studyguide.course.display import rounded

        limits = f"{rounded(self.difference.low)} to {rounded(self.difference.high)}"
        clusters = f" in {self.n_clusters} clusters" if self.n_clusters < self.n_items else ""
        lines = {
            "mean of A": rounded(self.mean_a),
            "mean of B": rounded(self.mean_b),
            "difference B - A": rounded(self.difference.estimate),
            f"{100 * self.difference.confidence:g} % interval": limits,
            "p (sign flips)": rounded(self.p_value),
            "effect size d_z": rounded(self.effect_size),
            "power at this difference": rounded(self.power),
            "detectable at 80 % power": rounded(self.detectable),
        }
        if self.table is not None:
            (_, only_a), (only_b, _) = self.table.tolist()
            lines["right: only A, only B"] = f"{only_a}, {only_b}"
            lines["p (McNemar, exact)"] = rounded(self.mcnemar_p_value)
        return "\n".join(
            [f"B less A on the same {self.n_items} items{clusters}"]
            + [f"{name:<26}{value}" for name, value in lines.items()]
        )

    __repr__ = __str__


def compare_models(scores_a, scores_b, clusters=None, confidence=0.95, n_resamples=9999, *, rng):
    """Is model B better than model A? Everything that one paired evaluation can say, in one table: B less A.

    scores_a and scores_b are the scores of both models on the same items, in the same order; a positive difference
    favours B. `clusters` says which items belong together (questions on one document, repeats of one prompt): such
    items are no independent evidence.

    Shapes: scores (n,), numbers or booleans; clusters (n,), any labels. Result: a `ModelComparison`.
    Errors: lengths that differ, fewer than 2 items or clusters, a cluster that is None or NaN; see the module.
    Convention: the difference is the mean over items. Its interval is Student's; with clusters the standard error is
    cluster-robust with the factor G / (G - 1) and G - 1 degrees of freedom for G clusters (statsmodels' OLS with
    cov_type="cluster" on the intercept). p is that of `permutation_test` on pairs, whole clusters flipped together:
    exact up to 13 of them by default, and without the interval's normal model; where the two fall on different sides of
    alpha, the evidence is borderline, and that is the finding. The effect size is d_z. Power and detectable difference
    belong to the t-test at alpha = 1 - confidence. Power at the observed difference only restates its p-value (Hoenig
    and Heisey 2001): ask whether the detectable difference is as small as what matters to you. If all differences are
    equal, the t-test knows no error and its numbers are limits (width 0, power 1): look at p. McNemar's test is given
    if all scores are 0 or 1 and there are no clusters.
    Randomness: `rng` is an int seed, or a torch.Generator, which the call advances.
    Source: Miller (2024), "Adding error bars to evals"; Cameron and Miller (2015) on clusters; Good, Permutation Tests.

    >>> compare_models([0, 1, 1, 0, 0, 1, 0, 0], [1, 1, 1, 0, 1, 1, 1, 0], rng=0)
    B less A on the same 8 items
    mean of A                 0.375
    mean of B                 0.75
    difference B - A          0.375
    95 % interval             -0.0577 to 0.8077
    p (sign flips)            0.25
    effect size d_z           0.7246
    power at this difference  0.4244
    detectable at 80 % power  0.5983
    right: only A, only B     0, 3
    p (McNemar, exact)        0.25
    """
    a, b = samples(at_least=2, scores_a=_numbers(scores_a), scores_b=_numbers(scores_b))
    differences, dtype = paired_differences(scores_b=b, scores_a=a)
    if differences.ndim > 1:
        raise ValueError(f"the scores have shape {tuple(a.shape)}; expected (n,), one score per item")
    n = len(differences)
    group = _groups(clusters, n).to(differences.device)
    size = int(group.amax()) + 1
    mean, _ = moments(differences)
    sums = torch.zeros(size, dtype=torch.float64, device=differences.device)
    residuals = sums.index_add(0, group, differences - mean)
    error = (residuals.square().sum() * size / (size - 1)).sqrt() / n
    spread, alpha = error * math.sqrt(size), 1 - open_fraction("confidence", confidence)
    flips = sums.index_add(0, group, differences)
    flipped = permutation_test(flips, torch.zeros_like(flips), paired=True, n_resamples=n_resamples, rng=rng)
    table = None
    if clusters is None and bool(((a == 0) | (a == 1)).all() and ((b == 0) | (b == 1)).all()):
        table = torch.stack([(x * y).sum() for x in (a == 1, a == 0) for y in (b == 1, b == 0)]).reshape(2, 2)
    return ModelComparison(
        n_items=n,
        n_clusters=size,
        mean_a=moments(a)[0].to(dtype),
        mean_b=moments(b)[0].to(dtype),
        difference=t_interval(mean, error, size - 1, confidence, dtype),
        p_value=flipped.p_value.to(dtype),
        effect_size=cohens_d(b, a, paired=True),
        power=power_means(ratio(mean, spread).clamp(-1e6, 1e6), size, alpha, paired=True).to(dtype),
        detectable=(minimum_detectable_effect(size, alpha, paired=True).to(spread) * spread).to(dtype),
        table=table,
        mcnemar_p_value=None if table is None else mcnemar_test(table).p_value.to(dtype),
    )


def _t_test(estimate, error, df, dtype, confidence, alternative):
    one_of("alternative", alternative, ALTERNATIVES)
    interval = t_interval(estimate, error, df, confidence, dtype, alternative)
    t = ratio(estimate, error)
    df = torch.as_tensor(df, dtype=torch.float64, device=t.device).expand_as(t)
    tail = {"two-sided": -t.abs(), "less": t, "greater": -t}[alternative]
    p_value = elementwise(stats.t.cdf, tail, df) * (2 if alternative == "two-sided" else 1)
    return HypothesisResult(interval.estimate, interval, t.to(dtype), p_value.to(dtype), df.to(dtype))


def _table(table, shape=None, margins=True):
    """Counts (..., r, c) in float64, no row or column empty where the margins count; and the dtype of a result."""
    [given] = floating(table=table)
    if given.ndim < 2 or min(given.shape[-2:]) < 2 or shape not in (None, tuple(given.shape[-2:])):
        expected = "(..., 2, 2)" if shape else "two rows and two columns at least"
        raise ValueError(f"table has shape {tuple(given.shape)}; expected {expected}")
    check_finite("table", given)
    counts = given.double()
    if (odd := (counts != counts.round()) | (counts < 0)).any():
        raise ValueError(f"table contains {counts[odd][0]:g}; expected counts, whole numbers of at least 0")
    for axis, name in ((-1, "row"), (-2, "column")) if margins else ():
        if (counts.sum(axis) == 0).any():
            raise ValueError(f"table has an empty {name}; expected at least one count in each, leave it out")
    if (counts.sum((-2, -1)) == 0).any():
        raise ValueError("table is all 0; expected at least one count")
    return counts, common_dtype(given)[0]


def _signed_rank_cut(n, alpha):
    """How many of the ordered means of pairs lie outside the interval at either end."""
    if n > 50:
        middle, deviation = n * (n + 1) / 4, math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return math.floor(middle + deviation * stats.norm.ppf(alpha / 2)) + 1
    ways = np.ones(1)  # in which the positive ranks can add up to 0, 1, 2, ...
    for rank in range(1, n + 1):
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
    return int((2 * ways.cumsum() / 2.0**n <= alpha).sum())


def _sign_flips(n, source):
    """Weights that turn signs: those of numbers `start` and up of all 2^n, or random ones if there is a source."""

    def deals(start, size):
        if source:
            bits = torch.randint(2, (size, n), generator=source, device=source.device)
        else:
            bits = torch.arange(start, start + size)[:, None] >> torch.arange(n) & 1
        return (2 * bits - 1).double() / n

    return deals


def _regroupings(n, m, source):
    """Weights of a difference of means: those of numbers `start` and up of all ways to choose n, or random ones."""
    every, one = combinations(range(n + m), n), np.repeat([1 / n, -1 / m], [n, m])
    numbers = numpy_generator(source) if source else None

    def deals(start, size):
        if source:
            return torch.from_numpy(numbers.permuted(np.tile(one, (size, 1)), axis=1))
        chosen = torch.tensor(list(islice(every, size)))
        return torch.full((size, n + m), -1 / m, dtype=torch.float64).scatter(1, chosen, 1 / n)

    return deals


def _numbers(scores):
    """Booleans as 0 and 1, anything else as it is."""
    scores = scores if isinstance(scores, torch.Tensor) else np.asarray(scores)
    return scores * 1 if scores.dtype in (torch.bool, np.bool_) else scores


def _groups(clusters, n):
    """The number of each item's cluster, from 0; every item its own if there are none."""
    if clusters is None:
        return torch.arange(n)
    labels = clusters.tolist() if hasattr(clusters, "tolist") else list(clusters)
    if len(labels) != n:
        raise ValueError(f"clusters has {len(labels)} labels, the scores {n}; expected one for each item")
    if missing := [label for label in labels if label is None or label != label]:
        raise ValueError(f"clusters contains {missing[0]}; expected a label for each item")
    number = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    if len(number) < 2:
        raise ValueError(f"clusters has the one label {labels[0]!r}; expected at least 2, which an error needs")
    return torch.tensor([number[label] for label in labels])
