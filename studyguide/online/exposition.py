"""What the service tells a monitoring system: metrics in Prometheus's text format, served over HTTP to be scraped.

`Exporter` holds the metrics, on a registry of its own; `observe` takes a log entry, `observe_many` a frame of them;
`serve` answers a scrape. ``data/online/grafana_dashboard.json`` and ``data/online/prometheus_rules.yaml`` query the
names given here, which a test holds against a real scrape.

| metric | kind | labels |
|---|---|---|
| assistant_requests_total | counter | model, language, outcome: "completed", "abandoned", "error", "unknown" |
| assistant_latency_seconds | histogram | model |
| assistant_score | histogram, 1 to 5 | model, source: "user" (ratings) or "judge" |
| assistant_toxic_total | counter: toxicity above TOXIC | model |
| assistant_tokens_total | counter | model, kind: "prompt" or "response" |
| assistant_cost_dollars_total | counter | model |
| assistant_missing_total | counter: entries without a value | field |
| assistant_last_request_seconds | gauge: the time of the newest entry, seconds since 1970 | |
| assistant_active_users | gauge: users seen in the 24 hours before the newest entry | |

Labels take few values. A user's id is none of them: each value of a label is a time series of its own, kept for ever.
"""

import math
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import NamedTuple

import pandas as pd
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

TOXIC = 0.5
OUTCOMES = ("completed", "abandoned", "error", "unknown")
# seconds, up to a time-out; an alert's level is among them
LATENCY_BUCKETS = (0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 9, 12, 15, 20, 30, 60)
SCORE_BUCKETS = (1, 2, 3, 4, 5)
EXPECTED = ("latency", "cost", "prompt_tokens", "response_tokens", "toxicity", "completed", "error")
SCORES = {"rating": "user", "judge_score": "judge"}  # most entries have none
DAY = 24 * 3600


class Exporter:
    """The metrics of a service, filled by `observe`, read by a scrape of `registry`.

    An entry is a mapping with the columns of the course's log: time, user, language, model, prompt_tokens,
    response_tokens, latency, cost, completed, rating, toxicity, error; also judge_score, where a judge was asked.
    What is None or NaN is counted as missing and otherwise left out; rating and judge_score, which most entries lack,
    are only left out. A ValueError or TypeError names what cannot be counted: an entry without time, user, language or
    model, a value that is no number, below 0 or infinite, completed or error not 0 or 1; nothing is counted then.
    Memory: one number per time series, and the time of each user of the last day.

    >>> exporter = Exporter()
    >>> entry = {"time": pd.Timestamp("2025-03-03"), "user": "u1", "language": "en", "model": "A", "latency": 1.2}
    >>> exporter.observe(entry | {"completed": 1, "error": 0, "cost": 0.002, "toxicity": 0.01})
    >>> exporter.registry.get_sample_value("assistant_latency_seconds_bucket", {"model": "A", "le": "1.5"})
    1.0
    """

    def __init__(self):
        self.registry = CollectorRegistry()
        counter, histogram, gauge = (partial(kind, registry=self.registry) for kind in (Counter, Histogram, Gauge))
        self._requests = counter("assistant_requests", "Requests, by how they ended.", ["model", "language", "outcome"])
        self._latency = histogram(
            "assistant_latency_seconds", "From the request to the end of the reply.", ["model"], buckets=LATENCY_BUCKETS
        )
        self._score = histogram("assistant_score", "Scores, 1 to 5.", ["model", "source"], buckets=SCORE_BUCKETS)
        self._toxic = counter("assistant_toxic", f"Replies of toxicity above {TOXIC}.", ["model"])
        self._tokens = counter("assistant_tokens", "Tokens read and written.", ["model", "kind"])
        self._cost = counter("assistant_cost_dollars", "What the tokens cost.", ["model"])
        self._missing = counter("assistant_missing", "Log entries without this value.", ["field"])
        self._newest = gauge("assistant_last_request_seconds", "Time of the newest log entry, since 1970.")
        self._active = gauge("assistant_active_users", "Users of the last 24 hours.")
        self._seen = OrderedDict()  # user -> time of the newest entry, oldest first

    def observe(self, entry):
        """Count one log entry."""
        for name in ("time", "user", "language", "model"):
            if _missing(entry.get(name)):
                raise ValueError(f"entry has no {name!r}; expected a value")
        model, time = entry["model"], pd.Timestamp(entry["time"]).timestamp()
        values = {name: _number(name, entry.get(name)) for name in (*EXPECTED, *SCORES)}  # all read before any counts
        for name in EXPECTED:
            self._missing.labels(name).inc(values[name] is None)
        ended = "error" if values["error"] else {None: "unknown", 0: "abandoned", 1: "completed"}[values["completed"]]
        for outcome in OUTCOMES:  # 0 makes a series exist, so that a rate of errors is 0 before the first, not absent
            self._requests.labels(model, entry["language"], outcome).inc(outcome == ended)
        if values["latency"] is not None:
            self._latency.labels(model).observe(values["latency"])
        for name, source in SCORES.items():
            if values[name] is not None:
                self._score.labels(model, source).observe(values[name])
        self._toxic.labels(model).inc((values["toxicity"] or 0) > TOXIC)
        self._tokens.labels(model, "prompt").inc(values["prompt_tokens"] or 0)
        self._tokens.labels(model, "response").inc(values["response_tokens"] or 0)
        self._cost.labels(model).inc(values["cost"] or 0)
        self._see(entry["user"], time)

    def observe_many(self, entries):
        """Count a frame of log entries."""
        for entry in entries.to_dict("records"):
            self.observe(entry)

    def _see(self, user, time):
        newest = max(time, next(reversed(self._seen.values()), time))
        self._newest.set(newest)
        self._seen[user] = newest  # a late entry counts as one of now
        self._seen.move_to_end(user)
        while next(iter(self._seen.values())) <= newest - DAY:
            self._seen.popitem(last=False)
        self._active.set(len(self._seen))


class Served(NamedTuple):
    """Where the metrics are served, and how to end it."""

    port: int
    stop: Callable[[], None]


def serve(registry, port=0, host="127.0.0.1"):
    """Answer scrapes of a registry at http://host:port/metrics from a thread: the port, and a function that stops it.

    port 0 takes a free one. The default host answers this machine only: metrics tell strangers much about a service.

    >>> port, stop = serve(Exporter().registry)
    >>> port > 0
    True
    >>> stop()
    """
    server, thread = start_http_server(port, addr=host, registry=registry)

    def stop():
        server.shutdown()
        server.server_close()
        thread.join()

    return Served(server.server_port, stop)


def bucket_quantile(q, buckets):
    """What PromQL's histogram_quantile makes of cumulative buckets: {upper bound: count up to it}, with math.inf.

    Range: q from 0 to 1. Within the bucket that holds the quantile it interpolates linearly, the first starting at 0.
    If that is the bucket without an upper end, the answer is the highest finite bound, however large the truth.
    Errors: no infinite bound, no finite one above 0, counts that fall, or no observation are a ValueError.
    Source: the documentation of Prometheus, "Query functions", histogram_quantile.

    >>> bucket_quantile(0.5, {1: 10, 2: 30, math.inf: 40})
    1.5
    >>> bucket_quantile(0.95, {1: 10, 2: 30, math.inf: 40})
    2.0
    """
    if not 0 <= q <= 1:
        raise ValueError(f"q is {q}; expected 0 to 1")
    bounds = sorted(buckets)
    counts = [buckets[bound] for bound in bounds]
    if len(bounds) < 2 or bounds[0] <= 0 or bounds[-1] != math.inf:
        raise ValueError(f"buckets has bounds {bounds}; expected numbers above 0 and math.inf")
    if counts != sorted(counts) or counts[0] < 0 or counts[-1] <= 0:
        raise ValueError(f"buckets has counts {counts}; expected counts that never fall, and one above 0")
    rank = q * counts[-1]
    place = bisect_left(counts, rank)
    if place == len(bounds) - 1:
        return float(bounds[-2])
    start, below = (bounds[place - 1], counts[place - 1]) if place else (0.0, 0)
    inside = counts[place] - below
    return start + (bounds[place] - start) * ((rank - below) / inside if inside else 0.0)


def _missing(value):
    return value is None or value is pd.NA or value != value


def _number(name, value):
    """A value of an entry, checked; None where it is missing."""
    if _missing(value):
        return None
    if not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}; expected a number, or None where it is missing")
    if not 0 <= value < math.inf or (name in ("completed", "error") and value not in (0, 1)):
        raise ValueError(f"{name} is {value}; expected {'0 or 1' if name in ('completed', 'error') else '0 or more'}")
    return value
