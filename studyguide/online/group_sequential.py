"""A few planned looks at an experiment: limits of z that spend alpha look by look, and what any limits spend, exactly.

Information is the share of the planned observations that a look has. Errors: looks that do not grow or lie outside 0 to 1,
limits and levels out of range are a ValueError; what is no array of numbers is a TypeError.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import optimize, special, stats

from studyguide.probability.validation import check_finite, floating, one_of, open_fraction, samples

REACH = 10.0  # standard deviations beyond which a normal path is not followed: probability 1e-23
CLOSEST = 1e-5  # the smallest step of information between two looks
POINTS = np.polynomial.legendre.leggauss(10)  # for a piece of two standard deviations of a step: exact to rounding


@dataclass(frozen=True, eq=False)
class GroupSequentialBounds:
    """The limits of z for planned looks; tensors (k,), float64."""

    information: torch.Tensor  # the share of the planned observations that each look has
    bounds: torch.Tensor  # stop at a look if z is this far from 0, on either side
    spent: torch.Tensor  # the part of alpha that is used up to and with this look
    alpha: float


def group_sequential_bounds(information, spending="obrien_fleming", alpha=0.05):
    """Limits of z for a few looks such that, without an effect, one of them is crossed with probability `alpha`.

    `information` are the shares of the planned observations at which you look, growing, up to 1 (or less, if the last
    look is still to come). `spending` says how much of alpha may be used by then:

    - "obrien_fleming": 4 (1 - Phi(z / sqrt(t))) with z the normal quantile of 1 - alpha / 4. Nearly nothing early; the last
      limit is close to that of a single look.
    - "pocock": alpha log(1 + (e - 1) t). About the same limit at every look.
    - a function of t from 0 to 1, growing from 0 to 1: the share of alpha, such as ``lambda t: t**2``.

    When you look may depend on the calendar, and how often need not be known before; it must not depend on z. Limits are
    for two sides. A limit is infinite where alpha spent is below what float64 can hold.
    Source: Lan and DeMets (1983), "Discrete sequential boundaries for clinical trials"; the integrals by Armitage,
    McPherson and Rowe (1969), "Repeated significance tests on accumulating data".

    >>> group_sequential_bounds([0.2, 0.4, 0.6, 0.8, 1]).bounds
    tensor([4.8769, 3.3570, 2.6803, 2.2898, 2.0310], dtype=torch.float64)
    """
    alpha = open_fraction("alpha", alpha)
    times = _information(information)
    spent = _spent(spending, times, alpha)
    paths, bounds = _Paths(times), []
    for due in np.diff(spent, prepend=0):
        bounds.append(paths.limit(due) if due > 0 else np.inf)
        paths.advance(bounds[-1])
    return GroupSequentialBounds(*map(torch.from_numpy, (times, np.array(bounds), spent)), alpha)


def crossing_probability(information, bounds, drift=0.0):
    """The probability that z has left its limits at the first, second, ... look, exactly.

    With drift 0 it is the false-alarm rate of any plan, that of looking at every 1.96 too. `drift` is the mean of z at
    information 1: that of a test with power 80 % at a single look is 2.8016.
    Shapes: information (k,) as for `group_sequential_bounds`, bounds (k,) or one number, above 0; result (k,), growing.

    >>> crossing_probability([0.5, 1], 1.96)
    tensor([0.0500, 0.0831], dtype=torch.float64)
    """
    times = _information(information)
    [drift, given] = floating(drift=drift, bounds=bounds)
    check_finite("drift", drift)
    if drift.ndim or given.ndim > 1 or given.numel() not in (1, len(times)) or not (given > 0).all():
        what = f"drift {drift.tolist()}, bounds {given.tolist()}"
        raise ValueError(f"{what}; expected one drift, and one limit or {len(times)}, above 0")
    limits = np.broadcast_to(given.detach().cpu().double().numpy(), times.shape)
    paths, crossed = _Paths(times, float(drift)), []
    for z in limits:
        crossed.append(paths.outside(z))
        paths.advance(z)
    return torch.from_numpy(np.cumsum(crossed))


class _Paths:
    """The paths that have not left their limits: where they are at the last look, as points with weights."""

    def __init__(self, times, drift=0.0):
        self.times, self.drift, self.look = [0.0, *times], drift, 0
        self.points, self.weights = np.zeros(1), np.ones(1)

    def _step(self):
        """The time of the next look, the mean of each path there, and the standard deviation about it."""
        before, now = self.times[self.look : self.look + 2]
        return now, self.points + self.drift * (now - before), math.sqrt(now - before)

    def outside(self, z):
        """The probability to be there at the next look, but not between -z and z."""
        now, mean, sd = self._step()
        above, below = ((sign * mean - z * math.sqrt(now)) / sd for sign in (1, -1))
        return self.weights @ (special.ndtr(above) + special.ndtr(below))

    def limit(self, probability):
        """The z of which `outside` is this probability."""
        return optimize.brentq(lambda z: self.outside(z) - probability, 0, 40, xtol=1e-13)

    def advance(self, z):
        """Go on to the next look, and keep the paths between -z and z."""
        now, mean, sd = self._step()
        self.look += 1
        scale = min([sd, *np.sqrt(np.diff(self.times[self.look : self.look + 2]))])
        reach, centre = REACH * math.sqrt(now), self.drift * now
        low, high = max(-z * math.sqrt(now), centre - reach), min(z * math.sqrt(now), centre + reach)
        if low >= high:  # nobody is left
            self.points, self.weights = np.zeros(1), np.zeros(1)
            return
        pieces = math.ceil((high - low) / (2 * scale))
        half = (high - low) / (2 * pieces)
        points = (np.linspace(low, high, pieces, endpoint=False)[:, None] + half + half * POINTS[0]).ravel()
        density = np.exp(-(((points[:, None] - mean) / sd) ** 2) / 2) @ self.weights / (sd * math.sqrt(2 * math.pi))
        self.points, self.weights = points, density * np.tile(half * POINTS[1], pieces)


def _information(information):
    [times] = samples(information=information)
    times = times.detach().cpu().double().numpy()
    if times.ndim > 1 or not times[0] > 0 or times[-1] > 1 + 1e-12:
        raise ValueError(f"information is {times.tolist()}; expected (k,) shares above 0 and up to 1")
    if np.diff(times, prepend=0).min() < CLOSEST:
        raise ValueError(f"information is {times.tolist()}; expected shares that grow, by {CLOSEST:g} or more")
    return np.minimum(times, 1)


def _spent(spending, times, alpha):
    if not callable(spending):
        one_of("spending", spending, ("obrien_fleming", "pocock"))
    if spending == "obrien_fleming":
        return 4 * stats.norm.sf(stats.norm.isf(alpha / 4) / np.sqrt(times))
    if spending == "pocock":
        return alpha * np.log1p((math.e - 1) * times)
    share = np.array([float(spending(t)) for t in (0.0, *times, 1.0)])
    if not (share[0] == 0 and abs(share[-1] - 1) < 1e-9 and (np.diff(share) >= 0).all()):
        raise ValueError(f"spending goes through {share.tolist()}; expected to grow from 0 to 1")
    return alpha * share[1:-1]
