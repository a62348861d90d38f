"""How many items an evaluation needs, and how often it finds a difference that is there.

Power is the probability that a two-sided test at level alpha rejects when the difference is real. Effects and sample
sizes are tensors that broadcast; alpha and power are single numbers. Sample sizes come unrounded: round them up.

Errors: a number outside its range, no difference to find, and a power of at most alpha (chance alone rejects that
often) are a ValueError; what is no number is a TypeError.
"""

import math

import numpy as np
import torch
from scipy import optimize, stats

from studyguide.probability import validation
from studyguide.probability.validation import (
    check_finite,
    common_dtype,
    floating,
    one_of,
    open_fraction,
    positive_integer,
)
from studyguide.statistics.intervals import elementwise, proportion_interval


def sample_size_proportions(p1, p2, alpha=0.05, power=0.8, method="pooled"):
    """Items per arm that it takes to tell the proportion `p1` from `p2`.

    Shapes: p1 and p2 broadcast to the result. Range: above 0, unrounded. Errors: see the module.
    Convention: "pooled" is the textbooks' normal formula, its variance pooled under the null hypothesis and the far tail
    left out. "arcsine" is the normal test of Cohen's h, both tails, as in statsmodels' NormalIndPower.
    Source: Fleiss, Levin and Paik, Statistical Methods for Rates and Proportions, section 4.2; Cohen (1988), chapter 6.

    >>> sample_size_proportions(0.10, 0.12), sample_size_proportions(0.10, 0.12, method="arcsine")
    (tensor(3840.8475, dtype=torch.float64), tensor(3834.5957, dtype=torch.float64))
    """
    alpha, power = _levels(alpha, power)
    formula = {"pooled": _pooled, "arcsine": _arcsine}[one_of("method", method, ("pooled", "arcsine"))]
    named = floating(p1=p1, p2=p2)
    for name, p in zip(("p1", "p2"), named, strict=True):
        _check_proportion(name, p)

    def size(p1, p2):
        if (p1 == p2).any():
            raise ValueError(
                f"p1 and p2 are both {p1[p1 == p2][0]:g}; expected a difference: no sample size finds none"
            )
        return formula(p1, p2, alpha, power)

    return _broadcast(size, *named)


def sample_size_means(effect_size, alpha=0.05, power=0.8, paired=False):
    """Items per arm, or pairs, with which a t-test finds a difference of `effect_size` standard deviations.

    Shapes: result like effect_size. Range: at least 2, unrounded; the sign of the effect plays no part.
    Convention: the standard deviation is that of one arm, or of the differences if `paired`.
    Errors: see the module. Source: Cohen (1988), Statistical Power Analysis, chapter 2, by the noncentral t.

    >>> sample_size_means(0.25), sample_size_means(0.25, paired=True)
    (tensor(252.1275, dtype=torch.float64), tensor(127.5158, dtype=torch.float64))
    """
    alpha, power = _levels(alpha, power)
    (effect,) = floating(effect_size=effect_size)
    check_finite("effect_size", effect)
    if (effect == 0).any():
        raise ValueError("effect_size is 0; expected a difference: no sample size finds none")

    @np.vectorize(otypes=[float])
    def solve(effect):
        return _root(lambda n: _power(effect, n, alpha, paired) - power, 2.0)

    return _broadcast(solve, effect)


def power_means(effect_size, n, alpha=0.05, paired=False):
    """Power of a t-test with `n` items per arm, or `n` pairs, when the means differ by `effect_size` deviations.

    Shapes: effect_size and n broadcast to the result. Range: alpha (no effect) to 1.
    Convention: the standard deviation is that of one arm, or of the differences if `paired`; both tails reject.
    Errors: n below 2; see the module. Source: Cohen (1988), Statistical Power Analysis, chapter 2, by the noncentral t.

    >>> power_means(0.25, 100)
    tensor(0.4205, dtype=torch.float64)
    """
    alpha = open_fraction("alpha", alpha)
    effect, n = floating(effect_size=effect_size, n=n)
    check_finite("effect_size", effect)
    _check_size(n)
    return _broadcast(lambda effect, n: _power(effect, n, alpha, paired), effect, n)


def minimum_detectable_effect(n, alpha=0.05, power=0.8, paired=False, baseline=None):
    """The smallest difference that `n` items per arm, or `n` pairs, find with this power.

    Shapes: n and baseline broadcast to the result. Range: above 0.
    Convention: in standard deviations, as `sample_size_means` takes it; or, with a `baseline` proportion, the
    difference p2 - baseline above it (two arms, method "pooled" of `sample_size_proportions`).
    Errors: n below 2, or too small to tell the baseline even from 1; a baseline with `paired` (the power of McNemar's
    test depends on how often the two disagree); see the module.

    >>> minimum_detectable_effect(100), minimum_detectable_effect(100, baseline=0.5)
    (tensor(0.3981, dtype=torch.float64), tensor(0.1932, dtype=torch.float64))
    """
    alpha, power = _levels(alpha, power)
    if baseline is not None:
        return _detectable_proportion(n, alpha, power, paired, baseline)
    (n,) = floating(n=n)
    _check_size(n)

    @np.vectorize(otypes=[float])
    def solve(n):
        return _root(lambda effect: _power(effect, n, alpha, paired) - power, 0.0)

    return _broadcast(solve, n)


def simulate_power(generator, test, n_simulations=10_000, alpha=0.05, *, rng):
    """How often a test rejects: the share of simulated experiments with a p-value of at most alpha, with its interval.

    `generator(n_simulations, rng)` draws all experiments at once: a tuple of samples, one experiment per row, by the
    torch.Generator that it is given. `test(*samples)` returns something with a `p_value` per row. Where the generator
    has no effect, the share is the rate of false alarms.

    Result: an Interval, the share with Wilson's 95 % limits, which tell the error of the simulation.
    Errors: p-values that are not one per experiment, or outside 0 to 1; see the module.
    Randomness: `rng` is an int seed, or a torch.Generator, which the call advances.

    >>> from studyguide.statistics.hypothesis import welch_t_test
    >>> def models(size, rng):
    ...     a, b = torch.randn(2, size, 100, generator=rng)
    ...     return a, b + 0.25
    >>> print(simulate_power(models, welch_t_test, rng=0))
    0.4245 (95 % interval 0.4148 to 0.4342)
    """
    size, alpha = positive_integer("n_simulations", n_simulations), open_fraction("alpha", alpha)
    (p,) = floating(p_value=test(*generator(size, validation.generator(rng))).p_value)
    if p.shape != (size,):
        raise ValueError(f"p_value has shape {tuple(p.shape)}; expected ({size},), one per simulated experiment")
    if (odd := ~((p >= 0) & (p <= 1))).any():  # NaN is odd too
        raise ValueError(f"p_value contains {p[odd][0]:g}; expected numbers from 0 to 1")
    return proportion_interval((p <= alpha).sum(), size, method="wilson")


def _levels(alpha, power):
    alpha, power = open_fraction("alpha", alpha), open_fraction("power", power)
    if power <= alpha:
        raise ValueError(f"power is {power}, alpha {alpha}; expected more power than alpha, which chance alone reaches")
    return alpha, power


def _check_proportion(name, p):
    if (odd := ~((p > 0) & (p < 1))).any():  # NaN is odd too
        raise ValueError(f"{name} contains {p[odd][0]:g}; expected proportions strictly between 0 and 1")


def _check_size(n):
    check_finite("n", n)
    if (n < 2).any():
        raise ValueError(f"n contains {n.amin():g}; expected at least 2, which a standard deviation needs")


def _broadcast(function, *tensors):
    """A function of numpy arrays in float64, for tensors that broadcast; the result has their dtype and device."""
    try:
        shaped = torch.broadcast_tensors(*tensors)
    except RuntimeError:
        shapes = " and ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ValueError(f"shapes are {shapes}; expected shapes that broadcast") from None
    return elementwise(function, *(tensor.detach().double() for tensor in shaped)).to(common_dtype(*tensors)[0])


def _pooled(p1, p2, alpha, power):
    return (_pooled_spread(p1, p2, alpha, power) / (p2 - p1)) ** 2


def _pooled_spread(p1, p2, alpha, power):
    mean = (p1 + p2) / 2
    null = stats.norm.isf(alpha / 2) * np.sqrt(2 * mean * (1 - mean))
    return null + stats.norm.ppf(power) * np.sqrt(p1 * (1 - p1) + p2 * (1 - p2))


def _arcsine(p1, p2, alpha, power):
    critical = stats.norm.isf(alpha / 2)
    shift = _root(lambda shift: stats.norm.sf(critical - shift) + stats.norm.sf(critical + shift) - power, 0.0)
    return 2 * (shift / (2 * np.arcsin(np.sqrt(p2)) - 2 * np.arcsin(np.sqrt(p1)))) ** 2


def _power(effect, n, alpha, paired):
    df = n - 1 if paired else 2 * n - 2
    centre = np.minimum(np.abs(effect) * np.sqrt(n if paired else n / 2), 1e9)  # beyond it scipy says NaN for 1
    critical = stats.t.isf(alpha / 2, df)
    far = np.nan_to_num(stats.nct.cdf(-critical, df, centre))  # scipy says NaN where this tail is below 1e-14
    return np.minimum(stats.nct.sf(critical, df, centre) + far, 1)


def _detectable_proportion(n, alpha, power, paired, baseline):
    if paired:
        raise ValueError("baseline and paired were both given; expected one of them")
    n, baseline = floating(n=n, baseline=baseline)
    _check_size(n)
    _check_proportion("baseline", baseline)

    @np.vectorize(otypes=[float])
    def solve(n, p):
        if n <= (least := _pooled(p, 1, alpha, power)):
            raise ValueError(f"n is {n:g}; expected above {least:.4g}, what it takes to tell {p:g} even from 1")
        return _root(lambda gap: gap * math.sqrt(n) - _pooled_spread(p, p + gap, alpha, power), 0.0, 1 - p)

    return _broadcast(solve, n, baseline)


def _root(function, low, high=None):
    """Where an increasing function crosses 0 between low and high, or anywhere above low; low, if that is too high."""
    if function(low) >= 0:
        return low
    if high is None:
        high = 2 * low or 1.0
        while function(high) < 0:
            low, high = high, 2 * high
    return optimize.brentq(function, low, high, xtol=1e-300, rtol=1e-15, maxiter=1000)
