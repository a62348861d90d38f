"""How far an estimate can be trusted: intervals for means, proportions and their differences, and effect sizes.

Samples lie along the last axis; leading axes are a batch and broadcast. Counts are whole numbers that broadcast. The
quantiles are scipy's, in float64; results have the device and the floating dtype of the input.

Errors: samples that are empty, too short or not finite, counts that are not whole or exceed their total, and a
confidence outside 0 to 1 are a ValueError; what is no array of numbers is a TypeError.
"""

import math
from dataclasses import dataclass

import torch
from scipy import stats

from studyguide.probability.validation import check_finite, common_dtype, floating, one_of, open_fraction, samples


@dataclass(frozen=True, eq=False)
class Interval:
    """An estimate between two limits."""

    estimate: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    confidence: float  # the share of such intervals, over many repetitions, that contain the truth

    def __str__(self):
        from studyguide.course.display import rounded

        limits = f"{rounded(self.low)} to {rounded(self.high)}"
        return f"{rounded(self.estimate)} ({100 * self.confidence:g} % interval {limits})"


def mean_interval(x, confidence=0.95):
    """Student's interval for the mean: mean plus or minus t times the standard error, with n - 1 degrees of freedom.

    Shapes: x (..., n) with n of 2 or more, result (...). Errors: see the module.
    Convention: the standard deviation divides by n - 1. Equal values give a zero-width interval. For the mean
    difference of paired scores, pass the differences.
    Source: Student (1908), "The probable error of a mean".

    >>> print(mean_interval([4, 5, 3, 4, 5]))
    4.2 (95 % interval 3.1611 to 5.2389)
    """
    [x] = samples(at_least=2, x=x)
    mean, variance = moments(x)
    size = x.shape[-1]
    return t_interval(mean, (variance / size).sqrt(), size - 1, confidence, common_dtype(x)[0])


def difference_of_means_interval(a, b, confidence=0.95, method="welch"):
    """Interval for the mean of `a` less the mean of `b`, two independent samples.

    Shapes: a (..., n) and b (..., m) with n and m of 2 or more, result (...). Errors: see the module; another method.
    Convention: "welch" lets the variances differ (Satterthwaite's degrees of freedom); "pooled" takes them to be equal,
    which fails where the smaller sample has the larger variance. If both samples are constant, the width is 0.
    Source: Welch (1947), "The generalization of Student's problem when several different variances are involved".

    >>> print(difference_of_means_interval([4, 5, 3, 4, 5], [3, 4, 2, 4, 3]))
    1 (95 % interval -0.2202 to 2.2202)
    """
    difference, error, df, dtype = mean_difference(a, b, method)
    return t_interval(difference, error, df, confidence, dtype)


def proportion_interval(successes, n, confidence=0.95, method="wilson"):
    """Interval for the proportion of which `successes` in `n` independent trials is an estimate.

    Shapes: successes and n broadcast to the result. Range: 0 to 1. Errors: see the module; another method; n of 0.
    Convention: "wilson" inverts the score test: short, and near the stated coverage on average. "clopper-pearson"
    inverts the binomial test: never below the stated coverage, hence long. "jeffreys" is Bayes with a Beta(1/2, 1/2)
    prior, both tails cut with 0 or n successes too. "agresti-coull" is Wald around Wilson's centre, cut at 0 and 1.
    "wald" is p plus or minus z sqrt(p(1 - p) / n), cut at 0 and 1: with 0 or n successes its width is 0, which claims
    certainty from any n. Do not use it.
    Source: Brown, Cai and DasGupta (2001), "Interval estimation for a binomial proportion".

    >>> print(proportion_interval(9, 10))
    0.9 (95 % interval 0.5958 to 0.9821)
    >>> print(proportion_interval(10, 10, method="wald"))
    1 (95 % interval 1 to 1)
    """
    one_of("method", method, ("wilson", "clopper-pearson", "wald", "agresti-coull", "jeffreys"))
    confidence = open_fraction("confidence", confidence)
    (k, n), dtype = trials(successes=successes, n=n)
    p = k / n
    if method in ("clopper-pearson", "jeffreys"):
        (low_k, low_rest), (high_k, high_rest) = {
            "clopper-pearson": ((k, n - k + 1), (k + 1, n - k)),
            "jeffreys": ((k + 0.5, n - k + 0.5),) * 2,
        }[method]
        tail = (1 - confidence) / 2
        # Beta(0, .) is all at 0 and Beta(., 0) all at 1.
        low = elementwise(stats.beta.ppf, tail, low_k.clamp(min=1e-300), low_rest).where(low_k > 0, 0)
        high = elementwise(stats.beta.isf, tail, high_k, high_rest.clamp(min=1e-300)).where(high_rest > 0, 1)
    else:
        z2 = stats.norm.isf((1 - confidence) / 2) ** 2
        centre, variance = p, p * (1 - p) / n
        if method != "wald":
            centre = (k + z2 / 2) / (n + z2)
            variance = centre * (1 - centre) / (n + z2)
        if method == "wilson":
            variance = (p * (1 - p) * n + z2 / 4) / (n + z2) ** 2
        margin = (z2 * variance).sqrt()
        low, high = (centre - margin).clamp(min=0), (centre + margin).clamp(max=1)
        if method == "wilson":  # exact at the ends, where rounding would miss them
            low, high = low.where(k > 0, 0), high.where(k < n, 1)
    return Interval(p.to(dtype), low.to(dtype), high.to(dtype), confidence)


def difference_of_proportions_interval(successes_a, n_a, successes_b, n_b, confidence=0.95, method="newcombe"):
    """Interval for the proportion of `a` less the proportion of `b`, two independent samples.

    Shapes: the four counts broadcast to the result. Errors: see the module; another method.
    Convention: "newcombe" combines the Wilson limits of the two proportions (his method 10), and stays within -1 to 1.
    "wald" adds the two variances p(1 - p) / n; at 0 or n successes in both samples its width is 0.
    Source: Newcombe (1998), "Interval estimation for the difference between independent proportions".

    >>> print(difference_of_proportions_interval(520, 1000, 450, 1000))
    0.07 (95 % interval 0.0262 to 0.1134)
    """
    one_of("method", method, ("newcombe", "wald"))
    (k_a, n_a, k_b, n_b), dtype = trials(successes_a=successes_a, n_a=n_a, successes_b=successes_b, n_b=n_b)
    if method == "newcombe":
        a, b = (proportion_interval(k, n, confidence) for k, n in ((k_a, n_a), (k_b, n_b)))
        below = torch.hypot(a.estimate - a.low, b.high - b.estimate)
        above = torch.hypot(a.high - a.estimate, b.estimate - b.low)
    else:
        z = stats.norm.isf((1 - open_fraction("confidence", confidence)) / 2)
        p_a, p_b = k_a / n_a, k_b / n_b
        below = above = z * (p_a * (1 - p_a) / n_a + p_b * (1 - p_b) / n_b).sqrt()
    difference = k_a / n_a - k_b / n_b
    return Interval(difference.to(dtype), (difference - below).to(dtype), (difference + above).to(dtype), confidence)


def cohens_d(a, b, paired=False):
    """Cohen's d: the mean of `a` less the mean of `b`, in standard deviations.

    Shapes: a (..., n), b (..., m) with n and m of 2 or more, n = m if paired; result (...). Errors: see the module.
    Convention: the standard deviation is pooled over both samples, with n + m - 2; of the differences if `paired`, with
    n - 1 (d_z: not comparable with the other). Without spread d is 0 for equal means, else infinite.
    Source: Cohen (1988), Statistical Power Analysis, section 2.2; Lakens (2013) on d_z.

    >>> cohens_d([2, 3, 4, 5, 6], [1, 2, 3, 4, 5])
    tensor(0.6325, dtype=torch.float64)
    """
    if paired:
        differences, dtype = paired_differences(a=a, b=b)
        difference, variance = moments(differences)
    else:
        difference, _, _, dtype = mean_difference(a, b, "pooled")
        a, b = samples(at_least=2, a=a, b=b)
        n, m = a.shape[-1] - 1, b.shape[-1] - 1
        variance = (n * moments(a)[1] + m * moments(b)[1]) / (n + m)
    return ratio(difference, variance.sqrt()).to(dtype)


def hedges_g(a, b):
    """Hedges' g: Cohen's d of two independent samples, freed of its bias away from 0.

    Shapes, errors and what happens without spread: those of `cohens_d`. Convention: the exact factor
    Gamma(df / 2) / (sqrt(df / 2) Gamma((df - 1) / 2)) with df = n + m - 2; 1 - 3 / (4 df - 1) approximates it.
    Source: Hedges (1981), "Distribution theory for Glass's estimator of effect size", formula 6e.

    >>> hedges_g([2, 3, 4, 5, 6], [1, 2, 3, 4, 5])
    tensor(0.5709, dtype=torch.float64)
    """
    a, b = samples(at_least=2, a=a, b=b)
    half = (a.shape[-1] + b.shape[-1] - 2) / 2
    return cohens_d(a, b) * (math.exp(math.lgamma(half) - math.lgamma(half - 0.5)) / math.sqrt(half))


def rule_of_three(n, confidence=0.95):
    """The highest rate that `n` trials without one failure leave open: 1 - (1 - confidence)^(1 / n), about 3 / n.

    Shapes: result like n. Range: 0 to 1. Errors: see the module. Convention: one-sided and exact, so that the limit is
    below that of the two-sided `proportion_interval`; 3 / n is for 95 %, from -log 0.05 = 2.996.
    Source: Hanley and Lippman-Hand (1983), "If nothing goes wrong, is everything all right?"

    >>> rule_of_three(100)
    tensor(0.0295, dtype=torch.float64)
    """
    alpha = 1 - open_fraction("confidence", confidence)
    (_, total), _ = trials(failures=0, n=n)
    return (1 - alpha ** (1 / total)).to(common_dtype(*floating(n=n))[0])


# Shared with the tests of `hypothesis`: float64 inside, the dtype of the result beside it


def moments(x):
    """Mean and variance (n - 1) along the last axis; the variance of equal values is 0 without rounding.

    >>> moments(torch.tensor([0.1, 0.1, 0.1]))[1]
    tensor(0., dtype=torch.float64)
    """
    x = x.double()
    first = x[..., :1]
    variance, mean = torch.var_mean(x - first, -1)
    if not variance.isfinite().all():
        raise ValueError(f"the samples reach {x.abs().amax():g}; expected numbers whose squares float64 can hold")
    return mean + first[..., 0], variance


def mean_difference(a, b, method="welch"):
    """Mean of a less mean of b, its standard error, the degrees of freedom, and the dtype of a result."""
    one_of("method", method, ("welch", "pooled"))
    a, b = samples(at_least=2, a=a, b=b)
    n, m = a.shape[-1], b.shape[-1]
    (mean_a, var_a), (mean_b, var_b) = moments(a), moments(b)
    if method == "pooled":
        df = n + m - 2
        variance = ((n - 1) * var_a + (m - 1) * var_b) / df
        error = (variance * (1 / n + 1 / m)).sqrt()
    else:
        error = (var_a / n + var_b / m).sqrt()
        share = ratio(var_a / n, var_a / n + var_b / m)
        df = 1 / (share**2 / (n - 1) + (1 - share) ** 2 / (m - 1))
    return mean_a - mean_b, error, df, common_dtype(a, b)[0]


def paired_differences(at_least=2, **pair):
    """The differences of paired samples, first less second, in float64; and the dtype of a result."""
    first, second = samples(at_least=at_least, **pair)
    if first.shape != second.shape:
        (a, n), (b, m) = ((name, side.shape[-1]) for name, side in zip(pair, (first, second), strict=True))
        raise ValueError(f"{a} has {n} numbers, {b} {m}; expected pairs: the same items in the same order")
    return first.double() - second.double(), common_dtype(first, second)[0]


def t_interval(estimate, error, df, confidence, dtype=torch.float64, alternative="two-sided"):
    """Estimate plus or minus t standard errors; a one-sided alternative leaves the other side open."""
    tail = (1 - open_fraction("confidence", confidence)) / (2 if alternative == "two-sided" else 1)
    margin = elementwise(stats.t.isf, tail, torch.as_tensor(df, device=error.device).double()) * error
    low = estimate - margin if alternative != "less" else torch.full_like(estimate, -torch.inf)
    high = estimate + margin if alternative != "greater" else torch.full_like(estimate, torch.inf)
    return Interval(estimate.to(dtype), low.to(dtype), high.to(dtype), confidence)


def trials(**arguments):
    """Pairs of counts, successes and trials in turn, checked and broadcast in float64; and the dtype of a result."""
    given = floating(**arguments)
    try:
        counts = torch.broadcast_tensors(*(count.double() for count in given))
    except RuntimeError:
        shapes = " and ".join(f"{name} {tuple(c.shape)}" for name, c in zip(arguments, given, strict=True))
        raise ValueError(f"shapes are {shapes}; expected shapes that broadcast") from None
    for name, count in zip(arguments, counts, strict=True):
        check_finite(name, count)
        if (odd := (count != count.round()) | (count < 0)).any():
            raise ValueError(f"{name} contains {count[odd][0]:g}; expected whole numbers of at least 0")
    named = list(zip(arguments, counts, strict=True))
    for (k, successes), (n, total) in zip(named[::2], named[1::2], strict=True):
        if (total < 1).any() or (successes > total).any():
            reach = f"{k} reaches {successes.amax():g}, {n} goes down to {total.amin():g}"
            raise ValueError(f"{reach}; expected at least one trial, and no more successes than trials")
    return counts, common_dtype(*given)[0]


def ratio(a, b):
    """a / b for b of at least 0, with 0 / 0 = 0: no difference is none in any unit."""
    return torch.where(a == 0, 0.0, a / b)


def elementwise(function, *arguments):
    """A scipy function of numbers and tensors, on the device of the first tensor."""
    device = next(value.device for value in arguments if isinstance(value, torch.Tensor))
    arrays = (value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value for value in arguments)
    return torch.as_tensor(function(*arrays), dtype=torch.float64, device=device)
