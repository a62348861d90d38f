"""A real scrape over the loopback, read by Prometheus's own parser, against what was observed; and what queries it."""

import json
import math
import re
import urllib.request

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from studyguide.datasets import path
from studyguide.online import traffic
from studyguide.online.alerts import load_rules
from studyguide.online.exposition import LATENCY_BUCKETS, TOXIC, Exporter, bucket_quantile, serve

ENTRY = {
    "time": pd.Timestamp("2026-03-02 10:00"),
    "user": "u1",
    "language": "en",
    "model": "A",
    "prompt_tokens": 300,
    "response_tokens": 100,
    "latency": 1.2,
    "cost": 0.0024,
    "completed": 1,
    "rating": math.nan,
    "toxicity": 0.01,
    "error": 0,
}


def scrape(exporter):
    """{(name of the sample, labels): value}, by HTTP."""
    port, stop = serve(exporter.registry)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert answer.status == 200
            text = answer.read().decode()
    finally:
        stop()
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(samples, name, **labels):
    """The sum of the samples of a name that have these labels."""
    found = [v for (n, have), v in samples.items() if n == name and labels.items() <= dict(have).items()]
    assert found, f"no sample of {name} with {labels}"
    return sum(found)


@pytest.fixture(scope="module")
def log():
    operations = traffic.operations()
    return operations[operations["day"].between(18.5, 19.5)]  # the toxic burst, and latencies that are missing


@pytest.fixture(scope="module")
def scraped(log):
    exporter = Exporter()
    exporter.observe_many(log)
    exporter.observe(ENTRY | {"time": log["time"].max(), "judge_score": 4})
    return scrape(exporter)


# --- the scrape


def test_the_scrape_holds_what_was_observed(log, scraped):
    done = log["completed"] == 1
    expected = {
        ("assistant_requests_total", "outcome", "completed"): (done & (log["error"] == 0)).sum() + 1,
        ("assistant_requests_total", "outcome", "error"): log["error"].sum(),
        ("assistant_requests_total", "language", "ar"): (log["language"] == "ar").sum(),
        ("assistant_requests_total", "outcome", "unknown"): 0,
        ("assistant_latency_seconds_count", "model", "A"): log["latency"].notna().sum() + 1,
        ("assistant_latency_seconds_sum", "model", "A"): log["latency"].sum() + 1.2,
        ("assistant_score_count", "source", "user"): log["rating"].notna().sum(),
        ("assistant_score_sum", "source", "user"): log["rating"].sum(),
        ("assistant_score_sum", "source", "judge"): 4,
        ("assistant_toxic_total", "model", "A"): (log["toxicity"] > TOXIC).sum(),
        ("assistant_tokens_total", "kind", "prompt"): log["prompt_tokens"].sum() + 300,
        ("assistant_tokens_total", "kind", "response"): log["response_tokens"].sum() + 100,
        ("assistant_cost_dollars_total", "model", "A"): log["cost"].sum() + 0.0024,
        ("assistant_missing_total", "field", "latency"): log["latency"].isna().sum(),
    }
    for (name, label, chosen), wanted in expected.items():
        assert value(scraped, name, **{label: chosen}) == pytest.approx(wanted, rel=1e-6), (name, label, chosen)
    newest = log["time"].max()
    assert value(scraped, "assistant_last_request_seconds") == pytest.approx(newest.timestamp())
    last_day = log[log["time"] > newest - pd.Timedelta(days=1)]
    assert value(scraped, "assistant_active_users") == last_day["user"].nunique() + 1


@pytest.mark.parametrize("bound", [0.5, 1, 2.5, 9])
def test_buckets_are_cumulative_counts(log, scraped, bound):
    found = value(scraped, "assistant_latency_seconds_bucket", le=str(float(bound)))
    assert found == (log["latency"] <= bound).sum() + (bound >= 1.2)


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_quantiles_of_the_scrape_are_within_a_bucket_of_the_exact_ones(log, scraped, q):
    buckets = {
        float(dict(labels)["le"].replace("+Inf", "inf")): count
        for (name, labels), count in scraped.items()
        if name == "assistant_latency_seconds_bucket"
    }
    exact = log["latency"].dropna().quantile(q, interpolation="lower")
    estimate = bucket_quantile(q, buckets)
    width = np.searchsorted(LATENCY_BUCKETS, [exact, estimate])
    assert abs(width[0] - width[1]) <= 1  # the same bucket, or an edge between two
    assert abs(estimate - exact) <= np.diff((0, *LATENCY_BUCKETS))[width[0]]


def test_the_longest_wait_of_the_course_has_a_bucket_of_its_own():
    assert traffic.operations()["latency"].quantile(0.999) < LATENCY_BUCKETS[-1]


def test_a_registry_of_its_own():
    first, second = Exporter(), Exporter()
    first.observe(ENTRY)
    assert second.registry.get_sample_value("assistant_last_request_seconds") == 0


def test_a_server_stops_and_its_port_is_free_again():
    port, stop = serve(CollectorRegistry())
    stop()
    again, stop = serve(CollectorRegistry(), port=port)
    assert again == port
    stop()


# --- one entry


def sample(*entries):
    exporter = Exporter()
    for entry in entries:
        exporter.observe(ENTRY | entry)
    return lambda name, **labels: exporter.registry.get_sample_value(name, labels)


@pytest.mark.parametrize(
    ("entry", "outcome"),
    [
        ({}, "completed"),
        ({"completed": 0}, "abandoned"),
        ({"completed": None}, "unknown"),
        ({"error": 1, "completed": 0}, "error"),
        ({"error": None}, "completed"),
    ],
)
def test_outcomes(entry, outcome):
    read = sample(entry)
    for other in ("completed", "abandoned", "error", "unknown"):
        found = read("assistant_requests_total", model="A", language="en", outcome=other)
        assert found == (other == outcome)


def test_the_first_scrape_knows_every_series():
    read = sample({})
    assert read("assistant_toxic_total", model="A") == 0
    assert read("assistant_requests_total", model="A", language="en", outcome="error") == 0


@pytest.mark.parametrize("absent", [None, math.nan, pd.NA, pd.NaT])
def test_missing_values_are_counted_and_not_observed(absent):
    read = sample({"latency": absent, "cost": absent, "rating": absent})
    assert read("assistant_latency_seconds_count", model="A") in (None, 0)
    assert read("assistant_cost_dollars_total", model="A") == 0
    assert read("assistant_missing_total", field="latency") == read("assistant_missing_total", field="cost") == 1
    assert read("assistant_missing_total", field="rating") is None  # most users give none


def test_toxicity_at_the_limit_does_not_count():
    assert sample({"toxicity": TOXIC}, {"toxicity": 0.501})("assistant_toxic_total", model="A") == 1


def test_active_users_are_those_of_the_last_day():
    hours = lambda n: ENTRY["time"] + pd.Timedelta(hours=n)  # noqa: E731
    entries = [("u1", 0), ("u2", 10), ("u1", 12), ("u3", 34), ("u2", 40), ("u4", 39)]
    read, expected = [], [1, 2, 2, 2, 2, 3]  # at hour 34 u2 is just gone; at 40 u1 is
    for k in range(len(entries)):
        made = [{"user": user, "time": hours(hour)} for user, hour in entries[: k + 1]]
        read.append(sample(*made)("assistant_active_users"))
    assert read == expected


@pytest.mark.parametrize("name", ["time", "user", "language", "model"])
def test_an_entry_without_its_labels_is_an_error(name):
    with pytest.raises(ValueError, match=f"entry has no '{name}'"):
        Exporter().observe(ENTRY | {name: None})


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ({"cost": -1}, ValueError, "cost is -1; expected 0 or more"),
        ({"latency": math.inf}, ValueError, "latency is inf"),
        ({"latency": "1.2"}, TypeError, "latency is '1.2'; expected a number"),
        ({"completed": 2}, ValueError, "completed is 2; expected 0 or 1"),
        ({"error": 0.5}, ValueError, "error is 0.5; expected 0 or 1"),
        ({"judge_score": -3}, ValueError, "judge_score is -3"),
    ],
)
def test_a_bad_entry_is_an_error_and_counts_nothing(entry, error, message):
    exporter = Exporter()
    with pytest.raises(error, match=re.escape(message)):
        exporter.observe(ENTRY | entry)
    assert [s for family in exporter.registry.collect() for s in family.samples if s.value] == []


@pytest.mark.parametrize("kind", [np.float32, np.int64, np.float64, int])
def test_numbers_of_any_kind(kind):
    assert sample({"latency": kind(2)})("assistant_latency_seconds_sum", model="A") == 2


# --- bucket_quantile


@pytest.mark.parametrize(
    ("q", "expected"),
    [(0, 0), (0.1, 0.4), (0.25, 1), (0.5, 1.5), (0.75, 2), (0.9, 2), (1, 2)],
)
def test_quantiles_by_hand(q, expected):
    # 10 up to 1, 20 from 1 to 2, 10 beyond: rank 4 is 4/10 into the first bucket, rank 20 half into the second
    assert bucket_quantile(q, {1: 10, 2: 30, math.inf: 40}) == pytest.approx(expected)


@given(st.lists(st.floats(0.01, 50), min_size=1, max_size=200), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_quantiles_lie_in_the_bucket_of_the_exact_one(values, q):
    histogram = Histogram("x", "x", buckets=LATENCY_BUCKETS, registry=None)
    for each in values:
        histogram.observe(each)
    buckets = {
        float(s.labels["le"].replace("+Inf", "inf")): s.value for s in histogram._samples() if s.name == "_bucket"
    }
    exact = np.quantile(values, q, method="inverted_cdf")
    upper = min(bound for bound in LATENCY_BUCKETS if bound >= exact)
    lower = max((bound for bound in LATENCY_BUCKETS if bound < exact), default=0)
    assert lower <= bucket_quantile(q, buckets) <= upper or q == 0


@pytest.mark.parametrize(
    ("q", "buckets", "message"),
    [
        (1.5, {1: 1, math.inf: 2}, "q is 1.5"),
        (math.nan, {1: 1, math.inf: 2}, "q is nan"),
        (0.5, {1: 1, 2: 2}, "and math.inf"),
        (0.5, {math.inf: 2}, "and math.inf"),
        (0.5, {0: 1, math.inf: 2}, "above 0"),
        (0.5, {1: 3, math.inf: 2}, "never fall"),
        (0.5, {1: 0, math.inf: 0}, "one above 0"),
    ],
)
def test_bad_buckets(q, buckets, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        bucket_quantile(q, buckets)


# --- what queries it: the dashboard and the alert rules

WORDS = {
    *("sum", "by", "rate", "increase", "histogram_quantile", "time", "max", "scalar", "and", "or", "on", "round", "absent"),
}  # fmt: skip


@pytest.fixture(scope="module")
def dashboard():
    return json.loads(path("online/grafana_dashboard.json").read_text(encoding="utf-8"))


def panels(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queried(expression):
    """(metric, {label: value or None}) of each selector, and the labels that sums keep."""
    selector = r"([a-zA-Z_:][\w:]*)(?:\{([^}]*)\})?"
    kept = {name.strip() for names in re.findall(r"\bby\s*\(([^)]*)\)", expression) for name in names.split(",")}
    bare = re.sub(r"\bby\s*\([^)]*\)", "", expression)
    bare = re.sub(r"\[\d+[smhd]\]", "", bare)
    found = []
    for name, matchers in re.findall(selector, bare):
        if name not in WORDS:
            found.append((name, dict(re.findall(r'(\w+)\s*=~?\s*"([^"]*)"', matchers))))
    return found, kept


def test_the_tokenizer_finds_names_labels_and_groups():
    text = 'histogram_quantile(0.95, sum by (le, model) (rate(a_bucket{model="A", le="2.0"}[5m]))) > 3 and sum(b_total) > 1'
    assert queried(text) == ([("a_bucket", {"model": "A", "le": "2.0"}), ("b_total", {})], {"le", "model"})


def unknown(expression, samples):
    """The names and labels of an expression that no sample has."""
    found, kept = queried(expression)
    assert found, f"no metric in {expression}"
    series = [dict(have) | {"": name} for name, have in samples]
    matching = [[s for s in series if labels.items() <= s.items() and s[""] == name] for name, labels in found]
    missing = [selector for selector, matches in zip(found, matching, strict=True) if not matches]
    return missing + [label for label in kept if not any(label in s for matches in matching for s in matches)]


def test_a_query_of_what_is_not_there_is_found(scraped):
    assert unknown("sum by (kind) (rate(assistant_tokens_total[1h]))", scraped) == []
    assert unknown("sum by (sort) (rate(assistant_tokens_total[1h]))", scraped) == ["sort"]
    assert unknown("rate(assistant_tokens[1h])", scraped) == [("assistant_tokens", {})]
    assert unknown('rate(assistant_tokens_total{kind="input"}[1h])', scraped) == [
        ("assistant_tokens_total", {"kind": "input"})
    ]


def test_the_dashboard_queries_what_the_scrape_has(dashboard, scraped):
    expressions = [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]
    assert len(expressions) >= 15
    assert [problem for expression in expressions for problem in unknown(expression, scraped)] == []


def test_the_dashboard_has_the_guides_four_sections_and_a_valid_layout(dashboard):
    rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    assert rows == ["Quality", "Performance", "Cost", "Usage"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource"]
    taken = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    for panel in panels(dashboard):
        assert panel["type"] in ("timeseries", "stat")
        assert panel["title"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)


SECONDS = {"s": 1, "m": 60, "h": 3600}


def duration(text):
    return int(text[:-1]) * SECONDS[text[-1]]


@pytest.fixture(scope="module")
def alerts():
    groups = yaml.safe_load(path("online/prometheus_rules.yaml").read_text(encoding="utf-8"))["groups"]
    assert len({group["name"] for group in groups}) == len(groups)
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_the_rules_query_what_the_scrape_has(alerts, scraped):
    assert [problem for rule in alerts.values() for problem in unknown(rule["expr"], scraped)] == []


def test_the_rules_are_those_of_the_course(alerts):
    """The same alerts as alerts.yaml, but for z rules: window, level, least number of values, duration, severity."""
    signals, rules = load_rules(path("online/alerts.yaml"))
    signals = {signal.name: signal for signal in signals}
    assert set(alerts) == {rule.name for rule in rules if rule.z is None}
    for rule in rules:
        if rule.z is not None:
            continue
        ours = alerts[rule.name]
        assert set(ours) <= {"alert", "expr", "for", "labels", "annotations"}, rule.name
        assert ours["labels"] == {"severity": rule.severity}
        assert ours["annotations"]["summary"]
        assert duration(ours.get("for", "0s")) == rule.for_, rule.name
        assert {duration(w) for w in re.findall(r"\[(\w+)\]", ours["expr"])} == {signals[rule.signal].window}, rule.name
        operator, level = re.search(r" ([<>]) ([\d.]+)", ours["expr"]).groups()
        if rule.absent:
            assert (operator, float(level)) == ("<", rule.minimum), rule.name
            continue
        assert (operator == ">", float(level)) == (rule.direction == "above", rule.threshold), rule.name
        least = re.search(r">= (\d+)$", ours["expr"])
        assert (int(least[1]) if least else 1) == rule.minimum, rule.name


def test_levels_of_the_course_are_edges_of_buckets():
    """A quantile is then above the level exactly if the share of values above it is: interpolation has no say."""
    signals, rules = load_rules(path("online/alerts.yaml"))
    slow = {signal.name for signal in signals if signal.column == "latency" and signal.statistic.startswith("p")}
    levels = {rule.threshold for rule in rules if rule.signal in slow}
    assert levels
    assert levels <= set(LATENCY_BUCKETS)
    assert {signal.above for signal in signals if signal.column == "toxicity"} == {TOXIC}
