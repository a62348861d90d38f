"""Trends against scipy; intervals of a change against statsmodels, tables and simulation; decisions by hand."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter
from statsmodels.stats.proportion import confint_proportions_2indep

from studyguide.online.alerts import Alert
from studyguide.online.health import health_report, performance_tracker, rollback_decision, trend
from studyguide.online.monitoring import Reading, Signal

seeds = st.integers(0, 2**32 - 1)
properties = settings(max_examples=40, deadline=None)


def metric(name="x", column="x", statistic="mean", direction="down", **limit):
    return Signal(name, column, statistic, direction, window=86_400, **limit)


def limits(interval):
    return [float(value) for value in (interval.estimate, interval.low, interval.high)]


# --- trend


@given(seeds, st.integers(5, 40), st.booleans())
@properties
def test_trend_agrees_with_scipy(seed, n, tied):
    rng = np.random.default_rng(seed)
    x = rng.permutation(n) * rng.uniform(0.5, 3)
    y = rng.integers(0, 4, n).astype(float) if tied else rng.normal(size=n) + rng.normal() * 0.2 * x
    found = trend(x, y)
    peer = stats.theilslopes(y, x)
    if len(set(y)) == 1:
        assert (found.tau, found.p_value, *limits(found.slope)) == (0, 1, 0, 0, 0)
        return
    np.testing.assert_allclose(limits(found.slope), [peer.slope, peer.low_slope, peer.high_slope], atol=1e-12)
    tau, p = stats.kendalltau(x, y, method="asymptotic")
    assert found.tau == pytest.approx(tau, abs=1e-12)
    pairs = n * (n - 1) / 2
    ties = sum(count * (count - 1) / 2 for count in np.unique(y, return_counts=True)[1])
    score = abs(tau) * math.sqrt(
        pairs * (pairs - ties)
    )  # of tau-b's definition; scipy's p has no continuity correction
    z = stats.norm.isf(p / 2) * max(score - 1, 0) / score if score > 0.5 else 0
    assert found.p_value == pytest.approx(2 * stats.norm.sf(z), abs=1e-9)


def test_p_of_five_rising_values_by_hand():
    # S = 10, Var(S) = 5 * 4 * 15 / 18 = 16.67, z = (10 - 1) / 4.0825 = 2.2045
    assert trend(range(5), [1, 2, 3, 4, 9]).p_value == pytest.approx(2 * stats.norm.sf(9 / math.sqrt(50 / 3)))


@pytest.mark.parametrize("n", range(8, 30, 3))
def test_p_is_near_the_exact_one(n):
    y = np.random.default_rng(n).normal(size=n) + 0.1 * np.arange(n)
    exact = stats.kendalltau(range(n), y, method="exact").pvalue
    assert trend(range(n), y).p_value == pytest.approx(exact, abs=0.012)


def test_the_words_follow_the_direction():
    rising, falling = np.linspace(1, 2, 9), np.linspace(2, 1, 9)
    assert [trend(range(9), rising, d).verdict for d in ("up", "down", "both")] == ["improving", "worsening", "rising"]
    assert [trend(range(9), falling, d).verdict for d in ("up", "down", "both")] == [
        "worsening",
        "improving",
        "falling",
    ]


def test_a_trend_that_does_not_matter_is_steady_and_noise_is_not():
    rising = np.linspace(1, 1.001, 30)
    assert trend(range(30), rising).verdict == "improving"
    assert trend(range(30), rising, practical=0.1).verdict == "steady"
    noise = np.random.default_rng(0).normal(size=8)
    assert trend(range(8), noise).verdict == trend(range(8), noise, practical=0.01).verdict == "cannot tell"
    assert trend(range(8), np.ones(8)).verdict == "cannot tell"
    assert trend(range(8), np.ones(8), practical=0.01).verdict == "steady"


@given(seeds, st.floats(0.1, 10), st.floats(-5, 5))
@properties
def test_units_and_order_of_times_do_not_matter(seed, scale, shift):
    rng = np.random.default_rng(seed)
    x, y = np.arange(12.0), rng.normal(size=12)
    order = rng.permutation(12)
    found, other = trend(x, y), trend(x[order] * scale, y[order] + shift)
    np.testing.assert_allclose(limits(other.slope), np.array(limits(found.slope)) / scale, atol=1e-9)
    assert other.p_value == found.p_value
    assert other.autocorrelation == pytest.approx(found.autocorrelation, abs=1e-6)


def test_a_median_slope_of_0_can_hide_a_fall():
    # 40 of 91 pairs fall, none rises: S = -40, Var(S) = (14 * 13 * 33 - 10 * 9 * 25 - 4 * 3 * 13) / 18 = 200
    found = trend(range(14), [0] * 10 + [-1] * 4)
    assert (float(found.slope.estimate), found.verdict) == (0, "worsening")
    assert found.p_value == pytest.approx(2 * stats.norm.sf(39 / math.sqrt(200)))


def test_one_outlier_does_not_turn_the_trend():
    y = np.linspace(0, 1, 20)
    y[-1] = -50
    assert trend(range(20), y).verdict == "improving"


@pytest.mark.parametrize(
    ("phi", "independent", "low", "high"),
    [(0, True, 0.03, 0.05), (0, False, 0.03, 0.09), (0.5, True, 0.2, 0.4), (0.5, False, 0.03, 0.1)],
)
def test_false_alarms_of_the_trend(phi, independent, low, high):
    """At 5 % as claimed for independent values; values that hang together need independent=False, and get near it."""
    noise = np.random.default_rng(7).normal(size=(600, 160))
    series = lfilter([1], [1, -phi], noise)[:, -60:]
    rate = np.mean([trend(range(60), row, independent=independent).verdict != "cannot tell" for row in series])
    error = 3 * math.sqrt(0.05 * 0.95 / 600)
    assert low - error < rate < high + error


def test_autocorrelation_of_residuals_by_hand():
    # the pairs' slopes are -2, -1, 0, 0, 1, 2, their median 0; residuals 1, -1, -1, 1: (-1 + 1 - 1) / 4
    assert trend(range(4), [1, -1, -1, 1]).autocorrelation == pytest.approx(-0.25)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"times": [1, 2]}, ValueError, "at least 3"),
        ({"times": [1, 2, 2, 3]}, ValueError, "times contains 2 twice"),
        ({"values": [1, 2, 3]}, ValueError, "expected one value per time"),
        ({"values": [1, 2, np.nan, 3]}, ValueError, "values contains nan"),
        ({"values": "abcd"}, TypeError, "values cannot be read"),
        ({"direction": "higher"}, ValueError, "direction is 'higher'"),
        ({"practical": -1}, ValueError, "practical is -1"),
        ({"practical": "x"}, TypeError, "practical is 'x'"),
        ({"confidence": 95}, ValueError, "confidence is 95"),
    ],
)
def test_bad_arguments_of_trend(change, error, message):
    with pytest.raises(error, match=re.escape(message)):
        trend(**{"times": [1, 2, 3, 4], "values": [1, 2, 3, 4]} | change)


# --- performance_tracker


def one(was, now, signal=None, **options):
    signal = signal or metric()
    frames = (pd.DataFrame({"x": values}) for values in (was, now))
    return performance_tracker(*frames, [signal], **options).loc[signal.name]


def test_direction_decides_what_is_worse():
    """A confidence that falls and a latency that rises are worse: the guide's two examples, with noise around them."""
    noise = np.random.default_rng(0).normal(0, 0.05, 200)
    up, down = (metric("x", "x", "mean", direction) for direction in ("up", "down"))
    assert one(0.90 + noise, 0.40 + noise, up).verdict == "worse"
    assert one(0.40 + noise, 0.95 + noise, up).verdict == "better"
    assert one(2.0 + noise, 4.0 + noise, down).verdict == "worse"
    assert one(2.0 + noise, 1.0 + noise, down).verdict == "better"
    assert one(2.0 + noise, 4.0 + noise, down).worse_by == pytest.approx(2)


@pytest.mark.parametrize(("was", "now"), [((780, 1000), (740, 1000)), ((3, 40), (0, 25)), ((50, 50), (49, 50))])
def test_shares_have_newcombes_interval(was, now):
    frames = ([1] * k + [0] * (n - k) for k, n in (was, now))
    row = one(*frames, metric("x", "x", "mean", "up"))
    low, high = confint_proportions_2indep(*was, *now, method="newcomb")  # was less now: worse if it goes up
    assert (row.low, row.high) == pytest.approx((low, high), abs=1e-9)


def test_means_have_nearly_welchs_interval():
    rng = np.random.default_rng(1)
    a, b = rng.normal(5, 1, 400), rng.normal(5.3, 3, 300)
    peer = stats.ttest_ind(b, a, equal_var=False).confidence_interval()
    row = one(a, b)
    assert (row.low, row.high) == pytest.approx((peer.low, peer.high), abs=0.003)


def test_limits_of_a_median_are_those_of_the_tables():
    # n = 20: the 6th and the 15th value (coverage 95.86 %). The baseline is constant, its interval has no width.
    row = one([0.0] * 50, np.arange(1.0, 21), metric("x", "x", "p50"))
    assert (row.worse_by, row.low, row.high) == (10.5, 6, 15)


def test_few_values_leave_a_percentile_open():
    row = one(np.arange(1000.0), np.arange(30.0) + 5000, metric("x", "x", "p99"))
    assert row.high == math.inf
    assert one(np.arange(30.0), np.arange(1000.0), metric("x", "x", "p99")).verdict == "cannot tell"
    assert one([1.5] * 9, [2.5]).verdict == "cannot tell"


@pytest.mark.parametrize(
    ("shift", "verdict"), [(1.0, "worse"), (0.1, "no worse"), (-1.0, "better"), (0.5, "cannot tell")]
)
def test_verdicts_at_a_margin_of_a_half(shift, verdict):
    noise = np.random.default_rng(2).normal(size=500)
    row = one(noise, noise + shift, margins={"x": 0.5})
    assert row.verdict == verdict
    assert row.margin == 0.5


def test_two_directions_mirror_each_other():
    rng = np.random.default_rng(3)
    a, b = rng.exponential(size=200), rng.exponential(size=300)
    for statistic in ("mean", "p50", "p95"):
        down, up = (one(a, b, metric("x", "x", statistic, direction)) for direction in ("down", "up"))
        assert (up.worse_by, up.low, up.high) == (-down.worse_by, -down.high, -down.low)


def test_false_alarms_of_six_signals_together():
    """Without a change the chance that any of six is called worse or better is at most the 5 % that it claims."""
    rng = np.random.default_rng(4)
    signals = [metric(name, "latency", name) for name in ("mean", "p50", "p95")]
    signals += [metric("done", "completed", "mean", "up"), metric("cost", "cost"), metric("p99", "cost", "p99")]
    n, repetitions, alarms = 400, 120, 0
    for _ in range(repetitions):
        tail = rng.lognormal(0.5, 0.7, 2 * n)
        frame = pd.DataFrame({"latency": tail, "completed": rng.random(2 * n) < 0.78, "cost": tail * rng.random(2 * n)})
        found = performance_tracker(frame[:n].astype(float), frame[n:].astype(float), signals)
        alarms += found["verdict"].isin(["worse", "better"]).any()
    assert alarms / repetitions < 0.05 + 3 * math.sqrt(0.05 * 0.95 / repetitions)


def test_interval_of_a_percentile_covers_the_truth():
    rng = np.random.default_rng(5)
    truth = stats.lognorm(0.7).ppf(0.95) * 0.5  # the current period is 1.5 times slower
    hits = 0
    for _ in range(300):
        row = one(rng.lognormal(0, 0.7, 300), 1.5 * rng.lognormal(0, 0.7, 300), metric("x", "x", "p95"))
        hits += row.low <= truth <= row.high
    assert hits / 300 > 0.95 - 3 * math.sqrt(0.05 * 0.95 / 300)


def test_a_share_beyond_a_limit():
    row = one([0.1, 0.2, 0.6, 0.7], [0.5, 0.6, np.nan, 0.9], metric("x", "x", "mean", "down", above=0.5))
    assert (row.baseline, row.current, row.n) == (0.5, 2 / 3, 3)


def test_missing_values_are_left_out():
    row = one([1.0, 2.0, np.nan, 3.0], [np.nan, 2.0, 2.5, 3.0, np.nan])
    assert (row.baseline, row.current, row.n) == (2, 2.5, 3)


@pytest.mark.parametrize(
    ("signal", "options", "message"),
    [
        (metric("x", "y"), {}, "baseline has no column 'y'"),
        (metric("x", "x", "count"), {}, "statistic of x is 'count'"),
        (metric("x", "x", "mean", "both"), {}, "direction of x is 'both'"),
        (metric(), {"margins": {"z": 1}}, "margins names ['z']"),
        (metric(), {"margins": {"x": -1}}, "margins['x'] is -1"),
        (metric(), {"confidence": 0}, "confidence is 0"),
    ],
)
def test_bad_arguments_of_the_tracker(signal, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        one([1.0, 2.0], [1.0, 2.0], signal, **options)


def test_periods_that_cannot_be_read():
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    with pytest.raises(ValueError, match="current has no value in 'x'"):
        performance_tracker(frame, frame[:0], [metric()])
    with pytest.raises(ValueError, match="signals is empty"):
        performance_tracker(frame, frame, [])
    with pytest.raises(ValueError, match="x of baseline contains inf"):
        one([1.0, math.inf], [1.0, 2.0])


# --- rollback_decision

GUARDRAILS = {"latency": "critical", "cost": "warning"}


def checked(latency="no worse", cost="no worse", n=1000):
    rows = {"latency": latency, "cost": cost}
    numbers = {"n": n, "worse_by": 2.0, "low": 1.0, "high": 3.0, "margin": 0.5}
    return pd.DataFrame([numbers | {"verdict": verdict} for verdict in rows.values()], index=list(rows))


FINE, BAD = checked(), checked(latency="worse")


@pytest.mark.parametrize(
    ("checks", "action", "reason"),
    [
        ([FINE, FINE], "keep", "none of 2 guardrails"),
        ([BAD, BAD], "roll back", "latency is worse by 2 (interval 1 to 3, margin 0.5) in each of the last 2 checks."),
        ([BAD], "hold", "not yet in 2 checks in a row"),
        ([FINE, BAD], "hold", "not yet in 2 checks in a row"),
        ([BAD, FINE], "keep", "none"),
        ([BAD, BAD, FINE], "keep", "none"),
        ([BAD, FINE, BAD], "hold", "not yet"),
        ([FINE, BAD, BAD], "roll back", "in each of the last 2 checks"),
        ([checked(cost="worse")] * 2, "hold", "cost is worse by 2 (interval 1 to 3, margin 0.5): a warning only."),
        ([checked("worse", "worse")] * 2, "roll back", "latency"),
        ([checked(cost="cannot tell")], "hold", "cost cannot be told from worse (up to 3, margin 0.5)."),
        ([checked("better", "better")], "keep", "none"),
        ([checked("worse", n=499)] * 2, "hold", "latency has 499 entries, of 500 needed; cost has 499"),
        ([checked("worse", n=499), BAD], "hold", "not yet in 2 checks in a row"),
    ],
)
def test_decisions(checks, action, reason):
    decision = rollback_decision(checks, GUARDRAILS)
    assert decision.action == action
    assert reason in decision.reason


def test_other_metrics_decide_nothing():
    assert rollback_decision([BAD, BAD], {"cost": "critical"}).action == "keep"


@pytest.mark.parametrize(
    ("checks", "guardrails", "options", "message"),
    [
        ([], GUARDRAILS, {}, "checks or guardrails is empty"),
        ([FINE], {}, {}, "checks or guardrails is empty"),
        ([FINE], {"speed": "critical"}, {}, "guardrails names 'speed'"),
        ([FINE], {"cost": "fatal"}, {}, "severity of cost is 'fatal'"),
        ([FINE], GUARDRAILS, {"hold": 0}, "hold is 0"),
        ([FINE], GUARDRAILS, {"minimum": 0}, "minimum is 0"),
    ],
)
def test_bad_arguments_of_the_decision(checks, guardrails, options, message):
    with pytest.raises(ValueError, match=message):
        rollback_decision(checks, guardrails, **options)


# --- health_report

HOUR = 3600
READINGS = {"p95": Reading(2.0, 50, 0, 300.0, 10.0), "ratings": Reading(None, 0, 50, 300.0, 10.0)}


def alert(rule, state, severity, hour):
    return Alert(rule, state, severity, 1.0, hour * HOUR, "a reason")


SLOW = [alert("slow", "firing", "warning", 30), alert("slow", "resolved", "warning", 31)]
TOXIC = [alert("toxic", "firing", "critical", 2), alert("toxic", "resolved", "critical", 3)]


@pytest.mark.parametrize(
    ("alerts", "status", "firing", "begun"),
    [
        ([], "healthy", {}, (0, 0, 0)),
        (SLOW, "healthy", {}, (0, 1, 0)),
        (SLOW[:1], "degraded", {"slow": "warning"}, (0, 1, 0)),
        ([*TOXIC, *SLOW[:1]], "degraded", {"slow": "warning"}, (0, 1, 0)),
        ([*TOXIC[:1], *SLOW], "critical", {"toxic": "critical"}, (0, 1, 0)),
        ([alert("gap", "firing", "info", 40)], "healthy", {"gap": "info"}, (1, 0, 0)),
        ([*SLOW, alert("slow", "firing", "warning", 33)], "degraded", {"slow": "warning"}, (0, 2, 0)),
    ],
)
def test_health(alerts, status, firing, begun):
    report = health_report(40 * HOUR, READINGS, alerts, entries=100)
    assert report == {
        "status": status,
        "entries": 100,
        "firing": firing,
        "alerts": dict(zip(("info", "warning", "critical"), begun, strict=True)),
        "without_data": ["ratings"],
    }
    assert json.loads(json.dumps(report)) == report


@pytest.mark.parametrize("age", [None, 3601.0])
def test_silence_is_not_health(age):
    readings = {"p95": Reading(None, 0, 0, 0.0, age)}
    assert health_report(40 * HOUR, readings, SLOW, entries=0)["status"] == "silent"


def test_bad_arguments_of_the_report():
    with pytest.raises(ValueError, match="readings is empty"):
        health_report(0, {}, [], 0)
    with pytest.raises(ValueError, match="alerts holds one of slow after now"):
        health_report(30.5 * HOUR, READINGS, SLOW, 0)
