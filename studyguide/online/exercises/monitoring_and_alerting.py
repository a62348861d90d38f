"""Exercises of notebook 7.5, Monitoring and alerting."""

import math

import pandas as pd
from scipy import stats

from studyguide.course.exercises import Exercise, Wrong
from studyguide.online.health import performance_tracker
from studyguide.online.monitoring import Monitor, Signal


def my_pace(times, now, window, start):
    """Requests per minute in the window that ends at `now`.

    times are those of the entries, in seconds, in any order, late ones and ones from the future among them. The window
    is now - window < time <= now; the log began at `start`. Returns a number of at least 0.
    """
    inside = sum(now - window < time <= now for time in times)
    return 60 * inside / min(window, now - start)


def _pace_peer(times, now, window, start):
    import numpy as np

    ordered = np.sort(times)
    inside = np.searchsorted(ordered, now, side="right") - np.searchsorted(ordered, now - window, side="right")
    return float(60 * inside / (now - max(start, now - window)))


def _inside(times, now, window):
    return [time for time in times if now - window < time <= now]


def _by_entries(times, now, window, start):
    inside = _inside(times, now, window)
    return 60 * len(inside) / max(now - min(inside), 1) if inside else 0.0


PACE = Exercise(
    id="rate-over-the-observed-span",
    title="A rate over what was observed",
    prompt=(
        "Write `my_pace(times, now, window, start)`: requests per minute. Count the entries with now - window < time <= now, and divide by the part of "
        "the window in which the log existed. All times are seconds; `start` is before `now`."
    ),
    difficulty=2,
    minutes=7,
    hints=(
        "Two numbers: how many entries lie in the window, and how many seconds of the window lie after `start`.",
        "The window is `window` seconds long; the log is `now - start` seconds old. The shorter of the two was observed.",
    ),
    solution=my_pace,
    peer=_pace_peer,
    cases=(
        ([i / 60 for i in range(1, 61)], 1.0, 3600.0, 0.0),
        ([10.0, 70.0, 75.0, 120.0, 130.0], 130.0, 60.0, 0.0),
        ([50.0, 40.0, 90.0, 100.0, 160.0], 100.0, 60.0, 0.0),
        ([5.0, 15.0], 300.0, 120.0, 0.0),
        ([3600.0, 3700.0, 3650.0], 3720.0, 600.0, 3600.0),
    ),
    wrong=(
        Wrong(
            lambda times, now, window, start: 60 * len(_inside(times, now, window)) / window,
            "you divide by the whole window. Just after the start most of it was never observed, and the rate comes out too low.",
        ),
        Wrong(
            lambda times, now, window, start: len(_inside(times, now, window)) / min(window, now - start),
            "this is the rate per second. There are 60 of them in a minute.",
        ),
        Wrong(
            lambda times, now, window, start: 60 * sum(t > now - window for t in times) / min(window, now - start),
            "you count entries from after `now`. A clock that runs ahead must not raise today's rate.",
        ),
        Wrong(
            lambda times, now, window, start: (
                60 * sum(now - window <= t <= now for t in times) / min(window, now - start)
            ),
            "you count an entry at the edge where the window begins. Then two neighbouring windows both count it.",
        ),
        Wrong(
            lambda times, now, window, start: 60 * len(times) / (now - start),
            "this is the rate since the start. Only entries and time inside the window count.",
        ),
        Wrong(
            _by_entries,
            "you divide by the time since the first entry of the window. Quiet minutes before it were observed too: they are load of 0.",
        ),
    ),
)


def my_surprise(history, value):
    """How improbable a value as far from its history would be, if nothing had changed.

    history is a list of 3 or more numbers that are not all equal, value one number. Returns the two-sided p-value of
    Student's prediction interval, 0 to 1.
    """
    n = len(history)
    mean = sum(history) / n
    spread = (sum((x - mean) ** 2 for x in history) / (n - 1)) ** 0.5
    t = abs(value - mean) / (spread * (1 + 1 / n) ** 0.5)
    return float(2 * stats.t.sf(t, n - 1))


def _surprise_peer(history, value):
    import numpy as np
    import statsmodels.api as sm

    forecast = sm.OLS(np.asarray(history, dtype=float), np.ones(len(history))).fit().get_prediction([1.0])
    t = abs(value - forecast.predicted_mean[0]) / forecast.se_obs[0]
    return float(1 - stats.t.cdf(t, len(history) - 1) + stats.t.cdf(-t, len(history) - 1))


def _surprise(history, value, ddof=1, extra=True, tail=stats.t.sf, sides=2, absolute=True):
    n = len(history)
    mean = sum(history) / n
    spread = math.sqrt(sum((x - mean) ** 2 for x in history) / (n - ddof))
    z = (value - mean) / (spread * (math.sqrt(1 + 1 / n) if extra else 1))
    return float(sides * tail(abs(z) if absolute else z, n - 1))


def _normal(z, df):
    return stats.norm.sf(z)


SURPRISE = Exercise(
    id="prediction-interval-p",
    title="One more value",
    prompt=(
        "Write `my_surprise(history, value)`: the two-sided p-value of `value` if it came from the normal distribution of `history`. Both the mean and the "
        "spread are estimated from the history, and the value has noise of its own. `stats.t.sf(t, df)` is the upper tail of Student's t."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "value - mean has two sources of noise: the value's own variance s², and that of the mean, s² / n. Add the variances.",
        "t = |value - mean| / (s sqrt(1 + 1/n)) with s from n - 1, and n - 1 degrees of freedom. Both tails count.",
    ),
    solution=my_surprise,
    peer=_surprise_peer,
    cases=(
        ([4.2, 4.3, 4.1, 4.4, 4.2, 4.3], 4.6),
        ([4.2, 4.3, 4.1, 4.4, 4.2, 4.3], 2.5),
        ([1.0, 2.0, 3.0], 5.0),
        ([10.0, 12.0, 9.0, 11.0, 10.0, 13.0, 8.0, 11.0], 10.5),
        ([0.0, 1.0, 0.0, 2.0], -3.0),
    ),
    wrong=(
        Wrong(
            lambda h, v: _surprise(h, v, ddof=0, extra=False, tail=_normal),
            "this is the usual z with ddof=0. Six points do not know their own spread: divide by n - 1, add the mean's variance, and take Student's t.",
        ),
        Wrong(
            lambda h, v: _surprise(h, v, extra=False, tail=_normal),
            "you take the estimated mean and spread for the true ones. Add the mean's variance, and take Student's t.",
        ),
        Wrong(
            lambda h, v: _surprise(h, v, tail=_normal),
            "your t is right, its tail is not: the spread is estimated too. Use Student's t with n - 1 degrees of freedom.",
        ),
        Wrong(
            lambda h, v: _surprise(h, v, extra=False),
            "you leave out that the mean is estimated: its variance s² / n is added to the value's own.",
        ),
        Wrong(
            lambda h, v: _surprise(h, v, ddof=0),
            "your spread divides by n. With the mean estimated from the same points, divide by n - 1.",
        ),
        Wrong(
            lambda h, v: _surprise(h, v, sides=1),
            "this is one tail. A value as far off on the other side would surprise you as much: double it.",
        ),
        Wrong(
            lambda h, v: _surprise(h, v, absolute=False),
            "without the absolute value, a value below the history gives a p above 1. Distance has no sign.",
        ),
    ),
)


def my_alarm(values, level, clear, hold):
    """Whether an alert is firing, reading by reading.

    It begins at the `hold`-th reading in a row above `level`, and lasts until a reading is not above `clear`, which is
    not above level. values is a list of numbers. Returns a list of the same length, 1 where it fires, else 0.
    """
    states, run, firing = [], 0, False
    for value in values:
        run = run + 1 if value > level else 0
        firing = value > clear if firing else run >= hold
        states.append(int(firing))
    return states


def _alarm_peer(values, level, clear, hold):
    """By the definition: some earlier run was long enough, and nothing since was at or below `clear`."""

    def fires(i):
        return any(
            j - hold + 1 >= 0
            and all(value > level for value in values[j - hold + 1 : j + 1])
            and all(value > clear for value in values[j : i + 1])
            for j in range(i + 1)
        )

    return [int(fires(i)) for i in range(len(values))]


def _alarm(values, level, clear, hold, at=False, in_a_row=True, slow_end=False):
    states, run, low, firing = [], 0, 0, False
    for value in values:
        above = value >= level if at else value > level
        run = run + 1 if above else run * (not in_a_row)
        low = 0 if value > clear else low + 1
        firing = low < (hold if slow_end else 1) if firing else run >= hold
        states.append(int(firing))
    return states


def _back_dated(values, level, clear, hold):
    states = my_alarm(values, level, clear, hold)
    begins = [i for i, state in enumerate(states) if state and not (i and states[i - 1])]
    return [int(state or any(i < begin < i + hold for begin in begins)) for i, state in enumerate(states)]


def _only_begins(values, level, clear, hold):
    states = my_alarm(values, level, clear, hold)
    return [int(state and not (i and states[i - 1])) for i, state in enumerate(states)]


ALARM = Exercise(
    id="alert-with-hysteresis",
    title="Begin late, end late",
    prompt=(
        "Write `my_alarm(values, level, clear, hold)`. The alert begins at the `hold`-th reading in a row above `level`. Once it fires, it goes on until a "
        "reading is no longer above `clear`, which lies at or below `level`. Return a list of 1 (firing) and 0."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "Two variables are enough: the length of the current run above `level`, and whether the alert is firing.",
        "Which level counts depends on the state: not firing, compare with `level` and look at the run; firing, compare with `clear` only.",
    ),
    solution=my_alarm,
    peer=_alarm_peer,
    cases=(
        ([1, 4, 4, 4, 2.5, 2.5, 4, 1, 4, 1], 3, 2, 2),
        ([4, 1, 4, 1, 4, 1, 4], 3, 2, 2),
        ([3, 3, 3, 3.1, 3.1, 3], 3, 3, 2),
        ([4, 4, 4, 2.5, 2, 4, 4], 3, 2, 3),
        ([4, 2.5, 1], 3, 2, 1),
        ([], 3, 2, 2),
    ),
    wrong=(
        Wrong(
            lambda v, level, clear, hold: [int(x > level) for x in v],
            "you compare each reading with the level. Then an alert flaps: neither `hold` nor `clear` is used.",
        ),
        Wrong(
            lambda v, level, clear, hold: my_alarm(v, level, level, hold),
            "your alert ends where it began. Use `clear`, so that a value near the level does not switch it on and off.",
        ),
        Wrong(
            lambda v, level, clear, hold: my_alarm(v, level, clear, 1),
            "your alert begins at the first reading above the level. One reading is noise: wait for `hold` in a row.",
        ),
        Wrong(
            lambda v, level, clear, hold: _alarm(v, level, clear, hold, in_a_row=False),
            "your readings above the level need not be in a row: the count must start anew after one that is not above it.",
        ),
        Wrong(
            lambda v, level, clear, hold: _alarm(v, level, clear, hold, at=True),
            "you count readings at the level. Above means above: at the level nothing is wrong yet.",
        ),
        Wrong(
            lambda v, level, clear, hold: _alarm(v, level, clear, hold, slow_end=True),
            "you wait for `hold` readings before the alert ends. One reading at or below `clear` ends it.",
        ),
        Wrong(
            _back_dated,
            "you date the alert back to the first reading of the run. At that time nobody could know.",
        ),
        Wrong(
            _only_begins,
            "you mark only where the alert begins. Return 1 for as long as it lasts.",
        ),
    ),
)

USUAL = [round(0.8 + 2.4 * (i / 99) ** 2, 2) for i in range(100)]  # mean 1.6 seconds
_MEAN, _P95 = (Signal(name, "latency", name, "down", window=100) for name in ("mean", "p95"))


def my_outage():
    """Latencies of 100 requests, in seconds: an outage for a tenth of the users that the mean does not show."""
    return [0.1] * 90 + [12.0] * 10  # most requests fail fast, the others wait


def _verify_outage(latencies):
    if not isinstance(latencies, list) or len(latencies) != 100:
        return "return a list of 100 latencies."
    if not all(isinstance(x, int | float) and 0.05 <= x <= 60 for x in latencies):
        return "latencies are seconds from 0.05 (a request that fails at once) to 60 (a time-out)."
    before, now = (Monitor([_MEAN, _P95]) for _ in range(2))
    for second in range(100):
        before.update(second, {"latency": USUAL[second]})
        now.update(second, {"latency": latencies[second]})
    usual, mean, p95 = before.snapshot(99)["mean"].value, now.snapshot(99)["mean"].value, now.snapshot(99)["p95"].value
    waiting = sum(x >= 10 for x in latencies)
    if waiting < 10:
        return f"{waiting} of 100 requests wait 10 seconds or more (p95 {p95:.1f} s). Make it an outage: 10 or more."
    if mean > usual:
        return f"the mean is {mean:.2f} s, above the usual {usual:.2f} s: a dashboard of means shows it. Who could be faster than usual?"
    return None


OUTAGE = Exercise(
    id="break-the-average",
    title="An outage that the average hides",
    prompt=(
        "On a usual day the mean latency is 1.60 seconds. Write `my_outage()`: a list of 100 latencies between 0.05 and 60 seconds in which at least ten users "
        "wait 10 seconds or more, and yet the mean is no higher than usual."
    ),
    difficulty=2,
    minutes=6,
    hints=(
        "Ten users who wait 10 seconds already cost 100 seconds of the 160 that 100 requests may take in all.",
        "In a real outage much is *faster*: requests that are refused at once, answers from a cache, errors.",
    ),
    solution=my_outage,
    verify=_verify_outage,
    wrong=(
        Wrong(
            lambda: list(USUAL), "0 of 100 requests wait 10 seconds or more (p95 3.0 s). Make it an outage: 10 or more."
        ),
        Wrong(
            lambda: [1.5] * 90 + [10.0] * 10,
            "the mean is 2.35 s, above the usual 1.60 s: a dashboard of means shows it. Who could be faster than usual?",
        ),
        Wrong(
            lambda: [0.1] * 96 + [30.0] * 4,
            "4 of 100 requests wait 10 seconds or more (p95 0.1 s). Make it an outage: 10 or more.",
        ),
        Wrong(
            lambda: [0.0] * 90 + [16.0] * 10,
            "latencies are seconds from 0.05 (a request that fails at once) to 60 (a time-out).",
        ),
        Wrong(lambda: [0.1, 12.0], "return a list of 100 latencies."),
    ),
)

_COLUMNS = ("latency", "cost", "toxic", "completed")
BASELINE = pd.DataFrame(
    {
        "latency": [USUAL[i % 100] for i in range(1000)],
        "cost": [0.003 + 0.002 * (i % 7) / 6 for i in range(1000)],
        "toxic": [float(i % 25 == 0) for i in range(1000)],
        "completed": [float(i % 9 > 1) for i in range(1000)],
    }
)
_WATCHED = (
    Signal("latency", "latency", "p95", "down", window=3600),
    Signal("cost", "cost", "mean", "down", window=3600),
    Signal("toxic", "toxic", "mean", "down", window=3600),
    Signal("completed", "completed", "mean", "up", window=3600),
)


def my_improvement():
    """Log entries of an incident that three of four metrics report as an improvement.

    Returns a dict of lists of equal length, 400 or more: "latency" (seconds), "cost" (dollars), "toxic" and "completed"
    (0 or 1), one number per request.
    """
    n = 400  # the model refuses everything, politely, quickly and cheaply
    return {"latency": [0.3] * n, "cost": [0.0004] * n, "toxic": [0] * n, "completed": [0] * n}


def _verify_improvement(entries):
    if not isinstance(entries, dict) or set(entries) != set(_COLUMNS):
        return f"return a dict with the keys {', '.join(_COLUMNS)}."
    if len({len(values) for values in entries.values()}) > 1 or len(entries["cost"]) < 400:
        return "the four lists have equal lengths, 400 or more: fewer entries prove nothing."
    frame = pd.DataFrame({name: [float(value) for value in values] for name, values in entries.items()})
    if (frame < 0).any(axis=None) or not frame[["toxic", "completed"]].isin([0, 1]).all(axis=None):
        return "latency and cost are at least 0, toxic and completed 0 or 1."
    found = performance_tracker(BASELINE, frame, _WATCHED, {"completed": 0.1})["verdict"]
    if plain := [f"{name}: {found[name]}" for name in _COLUMNS[:3] if found[name] != "better"]:
        return f"the tracker does not see an improvement in all three ({'; '.join(plain)})."
    if found["completed"] != "worse":
        return f"users are not worse off (completed: {found['completed']}). What kind of answer is quick, cheap, harmless, and of no use?"
    return None


IMPROVEMENT = Exercise(
    id="improvement-that-is-an-incident",
    title="Better, better, better",
    prompt=(
        "A release makes the p95 of the latency, the cost and the share of toxic answers better, each beyond noise, and it is the worst incident of the year. Write "
        "`my_improvement()`: a dict with lists `latency`, `cost`, `toxic` and `completed` of 400 or more requests for which `performance_tracker` says so, while the share of completed "
        "tasks is worse by more than 0.1. The baseline has a p95 of 3 seconds, a cost of 0.004 dollars, 4 % toxic answers and 78 % completed tasks."
    ),
    difficulty=2,
    minutes=7,
    hints=(
        "Do not damage the three metrics. Ask which behaviour of a model would move all three in the good direction at once.",
        "An empty answer, or a refusal, is quick, cheap and never toxic.",
    ),
    solution=my_improvement,
    verify=_verify_improvement,
    wrong=(
        Wrong(
            lambda: {"latency": [0.3] * 400, "cost": [0.0004] * 400, "toxic": [0] * 400, "completed": [1] * 400},
            "users are not worse off (completed: better). What kind of answer is quick, cheap, harmless, and of no use?",
        ),
        Wrong(
            lambda: {"latency": [9.0] * 400, "cost": [0.0004] * 400, "toxic": [0] * 400, "completed": [0] * 400},
            "the tracker does not see an improvement in all three (latency: worse).",
        ),
        Wrong(
            lambda: {"latency": [0.3] * 400, "cost": [0.0004] * 400, "toxic": [1] * 400, "completed": [0] * 400},
            "the tracker does not see an improvement in all three (toxic: worse).",
        ),
        Wrong(
            lambda: {"latency": [0.3] * 20, "cost": [0.0004] * 20, "toxic": [0] * 20, "completed": [0] * 20},
            "the four lists have equal lengths, 400 or more: fewer entries prove nothing.",
        ),
        Wrong(
            lambda: {"latency": [0.3], "completed": [0]},
            "return a dict with the keys latency, cost, toxic, completed.",
        ),
    ),
)

EXERCISES = (PACE, SURPRISE, ALARM, OUTAGE, IMPROVEMENT)
