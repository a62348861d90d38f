"""Looking at an experiment while it runs, without fooling oneself.

At each look an estimate is compared with its standard error: z is their ratio. Whoever stops as soon as z leaves
-1.96 to 1.96 is wrong far more often than one time in twenty, because every look is another chance. Two cures, both of
them wider limits for z: `group_sequential_bounds` for a few looks that are planned, `confidence_sequence` for any
number of looks at any time.

A stream is summarised at each look by its `Moments`, as `running_moments` makes them; `difference_of_moments` turns two
streams into one. Shapes: looks lie along the last axis, leading axes are a batch.

Errors: what is not finite, sizes below 2 or not whole, variances below 0, looks that do not grow, and levels outside 0 to 1
are a ValueError; what is no array of numbers is a TypeError.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import torch
from scipy import stats

from studyguide.online.group_sequential import crossing_probability, group_sequential_bounds
from studyguide.probability.validation import (
    BLOCK,
    check_finite,
    common_dtype,
    floating,
    generator,
    open_fraction,
    positive_integer,
    samples,
)
from studyguide.statistics.intervals import Interval, proportion_interval, ratio

__all__ = [
    "Moments",
    "SequentialResult",
    "always_valid_p_value",
    "confidence_sequence",
    "crossing_probability",
    "difference_of_moments",
    "group_sequential_bounds",
    "mixture_bounds",
    "running_moments",
    "sequential_test",
    "simulate_peeking",
]


class Moments(NamedTuple):
    """What is known of a stream at each look."""

    n: torch.Tensor  # observations so far
    mean: torch.Tensor
    variance: torch.Tensor  # of one observation (dividing by n - 1); that of the mean is variance / n


def running_moments(x, looks=None):
    """`Moments` of the first n observations of `x`, for each n in `looks`; by default for 2, 3 and so on to all.

    Shapes: x (..., n), looks (k,) whole numbers that grow, from 2 to n; mean and variance (..., k), n (k,).
    A yes or no is 1 or 0; its variance is then that of a proportion.

    >>> running_moments([4, 6, 5, 9], looks=[2, 4])
    Moments(n=tensor([2., 4.], dtype=torch.float64), mean=tensor([5., 6.], dtype=torch.float64), \
variance=tensor([2.0000, 4.6667], dtype=torch.float64))
    """
    [x] = samples(at_least=2, x=x)
    size = x.shape[-1]
    looks = range(2, size + 1) if looks is None else looks
    [n] = samples(looks=torch.as_tensor(looks, device=x.device))
    n = n.double()
    if n.ndim > 1 or (n != n.round()).any() or n[0] < 2 or n[-1] > size or not (n.diff() > 0).all():
        raise ValueError(f"looks is {n.tolist()}; expected whole numbers that grow, from 2 to {size}")
    first = x[..., :1].double()  # taken out, so that equal values have a variance of exactly 0
    centred = x.double() - first
    place = n.long() - 1
    total, squares = centred.cumsum(-1)[..., place], centred.square().cumsum(-1)[..., place]
    variance = ((squares - total**2 / n) / (n - 1)).clamp(min=0)
    return Moments(n, (first + total / n).to(x.dtype), variance.to(x.dtype))


def difference_of_moments(a, b):
    """The `Moments` of the mean of `a` less the mean of `b`, two independent streams looked at together.

    Convention: n is that of both together, and the variance such that variance / n is the sum of the two variances of the
    means, as in Welch's test: the two need not be equally long.

    >>> difference_of_moments((100, 4.4, 0.64), (100, 4.2, 0.64))
    Moments(n=tensor(200., dtype=torch.float64), mean=tensor(0.2000, dtype=torch.float64), \
variance=tensor(2.5600, dtype=torch.float64))
    """
    a, b = _moments("a", a), _moments("b", b)
    n = a.n + b.n
    return Moments(n, a.mean - b.mean, n * (a.variance / a.n + b.variance / b.n))


# Any number of looks


def mixture_bounds(n, tuned_to, alpha=0.05):
    """How far z may be from 0 after `n` observations, if it is looked at after each of them, for ever.

    The limit is sqrt((1 + 1 / v) (log(1 + v) - 2 log alpha)) with v = n rho^2: Robbins' normal mixture. Without an effect
    z leaves it, at any time, with probability alpha at most.

    `tuned_to` is the n at which the limit is to be about as low as it can be (3.04 at 5 %): the size you expect to stop
    at. Nothing breaks if you stop elsewhere, but the limit is higher there. It must be chosen before the data are seen.
    Convention: rho^2 = (log(1 - 2 log alpha) - 2 log alpha) / tuned_to, the approximation of gbstats and of the source.
    Shapes: n and tuned_to broadcast to the result.
    Source: Robbins (1970), "Statistical methods related to the law of the iterated logarithm"; Waudby-Smith et al. (2024),
    "Time-uniform central limit theory and asymptotic confidence sequences", theorem 2.2 and appendix on tuning.

    >>> mixture_bounds([10, 100, 1_000, 10_000], tuned_to=1_000)
    tensor([9.0844, 3.8551, 3.0352, 3.2417], dtype=torch.float64)
    """
    v, dtype = _scale(n, tuned_to, alpha)
    return ((1 + 1 / v) * (v.log1p() - 2 * math.log(alpha))).sqrt().to(dtype)


def confidence_sequence(moments, tuned_to, confidence=0.95):
    """Always-valid intervals: with this confidence *all* of them, at all looks, contain the true mean.

    So you may look whenever you like, and stop when you like. The price is width: mean plus or minus `mixture_bounds`
    standard errors, about 3 where a single look takes 1.96.

    `moments` are `Moments` or (n, mean, variance) of what you look at, `tuned_to` is the n of `mixture_bounds`.
    Convention: asymptotic, like the z-interval: the variance is estimated. Begin to look at some dozens of observations,
    at a hundred if they are skewed, and for a proportion at twenty of the rarer outcome. (Of exponential data 7 % of all
    95 % sequences miss the truth if read from the 30th observation, 5 % from the 100th; of a rate of 0.05 13 % from the
    30th, 4 % from the 400th.) Where the variance is 0, nothing is known of the spread yet and the limits are infinite.
    Shapes: the results are like the mean. Errors: see the module. Source: see `mixture_bounds`.

    >>> a, b = (1000, 0.45, 0.2475), (1000, 0.52, 0.2496)
    >>> print(confidence_sequence(difference_of_moments(b, a), tuned_to=2000))
    0.07 (95 % interval 0.0023 to 0.1377)
    """
    moments = _moments("moments", moments)
    confidence = open_fraction("confidence", confidence)
    dtype = common_dtype(moments.mean, moments.variance)[0]
    width = mixture_bounds(moments.n.double(), tuned_to, 1 - confidence) * _error(moments)
    width = torch.where(moments.variance > 0, width, torch.inf)
    mean = moments.mean.double() + torch.zeros_like(width)
    return Interval(mean.to(dtype), (mean - width).to(dtype), (mean + width).to(dtype), confidence)


def always_valid_p_value(moments, tuned_to, alpha=0.05):
    """p of a mean of 0 at each look, to be compared with any level at any look; `alpha` is what rho is tuned to.

    It is below `alpha` exactly where the interval of `confidence_sequence` leaves 0 out. Without an effect it falls below
    any level p, at any time, with probability p at most. Convention: where the variance is 0, p is 1.
    Source: see `mixture_bounds`; Johari et al. (2022), "Always valid inference: continuous monitoring of A/B tests".

    >>> always_valid_p_value((2000, 0.07, 0.9942), tuned_to=2000)
    tensor(0.0376, dtype=torch.float64)
    """
    moments = _moments("moments", moments)
    v, _ = _scale(moments.n, tuned_to, alpha)
    z = ratio(moments.mean.double(), _error(moments))
    p = ((v.log1p() - v / (1 + v) * z**2) / 2).exp().clamp(max=1)
    return torch.where(moments.variance > 0, p, 1.0).to(common_dtype(moments.mean, moments.variance)[0])


# The decision


@dataclass(frozen=True, eq=False)
class SequentialResult:
    """What a sequential test says after the looks so far."""

    decision: str  # "above 0", "below 0", "go on", or "not shown" after the last planned look
    look: int  # the look that decided, or the latest; the first is 1
    interval: Interval  # at that look: mean plus or minus the limit times the standard error
    reason: str


def sequential_test(moments, bounds, alpha=0.05):
    """Whether to stop, and with what: at the first look at which z is as far from 0 as its limit, or further.

    `moments` (of one stream) are those of the looks so far, `bounds` (k,) the limits of all planned looks: those of
    `group_sequential_bounds`, or `mixture_bounds` at the planned sizes. `alpha` is the level that they were made for.
    Convention: what happens after the first crossing does not count. The interval is the repeated confidence interval of
    Jennison and Turnbull (1989), valid at every look; its mean is biased away from 0 if the test stopped early.
    Errors: more looks than limits; see the module.

    >>> plan = group_sequential_bounds([0.5, 1])
    >>> result = sequential_test(([500, 1000], [0.1, 0.09], [1.0, 1.0]), plan.bounds)
    >>> result.decision, result.reason
    ('above 0', 'look 2 of 2: z is 2.85, the limit 1.97')
    >>> print(result.interval)
    0.09 (95 % interval 0.0277 to 0.1523)
    """
    moments, alpha = _moments("moments", moments), open_fraction("alpha", alpha)
    [limits] = floating(bounds=bounds)
    looks = moments.mean.shape[-1] if moments.mean.ndim == 1 else 0
    if not looks or limits.ndim != 1 or not (limits > 0).all() or looks > len(limits):
        shapes = f"moments {tuple(moments.mean.shape)} and bounds {tuple(limits.shape)}"
        raise ValueError(f"shapes are {shapes}; expected (looks,) and at least as many limits, above 0")
    error = _error(moments)
    z = torch.where(moments.variance > 0, moments.mean / error, 0.0)
    crossed = (z.abs() >= limits[:looks]).nonzero()
    at = int(crossed[0]) if len(crossed) else looks - 1
    if len(crossed):
        decision = "above 0" if z[at] > 0 else "below 0"
    else:
        decision = "go on" if looks < len(limits) else "not shown"
    mean, width = moments.mean[at], torch.where(moments.variance[at] > 0, limits[at] * error[at], torch.inf)
    reason = f"look {at + 1} of {len(limits)}: z is {z[at]:.2f}, the limit {limits[at]:.2f}"
    return SequentialResult(decision, at + 1, Interval(mean, mean - width, mean + width, 1 - alpha), reason)


def simulate_peeking(looks, n, replications=20_000, effect=0.0, alpha=0.05, *, rng):
    """How often each way to look declares a winner, and after how many observations: a frame with a row for each.

    Each replication is a stream of n normal observations with standard deviation 1, looked at `looks` times, equally far
    apart. With `effect` 0 (the mean of an observation) the rate is the false-alarm rate, else the power. Two arms of n / 2
    with a difference of d standard deviations are a stream with effect d / 2.

    Rows: "one look" at the end; "every look" against the limit of one look; "pocock" and "obrien_fleming";
    "confidence sequence", tuned to n. Columns: rate with its 95 % limits (Wilson) low and high; mean_n, observations at
    which it stops, n if it never does.
    Memory is bounded. Randomness: `rng` is an int seed, or a torch.Generator, which the call advances.

    >>> rates = simulate_peeking(looks=20, n=1000, rng=0).rate
    >>> print(rates.round(2).to_dict())  # doctest: +NORMALIZE_WHITESPACE
    {'one look': 0.05, 'every look': 0.24, 'pocock': 0.05, 'obrien_fleming': 0.05, 'confidence sequence': 0.01}
    """
    looks, n = positive_integer("looks", looks), positive_integer("n", n)
    if looks > n:
        raise ValueError(f"looks is {looks}, n {n}; expected at most one look per observation")
    replications, alpha = positive_integer("replications", replications), open_fraction("alpha", alpha)
    [effect] = floating(effect=effect)
    check_finite("effect", effect)
    source = generator(rng)
    times = torch.arange(1, looks + 1, dtype=torch.float64) / looks
    single = torch.full((looks,), stats.norm.isf(alpha / 2), dtype=torch.float64)
    limits = {
        "one look": single.index_fill(0, torch.arange(looks - 1), torch.inf),
        "every look": single,
        "pocock": group_sequential_bounds(times, "pocock", alpha).bounds,
        "obrien_fleming": group_sequential_bounds(times, alpha=alpha).bounds,
        "confidence sequence": mixture_bounds(n * times, n, alpha),
    }
    stopped, observations = dict.fromkeys(limits, 0), dict.fromkeys(limits, 0.0)
    step = max(1, 8 * BLOCK // looks)
    for start in range(0, replications, step):
        steps = torch.randn(min(step, replications - start), looks, generator=source, dtype=torch.float64)
        z = steps.cumsum(-1) / (times * looks).sqrt() + effect * (n * times).sqrt()
        for name, limit in limits.items():
            crossed = z.abs() >= limit
            ever = crossed.any(-1)
            stopped[name] += int(ever.sum())
            observations[name] += float(torch.where(ever, n * times[crossed.int().argmax(-1)], n).sum())
    rates = proportion_interval(list(stopped.values()), replications)
    columns = {"rate": rates.estimate, "low": rates.low, "high": rates.high}
    columns["mean_n"] = [total / replications for total in observations.values()]
    return pd.DataFrame(columns, index=list(limits))


def _error(moments):
    return (moments.variance.double() / moments.n.double()).sqrt()


def _moments(name, moments):
    """(n, mean, variance), checked and broadcast."""
    try:
        n, mean, variance = moments
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {moments!r:.80}; expected Moments, or (n, mean, variance)") from None
    n, mean, variance = floating(n=n, mean=mean, variance=variance)
    try:
        n, mean, variance = torch.broadcast_tensors(n, mean, variance)
    except RuntimeError:
        shapes = ", ".join(str(tuple(part.shape)) for part in (n, mean, variance))
        raise ValueError(f"{name} has shapes {shapes}; expected shapes that broadcast") from None
    for part, values in (("n", n), ("mean", mean), ("variance", variance)):
        check_finite(f"{part} of {name}", values)
    if (n < 2).any() or (n != n.round()).any() or (variance < 0).any():
        what = f"n from {n.amin():g} and variance from {variance.amin():g}"
        raise ValueError(f"{name} has {what}; expected whole n of at least 2, and variances of at least 0")
    return Moments(n, mean, variance)


def _scale(n, tuned_to, alpha):
    """v = n rho^2 in float64, and the dtype of a result."""
    least = -2 * math.log(open_fraction("alpha", alpha))
    n, tuned_to = floating(n=n, tuned_to=tuned_to)
    for name, value in (("n", n), ("tuned_to", tuned_to)):
        check_finite(name, value)
        if (value <= 0).any():
            raise ValueError(f"{name} contains {value.amin():g}; expected numbers above 0")
    return n.double() / tuned_to.double() * (least + math.log1p(least)), common_dtype(n, tuned_to)[0]
