"""Metrics of a live service over moving windows, from its log, in memory that does not grow.

A *signal* is a statistic of one column of the log over the last so many seconds; a `Monitor` reads entries and answers with
a `Reading` for each signal. A reading says what it is made of: a value of no data is None, never 0.

Time: seconds (any origin) or dates and times (datetime, numpy, pandas; without a zone they are UTC, seconds since 1970).
The window of `now` holds the entries with now - window < time <= now. An entry counts by its own time, whenever it arrives:
a late one as if it had been punctual, one from the future when its time has come. `now` may go back; windows are then those
of that time, as far as their entries are still held (`Reading.span` says).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import numpy as np
import pandas as pd

from studyguide.online.windows import Panes, Ring
from studyguide.probability.validation import one_of, positive_integer

QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
STATISTICS = ("mean", "rate", "count", "sum", "missing", *QUANTILES)
BATCH = 4096  # entries that `update` collects before they are counted together


@dataclass(frozen=True)
class Signal:
    """What to watch: a statistic of a column over the last `window` seconds, and which way is better.

    `statistic`, of the values that are there: "mean", "sum", "count", "rate" (count per second), "p50", "p95", "p99"; or
    "missing", the share of entries that lack the value. With `column` None, "count" and "rate" are of all entries. With
    `above` or `below`, a limit, they are of the values beyond it (at it is not beyond), and "mean" is the share of these.
    `direction` is "up" if more is better, "down" if less is, "both" if neither. ValueError for what has no meaning.

    >>> Signal("poor_ratings", "rating", "mean", direction="down", window=3600, below=3).below
    3
    """

    name: str
    column: str | None
    statistic: Literal["mean", "rate", "count", "sum", "missing", "p50", "p95", "p99"]
    direction: Literal["up", "down", "both"]
    window: float
    above: float | None = None
    below: float | None = None

    __pydantic_config__ = {"extra": "forbid", "strict": True, "allow_inf_nan": False}  # noqa: RUF012 (read from a file)

    def __post_init__(self):
        for field in ("name", "column"):
            value = getattr(self, field)
            if not (isinstance(value, str) and value) and (field, value) != ("column", None):
                raise TypeError(f"{field} is {value!r}; expected text")
        one_of("statistic", self.statistic, STATISTICS)
        one_of("direction", self.direction, ("up", "down", "both"))
        limits = [limit for limit in (self.above, self.below) if limit is not None]
        if wrong := [each for each in (self.window, *limits) if isinstance(each, bool) or not isinstance(each, Real)]:
            raise TypeError(f"window or limit is {wrong[0]!r}; expected a number")
        if not 0 < self.window < math.inf:
            raise ValueError(f"window is {self.window}; expected seconds, more than 0")
        if self.column is None and self.statistic not in ("count", "rate"):
            raise ValueError(f"column is None, statistic {self.statistic!r}; expected a column, or 'count' or 'rate'")
        if len(limits) > 1 or not all(map(math.isfinite, limits)):
            raise ValueError(f"above is {self.above} and below {self.below}; expected one finite limit at most")
        if limits and (self.column is None or self.statistic not in ("mean", "count", "rate")):
            raise ValueError(f"a limit with {self.statistic!r}; expected 'mean', 'count' or 'rate' of a column")

    def _added(self, values):
        """What each entry adds to the total; NaN where the value is missing."""
        if self.statistic == "missing":
            return np.isnan(values).astype(float)
        if self.above is not None or self.below is not None:
            beyond = values > self.above if self.above is not None else values < self.below
            return np.where(np.isnan(values), np.nan, beyond)
        return np.where(np.isnan(values), np.nan, 1.0) if self.statistic in ("count", "rate") else values


@dataclass(frozen=True)
class Reading:
    """What a window shows."""

    value: float | None  # None if there is nothing to compute it from
    n: int  # values it is made of
    missing: int  # entries of the window that lack the value
    span: float  # seconds of the window that were observed: less after the start, or if entries were dropped
    age: float | None  # seconds since the newest entry of the log, whatever it holds; None if there is none


class Monitor:
    """Reads a log entry by entry, or many at once, and gives a `Reading` of each signal at any time.

    Windows up to `exact` seconds are exact: the last `capacity` entries are held, and a window that would need more is cut
    to what they cover. A longer window is kept in 60 parts, with their counts, sums and sketches of 1 % relative error. It
    begins where a part begins (at most a 60th too late), and contains the whole part in which it ends.
    Percentiles: numpy's default, interpolated, in exact windows, and numpy's "lower" in long ones, to 1 %.
    Rates divide by the observed span, which begins with the first entry (so that n entries overstate a rate by 1/n while the
    window fills) or, if given, at `start`.
    Memory: 8 bytes x capacity x (columns + 1), and the sketches, see `QuantileSketch`; it does not grow with the log.
    Errors: signals of equal names; times and numbers that cannot be read, or are infinite, are refused and nothing changes.
    Not for several threads at once: give each its own, and `merge`.

    >>> monitor = Monitor([Signal("p95", "latency", "p95", "down", 60), Signal("load", None, "rate", "both", 3600)])
    >>> for second in range(11):
    ...     monitor.update(second, {"latency": None if second == 3 else second / 8})
    >>> monitor.snapshot(10)["p95"]
    Reading(value=1.1937499999999999, n=10, missing=1, span=10.0, age=0.0)
    >>> monitor.snapshot(10)["load"].value, monitor.snapshot(4000)["load"].value
    (1.1, None)
    """

    def __init__(self, signals, exact=3600, capacity=65_536, start=None):
        self.signals = tuple(signals)
        names = [signal.name for signal in self.signals]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"signals are named {names}; expected one or more, each with its own name")
        self.exact, self.start = exact, None if start is None else seconds(start)
        self.entries = 0  # of the log so far, held or not
        self._columns = tuple(dict.fromkeys(signal.column for signal in self.signals if signal.column is not None))
        self._ring = Ring(positive_integer("capacity", capacity), self._columns)
        self._panes = {s.name: Panes(s.window, s.statistic in QUANTILES) for s in self.signals if s.window > exact}
        self._longest = max((s.window for s in self.signals if s.name not in self._panes), default=0)
        self._first = math.inf  # the earliest time seen
        self._pending = []

    def update(self, time, record):
        """Read one entry: its time, and a mapping of columns to numbers. What is absent, None or NaN is missing."""
        if not isinstance(record, Mapping):
            raise TypeError(f"record is {record!r}; expected a mapping of columns to numbers")
        row = [seconds(time)]
        for column in self._columns:
            value = record.get(column)
            finite = type(value) is float and value - value == 0  # the usual case, quickly
            row.append(value if finite else _number(column, value))
        self._pending += row
        self.entries += 1
        if len(self._pending) >= BATCH * len(row):
            self._flush()

    def update_many(self, frame):
        """Read many entries at once: a data frame, or a mapping of arrays, with a column "time". The same as one by one."""
        rows = self._table(frame)
        self._flush()
        self._add(rows)
        self.entries += rows.shape[1]

    def snapshot(self, now):
        """{name of signal: Reading} of the windows that end at `now`."""
        self._flush()
        now = seconds(now)
        recent, newest = self._ring.window(now, self._longest)
        age = now - float(newest) if newest > -math.inf else None
        start = self._first if self.start is None else self.start
        readings = {}
        for signal in self.signals:
            if signal.name in self._panes:
                begin, n, missing, total, quantile = self._panes[signal.name].window(now)
            else:
                begin = max(now - signal.window, self._ring.lost)
                values = signal._added(recent[signal.column or "time"][recent["time"] > begin])
                there = values[~np.isnan(values)]
                n, missing, total = there.size, values.size - there.size, float(there.sum())
                quantile = _quantile_of(there)
            span = max(0.0, now - max(begin, start))
            readings[signal.name] = Reading(_value(signal.statistic, n, total, span, quantile), n, missing, span, age)
        return readings

    def merge(self, other):
        """Add what another monitor, of the same signals and settings, has seen: another process, or the rest of the log."""
        ours, theirs = ((each.signals, each.exact, each.start, each._ring.capacity) for each in (self, other))
        if ours != theirs:
            raise ValueError("the other monitor has other signals or settings; expected the same")
        self._flush()
        other._flush()
        self._ring.merge(other._ring)
        for name, panes in self._panes.items():
            panes.merge(other._panes[name])
        self._first = min(self._first, other._first)
        self.entries += other.entries

    def _table(self, frame):
        """Rows of the ring: times, and the columns of the signals."""
        if absent := [name for name in ("time", *self._columns) if name not in frame]:
            raise ValueError(f"frame lacks {', '.join(absent)}; expected time and the columns of the signals")
        rows = [_times(frame["time"]), *[_numbers(name, frame[name]) for name in self._columns]]
        if len({len(row) for row in rows}) > 1:
            raise ValueError(f"frame has columns of lengths {[len(row) for row in rows]}; expected equal ones")
        return np.array(rows)

    def _flush(self):
        if self._pending:
            rows, self._pending = np.array(self._pending).reshape(-1, 1 + len(self._columns)), []
            self._add(rows.T)

    def _add(self, rows):
        for first in range(0, rows.shape[1], self._ring.capacity):  # a part at a time, for the sake of memory
            block = rows[:, first : first + self._ring.capacity]
            self._first = min(self._first, float(block[0].min()))
            self._ring.add(block)
            for signal in self.signals:
                if signal.name in self._panes:
                    column = 0 if signal.column is None else 1 + self._columns.index(signal.column)
                    self._panes[signal.name].add(block[0], signal._added(block[column]))


def replay(monitor, frame, every):
    """Read a log in the order of time as if it were live: yields (time in seconds, snapshot) every so many seconds.

    The first step is at the first multiple of `every` at which there is an entry, the last at the first one after the last.

    >>> monitor = Monitor([Signal("load", None, "count", "both", window=60)])
    >>> [(now, readings["load"].value) for now, readings in replay(monitor, {"time": [5, 30, 130]}, every=60)]
    [(60.0, 2.0), (120.0, None), (180.0, 1.0)]
    """
    if not 0 < every < math.inf:
        raise ValueError(f"every is {every}; expected seconds, more than 0")
    rows = monitor._table(frame)
    rows = rows[:, np.argsort(rows[0], kind="stable")]
    first, last = (math.ceil(time / every) for time in (rows[0, 0], rows[0, -1])) if rows.size else (0, -1)
    begin = 0
    for now in every * np.arange(first, last + 1.0):
        end = int(np.searchsorted(rows[0], now, side="right"))
        monitor._add(rows[:, begin:end])
        monitor.entries += end - begin
        yield float(now), monitor.snapshot(float(now))
        begin = end


def _quantile_of(values):
    return lambda q: float(np.quantile(values, q))


def _value(statistic, n, total, span, quantile):
    if n == 0 or (statistic == "rate" and span == 0):
        return None
    if statistic in QUANTILES:
        return quantile(QUANTILES[statistic])
    return total / {"mean": n, "missing": n, "rate": span}.get(statistic, 1)


# Reading times and numbers


def seconds(time):
    """A time as seconds: a finite number as it is, a date and time as seconds since 1970 in UTC.

    >>> seconds("1970-01-02"), seconds(90)
    (86400.0, 90.0)
    """
    if isinstance(time, (int, float, np.integer, np.floating)) and not isinstance(time, bool):
        time = float(time)
    else:
        try:
            time = pd.Timestamp(time).timestamp()
        except (TypeError, ValueError) as error:
            raise TypeError(f"time is {time!r}; expected seconds or a date and time") from error
    if not math.isfinite(time):
        raise ValueError(f"time is {time}; expected finite seconds or a date and time")
    return time


def _times(times):
    times = pd.Series(times)
    if not (pd.api.types.is_numeric_dtype(times) or times.empty):
        try:
            times = pd.to_datetime(times, utc=True)
        except (TypeError, ValueError) as error:
            raise TypeError(f"time cannot be read as dates and times: {error}") from error
        times = (times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    times = times.to_numpy(dtype=float, na_value=np.nan)
    if not np.isfinite(times).all():
        raise ValueError("time contains a missing or infinite value; expected finite seconds or dates and times")
    return times


def _number(column, value):
    if value is None or value is pd.NA:
        return math.nan
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{column} is {value!r}; expected a number, or None where it is missing")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{column} is {value!r}; expected a number, or None where it is missing") from None
    if math.isinf(number):
        raise ValueError(f"{column} is {number}; expected a finite number, or None where it is missing")
    return number


def _numbers(column, values):
    values = pd.Series(values)
    if not (pd.api.types.is_numeric_dtype(values) or values.isna().all()):
        raise TypeError(f"{column} has dtype {values.dtype}; expected numbers")
    values = values.to_numpy(dtype=float, na_value=np.nan)
    if np.isinf(values).any():
        raise ValueError(f"{column} contains {values[np.isinf(values)][0]}; expected finite numbers")
    return values
