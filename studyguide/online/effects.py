"""The effect of a variant on one metric: ratios of sums, variance reduction by a covariate, and relative lift.

Samples hold one number per unit of randomisation (a user, not a request) along the last axis; leading axes are a batch
and broadcast, so that thousands of simulated experiments are one call. `linearize` and `cuped` turn samples into samples
of which only the mean is asked: any test of means does the rest, as `welch_t_test` of chapter 02. They compose.

Shapes: (..., n) per arm, of 2 units or more; results on the device and of the floating dtype of the input.
Errors: samples that are too short or not finite are a ValueError, what is no array of numbers is a TypeError.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from studyguide.probability.validation import check_finite, common_dtype, one_of, samples, vectors
from studyguide.statistics.hypothesis import two_proportion_z_test, welch_t_test
from studyguide.statistics.intervals import Interval, mean_difference, moments, t_interval

LEAST = 5  # standard errors by which the control's mean must be above 0 for a lift: there, 95 % intervals cover 93 %


class Adjusted(NamedTuple):
    """Both arms after `cuped`."""

    treatment: torch.Tensor
    control: torch.Tensor
    theta: torch.Tensor  # (...) what one unit of the covariate is worth
    removed: torch.Tensor  # (...) share of the variance of the difference that is gone; below 0 by chance


def linearize(numerator, denominator):
    """A sample whose mean is sum(numerator) / sum(denominator), and whose variance is that of the ratio (delta method).

    For a metric per request when users are what is randomised: completed requests and all requests of each user. A user
    without requests has 0 and 0, and counts. Of the requests of one user, each is no evidence of its own.

    Shapes and errors: see the module; denominators below 0, or all 0 in a row.
    Source: Deng, Knoblich and Lu (2018), "Applying the delta method in metric analytics", section 4.

    >>> linearize([2, 0, 1], [3, 1, 1])  # 3 of 5
    tensor([0.7200, 0.2400, 0.8400], dtype=torch.float64)
    """
    numerator, denominator = samples(at_least=2, numerator=numerator, denominator=denominator)
    if numerator.shape != denominator.shape:
        n, m = numerator.shape[-1], denominator.shape[-1]
        raise ValueError(f"numerator has {n} numbers, denominator {m}; expected both of each unit")
    dtype = common_dtype(numerator, denominator)[0]
    y, x = numerator.double(), denominator.double()
    mean = x.mean(-1, keepdim=True)
    if x.amin() < 0 or not (mean > 0).all():
        raise ValueError(f"denominator goes down to {x.amin():g}; expected none below 0, and not all of a row 0")
    share = y.mean(-1, keepdim=True) / mean
    return (share + (y - share * x) / mean).to(dtype)


def cuped(treatment, control, treatment_covariate, control_covariate):
    """Both samples less what a covariate from before the experiment explains: the same mean difference, less variance.

    From each unit's value theta (x - mean of x) is taken; the variance falls by the square of the correlation of value
    and covariate. The covariate must not know the variant: anything measured before, nothing measured after.

    Shapes and errors: see the module; a covariate that is infinite, or missing for all units.
    Convention: theta is the slope over the units of both arms together, as in gbstats; x is centred at the mean of both
    arms, so that the adjusted means are still in the metric's unit. A unit without a covariate (NaN: a new user) is not
    adjusted, as if its x were the mean. A constant covariate explains nothing: theta 0.
    Source: Deng, Xu, Kohavi and Walker (2013), "Improving the sensitivity of online controlled experiments by utilizing
    pre-experiment data" (CUPED), section 3.

    >>> adjusted = cuped([5, 7, 6, 9], [4, 4, 7, 6], [1, 2, 2, 4], [1, 1, 4, 3])
    >>> adjusted.theta, adjusted.removed
    (tensor(1.1304, dtype=torch.float64), tensor(0.9481, dtype=torch.float64))
    """
    t, c = samples(at_least=2, treatment=treatment, control=control)
    pair = vectors(treatment_covariate=treatment_covariate, control_covariate=control_covariate)
    for name, values, x in (("treatment", t, pair[0]), ("control", c, pair[1])):
        if values.shape != x.shape:
            raise ValueError(
                f"{name} has shape {tuple(values.shape)}, its covariate {tuple(x.shape)}; expected the same"
            )
    dtype, n = common_dtype(t, c)[0], t.shape[-1]
    y, x = torch.cat([t, c], -1).double(), torch.cat(pair, -1).double()
    known = ~x.isnan()
    check_finite("covariate", x[known])
    if not known.any(-1).all():
        raise ValueError("covariate is missing for all units; expected some, or no covariate")
    x = x.where(known, x.nanmean(-1, keepdim=True))
    spread = moments(x)[1]
    shared = ((x - x.mean(-1, keepdim=True)) * (y - y.mean(-1, keepdim=True))).sum(-1) / (y.shape[-1] - 1)
    theta = torch.where(spread > 0, shared / spread, 0)
    adjusted = y - theta[..., None] * (x - x.mean(-1, keepdim=True))
    before, after = (moments(z[..., :n])[1] / n + moments(z[..., n:])[1] / (z.shape[-1] - n) for z in (y, adjusted))
    removed = torch.where(before > 0, 1 - after / before, 0)
    return Adjusted(*(z.to(dtype) for z in (adjusted[..., :n], adjusted[..., n:], theta, removed)))


def relative_lift(treatment, control, confidence=0.95):
    """By which share the mean of the treatment exceeds the control's: 0.05 is 5 % more. An Interval.

    The control's mean is an estimate too; the delta method counts its error, which dividing the interval of the
    difference by it would not.

    Shapes and errors: see the module; a mean of the control that is not 5 standard errors above 0, where the interval
    would no longer hold what it promises.
    Convention: Student's quantile with Satterthwaite's degrees of freedom.
    Source: Deng, Knoblich and Lu (2018), "Applying the delta method in metric analytics", section 3.

    >>> print(relative_lift([4, 5, 3, 4, 5], [3, 4, 2, 4, 3]))
    0.3125 (95 % interval -0.1379 to 0.7629)
    """
    t, c = samples(at_least=2, treatment=treatment, control=control)
    mean_t, mean_c = moments(t)[0], moments(c)[0]
    if not (sure := surely_positive(c)).all():
        raise ValueError(f"control has mean {mean_c[~sure][0]:g}; expected 5 standard errors above 0, for a lift")
    lift = mean_t / mean_c - 1
    scaled = t.double() / mean_c[..., None], c.double() * (mean_t / mean_c**2)[..., None]
    _, error, df, _ = mean_difference(*scaled)
    return t_interval(lift, error, df, confidence, common_dtype(t, c)[0])


def surely_positive(control):
    """Whether a mean is 5 standard errors above 0 and can stand below a fraction; (...) for samples (..., n).

    >>> surely_positive([[3, 4, 2], [1, 0, 0]])
    tensor([ True, False])
    """
    [control] = samples(at_least=2, control=control)
    mean, variance = moments(control)
    return mean > LEAST * (variance / control.shape[-1]).sqrt()


# One metric of an experiment


@dataclass(frozen=True)
class Metric:
    """What is measured, which way is better, and what part it plays in the decision.

    - `kind`: "mean" of a column, "proportion" of a column of 0 and 1, or "ratio": sum of the column over the sum of the
      column `denominator`.
    - `role`: a "primary" metric can ship the treatment; a "guardrail" must not get worse; a "secondary" one only informs.
    - `practical`, in the metric's own unit, at least 0: for a primary metric the smallest gain that is worth shipping, for
      a guardrail the largest harm that you would accept, which must be above 0 (no data can show a harm of exactly 0).
    - `covariate`: a column from before the experiment, for CUPED.
    """

    name: str
    kind: str = "mean"
    direction: str = "up"
    role: str = "primary"
    denominator: str | None = None
    covariate: str | None = None
    practical: float = 0.0

    def __post_init__(self):
        one_of("kind", self.kind, ("mean", "proportion", "ratio"))
        one_of("direction", self.direction, ("up", "down"))
        one_of("role", self.role, ("primary", "secondary", "guardrail"))
        if (self.kind == "ratio") != (self.denominator is not None):
            raise ValueError(f"{self.name} is a {self.kind} with denominator {self.denominator!r}; a ratio has one")
        if not 0 <= self.practical < math.inf or (self.role == "guardrail" and self.practical == 0):
            raise ValueError(
                f"practical of {self.name} is {self.practical}; expected at least 0, above 0 for a guardrail"
            )


@dataclass(frozen=True, eq=False)
class Effect:
    """What the treatment does to one metric."""

    metric: Metric
    units: tuple  # control and treatment: units that have a value
    control: float  # mean, proportion or ratio, adjusted if there is a covariate
    treatment: float
    difference: Interval  # treatment less control
    lift: Interval | None  # the same as a share of the control's; None where that is not clearly above 0
    p_value: float  # of no difference
    adjusted_p: float  # Holm's, over the metrics of the same role; a guardrail's is its own
    removed: float  # share of the variance that the covariate explains; 0 without one

    @property
    def gain(self):
        """Estimate, low and high end of the difference, signed so that more is better."""
        found = [float(x) for x in (self.difference.estimate, self.difference.low, self.difference.high)]
        return found if self.metric.direction == "up" else [-found[0], -found[2], -found[1]]


def estimate_effect(metric, control, treatment, confidence=0.95):
    """The `Effect` on one `Metric`, from a frame per arm with one row per unit; its p-value is not yet adjusted.

    See `studyguide.online.ab_test.analyze_ab` for the conventions, and for the errors.
    """
    (c, x_c), (t, x_t) = (
        _values(metric, frame, arm) for arm, frame in (("control", control), ("treatment", treatment))
    )
    removed = 0.0
    if metric.covariate:
        t, c, _, removed = cuped(t, c, x_t, x_c)
    if metric.kind == "proportion" and not metric.covariate:
        test = two_proportion_z_test(t.sum(), len(t), c.sum(), len(c), confidence)
    else:
        test = welch_t_test(t, c, confidence)
    lift = relative_lift(t, c, confidence) if surely_positive(c) else None
    p_value, means = float(test.p_value), (float(c.mean()), float(t.mean()))
    return Effect(metric, (len(c), len(t)), *means, test.interval, lift, p_value, p_value, float(removed))


def _column(frame, name):
    """A column as float64, what is missing as NaN."""
    try:
        return torch.from_numpy(frame[name].to_numpy(dtype=float, na_value=math.nan, copy=True))
    except (TypeError, ValueError) as error:
        raise ValueError(f"column {name!r} is not numeric: {error}") from None


def _values(metric, frame, arm):
    """One number per unit that has one, and the covariate of these units."""
    values = _column(frame, metric.name)
    if metric.kind == "ratio":
        values = linearize(values, _column(frame, metric.denominator))
    known = ~values.isnan()
    values = values[known]
    if len(values) < 2:
        raise ValueError(f"{metric.name} has {len(values)} values in {arm!r}; expected at least 2")
    if metric.kind == "proportion" and not ((values == 0) | (values == 1)).all():
        raise ValueError(f"{metric.name} holds more than 0 and 1; expected these for a proportion")
    return values, _column(frame, metric.covariate)[known] if metric.covariate else None
