"""Exercises of notebook 2.1: tests and intervals."""

import math

import torch
from scipy import stats

from studyguide.course.exercises import Exercise, Wrong
from studyguide.statistics.hypothesis import paired_t_test, welch_t_test
from studyguide.statistics.intervals import mean_interval


def _t(*values):
    return torch.tensor(values, dtype=torch.float64)


def my_welch_t(a, b):
    """Welch's t of two independent samples (1-D tensors), the mean of a less the mean of b.

    Returns one number.
    """
    error = (a.var() / len(a) + b.var() / len(b)).sqrt()
    return (a.mean() - b.mean()) / error


def _pooled_t(a, b):
    n, m = len(a), len(b)
    variance = ((n - 1) * a.var() + (m - 1) * b.var()) / (n + m - 2)
    return (a.mean() - b.mean()) / (variance * (1 / n + 1 / m)).sqrt()


WELCH = Exercise(
    id="welch-t",
    title="Welch's t by hand",
    prompt=(
        "Write `my_welch_t(a, b)`: the difference of two means, in units of its standard error. "
        "The samples may differ in size and in variance."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "The variance of a mean is the variance of the values, divided by how many there are. The variances of the two means add.",
        "`a.var()` divides by n − 1, as it should. The standard error is the root of the sum.",
    ),
    solution=my_welch_t,
    peer=lambda a, b: stats.ttest_ind(a.numpy(), b.numpy(), equal_var=False).statistic,
    cases=(
        (_t(4, 5, 3, 4, 5), _t(3, 4, 2, 4, 3)),
        (_t(1, 2, 3), _t(2, 4, 6, 8, 10, 12)),
        (_t(0.5, 0.7), _t(0.1, 0.9, 0.4, 0.2)),
    ),
    wrong=(
        Wrong(
            lambda a, b: (b.mean() - a.mean()) / (a.var() / len(a) + b.var() / len(b)).sqrt(),
            "the sign is turned: the first sample comes first. Say which way a difference goes, always.",
        ),
        Wrong(
            _pooled_t,
            "you pooled the variances. That is Student's t, which trusts that both are equal: divide each variance by its own n.",
        ),
        Wrong(
            lambda a, b: (a.mean() - b.mean()) / (a.var(correction=0) / len(a) + b.var(correction=0) / len(b)).sqrt(),
            "you divided the squares by n, not by n − 1 (numpy's default, and the guide's). In small samples t comes out too large.",
        ),
        Wrong(
            lambda a, b: (a.mean() - b.mean()) / (a.var() / len(a) + b.var() / len(b)),
            "you divided by the variance of the difference. Take the root: t has no unit.",
        ),
        Wrong(
            lambda a, b: (a.mean() - b.mean()) / ((a.var() + b.var()) / 2).sqrt(),
            "that is an effect size: it does not grow with n. Divide each variance by the size of its sample.",
        ),
        Wrong(
            lambda a, b: (a.mean() - b.mean()) / (a.std() / len(a) ** 0.5 + b.std() / len(b) ** 0.5),
            "you added the two standard errors. Variances add, not their roots.",
        ),
    ),
)


def my_wilson(successes, n):
    """95 % Wilson interval of a proportion, with z = 1.96; successes and n are whole numbers.

    Returns two numbers: the low and the high limit.
    """
    z = 1.96
    p = successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    margin = z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5 / (1 + z**2 / n)
    return centre - margin, centre + margin


def _around(centre, margin):
    return centre - margin, centre + margin


def _wald(successes, n, z=1.96):
    p = successes / n
    return _around(p, z * (p * (1 - p) / n) ** 0.5)


def _agresti_coull(successes, n):
    return _wald(successes + 1.96**2 / 2, n + 1.96**2)


def _wald_around_the_centre(successes, n):
    p = successes / n
    return _around(sum(my_wilson(successes, n)) / 2, 1.96 * (p * (1 - p) / n) ** 0.5)


def _wilson_around_p(successes, n):
    low, high = my_wilson(successes, n)
    return _around(successes / n, (high - low) / 2)


def _wilson_peer(successes, n):
    from statsmodels.stats.proportion import proportion_confint

    return proportion_confint(successes, n, 2 * stats.norm.sf(1.96), "wilson")


WILSON = Exercise(
    id="wilson-interval",
    title="An interval that survives 20 of 20",
    prompt=(
        "Write `my_wilson(successes, n)`: both ends of Wilson's 95 % interval. With p = successes / n and z = 1.96, its centre is "
        "(p + z²/2n) / (1 + z²/n), and its margin is z · √(p(1 − p)/n + z²/4n²) / (1 + z²/n)."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "Compute p, then the centre, then the margin. Both share the divisor 1 + z²/n.",
        "With 20 of 20, the high limit must be 1 and the low one 0.8389.",
    ),
    solution=my_wilson,
    peer=_wilson_peer,
    cases=((9, 10), (0, 20), (20, 20), (450, 1000), (1, 2)),
    wrong=(
        Wrong(
            _wald,
            "that is Wald's interval. With 20 of 20 its width is 0: twenty answers would prove perfection. Use Wilson's centre and margin.",
        ),
        Wrong(
            _agresti_coull,
            "right centre, but the margin is Agresti and Coull's: it puts the centre in place of p under the root.",
        ),
        Wrong(
            _wald_around_the_centre,
            "right centre, but Wald's margin: z²/4n² is missing under the root, and the divisor 1 + z²/n.",
        ),
        Wrong(
            _wilson_around_p,
            "right margin around the wrong centre. Wilson's interval is not symmetric about p: it leans towards one half.",
        ),
        Wrong(
            lambda successes, n: my_wilson(successes, n)[::-1],
            "the limits are swapped: return the low one first.",
        ),
    ),
)


def my_mcnemar(only_a, only_b):
    """Exact two-sided McNemar p-value: on only_a items only A was right, on only_b items only B.

    Returns one number.
    """
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1)) / 2**n
    return min(1.0, 2 * tail)


def _tosses(n, upto):
    return sum(math.comb(n, k) for k in range(upto + 1)) / 2**n


MCNEMAR = Exercise(
    id="mcnemar-exact",
    title="Coin tosses for two models",
    prompt=(
        "Two models answer the same questions. Write `my_mcnemar(only_a, only_b)`: if both are equally good, each question on which exactly "
        "one of them is right is a coin toss. Return the exact two-sided p-value: twice the smaller tail, and at most 1."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "There are n = only_a + only_b tosses. Of 2ⁿ equally likely results, `math.comb(n, k)` have k heads.",
        "Add these up from 0 to the smaller of the two counts, divide by 2ⁿ, double, and cut at 1.",
    ),
    solution=my_mcnemar,
    peer=lambda only_a, only_b: stats.binomtest(only_a, only_a + only_b).pvalue,
    cases=((5, 15), (0, 6), (25, 12), (3, 3), (1, 0)),
    wrong=(
        Wrong(
            lambda only_a, only_b: _tosses(only_a + only_b, min(only_a, only_b)),
            "that is one tail. Before the data came, either model could have won: double it, and cut at 1.",
        ),
        Wrong(
            lambda only_a, only_b: 2 * _tosses(only_a + only_b, min(only_a, only_b)),
            "right where the counts differ; with 3 against 3 your p exceeds 1. The two tails overlap there: cut at 1.",
        ),
        Wrong(
            lambda only_a, only_b: min(1.0, 2 * math.comb(only_a + only_b, only_a) / 2 ** (only_a + only_b)),
            "that is the probability of exactly this result. A p-value adds all results at least as extreme.",
        ),
        Wrong(
            lambda only_a, only_b: min(1.0, 2 * _tosses(only_a + only_b, only_a)),
            "right only where A has the smaller count. Start from the smaller of the two.",
        ),
        Wrong(
            lambda only_a, only_b: stats.chi2.sf((only_a - only_b) ** 2 / (only_a + only_b), 1),
            "that is the chi-square approximation, good for many tosses. The exact one adds up binomial coefficients.",
        ),
        Wrong(
            lambda only_a, only_b: min(1.0, 2 * _tosses(only_a + only_b, min(only_a, only_b) - 1)),
            "your sum stops one short: the observed count belongs to the tail. `range` excludes its end.",
        ),
    ),
)


def my_clustered_error(differences, clusters):
    """Cluster-robust standard error of the mean difference.

    differences is a 1-D tensor; clusters holds the cluster of each, whole numbers from 0. Returns one number.
    """
    residuals = differences - differences.mean()
    groups = int(clusters.max()) + 1
    sums = residuals.new_zeros(groups).index_add(0, clusters, residuals)
    return (groups / (groups - 1) * (sums**2).sum()).sqrt() / len(differences)


def _cluster_sums(values, clusters):
    return values.new_zeros(int(clusters.max()) + 1).index_add(0, clusters, values)


def _error_of_cluster_means(differences, clusters):
    means = _cluster_sums(differences, clusters) / _cluster_sums(torch.ones_like(differences), clusters)
    return means.std() / len(means) ** 0.5


def _uncorrected(differences, clusters):
    return _cluster_sums(differences - differences.mean(), clusters).square().sum().sqrt() / len(differences)


def _uncentred(differences, clusters):
    sums = _cluster_sums(differences, clusters)
    return (len(sums) / (len(sums) - 1) * sums.square().sum()).sqrt() / len(differences)


def _clustered_peer(differences, clusters):
    import statsmodels.api as sm

    model = sm.OLS(differences.numpy(), torch.ones(len(differences)).numpy())
    return model.fit(cov_type="cluster", cov_kwds={"groups": clusters.numpy()}).bse[0]


CLUSTERED = Exercise(
    id="clustered-error",
    title="Ten questions on one document",
    prompt=(
        "Questions on one document share its difficulty: they are no independent evidence. Write `my_clustered_error(differences, clusters)`: "
        "take each difference less the mean of all, add these up within each cluster, square the sums and add the squares. Multiply by "
        "G / (G − 1) for G clusters, take the root and divide by the number of items."
    ),
    difficulty=4,
    minutes=15,
    hints=(
        "`sums = torch.zeros(G, dtype=...).index_add(0, clusters, residuals)` adds up within clusters.",
        "If every item is its own cluster, your result must be the ordinary s / √n. Try that.",
    ),
    solution=my_clustered_error,
    peer=_clustered_peer,
    cases=(
        (_t(0.3, 0.1, -0.2, 0.4, 0.6, 0.5), torch.tensor([0, 0, 0, 1, 1, 2])),
        (_t(1.0, 0.0, -1.0, 1.0, 1.0), torch.tensor([0, 1, 2, 3, 4])),
        (_t(2.0, 1.0, 0.5, 3.0, -1.0, 0.0, 1.5, 0.5), torch.tensor([1, 0, 1, 1, 0, 1, 1, 0])),
    ),
    wrong=(
        Wrong(
            lambda differences, clusters: differences.std() / len(differences) ** 0.5,
            "you ignored the clusters. It agrees only where every item is its own cluster.",
        ),
        Wrong(
            _uncorrected,
            "the factor G / (G − 1) is missing, which matters with few clusters. It goes inside the root.",
        ),
        Wrong(
            _error_of_cluster_means,
            "that is the error of the mean of cluster means, in which small clusters count as much as large ones. Add up, do not average.",
        ),
        Wrong(
            _uncentred,
            "take the mean of all items off before you add up within clusters: otherwise a large difference looks like a large error.",
        ),
        Wrong(
            lambda differences, clusters: (
                my_clustered_error(differences, clusters) * len(differences) / len(clusters.unique())
            ),
            "you divided by the number of clusters. The sums run over items, so divide by the number of items.",
        ),
        Wrong(
            lambda differences, clusters: my_clustered_error(differences, clusters) ** 2,
            "that is the variance of the mean. Take the root.",
        ),
    ),
)


def my_peeks():
    """The numbers of items after which you test: at most 8 looks, from 5 to 1,000 items, as a rising list."""
    return [5, 10, 20, 40, 80, 160, 320, 1000]


def _false_alarms(looks):
    """The share of 2,000 A/A tests that a paired t-test calls significant at any of the looks."""
    rng = torch.Generator().manual_seed(0)
    differences = torch.randn(2000, 1000, generator=rng, dtype=torch.float64)
    nothing = differences.new_zeros(1)
    rejected = [paired_t_test(differences[:, :n], nothing.expand(n)).p_value < 0.05 for n in looks]
    return torch.stack(rejected).any(0).double().mean()


def _verify_peeks(looks):
    if not isinstance(looks, list | tuple) or not all(type(n) is int for n in looks) or not looks:
        return "return a list of whole numbers: `return [100, 200, ...]`."
    if len(looks) > 8:
        return f"you look {len(looks)} times; 8 times at most. Fewer looks can do more harm: choose where they lie."
    if list(looks) != sorted(set(looks)) or looks[0] < 5 or looks[-1] > 1000:
        return "the looks must rise, from 5 items at the earliest to 1,000 at the latest."
    share = float(_false_alarms(looks))
    if len(looks) == 1:
        return (
            f"one planned look keeps its promise: {share:.0%} false alarms. Look again, and stop when p is below 0.05."
        )
    if share <= 0.22:
        return (
            f"{share:.0%} false alarms; make it more than 22 %. Two looks at nearly the same items are nearly the same test, so "
            "let each look have many more items than the one before."
        )
    return None


PEEKS = Exercise(
    id="break-the-p-value",
    title="Significant, with nothing to find",
    prompt=(
        "Model A is compared with itself: each item's difference is pure noise. The team runs a paired t-test at several sizes and stops at the "
        "first p below 0.05; alpha stays 0.05 at every look. Write `my_peeks()`: at most 8 sizes, from 5 to 1,000 items, with "
        "which more than 22 % of such A/A tests end in a *discovery*."
    ),
    difficulty=3,
    minutes=12,
    hints=(
        "Eight equal steps to 1,000 give 18 %. How much does the test at 1,000 items share with the one at 875?",
        "Each look is a new chance only as far as its data are new. Double the number of items each time.",
    ),
    solution=my_peeks,
    verify=_verify_peeks,
    wrong=(
        Wrong(
            lambda: [1000],
            "one planned look keeps its promise: 5% false alarms. Look again, and stop when p is below 0.05.",
        ),
        Wrong(
            lambda: [125, 250, 375, 500, 625, 750, 875, 1000],
            "18% false alarms; make it more than 22 %. Two looks at nearly the same items are nearly the same test, so let each look "
            "have many more items than the one before.",
        ),
        Wrong(
            lambda: list(range(10, 1001, 10)),
            "you look 100 times; 8 times at most. Fewer looks can do more harm: choose where they lie.",
        ),
        Wrong(lambda: [2, 10, 50], "the looks must rise, from 5 items at the earliest to 1,000 at the latest."),
        Wrong(lambda: 100, "return a list of whole numbers: `return [100, 200, ...]`."),
    ),
)


def my_overlap():
    """Two samples of at least 5 ratings each, as two lists."""
    return [3.2, 3.4, 3.6, 3.8, 4.0, 4.2], [3.7, 3.9, 4.1, 4.3, 4.5, 4.7]


def _verify_overlap(answer):
    if not (isinstance(answer, tuple | list) and len(answer) == 2 and all(len(sample) >= 5 for sample in answer)):
        return "return two lists of at least five ratings: `return [..], [..]`."
    p_value = float(welch_t_test(*answer).p_value)
    a, b = map(mean_interval, answer)
    if a.low == a.high or b.low == b.high:
        return "a sample of equal ratings has an interval of width 0, which overlaps with nothing. Give it some spread."
    if p_value >= 0.05:
        return f"p is {p_value:.2f}, so there is nothing for the rule to miss. Move the samples apart."
    if a.high < b.low or b.high < a.low:
        return f"p is {p_value:.4f}, but the intervals do not overlap. Move the samples closer together."
    return None


OVERLAP = Exercise(
    id="break-the-overlap-rule",
    title="Overlapping and different",
    prompt=(
        "A dashboard calls two models *equal* when their 95 % intervals overlap. Write `my_overlap()`: two samples of ratings whose "
        "intervals overlap although Welch's t-test finds p below 0.05."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "Take any sample, and the same sample with a constant added. Only the constant matters.",
        "The intervals touch near p = 0.006. Start with a large constant and make it smaller until they overlap.",
    ),
    solution=my_overlap,
    verify=_verify_overlap,
    wrong=(
        Wrong(
            lambda: ([3, 4, 5, 4, 3], [3, 4, 5, 4, 4]),
            "p is 0.69, so there is nothing for the rule to miss. Move the samples apart.",
        ),
        Wrong(
            lambda: ([1, 2, 1, 2, 1], [4, 5, 4, 5, 5]),
            "p is 0.0000, but the intervals do not overlap. Move the samples closer together.",
        ),
        Wrong(lambda: ([3, 4], [4, 5]), "return two lists of at least five ratings: `return [..], [..]`."),
        Wrong(
            lambda: ([4, 4, 4, 4, 4], [5, 5, 5, 5, 5]),
            "a sample of equal ratings has an interval of width 0, which overlaps with nothing. Give it some spread.",
        ),
    ),
)

EXERCISES = (WELCH, WILSON, MCNEMAR, CLUSTERED, PEEKS, OVERLAP)
