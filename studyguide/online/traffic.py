"""A support assistant's traffic with a known truth: an experiment of two models, and four weeks of incidents.

`users`, `experiment`, `operations` and `prompts` read what ships in ``data/online/``; its card says what is not
realistic about it. `simulate_experiment` and `simulate_operations` draw anew; `studyguide.online.workload` has their
formulas. All are pandas frames; those of requests are in the order of time and have the columns

    request, session   numbers; a request lost in a logging gap leaves its number out
    time, day          UTC, to the millisecond; days since the start, a Monday at midnight
    user, language     "u00001", ...; "en" or "ar"
    prompt, topic      row of `prompts`; "billing", ...
    model              "A" or "B"
    prompt_tokens, response_tokens
    latency, cost      seconds until the response was there; US dollars
    confidence         0 to 1: the model's own estimate that it completes the task
    completed          1 if it did, else 0
    rating             1 to 5 stars, NaN where the user gave none
    toxicity           0 to 1, a classifier's score of the response
    error              1 if the reply broke off (and so completed nothing), else 0

Convention: a window of days contains its start and not its end.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from studyguide.datasets import path, sha256
from studyguide.online.workload import (
    EFFECTS,
    NEW_TOPIC,
    NO_EFFECTS,
    TURNS,
    category,
    choose_prompts,
    cost,
    draw_people,
    draw_requests,
    latency,
)
from studyguide.probability.validation import one_of, open_fraction, positive_integer

EXPERIMENT_START = pd.Timestamp("2026-01-05")
OPERATIONS_START = pd.Timestamp("2026-03-02")
SESSIONS = 5 / 14  # a user's mean sessions a day in the experiment
COMPONENTS = tuple(f"e{i}" for i in range(16))  # columns of `prompts` with the embedding
COLUMNS = (
    *("request", "time", "day", "user", "session", "prompt", "topic", "language", "model", "prompt_tokens"),
    *("response_tokens", "latency", "cost", "confidence", "completed", "rating", "toxicity", "error"),
)
AFFECTED = {  # the columns that each kind of incident changes
    "input drift": ("prompt", "topic", "prompt_tokens", "cost"),
    "output drift": ("response_tokens", "latency", "cost"),
    "concept drift": ("completed", "rating"),
    "latency regression": ("latency",),
    "toxic burst": ("toxicity",),
    "logging gap": (),
}
NEW_TOPIC_SHARE, LONGER, COMPLETION_KEPT, SLOWER, TOXIC_SHARE, UNLOGGED = 0.3, 1.5, 0.60 / 0.78, 3, 0.2, 0.5


@dataclass(frozen=True)
class Incident:
    """Something that goes wrong from day `start` until before day `end`, and all that it changes.

    `kind` decides the `columns`, as in `AFFECTED`; a "logging gap" with columns () loses whole rows, one with
    ("latency",) half of the latencies. ValueError for another kind, other columns, or a window that is none.

    >>> Incident("toxic burst", 3.5, 3.6, ("toxicity",)).kind
    'toxic burst'
    """

    kind: str
    start: float
    end: float
    columns: tuple[str, ...]
    what: str = ""

    def __post_init__(self):
        one_of("kind", self.kind, AFFECTED)
        if not 0 <= self.start < self.end < np.inf:
            raise ValueError(f"the window is from day {self.start} to day {self.end}; expected 0 <= start < end")
        allowed = [AFFECTED[self.kind], *([("latency",)] if self.kind == "logging gap" else [])]
        if self.columns not in allowed:
            expected = " or ".join(map(repr, allowed))
            raise ValueError(f"columns of a {self.kind} are {self.columns!r}; expected {expected}")


INCIDENTS = (
    Incident("input drift", 8.0, 10.0, AFFECTED["input drift"], "a recall of batteries takes 30 % of the prompts"),
    Incident("logging gap", 11.5, 11.625, (), "three hours without rows"),
    Incident("output drift", 14.0, 15.5, AFFECTED["output drift"], "responses get 1.5 times as long"),
    Incident("latency regression", 16.375, 17.375, ("latency",), "the slowest tenth gets 3 times slower"),
    Incident("toxic burst", 18 + 14 / 24, 18 + 16 / 24, ("toxicity",), "a fifth of the responses is toxic"),
    Incident("logging gap", 19.0, 20.0, ("latency",), "half of the latencies are missing, by chance"),
    Incident(
        "concept drift", 21.5, 24.5, ("completed", "rating"), "completion falls from 0.78 to 0.60, ratings with it"
    ),
)


# What ships


def incidents():
    """The incidents of `operations`, in the order of time: a list.

    >>> [incident.kind for incident in incidents()][:3]
    ['input drift', 'logging gap', 'output drift']
    """
    return list(INCIDENTS)


def users():
    """The users of `experiment`: what was known of each before it began, and the variant each was given.

    Columns: user, variant ("A", "B"), language, and of the 14 days before: pre_requests, pre_completion (share) and
    pre_rating (mean), NaN where there was no request or no rating. Users who never came in the experiment are among
    them.

    >>> users().columns.tolist()
    ['user', 'variant', 'language', 'pre_requests', 'pre_completion', 'pre_rating']
    """
    return _read("users")


def experiment():
    """14 days in which half of the users get model B, whose true effects are `EFFECTS`; with a column `variant`.

    >>> experiment()["variant"].cat.categories.tolist()
    ['A', 'B']
    """
    return _read("experiment")


def operations():
    """28 days of model A with the incidents of `incidents`; the first 7 days are clean.

    The users are others than the experiment's, although their names are the same. Latencies are missing in one logging
    gap and nowhere else; the other shows as a gap in the numbers of the requests.

    >>> operations()["request"].diff().max() > 100
    np.True_
    """
    return _read("operations")


def prompts():
    """Every prompt: prompt (number), text, topic, language, tokens (of o200k), e0 to e15.

    The last are the MiniLM embedding of the text on the first 16 principal components of all prompts (float32).

    >>> prompts()["text"][0]
    'Why was I charged twice this month?'
    """
    return _read("prompts")


def embeddings(requests):
    """The embedding of each request's prompt: float32, shape (n, 16).

    >>> embeddings(operations()[:100]).shape
    (100, 16)
    """
    return prompts()[list(COMPONENTS)].to_numpy()[requests["prompt"]]


def _read(name):
    file, sums = path(f"online/{name}.parquet"), path("online/SHA256SUMS")
    if f"{sha256(file)}  {file.name}" not in sums.read_text(encoding="utf-8").splitlines():
        raise ValueError(f"{file} has another sha256 than in {sums.name}; python data/online/build.py writes both")
    return pd.read_parquet(file)


# Simulation


def simulate_experiment(n_users=4000, days=14, pre_days=14, effects=EFFECTS, split=0.5, rng=0):
    """An A/B test: the users, as in `users`, and their requests, as in `experiment`.

    `effects` are those of B over A, as in `EFFECTS` (what is not named has none); None is an A/A test. A user gets B
    with probability `split`. `rng` is an int seed or a numpy Generator; for one seed, only what the effects change
    differs. Probabilities that an effect would take out of their range stay at its end.

    >>> users, requests = simulate_experiment(n_users=100, rng=1)
    >>> users["variant"].value_counts().to_dict(), len(requests)
    ({'B': 52, 'A': 48}, 1215)
    """
    n_users, days, pre_days = map(positive_integer, ("n_users", "days", "pre_days"), (n_users, days, pre_days))
    effects, split, rng, catalogue = _effects(effects), open_fraction("split", split), _generator(rng), prompts()
    people = draw_people(rng, n_users)
    treated = rng.random(n_users) < split
    nobody = np.zeros_like(treated)
    before = draw_requests(rng, people, catalogue, EXPERIMENT_START, pre_days, SESSIONS * pre_days, nobody, effects)
    before = before.groupby("user")
    covariates = {
        "pre_requests": before.size().reindex(people["user"], fill_value=0).astype(np.int32),
        "pre_completion": before["completed"].mean().reindex(people["user"]),
        "pre_rating": before["rating"].mean().reindex(people["user"]),
    }
    table = people[["user", "language"]].assign(**{name: column.to_numpy() for name, column in covariates.items()})
    table.insert(1, "variant", category(treated, ["A", "B"]))
    requests = draw_requests(rng, people, catalogue, EXPERIMENT_START, days, SESSIONS * days, treated, effects)
    return table, requests[list(COLUMNS)].assign(variant=requests["model"])


def simulate_operations(days=28, requests_per_day=1500, incidents=INCIDENTS, rng=0):
    """Requests to model A, as in `operations`, with these incidents; () is stationary apart from the load's rhythm.

    `requests_per_day` is a mean. Incidents lie within the days and do not overlap. For one seed, an incident changes
    its columns in its window and nothing else. `rng` is an int seed or a numpy Generator.

    >>> len(simulate_operations(days=2, requests_per_day=1000, incidents=(), rng=1))
    1875
    """
    days, per_day = positive_integer("days", days), positive_integer("requests_per_day", requests_per_day)
    incidents, rng, catalogue = _schedule(incidents, days), _generator(rng), prompts()
    people = draw_people(rng, 2 * per_day)
    nobody = np.zeros(len(people), dtype=bool)
    frame = draw_requests(rng, people, catalogue, OPERATIONS_START, days, days / (2 * TURNS), nobody, NO_EFFECTS)
    draws = pd.DataFrame(rng.random((len(frame), 2)), columns=["pick", "value"])  # for all rows, whatever happens
    slow = frame["latency"].quantile(0.9)
    for incident in incidents:
        inside = frame.index[(frame["day"] >= incident.start) & (frame["day"] < incident.end)]
        if incident.kind == "logging gap" and not incident.columns:
            frame = frame.drop(inside)
        else:
            _disturb(incident, frame, draws.loc[inside], slow, catalogue)
    return frame[list(COLUMNS)].reset_index(drop=True)


def _disturb(incident, frame, draws, slow, catalogue):
    """Change the incident's columns of `frame` in the rows of `draws`."""
    rows, pick, value = draws.index, draws["pick"], draws["value"]
    if incident.kind == "input drift":
        rows = rows[pick < NEW_TOPIC_SHARE]
        arabic = (frame.loc[rows, "language"] == "ar").to_numpy()
        prompt, tokens = choose_prompts(catalogue, np.full(len(rows), NEW_TOPIC), arabic, value[rows].to_numpy())
        frame.loc[rows, "prompt"], frame.loc[rows, "topic"] = prompt, NEW_TOPIC
        frame.loc[rows, "prompt_tokens"] = frame.loc[rows, "_pages"] + tokens
        frame.loc[rows, "cost"] = cost(frame.loc[rows])
    elif incident.kind == "output drift":
        frame.loc[rows, "response_tokens"] = np.rint(LONGER * frame.loc[rows, "response_tokens"]).astype(np.int32)
        frame.loc[rows, "latency"] = latency(frame.loc[rows])
        frame.loc[rows, "cost"] = cost(frame.loc[rows])
    elif incident.kind == "concept drift":
        rows = rows[(pick >= COMPLETION_KEPT) & (frame.loc[rows, "completed"] == 1)]
        frame.loc[rows, "completed"] = 0
        frame.loc[rows, "rating"] = frame.loc[rows, "_rating_if_not"]
    elif incident.kind == "latency regression":
        rows = rows[frame.loc[rows, "latency"] > slow]
        frame.loc[rows, "latency"] = (SLOWER * frame.loc[rows, "latency"]).round(3)
    elif incident.kind == "toxic burst":
        rows = rows[pick < TOXIC_SHARE]
        frame.loc[rows, "toxicity"] = (0.5 + value[rows] / 2).round(4)
    else:
        frame.loc[rows[pick < UNLOGGED], list(incident.columns)] = np.nan


def _schedule(incidents, days):
    incidents = list(incidents)
    for incident in incidents:
        if not isinstance(incident, Incident):
            raise TypeError(f"incidents contains {incident!r}; expected Incidents")
        if incident.end > days:
            raise ValueError(f"{incident.kind} ends on day {incident.end}; expected at most {days}, the days")
    incidents.sort(key=lambda incident: incident.start)
    for first, second in pairwise(incidents):
        if second.start < first.end:
            raise ValueError(f"{second.kind} begins on day {second.start}, before {first.kind} ends on {first.end}")
    return incidents


def _effects(effects):
    if effects is not None and not isinstance(effects, Mapping):
        raise TypeError(f"effects is {effects!r}; expected a mapping such as EFFECTS, or None")
    effects = {**NO_EFFECTS, **(effects or {})}
    for name, value in effects.items():
        one_of("effects", name, NO_EFFECTS)
        if not isinstance(value, (int, float, np.number)):
            raise TypeError(f"the effect on {name} is {value!r}; expected a number")
        expected = "factor above 0" if NO_EFFECTS[name] else "difference"
        if not -np.inf < value < np.inf or (NO_EFFECTS[name] and value <= 0):
            raise ValueError(f"the effect on {name} is {value}; expected a {expected}")
    return effects


def _generator(rng):
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, bool) or not isinstance(rng, (int, np.integer)):
        raise TypeError(f"rng is {rng!r}; expected an int seed or a numpy Generator")
    return np.random.default_rng(rng)
