"""What a `Monitor` holds of its log: the last entries as they are, and counts, sums and sketches of a long window's parts."""

import math

import numpy as np

from studyguide.online.sketch import QuantileSketch

PANES = 60  # parts of a long window: it moves on by one of them at a time


class Ring:
    """The last entries, in a table of fixed size: a row of times, and a row for each column of the log.

    `lost`: up to this time entries have been dropped for want of room; those after it are all held.
    """

    def __init__(self, capacity, columns):
        self.capacity, self.columns = capacity, columns
        self.rows = np.full((1 + len(columns), capacity), np.nan)
        self.seen, self.lost = 0, -math.inf

    def add(self, rows):
        for first in range(0, rows.shape[1], self.capacity):
            block = rows[:, first : first + self.capacity]
            places = (self.seen + np.arange(block.shape[1])) % self.capacity
            dropped = self.rows[0, places]  # NaN where there was none
            # An entry ahead of its time is no measure of what was lost.
            self.lost = float(dropped.max(initial=self.lost, where=dropped <= block[0]))
            self.rows[:, places] = block
            self.seen += block.shape[1]

    def window(self, now, length):
        """{column, or "time": values} of the entries with now - length < time <= now, and the newest time up to now."""
        held = self.rows[:, : self.seen]
        past = held[0] <= now
        recent = held[:, past & (held[0] > now - length)]
        return dict(zip(("time", *self.columns), recent, strict=True)), held[0].max(initial=-math.inf, where=past)

    def merge(self, other):
        rows = np.concatenate([self.rows[:, : self.seen], other.rows[:, : other.seen]], axis=1)
        self.lost = max(self.lost, other.lost)
        self.rows, self.seen = np.full_like(self.rows, np.nan), 0
        self.add(rows[:, np.argsort(rows[0], kind="stable")])


class Panes:
    """A window in `PANES` parts. Part k holds the entries with (k - 1) width < time <= k width.

    Each part is [values, entries without a value, sum, sketch or None]. One part more than the window has is kept, whichever
    are the newest; `lost` is the end of the last one that was dropped.
    """

    def __init__(self, length, quantiles):
        self.width, self.quantiles = length / PANES, quantiles
        self.parts, self.lost = {}, -math.inf

    def add(self, times, values):
        numbers = np.ceil(times / self.width)
        order = np.argsort(numbers, kind="stable")
        numbers, first = np.unique(numbers[order], return_index=True)
        for number, inside in zip(numbers.astype(int).tolist(), np.split(values[order], first[1:]), strict=True):
            there = inside[~np.isnan(inside)]
            self._join(number, [there.size, inside.size - there.size, float(there.sum()), self._sketch(there)])

    def window(self, now):
        """(where the first part begins, values, entries without, sum, quantile function) of the window that ends at now."""
        last = math.ceil(now / self.width)
        inside = [self.parts[number] for number in sorted(self.parts) if last - PANES < number <= last]
        n, missing, total, sketches = zip(*inside, strict=True) if inside else ((),) * 4

        def quantile(q):
            whole = self._sketch(())
            for sketch in sketches:
                whole.merge(sketch)
            return whole.quantile(q)

        return max((last - PANES) * self.width, self.lost), sum(n), sum(missing), sum(total), quantile

    def merge(self, other):
        self.lost = max(self.lost, other.lost)
        for number, (n, missing, total, sketch) in other.parts.items():
            copy = self._sketch(())
            if sketch is not None:
                copy.merge(sketch)
            self._join(number, [n, missing, total, copy])

    def _sketch(self, values):
        if not self.quantiles:
            return None
        sketch = QuantileSketch()
        sketch.update(values)
        return sketch

    def _join(self, number, new):
        if number in self.parts:
            old = self.parts[number]
            old[:3] = [a + b for a, b in zip(old[:3], new[:3], strict=True)]
            if self.quantiles:
                old[3].merge(new[3])
            return
        self.parts[number] = new
        if len(self.parts) > PANES + 1:
            oldest = min(self.parts)  # the new one, if it came that late
            del self.parts[oldest]
            self.lost = max(self.lost, oldest * self.width)
