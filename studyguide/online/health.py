"""From readings to decisions: trends, a period held against a baseline, whether to roll back, and a report on health.

Every metric has a direction, the way that is better: "up", "down", or "both" where any change is of note. Differences
are turned so that above 0 is *worse*. No verdict is reached on noise alone: each has an interval, and "cannot tell" is
one of the answers.

Entries are taken to be independent. Those of one user, or of one hour, are more alike than that; average per user or
per day first, or the intervals are too short.

Errors: a wrong argument is a ValueError or TypeError that names it; data that cannot answer give "cannot tell".
"""

import math
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats

from studyguide.online.monitoring import seconds
from studyguide.probability.validation import one_of, open_fraction, positive_integer, samples
from studyguide.statistics.intervals import Interval, mean_interval, proportion_interval

DIRECTIONS = ("up", "down", "both")
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
WORSE, BETTER, NO_WORSE, UNCLEAR = "worse", "better", "no worse", "cannot tell"


@dataclass(frozen=True)
class Trend:
    """What `trend` finds."""

    slope: Interval  # change of the value per unit of time
    tau: float  # Kendall's tau-b of time and value, -1 to 1
    p_value: float  # of no trend, two-sided
    autocorrelation: float  # of neighbouring residuals: far above 0, independent=True sees trends that are none
    verdict: str  # "improving", "worsening" ("rising", "falling" for "both"), "steady" or "cannot tell"


def trend(times, values, direction="up", practical=0.0, confidence=0.95, independent=True):
    """Whether a metric moves, how fast, and whether that is good: Theil and Sen's slope, Mann and Kendall's test.

    Shapes: times (n,) and values (n,), n of 3 or more; the times, in any unit and order, differ. All pairs are formed:
    give hours or days, not requests. A daily rhythm is no trend: compare whole days.
    Verdict: p below 1 - confidence, and over the whole span a change of at least `practical`, has a direction; "steady"
    if the interval holds no such change. Fewer than 5 values can never be significant at 95 %.
    Convention: the slope is the median of all pairs' slopes, its interval Sen's; p has the continuity correction, and
    ties in the values lower the variance. With independent=False the variance grows by what an AR(1) of the residuals'
    autocorrelation explains (never shrinks): the test of Yue and Wang.
    Source: Sen (1968), "Estimates of the regression coefficient based on Kendall's tau"; Yue and Wang (2004), "The
    Mann-Kendall test modified by effective sample size to detect trend in serially correlated hydrological series".

    >>> found = trend(range(8), [2.0, 2.1, 2.3, 2.2, 2.6, 2.7, 2.9, 3.1], direction="down")  # a latency
    >>> print(found.verdict, found.slope)
    worsening 0.1536 (95 % interval 0.1333 to 0.2)
    """
    one_of("direction", direction, DIRECTIONS)
    alpha = 1 - open_fraction("confidence", confidence)
    practical = _margin("practical", practical)
    x, y = _series(times, values)
    n = len(x)
    first, second = np.triu_indices(n, 1)
    rise = y[second] - y[first]
    slopes = np.sort(rise / (x[second] - x[first]))
    slope = float(np.median(slopes))
    residuals = y - slope * x
    residuals = residuals - residuals.mean()
    power = (residuals**2).sum()
    neighbours = float((residuals[1:] * residuals[:-1]).sum() / power) if power > 0 else 0.0
    ties = np.unique(y, return_counts=True)[1]
    variance = (n * (n - 1) * (2 * n + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18
    if not independent and neighbours > 0:
        lags = np.arange(1, n)
        variance *= 1 + 2 * ((1 - lags / n) * neighbours**lags).sum()
    score, sigma = np.sign(rise).sum(), math.sqrt(variance)
    p = 2 * stats.norm.sf(max(abs(score) - 1, 0) / sigma) if sigma else 1.0
    reach = stats.norm.isf(alpha / 2) * sigma  # Sen's ranks, as scipy counts them
    pairs = len(slopes)
    low = slopes[max(int(np.round((pairs - reach) / 2)) - 1, 0)]
    high = slopes[min(int(np.round((pairs + reach) / 2)), pairs - 1)]
    distinct = math.sqrt(float(pairs - (ties * (ties - 1) / 2).sum()) * pairs)
    span = x[-1] - x[0]
    verdict = UNCLEAR
    if p < alpha and abs(slope) * span >= practical:
        words = {"up": ("improving", "worsening"), "down": ("worsening", "improving"), "both": ("rising", "falling")}
        verdict = words[direction][int(score < 0)]  # the median slope may be 0 where many values are tied
    elif max(-low, high) * span < practical:
        verdict = "steady"
    limits = (torch.tensor(float(value), dtype=torch.float64) for value in (slope, low, high))
    return Trend(Interval(*limits, confidence), float(score / distinct) if distinct else 0.0, p, neighbours, verdict)


def performance_tracker(baseline, current, signals, margins=None, confidence=0.95):
    """Which metrics of the current period are worse than the baseline, beyond noise and beyond a margin that matters.

    baseline and current are frames of log entries, read whole; signals are `monitoring.Signal`s of statistic "mean"
    (a share, with `above` or `below`), "p50", "p95" or "p99" and direction "up" or "down"; margins {name: how much
    worse is still all right, in the metric's unit}, 0 where none is named. Missing values are left out.
    Returns a frame, one row per signal: baseline, current, n (entries with a value, now), worse_by (above 0 is worse),
    its interval low to high, margin, verdict. "worse": the interval lies above the margin; "better": below 0; "no
    worse": below the margin; else "cannot tell".
    Convention: the intervals hold together (Bonferroni): without any change, even one of them misses it with a chance
    of at most 1 - confidence. A mean's limits are Student's, Wilson's for 0/1 columns; a percentile's are order
    statistics by the binomial, free of the distribution. The difference joins two such intervals (MOVER; for 0/1 it is
    Newcombe's).
    Source: Zou and Donner (2008), "Construction of confidence limits about effect measures: a general approach".

    >>> from studyguide.online.monitoring import Signal
    >>> was, now = (pd.DataFrame({"seconds": x}) for x in ([1.0, 1.1, 0.9, 1.0], [2.0, 2.2, 1.9, 2.1]))
    >>> signal = Signal("latency", "seconds", "mean", "down", window=3600)
    >>> performance_tracker(was, now, [signal], {"latency": 0.5}).loc["latency", "verdict"]
    'worse'
    """
    signals = list(signals)
    if not signals:
        raise ValueError("signals is empty; expected at least one")
    margins = margins or {}
    if unknown := set(margins) - {signal.name for signal in signals}:
        raise ValueError(f"margins names {sorted(unknown)}; expected names of signals")
    each = 1 - (1 - open_fraction("confidence", confidence)) / len(signals)
    rows = {}
    for signal in signals:
        one_of(f"direction of {signal.name}", signal.direction, DIRECTIONS[:2])
        margin = _margin(f"margins[{signal.name!r}]", margins.get(signal.name, 0.0))
        (was, was_low, was_high, _), (now, low, high, n) = (
            _estimate(name, frame, signal, each) for name, frame in (("baseline", baseline), ("current", current))
        )
        change = (
            now - was,
            now - was - math.hypot(now - low, was_high - was),
            now - was + math.hypot(high - now, was - was_low),
        )
        worse_by, low, high = change if signal.direction == "down" else (-change[0], -change[2], -change[1])
        verdict = WORSE if low > margin else BETTER if high < 0 else NO_WORSE if high <= margin else UNCLEAR
        rows[signal.name] = (was, now, n, worse_by, low, high, margin, verdict)
    columns = ["baseline", "current", "n", "worse_by", "low", "high", "margin", "verdict"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


class Decision(NamedTuple):
    """What to do with a release, and why."""

    action: str  # "keep", "hold" (no more traffic to it until this is clear) or "roll back"
    reason: str


def rollback_decision(checks, guardrails, minimum=500, hold=2):
    """Whether to roll back a release, from the checks made since: a `Decision` and its reason as a sentence.

    checks are frames of `performance_tracker`, oldest first, of periods that do not overlap; guardrails {name:
    severity}, "critical" or "warning". A metric that is no guardrail decides nothing.
    "roll back": a critical guardrail was worse in each of the last `hold` checks, with at least `minimum` entries each.
    "hold": a guardrail is worse now, but not critical, or not yet for so long, or a guardrail has too few entries, or
    cannot be told from worse. "keep": no guardrail is worse.

    >>> check = {"n": 900, "worse_by": 2.0, "low": 1.5, "high": 2.5, "margin": 0.5, "verdict": "worse"}
    >>> check = pd.DataFrame([check], index=["latency"])
    >>> rollback_decision([check, check], {"latency": "critical"}).reason
    'latency is worse by 2 (interval 1.5 to 2.5, margin 0.5) in each of the last 2 checks.'
    """
    hold, minimum = positive_integer("hold", hold), positive_integer("minimum", minimum)
    if not checks or not guardrails:
        raise ValueError("checks or guardrails is empty; expected at least one of each")
    for name, severity in guardrails.items():
        one_of(f"severity of {name}", severity, ("warning", "critical"))
        if any(name not in check.index for check in checks):
            raise ValueError(f"guardrails names {name!r}, which a check lacks; expected a metric of every check")
    recent = checks[-hold:]
    reasons = {"roll back": [], "hold": []}
    for name, severity in guardrails.items():
        now = recent[-1].loc[name]
        for_long = len(recent) == hold and all(
            check.loc[name, "verdict"] == WORSE and check.loc[name, "n"] >= minimum for check in recent
        )
        size = "{} is worse by {worse_by:.3g} (interval {low:.3g} to {high:.3g}, margin {margin:.3g})".format(
            name, **now
        )
        if now["n"] < minimum:
            reasons["hold"].append(f"{name} has {now['n']} entries, of {minimum} needed")
        elif for_long and severity == "critical":
            reasons["roll back"].append(f"{size} in each of the last {hold} checks")
        elif now["verdict"] == WORSE:
            why = "a warning only" if severity == "warning" else f"not yet in {hold} checks in a row"
            reasons["hold"].append(f"{size}: {why}")
        elif now["verdict"] == UNCLEAR:
            reasons["hold"].append(
                f"{name} cannot be told from worse (up to {now['high']:.3g}, margin {now['margin']:.3g})"
            )
    for action, found in reasons.items():
        if found:
            return Decision(action, "; ".join(found) + ".")
    return Decision("keep", f"none of {len(guardrails)} guardrails is worse beyond its margin.")


def health_report(now, readings, alerts, entries, hours=24, silence=3600):
    """How the service is at `now` (seconds, or a date and time): a dict of plain values, ready for JSON.

    readings are a `Monitor`'s snapshot at now, alerts all transitions that an `AlertEngine` gave until now, in order,
    entries the number of log entries ever read (`Monitor.entries`, not how many a buffer still holds).
    status: "silent" if the newest entry is more than `silence` seconds old, for then nothing else is known; else by the
    worst alert that is firing now, "critical", "degraded" (a warning) or "healthy" (information does not count: what
    was resolved is history). firing: {rule: severity}. alerts: how many began in the last `hours`, by severity.
    without_data: the signals without a value.

    >>> from studyguide.online.monitoring import Reading
    >>> readings = {"p95": Reading(2.0, n=50, missing=0, span=60.0, age=1.0)}
    >>> health_report(60, readings, alerts=[], entries=50)["status"]
    'healthy'
    """
    now = seconds(now)
    if not readings:
        raise ValueError("readings is empty; expected a snapshot with at least one signal")
    if late := [alert.rule for alert in alerts if alert.time > now]:
        raise ValueError(f"alerts holds one of {late[0]} after now; expected those until now")
    latest = {alert.rule: alert for alert in alerts}
    firing = {name: alert.severity for name, alert in latest.items() if alert.state == "firing"}
    begun = Counter(a.severity for a in alerts if a.state == "firing" and a.time > now - 3600 * hours)
    ages = [reading.age for reading in readings.values() if reading.age is not None]
    status = "critical" if "critical" in firing.values() else "degraded" if "warning" in firing.values() else "healthy"
    return {
        "status": status if ages and min(ages) <= silence else "silent",
        "entries": entries,
        "firing": firing,
        "alerts": {severity: begun[severity] for severity in ("info", "warning", "critical")},
        "without_data": [name for name, reading in readings.items() if reading.value is None],
    }


def _series(times, values):
    """Times and values as float64 arrays, in the order of time."""
    x, y = (tensor.double().numpy(force=True) for tensor in samples(at_least=3, times=times, values=values))
    if x.ndim > 1 or x.shape != y.shape:
        raise ValueError(f"times has shape {x.shape}, values {y.shape}; expected one value per time")
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    if (np.diff(x) == 0).any():
        raise ValueError(f"times contains {x[1:][np.diff(x) == 0][0]:g} twice; expected one value per time")
    return x, y


def _margin(name, value):
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected a number of at least 0")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value}; expected a number of at least 0")
    return float(value)


def _estimate(name, frame, signal, confidence):
    """Estimate, low, high and number of values of one signal in one period."""
    if signal.column not in frame:
        raise ValueError(f"{name} has no column {signal.column!r}, which {signal.name} reads")
    values = frame[signal.column].dropna().to_numpy(dtype=float)
    n = len(values)
    if not n:
        raise ValueError(f"{name} has no value in {signal.column!r}; expected at least one")
    if not np.isfinite(values).all():
        raise ValueError(f"{signal.column} of {name} contains inf; expected finite numbers, NaN where there is none")
    if signal.statistic in QUANTILES:
        q, tail = QUANTILES[signal.statistic], (1 - confidence) / 2
        ordered = np.sort(values)
        below, above = int(stats.binom.ppf(tail, n, q)), int(stats.binom.isf(tail, n, q)) + 1  # ranks, from 1
        low = ordered[below - 1] if below >= 1 else -math.inf
        high = ordered[above - 1] if above <= n else math.inf
        return float(np.quantile(values, q)), float(low), float(high), n
    one_of(f"statistic of {signal.name}", signal.statistic, ("mean", *QUANTILES))
    if signal.above is not None or signal.below is not None:  # a share of values beyond a limit
        values = values > signal.above if signal.above is not None else values < signal.below
    if np.isin(values, (0, 1)).all():
        found = proportion_interval(int(values.sum()), n, confidence)
    elif n > 1:
        found = mean_interval(values, confidence)
    else:
        return values[0], -math.inf, math.inf, n
    return float(found.estimate), float(found.low), float(found.high), n
