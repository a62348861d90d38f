"""Quantiles of a stream in little memory, with a relative error that is guaranteed and states that merge."""

import math
import sys
from collections import Counter

import numpy as np

from studyguide.probability.validation import open_fraction

SMALLEST = 1e-9  # what is closer to 0 is kept as 0: nobody waits a billionth of a second, or pays one of a dollar
LARGEST = math.log(sys.float_info.max)


class QuantileSketch:
    """Counts of values in buckets that grow by a constant factor; `quantile` is within `relative_error` of an exact one.

    With error a, the factor is g = (1 + a) / (1 - a). Bucket k holds g^(k-1) < |x| <= g^k and answers 2 g^k / (g + 1), which
    is off by at most a |x|. Negative values have buckets of their own, and so have those closer to 0 than `SMALLEST`, which
    answer 0. The guarantee holds for any data in any order, and for what has been merged.
    Memory: one counter for each bucket in use, never more than about log(max / min) / (2 a); at 1 % all values from a
    millisecond to a day fit into 914. It does not grow with the number of values.
    Errors: a relative error outside 0 to 1, values that are not finite, sketches of different errors.
    Source: Masson, Rim and Lee (2019), "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
    guarantees", sections 2.1 and 2.2, whose buckets are these; without its limit on their number.

    >>> sketch = QuantileSketch()
    >>> sketch.update(range(1, 1001))
    >>> round(sketch.quantile(0.95)), len(sketch.counts) < 300
    (944, True)
    """

    def __init__(self, relative_error=0.01):
        self.relative_error = open_fraction("relative_error", relative_error)
        self.counts = Counter()  # {signed number of a bucket: values in it}; the order of numbers is that of values
        self.n, self.low, self.high = 0, math.inf, -math.inf
        self._log_growth = 2 * math.atanh(self.relative_error)  # log g
        self._first = math.ceil(math.log(SMALLEST) / self._log_growth) - 1

    def update(self, values):
        """Count values, of any shape."""
        values = np.asarray(values, dtype=float).ravel()
        if not np.isfinite(values).all():
            raise ValueError(f"values contains {values[~np.isfinite(values)][0]}; expected finite numbers")
        if not values.size:
            return
        size = np.maximum(np.abs(values), SMALLEST)
        buckets = np.ceil(np.log(size) / self._log_growth).astype(int) - self._first
        buckets = np.where(np.abs(values) < SMALLEST, 0, np.sign(values).astype(int) * buckets)
        numbers, counts = np.unique(buckets, return_counts=True)
        self.counts.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
        self.n += values.size
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))

    def merge(self, other):
        """Add the state of another sketch of the same relative error, which stays as it is."""
        if other.relative_error != self.relative_error:
            raise ValueError(f"the other has relative error {other.relative_error}; expected {self.relative_error}")
        self.counts.update(other.counts)
        self.n += other.n
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def quantile(self, q):
        """The value that a share `q` (0 to 1) of all values lie below, within the relative error; ValueError without any.

        Convention: of n sorted values that of rank floor(q (n - 1)), counted from 0: numpy's method "lower". The smallest
        and the largest are exact.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q is {q}; expected a share from 0 to 1")
        if not self.n:
            raise ValueError("no value was seen; expected an update before quantile")
        rank, seen = math.floor(q * (self.n - 1)), 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen > rank:
                break
        if bucket == 0:
            return min(max(0.0, self.low), self.high)
        inside = math.log1p(-self.relative_error)  # 2 / (g + 1) = 1 - a
        exponent = (abs(bucket) + self._first) * self._log_growth + inside
        size = math.exp(exponent) if exponent < LARGEST else math.inf
        return min(max(math.copysign(size, bucket), self.low), self.high)
