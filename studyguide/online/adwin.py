"""ADWIN: a window over a stream that grows while nothing changes, and drops what is older than a change.

`studyguide.online.stream_drift` has the other detectors of streams, and says what they share.
"""

import math
from dataclasses import dataclass

import numpy as np

from studyguide.probability.validation import open_fraction, positive_integer

LARGEST = 1e100  # of x in size, so that squares and their sums do not overflow


@dataclass(eq=False)
class ADWIN:
    """Adaptive window: keeps as many of the last points as are compatible with one mean, and alarms where it cuts.

    The window, n points with variance v, is cut into an older part of n0 points and a newer one of n1 wherever their
    means differ by more than ``sqrt(2 v d / m) + 2 d / (3 m)``. Here ``1 / m = 1 / (n0 - k + 1) + 1 / (n1 - k + 1)``, k is
    `min_window_length`, and ``d = ln(2 ln(n) / delta)``. The oldest points then go until no cut is left, and what remains,
    with its `mean`, `variance` and `width`, describes the stream since the change.
    Solved for delta, this gives the smallest delta that would allow a cut. The statistic is ln(1 / delta) of the cut with
    the smallest; its limit is ln(1 / delta) of this detector. So the one is to the other as a p-value to its level: delta
    bounds the chance that a look at a stream without change alarms, most often by far.
    Memory: points are kept as buckets of 1, 2, 4, ... points with their mean and variance, no more than `max_buckets` of
    a size. Cuts are tried between buckets only, every `clock` points, in a window of more than `grace_period`.
    Units: made for x from 0 to 1. Where x varies by far less, the second term hides every change.
    Convention: the paper's window, which outlives an alarm, so that one change may alarm twice. river's ADWIN has the
    same window, but throws it away after an alarm.
    Source: Bifet and Gavaldà (2007), "Learning from time-changing data with adaptive windowing", section 4.

    >>> detector = ADWIN()
    >>> detector.update_many([0, 1] * 200 + [1] * 100)
    array([447, 479])
    >>> detector.width, round(detector.mean, 2)
    (148, 0.84)
    """

    delta: float = 0.002
    clock: int = 32
    max_buckets: int = 5
    min_window_length: int = 5
    grace_period: int = 10

    def __post_init__(self):
        self.delta = open_fraction("delta", self.delta)
        for name in ("clock", "max_buckets", "min_window_length", "grace_period"):
            positive_integer(name, getattr(self, name))
        self._rows = [[]]  # row i holds buckets of 2^i points, the oldest first: (mean, sum of squared deviations)
        self._window = (0, 0.0, 0.0)  # the same of all of them: points, mean, sum of squared deviations
        self._since_look = 0

    @property
    def width(self):
        """How many points the window holds."""
        return self._window[0]

    @property
    def mean(self):
        """Their mean, 0 of none."""
        return self._window[1]

    @property
    def variance(self):
        """Their variance, divided by their number; 0 of none."""
        return self._window[2] / max(1, self.width)

    def update(self, x):
        """Read one number; whether it alarms."""
        return bool(self._read((number(x),), -math.log(self.delta)))

    def update_many(self, x):
        """Read an array (n,); the places of the alarms in it."""
        return np.array(self._read(numbers(x), -math.log(self.delta)), dtype=int)

    def trace(self, x):
        """Read an array (n,); the statistic, ln(1 / delta), at each point."""
        self._read(numbers(x), -math.log(self.delta), statistics := [])
        return np.array(statistics)

    def _read(self, values, limit, trace=None):
        alarms = []
        for i, x in enumerate(values):
            self._insert(x)
            self._since_look += 1
            statistic = 0.0
            if self._since_look == self.clock:
                self._since_look = 0
                if self.width > self.grace_period:
                    statistic = self._strongest_cut()
            if trace is not None:
                trace.append(statistic)
            if statistic > limit:
                alarms.append(i)
                while self._strongest_cut() > limit:
                    self._drop_oldest()
        return alarms

    def _insert(self, x):
        """A bucket of one; where a row is too long, its two oldest buckets become one of the next row."""
        self._window = _merged(*self._window, 1, x, 0.0)
        self._rows[0].append((x, 0.0))
        for i, row in enumerate(self._rows):
            if len(row) <= self.max_buckets:
                break
            if i + 1 == len(self._rows):
                self._rows.append([])
            (mean_a, squares_a), (mean_b, squares_b) = row.pop(0), row.pop(0)
            apart = (mean_a - mean_b) ** 2 * 2**i / 2
            self._rows[i + 1].append(((mean_a + mean_b) / 2, squares_a + squares_b + apart))

    def _drop_oldest(self):
        self._rows[-1].pop(0)
        while len(self._rows) > 1 and not self._rows[-1]:
            self._rows.pop()
        self._window = (0, 0.0, 0.0)
        for i, row in enumerate(self._rows):
            for bucket in row:
                self._window = _merged(*self._window, 2**i, *bucket)

    def _strongest_cut(self):
        """The largest ln(1 / delta) at which a cut would be made, 0 or more."""
        n, mean, squares = self._window
        two_v, shorter = 2 * squares / n, self.min_window_length - 1
        largest, n0, mean0 = 0.0, 0, 0.0
        for i in reversed(range(len(self._rows))):
            size = 2**i
            for bucket_mean, _ in self._rows[i]:
                n0 += size
                mean0 += (bucket_mean - mean0) * size / n0
                n1 = n - n0
                if n0 > shorter and n1 > shorter and mean0 != mean:
                    difference = abs(mean0 - mean) * n / n1  # mean0 - mean1, as n mean = n0 mean0 + n1 mean1
                    # It is to be sqrt(2 v d / m) + 2 d / (3 m), which is quadratic in sqrt(d / m):
                    root = 2 * difference / (math.sqrt(two_v) + math.sqrt(two_v + 8 / 3 * difference))
                    largest = max(largest, root * root / (1 / (n0 - shorter) + 1 / (n1 - shorter)))
        return max(0.0, largest - math.log(2 * math.log(n))) if largest else 0.0


def _merged(n_a, mean_a, squares_a, n_b, mean_b, squares_b):
    """Points, mean and sum of squared deviations of two sets of points together (Chan, Golub and LeVeque 1983)."""
    n, step = n_a + n_b, mean_b - mean_a
    return n, mean_a + step * n_b / n, squares_a + squares_b + step * step * n_a * n_b / n


# Reading numbers and limits, for all detectors


def number(x):
    """The next number of a stream, as a float."""
    try:
        if -LARGEST <= x <= LARGEST:
            return float(x)
    except (TypeError, ValueError):
        raise TypeError(f"x is {x!r}; expected a number") from None
    raise ValueError(f"x is {x}; expected a finite number, at most {LARGEST:g} in size")


def numbers(x):
    """The next numbers of a stream, (n,), as a list of floats."""
    array = np.asarray(x)
    if array.dtype.kind not in "buif":
        raise TypeError(f"x has dtype {array.dtype}; expected numbers")
    if array.ndim != 1:
        raise ValueError(f"x has shape {array.shape}; expected (n,), one number per point of the stream")
    array = array.astype(float)
    if (wrong := array[~(np.abs(array) <= LARGEST)]).size:
        raise ValueError(f"x contains {wrong[0]:g}; expected finite numbers, at most {LARGEST:g} in size")
    return array.tolist()


def between(name, value, low, high=LARGEST):
    """A parameter as a float from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} is {value!r}; expected a number")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; expected a number from {low:g} to {high:g}")
    return float(value)
