"""Alert rules as data, and an engine that says when an alert begins and when it ends.

A rule watches one signal of a `Monitor`. Its condition is one of three: a *threshold*; *z*, a distance from the signal's
own recent past; or that the signal has no data (*absent*). The condition must hold for a while (`for`) before the alert
fires, and once it fires it lasts until the value is back at the *clear* level.
"""

import json
import math
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from scipy import optimize, special, stats

from studyguide.online.monitoring import Signal, seconds
from studyguide.probability.validation import one_of

MAD_TO_SD = 1 / stats.norm.isf(0.25)  # 1.4826: the standard deviation of a normal distribution whose MAD is 1
DRAWS = 2_000_000  # simulated readings, to find how far from a median of few of them the next one may be

Text = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)


class Rule(_Strict):
    """When to raise which alert. Times are seconds; the window is the signal's.

    `direction` and `threshold`: the value is "above" or "below" the threshold (at it, it is neither).
    `direction`, `z`, `history`, `spread` and `baseline`: the value is further above or below the last `history` readings
    than a new one from the same normal distribution is with probability P(Z > z), however few they are (`limit_factor`).
    The baseline is their "median" and MAD, which one outlier does not move, or "mean" and standard deviation. `spread` is
    the smallest standard deviation to reckon with, in units of the signal: any change from a constant is infinite without.
    `absent`: fewer than `minimum` values in the window. For the other rules, with fewer there is no verdict.
    `for` (in Python `for_`): seconds that the condition must hold. `clear`: where a firing alert ends, in units of the
    threshold or of z, by default where it fires. `severity`: "info", "warning" or "critical".
    Errors: a pydantic ValidationError (a ValueError) for unknown fields, and for those that do not go together.

    >>> Rule(name="slow", signal="p95", severity="warning", direction="above", threshold=3, clear=2.5, for_=300).minimum
    1
    """

    name: Text
    signal: Text
    severity: Literal["info", "warning", "critical"]
    direction: Literal["above", "below"] | None = None
    threshold: float | None = None
    z: Annotated[float, Field(gt=0, lt=8)] | None = None
    absent: bool = False
    minimum: Annotated[int, Field(ge=1)] = 1
    for_: float = Field(default=0.0, ge=0, alias="for")
    clear: float | None = None
    history: Annotated[int, Field(ge=5)] | None = None
    spread: Annotated[float, Field(gt=0)] | None = None
    baseline: Literal["median", "mean"] = "median"
    description: str = ""

    @model_validator(mode="after")
    def _consistent(self):
        if (self.threshold is not None) + (self.z is not None) + self.absent != 1:
            raise ValueError("expected exactly one of threshold, z and absent")
        if self.absent != (self.direction is None):
            raise ValueError(f"direction is {self.direction}; expected 'above' or 'below', or none with absent")
        for name in ("history", "spread", "baseline"):
            if self.z is None and name in self.model_fields_set:
                raise ValueError(f"{name} is {getattr(self, name)}; expected none without z")
            if getattr(self, name) is None and self.z is not None:
                raise ValueError(f"{name} is missing; expected it with z")
        if self.clear is not None:
            if self.absent:
                raise ValueError(f"clear is {self.clear:g}; expected none with absent")
            side = -1 if self.direction == "below" and self.z is None else 1
            if side * self.clear > side * self._level or (self.z is not None and self.clear < 0):
                raise ValueError(f"clear is {self.clear:g}, on the wrong side of {self._level:g}, where it fires")
        return self

    @property
    def _level(self):
        return self.threshold if self.z is None else self.z


@dataclass(frozen=True)
class Alert:
    """An alert begins ("firing") or ends ("resolved")."""

    rule: str
    state: Literal["firing", "resolved"]
    severity: Literal["info", "warning", "critical"]
    value: float | None  # of the signal; None for want of data
    time: float  # seconds
    reason: str  # one sentence


class AlertEngine:
    """Follows rules through time: `step` gives each alert once when it begins, and once when it ends.

    No data (fewer values than `minimum`) is no verdict: a firing alert goes on, and a condition that was not yet held for
    long enough starts anew. Only rules with `absent` take it as their condition.
    The baseline of a z rule is made of readings whose windows do not overlap with each other or with the new one. While the
    alert fires none joins it, so that an incident does not become the normal state. Until there are `history` of them there
    is no verdict. A false alarm keeps the narrow baseline that caused it: with `for` at 0 and z at 3 there are up to 1.4 times
    as many as claimed, at z = 2 up to twice; with a `for` beyond one window they are as claimed.
    `state` is a dict that survives JSON; `AlertEngine(rules, state)` goes on from it. Rules that it does not know start anew.
    Errors: rules of equal names, a signal without a reading, and a time before that of the last step are a ValueError.

    >>> from studyguide.online.monitoring import Reading
    >>> rule = Rule(name="slow", signal="p95", severity="warning", direction="above", threshold=3, clear=2, for_=60)
    >>> engine = AlertEngine([rule])
    >>> for time, p95 in enumerate([2.5, 3.5, 3.6, 2.5, 1.9]):
    ...     for alert in engine.step(60 * time, {"p95": Reading(p95, n=50, missing=0, span=300.0, age=0.0)}):
    ...         print(alert.state, alert.time, alert.reason)
    firing 120.0 p95 is 3.6, above 3 for 60 s
    resolved 240.0 p95 is 1.9, no longer above 2
    """

    def __init__(self, rules, state=None):
        self.rules = tuple(rules)
        names = [rule.name for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError(f"rules are named {names}; expected each with its own name")
        kept = {"time": None, "rules": {}} if state is None else deepcopy(state)
        begin = {"since": None, "firing": False, "history": []}  # since: when the condition began to hold
        self.state = {"time": kept["time"], "rules": {name: kept["rules"].get(name, deepcopy(begin)) for name in names}}

    def step(self, time, readings):
        """Judge the readings of a moment: a list of Alert, only of those that begin or end now."""
        time = seconds(time)
        if self.state["time"] is not None and time < self.state["time"]:
            raise ValueError(f"time is {time}; expected one not before the last step, {self.state['time']}")
        if absent := {rule.signal for rule in self.rules} - set(readings):
            raise ValueError(f"readings lack {', '.join(sorted(absent))}; expected one for each signal of the rules")
        self.state["time"] = time
        alerts = []
        for rule in self.rules:
            state, reading = self.state["rules"][rule.name], readings[rule.signal]
            holds, reason = _judge(rule, state, time, reading)
            if alert := _follow(rule, state, time, reading, holds, reason):
                alerts.append(alert)
            if rule.z is not None and _enough(rule, reading) and not state["firing"]:
                _remember(rule, state, time, reading)
        return alerts


def _enough(rule, reading):
    return reading.value is not None and reading.n >= rule.minimum


def _judge(rule, state, time, reading):
    """(True if the condition holds, False if not, None if there is no telling; a sentence)."""
    if rule.absent:
        words = f"{rule.signal} has {reading.n} values in its window, "
        few = reading.n < rule.minimum
        return few, words + ("fewer than" if few else "no longer fewer than") + f" {rule.minimum}"
    if not _enough(rule, reading):
        return None, ""
    level = rule.clear if state["firing"] and rule.clear is not None else rule._level
    sign = 1 if rule.direction == "above" else -1
    words = ""
    if rule.z is not None:
        past = [value for then, value in state["history"] if then <= time - reading.span][-rule.history :]
        if len(past) < rule.history:
            return None, ""
        centre, spread = _baseline(rule, past)
        words = f" ({level:g} z from a {rule.baseline} of {centre:.4g})"
        level = centre + sign * limit_factor(level, rule.history, rule.baseline) * spread
    holds = sign * reading.value > sign * level
    side = rule.direction if holds else f"no longer {rule.direction}"
    return holds, f"{rule.signal} is {reading.value:.4g}, {side} {level:.4g}{words}"


def _follow(rule, state, time, reading, holds, reason):
    """Move the rule's state on; the Alert if one begins or ends."""
    if holds is None:
        state["since"] = state["since"] if state["firing"] else None
    elif holds:
        state["since"] = time if state["since"] is None else state["since"]
        if not state["firing"] and time - state["since"] >= rule.for_:
            state["firing"] = True
            reason += f" for {time - state['since']:g} s" if rule.for_ else ""
            return Alert(rule.name, "firing", rule.severity, reading.value, time, reason)
    else:
        fired, state["firing"], state["since"] = state["firing"], False, None
        if fired:
            return Alert(rule.name, "resolved", rule.severity, reading.value, time, reason)
    return None


def _remember(rule, state, time, reading):
    history = state["history"]
    if not history or history[-1][0] <= time - reading.span:
        history.append([time, reading.value])
        del history[: -rule.history - 1]  # the newest may overlap with the next reading


def _baseline(rule, past):
    if rule.baseline == "mean":
        return float(np.mean(past)), max(float(np.std(past, ddof=1)), rule.spread)
    median = float(np.median(past))
    return median, max(MAD_TO_SD * float(np.median(np.abs(np.subtract(past, median)))), rule.spread)


@cache
def limit_factor(z, n, baseline="median"):
    """How many spreads from the centre of `n` readings a new one lies with probability P(Z > z), on one side.

    Convention: "mean" with the standard deviation (ddof=1) is Student's prediction interval: t with n - 1 degrees of freedom
    times sqrt(1 + 1/n). "median" with 1.4826 MAD has no closed form: the mean of P(Z > median + factor x spread) over
    simulated histories (seeded, two million readings) is solved for the factor, which gives the probability to about 3 %.
    Both hold for normal readings, one at a time, and come near z for large n. Errors: z outside 0 to 8, n below 5.
    Source: Hahn and Meeker (1991), Statistical Intervals, chapter 4, for the mean.

    >>> round(limit_factor(3.0, 6, "mean"), 2), round(limit_factor(3.0, 1000, "mean"), 2)
    (5.95, 3.01)
    """
    one_of("baseline", baseline, ("median", "mean"))
    if not 0 <= z < 8 or n < 5:
        raise ValueError(f"z is {z} and n {n}; expected z from 0 to 8 and 5 readings or more")
    tail = stats.norm.sf(z)
    if baseline == "mean":
        return float(stats.t.isf(tail, n - 1) * math.sqrt(1 + 1 / n))
    median, spread = _histories(n)
    excess = lambda factor: special.ndtr(-median - factor * spread).mean() - tail  # noqa: E731
    return float(optimize.brentq(excess, -1, 1e6, xtol=1e-12))


@lru_cache(maxsize=4)
def _histories(n):
    """Median and spread of simulated histories of n standard normal readings."""
    past = np.random.default_rng(0).standard_normal((max(2000, DRAWS // n), n))
    median = np.median(past, axis=1)
    return median, MAD_TO_SD * np.median(np.abs(past - median[:, None]), axis=1)


class _File(_Strict):
    signals: list[Signal] = Field(min_length=1)
    rules: list[Rule] = Field(min_length=1)


def load_rules(path):
    """Signals and rules from a YAML file: (tuple of Signal, tuple of Rule), all checked.

    The file has two lists, `signals` and `rules`, of mappings with the fields of `Signal` and `Rule`. One ValueError names
    every problem with the file, the rule and the field: unknown or missing fields, wrong types, contradictions, equal
    names, a rule for a signal that is not in the file.

    >>> from studyguide.datasets import path
    >>> signals, rules = load_rules(path("online/alerts.yaml"))
    >>> [rule.severity for rule in rules if rule.name == "safety_violation"]
    ['critical']
    """
    file, problems = Path(path), []
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        text = json.dumps(content, default=str)  # pydantic is strict about numbers in JSON, and not about mappings
        found = _File.model_validate_json(text)
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        raise ValueError(f"{file.name}: not YAML in UTF-8 with text for keys: {error}") from error
    except ValidationError as error:
        problems = [_explain(each, content) for each in error.errors()]
    else:
        for kind, several in (("signal", found.signals), ("rule", found.rules)):
            names = Counter(each.name for each in several)
            problems += [f"two {kind}s are named {name}" for name, count in names.items() if count > 1]
        known = {signal.name for signal in found.signals}
        unknown = [rule for rule in found.rules if rule.signal not in known]
        problems += [f"rule {rule.name}, signal: {rule.signal!r} is not among the signals" for rule in unknown]
    if problems:
        raise ValueError("\n  ".join([f"{file.name}: {len(problems)} problem{'s' * (len(problems) > 1)}", *problems]))
    return tuple(found.signals), tuple(found.rules)


def _explain(error, content):
    """Which rule, which field, what is wrong: from one of pydantic's errors."""
    kind, *place = error["loc"] or ("the file",)
    where = str(kind)
    if place:
        item = content[kind][place[0]]
        name = (item.get("name") if isinstance(item, dict) else None) or f"number {place[0] + 1}"
        where = ", ".join([f"{kind.removesuffix('s')} {name}", *map(str, place[1:])])
    match error["type"]:
        case "missing":
            return f"{where}: missing"
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{where}: unknown field"
        case "value_error":
            return f"{where}: {error['ctx']['error']}"
        case "dict_type" | "model_type" | "dataclass_type":
            return f"{where}: expected a mapping, came {error['input']!r}"
    return f"{where}: {error['msg'].replace('Input should', 'expected to')}, came {error['input']!r}"
