"""Detectors that read a stream one number at a time and say where it changed.

All four speak alike. `update(x)` reads one number and returns True where it alarms; `update_many(x)` reads an array (n,)
and returns the places of the alarms in it, exactly those of `update`; `trace(x)` reads it too and returns the statistic
at each point, (n,) float64, 0 where there was none to judge. An alarm is a statistic *above* the detector's limit. Then
`PageHinkley`, `DDM` and `EWMAChart` start anew; `ADWIN` drops the old part of its window. The state is a few numbers,
for ADWIN a few for each doubling of its window, however long the stream.

How often a limit cries wolf depends on the data, and above all on their units: only the EWMA chart's is in standard
deviations. `calibrate` finds the limit for a wanted rate of false alarms. `dataclasses.replace(detector)` is a detector
with the same parameters that has read nothing, `copy.deepcopy(detector)` one that has read the same.

Errors: x that is NaN, infinite or above 1e100 in size, or for DDM neither 0 nor 1, is a ValueError, and what is no
number a TypeError; then none of x is read. A missing value is the caller's to leave out.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass, replace

import numpy as np

from studyguide.online.adwin import ADWIN, LARGEST, between, number, numbers
from studyguide.probability.validation import numpy_generator, one_of, open_fraction, positive_integer


@dataclass(eq=False)
class PageHinkley:
    """Page-Hinkley test: alarms where the deviations from the running mean, summed up, have risen or fallen too far.

    Point t deviates by d = x - (mean of all points since the last alarm, this one included). Two sums follow it,
    ``up = alpha up + d - delta`` and ``down = alpha down + d + delta``. The statistic is how far `up` is above its
    lowest value so far (an increase of the mean), or `down` below its highest ("down"), or the larger one ("both").
    Units: delta, the change that is tolerated, and threshold are in units of x.
    Convention: river's. The factor alpha makes the sums, but not the mean, forget; alpha = 1 is the test of the papers.
    There is no alarm before `min_instances` points.
    Source: Page (1954), "Continuous inspection schemes"; Hinkley (1971); alpha: Sebastião and Fernandes (2017).

    >>> PageHinkley(threshold=5, delta=0.5).update_many([0, 1] * 50 + [3] * 10)
    array([102])
    """

    min_instances: int = 30
    delta: float = 0.005
    threshold: float = 50.0
    alpha: float = 0.9999
    mode: str = "both"

    def __post_init__(self):
        positive_integer("min_instances", self.min_instances)
        self.delta = between("delta", self.delta, 0)
        self.threshold = between("threshold", self.threshold, 0)
        self.alpha = between("alpha", self.alpha, 0, 1)
        one_of("mode", self.mode, ("up", "down", "both"))
        self._state = self._start = (0, 0.0, 0.0, math.inf, 0.0, -math.inf)

    def update(self, x):
        """Read one number; whether it alarms."""
        return bool(self._read((number(x),), self.threshold))

    def update_many(self, x):
        """Read an array (n,); the places of the alarms in it."""
        return np.array(self._read(numbers(x), self.threshold), dtype=int)

    def trace(self, x):
        """Read an array (n,); the statistic at each point."""
        self._read(numbers(x), self.threshold, statistics := [])
        return np.array(statistics)

    def _read(self, values, limit, trace=None):
        n, mean, up, lowest, down, highest = self._state
        first, delta, alpha = self.min_instances, self.delta, self.alpha
        up_limit = math.inf if self.mode == "down" else limit
        down_limit = math.inf if self.mode == "up" else limit
        alarms, before = [], -1 - n  # the place of the last alarm, or where it would be
        for x in values:
            n += 1
            mean += (x - mean) / n
            x -= mean
            up = alpha * up + x - delta
            down = alpha * down + x + delta
            if up < lowest:
                lowest = up
            if down > highest:
                highest = down
            if trace is not None:
                sides = {"up": up - lowest, "down": highest - down}
                trace.append(sides.get(self.mode, max(sides.values())) if n >= first else 0.0)
            if (up - lowest > up_limit or highest - down > down_limit) and n >= first:
                before += n
                alarms.append(before)
                n, mean, up, lowest, down, highest = self._start
        self._state = n, mean, up, lowest, down, highest
        return alarms


@dataclass(eq=False)
class DDM:
    """Drift detection method: alarms where the error rate of a classifier has risen above its best.

    Input: 1 for an error, 0 for a right answer. After n of them the error rate is p, its standard error
    s = sqrt(p (1 - p) / n). The statistic is (p + s - p_min) / s_min, where p_min and s_min are those of the point with
    the smallest p + s, looked for after `warm_start` points. Above `warning_threshold` the attribute `warning` is True.
    Only a rise alarms.
    Convention: "above", where the paper has "at least", which would alarm at the minimum itself if s_min is 0. After a
    start without errors s_min is 0, and the first error alarms: the statistic is infinite. Both are as in river.
    The default limits are not what they are often called, levels of 95 and 99 %: the minimum is picked from many points.
    Source: Gama, Medas, Castillo and Rodrigues (2004), "Learning with drift detection".

    >>> DDM().update_many([0, 0, 0, 1] * 50 + [1] * 20)
    array([216])
    """

    warm_start: int = 30
    warning_threshold: float = 2.0
    drift_threshold: float = 3.0

    def __post_init__(self):
        positive_integer("warm_start", self.warm_start)
        self.warning_threshold = between("warning_threshold", self.warning_threshold, 0)
        self.drift_threshold = between("drift_threshold", self.drift_threshold, self.warning_threshold)
        self._state = self._start = (0, 0, math.inf, 0.0)
        self.warning = False

    def update(self, x):
        """Read 0 or 1; whether it alarms."""
        return bool(self._read((number(x),), self.drift_threshold))

    def update_many(self, x):
        """Read an array (n,) of 0 and 1; the places of the alarms in it."""
        return np.array(self._read(numbers(x), self.drift_threshold), dtype=int)

    def trace(self, x):
        """Read an array (n,) of 0 and 1; the statistic at each point."""
        self._read(numbers(x), self.drift_threshold, statistics := [])
        return np.array(statistics)

    def _read(self, values, limit, trace=None):
        if not {0, 1}.issuperset(values):
            raise ValueError(
                f"x contains {(set(values) - {0, 1}).pop()}; expected 1 for an error, 0 for a right answer"
            )
        n, errors, p_min, s_min = self._state
        alarms = []
        for i, error in enumerate(values):
            n += 1
            errors += error
            statistic = 0.0
            if n > self.warm_start:
                p = errors / n
                s = math.sqrt(p * (1 - p) / n)
                if p + s <= p_min + s_min:
                    p_min, s_min = p, s
                rise = p + s - p_min
                statistic = rise / s_min if s_min else math.inf if rise > 0 else 0.0
            if trace is not None:
                trace.append(statistic)
            if statistic > limit:
                alarms.append(i)
                n, errors, p_min, s_min = self._start
            self.warning = self.warning_threshold < statistic <= limit
        self._state = n, errors, p_min, s_min
        return alarms


@dataclass(eq=False)
class EWMAChart:
    """Control chart of the exponentially weighted moving average z = lam x + (1 - lam) z, which starts at the target.

    The statistic is ``|z - target|`` in exact standard deviations of z after t points,
    ``sigma sqrt(lam / (2 - lam) (1 - (1 - lam)^(2t)))``, and its limit is L. With lam = 1 it is Shewhart's chart.
    Convention: target and sigma are the mean and the standard deviation while all is well, known, not estimated from
    this stream; points are independent. The limits of this chart grow with t. The published tables (Lucas and Saccucci:
    lam = .1 and L = 2.814 give 500 points between false alarms) take the final limits from the start; with the growing
    ones the average is a few per cent shorter, and a change in the first points is found sooner.
    Source: Roberts (1959), "Control chart tests based on geometric moving averages"; Lucas and Saccucci (1990).

    >>> EWMAChart(target=0.84, sigma=0.05).update_many([0.84, 0.85, 0.83, 0.84, 0.70, 0.71, 0.72])
    array([6])
    """

    target: float
    sigma: float
    lam: float = 0.1
    L: float = 2.814

    def __post_init__(self):
        self.target = between("target", self.target, -LARGEST)
        self.sigma = between("sigma", self.sigma, 1 / LARGEST)
        self.lam = between("lam", self.lam, 1e-9, 1)
        self.L = between("L", self.L, 0)
        self._state = self._start = (self.target, 0.0)

    def update(self, x):
        """Read one number; whether it alarms."""
        return bool(self._read((number(x),), self.L))

    def update_many(self, x):
        """Read an array (n,); the places of the alarms in it."""
        return np.array(self._read(numbers(x), self.L), dtype=int)

    def trace(self, x):
        """Read an array (n,); the statistic at each point."""
        self._read(numbers(x), self.L, statistics := [])
        return np.array(statistics)

    def _read(self, values, limit, trace=None):
        z, variance = self._state  # that of z, in units of sigma squared
        target, sigma, lam, keep, add = self.target, self.sigma, self.lam, (1 - self.lam) ** 2, self.lam**2
        alarms = []
        for i, x in enumerate(values):
            z += lam * (x - z)
            variance = keep * variance + add
            statistic = abs(z - target) / (sigma * math.sqrt(variance))
            if trace is not None:
                trace.append(statistic)
            if statistic > limit:
                alarms.append(i)
                z, variance = self._start
        self._state = z, variance
        return alarms


@dataclass(frozen=True, eq=False)
class Calibration:
    """A detector whose limit was set by `calibrate`, and how well that is known."""

    detector: object
    parameter: str  # the name of the limit
    value: float
    rate: float  # false alarms per point with it, in the simulation
    error: float  # the standard error of this rate: Monte Carlo's


def calibrate(detector, stationary, rate, streams=200, block=1, rng=0):
    """Find the limit at which a detector gives `rate` false alarms per point, 1 / rate points between them: `Calibration`.

    `stationary` is what the stream is like while nothing changes: a function ``(generator, size) -> (size,)`` that draws
    it with a numpy Generator, or numbers recorded then, (n,), from which `streams` are drawn with replacement, `block`
    neighbours at a time. Take blocks longer than the memory of the data: a detector tuned on shuffled points cries wolf
    where neighbours are alike. A detector with these parameters but without a limit reads each stream of 4 / rate points.
    At a limit the rate is the number of streams that pass it, divided by the points read until then. It falls as the
    limit rises, so bisection finds the lowest with no more than the wanted rate; the relative error of the rate is about
    1 / sqrt(streams). The limit is PageHinkley's `threshold`, DDM's `drift_threshold`, EWMAChart's `L`, ADWIN's `delta`.
    A detector whose alarms grow rarer as it reads on, as DDM's do, has the rate over such a stretch, not for ever.
    Errors: see the module; a rate that is not between 0 and 1, or that no limit gives.

    >>> found = calibrate(EWMAChart(0, 1), lambda generator, size: generator.normal(size=size), rate=1 / 100)
    >>> found.parameter, 2.0 < found.value < 2.3, 0.009 < found.rate <= 0.01, found.error < 0.001
    ('L', True, True, True)
    """
    if type(detector) not in LIMITS:
        raise TypeError(f"detector is {detector!r}; expected one of {', '.join(kind.__name__ for kind in LIMITS)}")
    rate, streams = open_fraction("rate", rate), positive_integer("streams", streams)
    generator, length = numpy_generator(rng), math.ceil(4 / rate)
    draw = stationary if callable(stationary) else _resampler(stationary, block)
    records = []  # of each stream: the statistics above all before them, and how many points were read up to each
    for _ in range(streams):
        values = numbers(draw(generator, length))
        if len(values) != length:
            raise ValueError(f"stationary gave {len(values)} numbers; expected {length}, the size it was asked for")
        replace(detector)._read(values, math.inf, statistics := [0.0])
        peak = np.maximum.accumulate(statistics)
        places = np.flatnonzero(peak[1:] > peak[:-1]) + 1
        records.append((peak[places], places))

    def outcomes(limit):
        """Which streams alarm at this limit, how many of its points each reads until then, and the rate."""
        first = [np.searchsorted(peak, limit, side="right") for peak, _ in records]
        read = [places[i] if i < len(places) else length for i, (_, places) in zip(first, records, strict=True)]
        alarmed = [i < len(peak) for i, (peak, _) in zip(first, records, strict=True)]
        return np.array(alarmed), np.array(read), sum(alarmed) / sum(read)

    limits = np.unique(np.concatenate([[0.0], *(peak for peak, _ in records)]))
    limits = limits[np.isfinite(limits)]
    place = bisect_left(limits, -rate, key=lambda limit: -outcomes(limit)[2])
    if place in (0, len(limits)):
        low, high = outcomes(limits[-1])[2], outcomes(0.0)[2]
        raise ValueError(f"rate is {rate:g}; expected one that a limit gives, here above {low:g} and below {high:g}")
    alarmed, read, found = outcomes(limits[place])
    error = math.sqrt(((alarmed - found * read) ** 2).sum()) / read.sum()  # of a ratio, by the delta method
    name = LIMITS[type(detector)]
    value = math.exp(-limits[place]) if name == "delta" else float(limits[place])
    return Calibration(replace(detector, **{name: value}), name, value, float(found), float(error))


LIMITS = {PageHinkley: "threshold", DDM: "drift_threshold", EWMAChart: "L", ADWIN: "delta"}


def _resampler(stationary, block):
    recorded = np.array(numbers(stationary))
    if positive_integer("block", block) > len(recorded):
        raise ValueError(f"block is {block}; expected no more than stationary has, {len(recorded)} numbers")

    def draw(generator, size):
        start = generator.integers(len(recorded) - block + 1, size=(math.ceil(size / block), 1))
        return recorded[start + np.arange(block)].ravel()[:size]

    return draw
