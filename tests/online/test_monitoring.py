"""Readings against brute force over the log, and against numbers by hand; memory that stays flat."""

import math
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studyguide.online.monitoring import BATCH, STATISTICS, Monitor, Reading, Signal, replay, seconds
from studyguide.online.windows import PANES

properties = settings(max_examples=60, deadline=None)
number = st.one_of(st.none(), st.just(math.nan), st.floats(-1e6, 1e6))
logs = st.lists(st.tuples(st.integers(0, 400), number), max_size=60)
times_of = st.integers(0, 500)


def every_statistic(window):
    plain = [Signal(name, "x", name, "both", window) for name in STATISTICS]
    limited = [Signal(f"{name} above", "x", name, "both", window, above=0.0) for name in ("mean", "count", "rate")]
    limited += [Signal(f"{name} below", "x", name, "both", window, below=10.0) for name in ("mean", "count", "rate")]
    return [
        *plain,
        *limited,
        Signal("entries", None, "count", "both", window),
        Signal("load", None, "rate", "both", window),
    ]


def brute_force(signal, entries, now, begin):
    """(value, n, missing) of a list of (time, value), in plain Python but for numpy's quantile."""
    inside = [value for time, value in entries if begin < time <= now]
    there = [value for value in inside if value is not None and not math.isnan(value)]
    lacking = len(inside) - len(there)
    if signal.column is None:
        there, lacking = inside, 0
    counted = there
    if signal.above is not None:
        counted = [value for value in there if value > signal.above]
    if signal.below is not None:
        counted = [value for value in there if value < signal.below]
    n, span = len(there), now - max(begin, min((time for time, _ in entries), default=now))
    match signal.statistic:
        case "missing":
            return (lacking / len(inside) if inside else None), len(inside), 0
        case "mean":
            total = len(counted) if signal.above is not None or signal.below is not None else math.fsum(there)
            value = total / n if n else None
        case "sum":
            value = math.fsum(there) if n else None
        case "count":
            value = len(counted) if n else None
        case "rate":
            value = len(counted) / span if n and span > 0 else None
        case _:
            value = float(np.quantile(there, int(signal.statistic[1:]) / 100)) if n else None
    return value, n, lacking


def assert_is(reading, expected):
    value, n, missing = expected
    assert (reading.n, reading.missing) == (n, missing)
    assert reading.value == (value if value is None else pytest.approx(value, rel=1e-9, abs=1e-9))


def fill(monitor, entries):
    for time, value in entries:
        monitor.update(time, {} if value is None else {"x": value})
    return monitor


# Exact windows


@properties
@given(logs, times_of, st.integers(1, 300))
def test_a_window_is_brute_force_over_its_entries(entries, now, window):
    """In whatever order the entries come, and whenever it is asked."""
    signals = every_statistic(window)
    readings = fill(Monitor(signals), entries).snapshot(now)
    for signal in signals:
        assert_is(readings[signal.name], brute_force(signal, entries, now, now - window))
    past = [time for time, _ in entries if time <= now]
    start = min((time for time, _ in entries), default=math.inf)
    assert readings["mean"].span == max(0, min(window, now - start))
    assert readings["mean"].age == (now - max(past) if past else None)


@properties
@given(logs, st.integers(1, 300), st.integers(1, 20))
def test_a_window_that_needs_more_room_is_cut_to_what_is_held(entries, window, capacity):
    entries.sort(key=lambda entry: entry[0])
    signals = every_statistic(window)
    readings = fill(Monitor(signals, capacity=capacity), entries).snapshot(400)
    dropped = [time for time, _ in entries[:-capacity]]
    begin = max(400 - window, *dropped[-1:], -math.inf)
    for signal in signals:
        assert_is(readings[signal.name], brute_force(signal, entries, 400, begin))
    if entries:
        assert readings["mean"].span == 400 - max(begin, entries[0][0])


@properties
@given(logs, logs, times_of, st.sampled_from([1, 50, 1000]))
def test_merge_one_by_one_and_many_at_once_are_the_same(a, b, now, exact):
    signals = every_statistic(240)  # exact or in parts of 4 seconds
    whole = fill(Monitor(signals, exact), a + b).snapshot(now)
    merged, other = fill(Monitor(signals, exact), a), fill(Monitor(signals, exact), b)
    before = other.snapshot(now)
    merged.merge(other)
    frame = {"time": [time for time, _ in a + b], "x": [math.nan if x is None else x for _, x in a + b]}
    together = Monitor(signals, exact)
    together.update_many(frame)
    for readings in (merged.snapshot(now), together.snapshot(now)):
        for name, reading in whole.items():
            assert_is(readings[name], (reading.value, reading.n, reading.missing))
            assert (readings[name].span, readings[name].age) == (reading.span, reading.age)
    assert merged.entries == together.entries == len(a) + len(b)
    assert other.snapshot(now) == before


# Long windows


@properties
@given(logs, times_of)
def test_a_long_window_is_brute_force_over_whole_parts(entries, now):
    signals = every_statistic(2 * PANES)  # parts of 2 seconds
    readings = fill(Monitor(signals, exact=10), entries).snapshot(now)
    end = now + now % 2  # the end of the part in which `now` is
    for signal in signals:
        value, n, missing = brute_force(signal, entries, end, end - 2 * PANES)
        reading = readings[signal.name]
        assert (reading.n, reading.missing) == (n, missing)
        if signal.statistic == "rate":  # counts up to `end`, over the time up to now
            assert (reading.value is None) == (n == 0 or reading.span == 0)
        elif signal.statistic.startswith("p") and n:
            there = [x for t, x in entries if end - 2 * PANES < t <= end and x is not None and not math.isnan(x)]
            exact = np.quantile(there, int(signal.statistic[1:]) / 100, method="lower")
            assert abs(reading.value - exact) <= 0.010001 * abs(exact) + 1e-9
        else:
            assert reading.value == (value if value is None else pytest.approx(value, rel=1e-9, abs=1e-9))


def test_a_long_window_ends_exactly_where_a_part_ends():
    monitor = Monitor([Signal("day", None, "count", "both", 86_400)])
    monitor.update_many({"time": np.arange(0, 2 * 86_400 + 1, 60.0)})
    assert monitor.snapshot(2 * 86_400)["day"] == Reading(1440.0, 1440, 0, 86_400.0, 0.0)
    monitor.update_many({"time": np.arange(2 * 86_400 + 60, 2 * 86_400 + 2881, 60.0)})
    # half an hour on, 360 s into a part: the window has lost two parts of 1440 s and won 1800 s; with the part, it is whole
    later = monitor.snapshot(2 * 86_400 + 1800)["day"]
    assert later.span == 86_400 - 2 * 1440 + 1800
    assert later.n == 1440


def test_late_and_early_entries_of_a_long_window():
    monitor = Monitor([Signal("n", None, "count", "both", 60)], exact=1)  # parts of a second
    monitor.update_many({"time": np.arange(1.0, 200)})
    monitor.update(150, {})  # late, still in the window
    monitor.update(20, {})  # later than anything that is held
    monitor.update(10_000, {})  # ahead of its time: waits, and takes the place of one part
    reading = monitor.snapshot(199)["n"]
    assert (reading.value, reading.span, reading.age) == (61, 60, 0)
    assert monitor.snapshot(10_000)["n"].value == 1
    assert monitor.snapshot(150)["n"].span < 60, "parts that have been dropped are not claimed to have been observed"


def test_an_entry_far_in_the_future_does_not_blind_the_monitor():
    for signal in (Signal("n", None, "count", "both", 60), Signal("n", None, "count", "both", 7200)):
        monitor = Monitor([signal], capacity=100)
        monitor.update(1e12, {})
        monitor.update_many({"time": np.arange(0, 5000.0)})
        reading = monitor.snapshot(4999)["n"]
        assert reading.value >= 60
        assert reading.age == 0


# By hand


def test_five_latencies_by_hand():
    monitor = Monitor(
        [Signal(name, "latency", name, "down", 60) for name in ("mean", "sum", "count", "rate", "p50", "p95")]
    )
    for time, latency in zip(range(10, 60, 10), [1.0, 2.0, 4.0, None, 8.0], strict=True):
        monitor.update(time, {"latency": latency})
    found = {name: reading.value for name, reading in monitor.snapshot(60).items()}
    # sorted 1 2 4 8; p95 at position .95 * 3 = 2.85, between 4 and 8
    assert found == {"mean": 3.75, "sum": 15, "count": 4, "rate": 4 / 50, "p50": 3, "p95": pytest.approx(4 + 0.85 * 4)}
    # 10 s later the first entry, 60 s old, is no longer in the window
    assert monitor.snapshot(70)["sum"].value == 14
    assert monitor.snapshot(69)["sum"].value == 15


def test_rates_are_over_the_observed_span():
    """The guide's 60 requests in the first second of a window of 60 minutes (E0-34)."""
    signals = [Signal("load", None, "rate", "both", 3600)]
    known, unknown = Monitor(signals, start=0), Monitor(signals)
    for monitor in (known, unknown):
        monitor.update_many({"time": np.arange(1, 61) / 60})
    assert known.snapshot(1)["load"] == Reading(60.0, 60, 0, 1.0, 0.0)
    assert unknown.snapshot(1)["load"].value == pytest.approx(60 / (59 / 60))
    assert known.snapshot(3600)["load"].value == 60 / 3600
    assert known.snapshot(7200)["load"] == Reading(None, 0, 0, 3600.0, 7199.0)


def test_the_first_moment_has_no_rate():
    monitor = Monitor([Signal("load", None, "rate", "both", 60)])
    monitor.update(5, {})
    assert monitor.snapshot(5)["load"] == Reading(None, 1, 0, 0.0, 0.0)


def test_no_data_is_none_and_not_zero():
    signals = [*every_statistic(60), Signal("long", "x", "p95", "down", 86_400)]
    monitor = Monitor(signals)
    assert set(monitor.snapshot(0).values()) == {Reading(None, 0, 0, 0.0, None)}
    monitor.update(0, {"x": None})
    assert monitor.snapshot(10)["mean"] == Reading(None, 0, 1, 10.0, 10.0)
    assert monitor.snapshot(10)["missing"] == Reading(1.0, 1, 0, 10.0, 10.0)
    assert monitor.snapshot(10)["entries"].value == 1
    gap = monitor.snapshot(100)
    assert gap["entries"] == Reading(None, 0, 0, 60.0, 100.0), "a gap is seen as a gap, not as a load of 0"
    assert gap["long"].missing == 1


def test_calls_are_counted_and_not_what_is_held():
    """The guide's monitor reports 50 of 100 predictions, the length of its buffer (E3-46)."""
    monitor = Monitor([Signal("n", "x", "count", "both", 60)], capacity=50)
    for i in range(100):
        monitor.update(i / 10, {"x": 1})
    assert monitor.entries == 100
    assert monitor.snapshot(10)["n"].n == 50


def test_values_at_a_limit_are_not_beyond_it():
    signals = [Signal("low", "x", "mean", "down", 60, below=3), Signal("high", "x", "count", "down", 60, above=3)]
    monitor = Monitor(signals)
    monitor.update_many({"time": [1, 2, 3, 4], "x": [3, 2, 4, None]})
    readings = monitor.snapshot(4)
    assert (readings["low"].value, readings["high"].value) == (1 / 3, 1)


# Time


def test_dates_and_times_are_seconds_of_utc():
    assert seconds(datetime(1970, 1, 1, 0, 1)) == seconds(pd.Timestamp("1970-01-01 00:01")) == 60
    assert seconds(datetime(1970, 1, 1, 2, 1, tzinfo=timezone(timedelta(hours=2)))) == 60
    assert seconds(np.datetime64("1970-01-01T00:01")) == seconds(np.float32(60)) == seconds(np.int32(60)) == 60
    assert seconds(datetime(2026, 3, 2, 12, 30, 15, 250_000, tzinfo=UTC)) == 1772454615.25


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Riyadh"])
def test_columns_of_times_are_those_of_their_elements(unit, zone):
    times = pd.Series(pd.date_range("2026-03-02 12:00", periods=90, freq="700ms", unit="ns").as_unit(unit))
    times = times if zone is None else times.dt.tz_localize(zone)
    signals = [Signal("n", None, "count", "both", 60), Signal("sum", "x", "sum", "both", 60)]
    frame = pd.DataFrame({"time": times, "x": np.arange(90)}).set_axis(np.arange(90)[::-1])
    many, single = Monitor(signals), Monitor(signals)
    many.update_many(frame)
    for time, x in zip(times, range(90), strict=True):
        single.update(time, {"x": x})
    assert many.snapshot(times.iloc[-1]) == single.snapshot(seconds(times.iloc[-1]))


def test_replay_reads_the_log_in_steps():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"time": rng.uniform(100, 1000, 200), "x": rng.normal(size=200)})
    signals = [Signal("n", "x", "count", "both", 90), Signal("p95", "x", "p95", "both", 90)]
    steps = list(replay(Monitor(signals), frame, 60))
    assert [now for now, _ in steps] == list(range(120, 1021, 60))
    for now, readings in steps:
        inside = frame.x[(frame.time > now - 90) & (frame.time <= now)]
        assert readings["n"].n == len(inside)
        assert readings["p95"].value == pytest.approx(np.quantile(inside, 0.95))
    assert list(replay(Monitor(signals), frame[:0], 60)) == []
    with pytest.raises(ValueError, match="every is 0"):
        next(replay(Monitor(signals), frame, 0))


# Memory


def held(n, size=500):
    """Bytes that a monitor holds after `n` entries, read one by one and many at once, with windows of both kinds."""
    rng = np.random.default_rng(0)
    tracemalloc.start()
    monitor = Monitor(
        [
            Signal("p95", "x", "p95", "down", 60),
            Signal("load", None, "rate", "both", 60),
            Signal("day", "x", "p99", "down", 600),
        ],
        exact=60,
        capacity=1000,
    )
    for first in range(0, n, size):
        block = rng.lognormal(0, 1, size)
        times = np.arange(first, first + size) / 10
        if first % (2 * size):
            monitor.update_many({"time": times, "x": block})
        else:
            for time, x in zip(times.tolist(), block.tolist(), strict=True):
                monitor.update(time, {"x": x})
    monitor.snapshot(n / 10)
    bytes_ = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert monitor.entries == n
    return bytes_


def test_memory_does_not_grow_with_the_log():
    assert held(40_000) < 1.1 * held(10_000)


def test_pending_entries_are_few():
    monitor = Monitor([Signal("n", None, "count", "both", 60)])
    for i in range(BATCH + 1):
        monitor.update(i, {})
    assert len(monitor._pending) == 1, "the time of the last one"


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"statistic": "median"}, "statistic is 'median'; expected one of 'mean'"),
        ({"direction": "higher"}, "direction is 'higher'; expected one of 'up'"),
        ({"window": 0}, "window is 0; expected seconds"),
        ({"window": math.inf}, "window is inf; expected seconds"),
        ({"column": None}, "column is None, statistic 'mean'"),
        ({"above": 1, "below": 2}, "above is 1 and below 2; expected one finite limit at most"),
        ({"above": math.nan}, "above is nan"),
        ({"statistic": "p95", "above": 1}, "a limit with 'p95'"),
        ({"column": None, "statistic": "count", "above": 1}, "a limit with 'count'"),
    ],
)
def test_signals_without_a_meaning(change, message):
    with pytest.raises(ValueError, match=message):
        Signal(**{"name": "a", "column": "x", "statistic": "mean", "direction": "up", "window": 60} | change)


def test_windows_and_limits_are_numbers():
    for change in ({"window": "60"}, {"window": None}, {"window": True}, {"above": "3"}):
        with pytest.raises(TypeError, match="window or limit is .*; expected a number"):
            Signal(**{"name": "a", "column": "x", "statistic": "mean", "direction": "up", "window": 60} | change)
    assert Signal("a", "x", "mean", "up", np.int64(60), above=np.float32(0.5)).window == 60


def test_names_are_text():
    for change in ({"name": ""}, {"name": 3}, {"column": ""}, {"column": 3}):
        with pytest.raises(TypeError, match="expected text"):
            Signal(**{"name": "a", "column": "x", "statistic": "mean", "direction": "up", "window": 60} | change)


def test_monitors_of_nothing_or_of_equal_names():
    signal = Signal("a", "x", "mean", "up", 60)
    for signals in ([], [signal, signal]):
        with pytest.raises(ValueError, match="each with its own name"):
            Monitor(signals)
    with pytest.raises(ValueError, match="capacity is 0"):
        Monitor([signal], capacity=0)
    with pytest.raises(ValueError, match="other signals or settings"):
        Monitor([signal]).merge(Monitor([signal], capacity=10))


@pytest.mark.parametrize(
    ("time", "record", "error", "message"),
    [
        ("soon", {}, TypeError, "time is 'soon'; expected seconds or a date and time"),
        (None, {}, (TypeError, ValueError), "time is"),
        (True, {}, (TypeError, ValueError), "time is"),
        (pd.NaT, {}, (TypeError, ValueError), "time is"),
        (math.nan, {}, ValueError, "time is nan"),
        (math.inf, {}, ValueError, "time is inf"),
        (1, {"x": "0.5"}, TypeError, "x is '0.5'; expected a number"),
        (1, {"x": [1]}, TypeError, "x is \\[1\\]; expected a number"),
        (1, {"x": math.inf}, ValueError, "x is inf; expected a finite number"),
        (1, [("x", 1)], TypeError, "expected a mapping"),
    ],
)
def test_bad_entries_are_refused_and_change_nothing(time, record, error, message):
    monitor = Monitor([Signal("a", "x", "mean", "up", 60)])
    with pytest.raises(error, match=message):
        monitor.update(time, record)
    assert monitor.entries == 0
    assert monitor.snapshot(1)["a"] == Reading(None, 0, 0, 0.0, None)


@pytest.mark.parametrize(
    ("frame", "error", "message"),
    [
        ({"x": [1]}, ValueError, "frame lacks time"),
        ({"time": [1]}, ValueError, "frame lacks x"),
        ({"time": [1, 2], "x": [1]}, ValueError, "columns of lengths \\[2, 1\\]"),
        ({"time": [1], "x": ["a"]}, TypeError, "x has dtype"),
        ({"time": [1], "x": [math.inf]}, ValueError, "x contains inf"),
        ({"time": ["soon"], "x": [1]}, TypeError, "time cannot be read"),
        ({"time": [None], "x": [1]}, ValueError, "time contains a missing"),
        ({"time": pd.Series([pd.NaT]), "x": [1]}, ValueError, "time contains a missing"),
    ],
)
def test_bad_frames_are_refused(frame, error, message):
    monitor = Monitor([Signal("a", "x", "mean", "up", 60)])
    with pytest.raises(error, match=message):
        monitor.update_many(frame)
    assert monitor.entries == 0


def test_kinds_of_missing():
    monitor = Monitor([Signal("a", "x", "mean", "up", 60)])
    for value in (None, math.nan, pd.NA, np.float32("nan"), 1, True, np.int8(3)):
        monitor.update(1, {"x": value})
    monitor.update(1, {"y": 2})
    monitor.update_many({"time": [1, 1], "x": pd.array([1, None], dtype="Int64")})
    monitor.update_many({"time": [1], "x": [None]})
    monitor.update_many({"time": [], "x": []})
    reading = monitor.snapshot(1)["a"]
    assert (reading.value, reading.n, reading.missing) == (6 / 4, 4, 7)
    assert monitor.entries == 11
