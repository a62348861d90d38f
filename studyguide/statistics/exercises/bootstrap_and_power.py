"""Exercises of notebook 2.2: bootstrap and power."""

import math

import numpy as np
import torch
from scipy import stats

from studyguide.course.exercises import Exercise, Wrong
from studyguide.statistics.bootstrap import bootstrap_interval


def _t(*values):
    return torch.tensor(values, dtype=torch.float64)


def my_mean_limits(x, indices):
    """Limits of the 95 % percentile bootstrap interval of the mean of a 1-D sample x.

    indices (resamples, n) says which items each resample holds. Returns a tensor (low, high).
    """
    means = x[indices].mean(-1)
    return means.quantile(torch.tensor([0.025, 0.975], dtype=x.dtype))


def _basic_limits(x, indices):
    return (2 * x.mean() - my_mean_limits(x, indices)).flip(0)


def _normal_limits(x, indices):
    means = x[indices].mean(-1)
    return x.mean() + 1.96 * means.std() * _t(-1, 1)


def _resamples(n, rows, seed):
    return torch.randint(n, (rows, n), generator=torch.Generator().manual_seed(seed))


MEAN_LIMITS = Exercise(
    id="percentile-bootstrap",
    title="A percentile interval from resamples",
    prompt=(
        "Somebody has drawn the resamples for you: row `r` of `indices` lists the items of resample `r`. Write "
        "`my_mean_limits(x, indices)`: the two limits of the 95 % percentile interval for the mean of `x`."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "`x[indices]` is a table with one resample per row. What is the statistic of a row?",
        "Of the resampled means, 95 % lie between their quantiles 0.025 and 0.975.",
    ),
    solution=my_mean_limits,
    peer=lambda x, indices: np.percentile(x.numpy()[indices.numpy()].mean(1), [2.5, 97.5]),
    cases=(
        (_t(1.0, 2.0, 6.0), _resamples(3, 27, 0)),
        (_t(0.2, 0.9, 0.4, 3.0, 1.1, 0.7), _resamples(6, 200, 1)),
        (_t(0, 1, 1, 0, 1, 1, 1, 0), _resamples(8, 99, 2)),
    ),
    wrong=(
        Wrong(
            lambda x, indices: x[indices].mean(-1).quantile(_t(0.05, 0.95)),
            "you cut 5 % from each side, which leaves 90 %. Cut 2.5 % from each.",
        ),
        Wrong(
            lambda x, indices: x.quantile(_t(0.025, 0.975)),
            "these are quantiles of the items, not of their mean. Take the mean of each resample first.",
        ),
        Wrong(
            _basic_limits,
            "that is the basic interval, mirrored at the estimate. Percentile limits are the quantiles themselves.",
        ),
        Wrong(_normal_limits, "you assumed a bell curve around the estimate. Read the limits off the resampled means."),
        Wrong(
            lambda x, indices: x[indices].median(-1).values.quantile(_t(0.025, 0.975)),
            "you took the median of each resample. The mean is asked for.",
        ),
        Wrong(
            lambda x, indices: x[indices].mean(-1).quantile(_t(0.975, 0.025)),
            "the right numbers in the wrong order: the lower limit comes first.",
        ),
    ),
)


def my_sample_size(p1, p2):
    """Items per arm that tell the proportion p1 from p2, at alpha 0.05 (two-sided) and power 0.8.

    Returns a whole number.
    """
    mean = (p1 + p2) / 2
    null = stats.norm.isf(0.025) * math.sqrt(2 * mean * (1 - mean))
    alternative = stats.norm.ppf(0.8) * math.sqrt(p1 * (1 - p1) + p2 * (1 - p2))
    return math.ceil(((null + alternative) / (p2 - p1)) ** 2)


def _size(p1, p2, tail=0.025, power=0.8):
    mean = (p1 + p2) / 2
    null = stats.norm.isf(tail) * math.sqrt(2 * mean * (1 - mean))
    return ((null + stats.norm.ppf(power) * math.sqrt(p1 * (1 - p1) + p2 * (1 - p2))) / (p2 - p1)) ** 2


def _statsmodels_size(p1, p2):
    from statsmodels.stats.proportion import samplesize_proportions_2indep_onetail  # slow to import

    return math.ceil(samplesize_proportions_2indep_onetail(p2 - p1, p1, 0.8, alpha=0.05))


SAMPLE_SIZE = Exercise(
    id="sample-size-proportions",
    title="Sample size for two proportions",
    prompt=(
        "Write `my_sample_size(p1, p2)`: how many items *per arm* a two-sided test at level 0.05 needs to tell the two proportions "
        "apart with power 0.8. Use the formula of this section, and return a whole number."
    ),
    difficulty=2,
    minutes=12,
    hints=(
        "z for alpha leaves 2.5 % in each tail: `stats.norm.isf(0.025)`. z for power is `stats.norm.ppf(0.8)`.",
        "Under the null hypothesis both arms have the mean proportion, and the difference the variance 2 p (1 − p) / n.",
        "99.2 items are not enough if it takes 99.3: round up.",
    ),
    solution=my_sample_size,
    peer=_statsmodels_size,
    cases=((0.10, 0.12), (0.80, 0.82), (0.5, 0.6), (0.9, 0.7)),
    wrong=(
        Wrong(lambda p1, p2: math.floor(_size(p1, p2)), "you rounded down, which misses the power. Round up."),
        Wrong(
            lambda p1, p2: math.ceil(_size(p1, p2, tail=0.05)),
            "you used z = 1.64, a one-sided test. A two-sided test at 0.05 leaves 0.025 in each tail.",
        ),
        Wrong(
            lambda p1, p2: 2 * my_sample_size(p1, p2),
            "that is the total of both arms. The question is about one arm.",
        ),
        Wrong(
            lambda p1, p2: math.ceil(_size(p1, p2, power=0.5)),
            "you left out z for the power, so you get power 0.5: a coin flip. Add it.",
        ),
        Wrong(
            lambda p1, p2: math.ceil(_size(p1, p2) * (p2 - p1) ** 2 / abs(p2 - p1)),
            "you divided by the difference, not by its square. Half the difference needs four times the items.",
        ),
        Wrong(_size, "right, but unrounded. Nobody can ask 0.8 of a question: round up."),
    ),
)


def my_holm(p):
    """Holm's adjusted p-values of a 1-D tensor of p-values, in the order they came in.

    Returns a tensor of the same length, no number above 1.
    """
    order = p.argsort()
    factors = torch.arange(len(p), 0, -1, dtype=p.dtype)
    raised = (p[order] * factors).cummax(0).values.clamp(max=1)
    return torch.empty_like(p).scatter(0, order, raised)


def _holm_without(p, running=True, capped=True, unsort=True):
    order = p.argsort()
    raised = p[order] * torch.arange(len(p), 0, -1, dtype=p.dtype)
    raised = raised.cummax(0).values if running else raised
    raised = raised.clamp(max=1) if capped else raised
    return torch.empty_like(p).scatter(0, order, raised) if unsort else raised


def _statsmodels_holm(p):
    from statsmodels.stats.multitest import multipletests  # slow to import

    return multipletests(p.numpy(), method="holm")[1]


HOLM = Exercise(
    id="holm-by-hand",
    title="Holm's correction",
    prompt=(
        "Write `my_holm(p)` for m p-values. Sort them. Multiply the smallest by m, the next by m − 1, and so on to 1. An adjusted value "
        "is never below an earlier one, and never above 1. Return them in the order in which `p` came."
    ),
    difficulty=3,
    minutes=15,
    hints=(
        "`p.argsort()` gives the order; the factors are m, m − 1, ..., 1.",
        "`cummax(0).values` carries the largest value so far along; `clamp(max=1)` caps it.",
        "To undo the sorting: `result[order] = adjusted`.",
    ),
    solution=my_holm,
    peer=_statsmodels_holm,
    cases=(
        (_t(0.04, 0.01, 0.03),),
        (_t(0.2, 0.001, 0.04, 0.041, 0.9),),
        (
            _t(
                0.05,
            ),
        ),
        (_t(0.6, 0.02, 0.7, 0.02),),
    ),
    wrong=(
        Wrong(
            lambda p: (p * len(p)).clamp(max=1),
            "that is Bonferroni: every value times m. Only the smallest is multiplied by m.",
        ),
        Wrong(
            lambda p: torch.as_tensor(stats.false_discovery_control(p.numpy())),
            "that is Benjamini-Hochberg, which bounds the share of false discoveries. Holm bounds the chance of any.",
        ),
        Wrong(
            lambda p: _holm_without(p, running=False),
            "an adjusted value fell below that of a smaller p. Carry the largest so far along.",
        ),
        Wrong(lambda p: _holm_without(p, capped=False), "a p-value above 1 came out. Cap at 1."),
        Wrong(
            lambda p: _holm_without(p, unsort=False), "right values in sorted order. Put them back in the order of `p`."
        ),
    ),
)


def my_population():
    """A population (1-D, at most 1,000 values) and a sample size from 20 to 100 that defeat the interval."""
    population = torch.zeros(100, dtype=torch.float64)
    population[0] = 1000
    return population, 20


def _verify_population(answer):
    if not (isinstance(answer, tuple | list) and len(answer) == 2):
        return "return a population and a sample size: `return population, 20`."
    population, n = torch.as_tensor(answer[0], dtype=torch.float64), int(answer[1])
    if population.ndim != 1 or not 2 <= len(population) <= 1000 or not population.isfinite().all():
        return "the population must be a 1-D tensor of 2 to 1,000 finite numbers."
    if not 20 <= n <= 100:
        return f"the sample size is {n}; choose 20 to 100. That tiny samples fail is no news."
    if population.min() == population.max():
        return "all values are equal, so every interval is that value, and covers it."
    rng = torch.Generator().manual_seed(0)
    samples = population[torch.randint(len(population), (400, n), generator=rng)]
    interval = bootstrap_interval(samples, n_resamples=399, rng=rng)
    truth = population.mean()
    covered = ((interval.low <= truth) & (truth <= interval.high)).double().mean().item()
    if covered > 0.6:
        return f"the interval covered the mean in {covered:.0%} of 400 samples. Hide most of the mean where a sample rarely looks."
    return None


POPULATION = Exercise(
    id="break-bootstrap",
    title="A 95 % interval that covers 60 %",
    prompt=(
        "A colleague bootstraps the mean cost per request and trusts the 95 % interval. Write `my_population()`: a population of at most "
        "1,000 costs and a sample size from 20 to 100 for which the percentile interval contains the population's mean in at most 60 % of samples."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "A resample holds only what the sample holds. What if the sample misses something that matters?",
        "Let one request in a hundred cost more than all others together.",
    ),
    solution=my_population,
    verify=_verify_population,
    wrong=(
        Wrong(lambda: torch.zeros(100), "return a population and a sample size: `return population, 20`."),
        Wrong(lambda: (_t(0, 1, 100), 3), "the sample size is 3; choose 20 to 100. That tiny samples fail is no news."),
        Wrong(lambda: (_t(5, 5, 5), 20), "all values are equal, so every interval is that value, and covers it."),
        Wrong(
            lambda: (torch.arange(100.0), 20),
            "the interval covered the mean in 92% of 400 samples. Hide most of the mean where a sample rarely looks.",
        ),
        Wrong(
            lambda: (torch.zeros(2000), 20),
            "the population must be a 1-D tensor of 2 to 1,000 finite numbers.",
        ),
    ),
)

EXERCISES = (MEAN_LIMITS, SAMPLE_SIZE, HOLM, POPULATION)
