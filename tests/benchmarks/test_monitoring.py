"""A million log entries through a monitor, in memory that stays flat; percentiles against river's and ddsketch's."""

import tracemalloc

import numpy as np
import pytest

from studyguide.online.monitoring import Monitor, Signal
from studyguide.online.sketch import QuantileSketch

ENTRIES = 1_000_000
SIGNALS = [
    Signal("load", None, "rate", "both", 300),
    Signal("latency_p95", "latency", "p95", "down", 300),
    Signal("errors", "error", "mean", "down", 300),
    Signal("toxic", "toxicity", "count", "down", 3600, above=0.5),
    Signal("latency_day", "latency", "p99", "down", 86_400),
    Signal("cost_day", "cost", "sum", "down", 86_400),
]


def entries(n):
    """Six days of a service with about 2 requests a second; one latency in a hundred is missing."""
    rng = np.random.default_rng(0)
    return {
        "time": np.cumsum(rng.exponential(0.5, n)),
        "latency": np.where(rng.random(n) < 0.01, np.nan, rng.lognormal(0.5, 0.6, n)),
        "error": (rng.random(n) < 0.005).astype(float),
        "toxicity": rng.beta(0.3, 20, n),
        "cost": rng.gamma(4, 0.001, n),
    }


@pytest.fixture(scope="module")
def log():
    return entries(ENTRIES)


def one_by_one(log):
    monitor = Monitor(SIGNALS)
    names = list(log)[1:]
    for time, *values in zip(*(column.tolist() for column in log.values()), strict=True):
        monitor.update(time, dict(zip(names, values, strict=True)))
    return monitor.snapshot(time)


def many_at_once(log):
    monitor = Monitor(SIGNALS)
    for first in range(0, len(log["time"]), 10_000):
        monitor.update_many({name: column[first : first + 10_000] for name, column in log.items()})
    return monitor.snapshot(log["time"][-1])


@pytest.mark.parametrize("read", [one_by_one, many_at_once])
def test_a_million_entries(benchmark, log, read):
    readings = benchmark.pedantic(read, [log], rounds=1)
    benchmark.extra_info["entries per second"] = round(ENTRIES / benchmark.stats.stats.min)
    inside = log["time"] > log["time"][-1] - 300
    latencies = log["latency"][inside & ~np.isnan(log["latency"])]
    assert readings["latency_p95"].value == pytest.approx(np.quantile(latencies, 0.95))
    # all of the log that is in whole parts of the last day, which is 24 minutes short at most
    day = log["latency"][log["time"] > log["time"][-1] - readings["latency_day"].span]
    assert readings["latency_day"].value == pytest.approx(np.nanquantile(day, 0.99, method="lower"), rel=0.01)


def test_memory_stays_flat(benchmark, log):
    """Once the longest window is full, after a day, nothing is added; and it needs little on the way. (Slowed by tracemalloc.)"""
    names, held = list(log)[1:], []

    def read():
        monitor = Monitor(SIGNALS)
        for first in range(0, ENTRIES, 1000):
            block = {name: column[first : first + 1000] for name, column in log.items()}
            if first % 10_000:
                monitor.update_many(block)
            else:
                for time, *values in zip(*(column.tolist() for column in block.values()), strict=True):
                    monitor.update(time, dict(zip(names, values, strict=True)))
            if first % 50_000 == 49_000:
                monitor.snapshot(block["time"][-1])
                held.append(tracemalloc.get_traced_memory()[0])
        return monitor.entries, tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        entries, peak = benchmark.pedantic(read, rounds=1)
    finally:
        tracemalloc.stop()
    benchmark.extra_info["peak in MB"] = round(peak / 1e6, 1)
    assert entries == ENTRIES
    assert max(held[5:]) < 1.05 * held[5]
    assert peak < 16e6


@pytest.mark.parametrize("library", ["studyguide", "river"])
def test_p95_of_ten_minutes(benchmark, library):
    """100,000 entries, one a second; the p95 of the last 600 is read every ten minutes."""
    from river.stats import RollingQuantile

    values = np.random.default_rng(0).lognormal(0.5, 0.6, 100_000).tolist()

    def ours():
        monitor, found = Monitor([Signal("p95", "x", "p95", "down", 600)], capacity=1000), []
        for i, value in enumerate(values):
            monitor.update(float(i), {"x": value})
            if i % 600 == 599:
                found.append(monitor.snapshot(float(i))["p95"].value)
        return found

    def theirs():
        window, found = RollingQuantile(0.95, 600), []
        for i, value in enumerate(values):
            window.update(value)
            if i % 600 == 599:
                found.append(window.get())
        return found

    benchmark.group = "p95 of ten minutes"
    benchmark.extra_info["library"] = library
    found = benchmark.pedantic(ours if library == "studyguide" else theirs, rounds=3)
    exact = [np.quantile(values[i - 599 : i + 1], 0.95) for i in range(599, len(values), 600)]
    np.testing.assert_allclose(found, exact, rtol=1e-9)  # the same task


@pytest.mark.parametrize("library", ["studyguide", "ddsketch"])
def test_a_sketch_of_a_million(benchmark, library):
    values = np.random.default_rng(0).lognormal(0.5, 0.6, ENTRIES)

    def ours():
        sketch = QuantileSketch(0.01)
        for block in np.split(values, 100):
            sketch.update(block)
        return sketch.quantile(0.99)

    def theirs():
        sketch = ddsketch.DDSketch(0.01)
        for value in values.tolist():
            sketch.add(value)
        return sketch.get_quantile_value(0.99)

    if library == "ddsketch":
        ddsketch = pytest.importorskip("ddsketch", reason="the authors' library is no dependency; pip install ddsketch")
    benchmark.group = "sketch of a million values"
    benchmark.extra_info["library"] = library
    found = benchmark.pedantic(ours if library == "studyguide" else theirs, rounds=3 if library == "studyguide" else 1)
    assert found == pytest.approx(np.quantile(values, 0.99, method="lower"), rel=0.01)
