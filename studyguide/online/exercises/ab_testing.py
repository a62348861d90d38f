"""Exercises of notebook 7.1, A/B testing."""

import hashlib
from functools import lru_cache

import numpy as np

from studyguide.course.exercises import Exercise, Wrong
from studyguide.online.assignment import assign
from studyguide.online.effects import cuped, linearize
from studyguide.online.traffic import experiment
from studyguide.statistics.hypothesis import welch_t_test


def my_salted_bucket(unit, experiment):
    """Where a unit stands in an experiment: the first 8 bytes of a SHA-256 as a fraction of 2^64.

    unit and experiment are texts; what is hashed is the experiment, a colon, the unit. Returns a number in [0, 1).
    """
    digest = hashlib.sha256(f"{experiment}:{unit}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _bucket_peer(unit, experiment):
    digits = hashlib.sha256(b":".join([experiment.encode(), unit.encode()])).hexdigest()
    return sum(int(digit, 16) / 16**place for place, digit in enumerate(digits[:16], 1))


def _fraction(text, of=lambda digest: digest[:8], kind=hashlib.sha256, order="big"):
    data = of(kind(text.encode()).digest())
    return int.from_bytes(data, order) / 256 ** len(data)


BUCKET = Exercise(
    id="salted-bucket",
    title="A bucket that every process agrees on",
    prompt=(
        "Write `my_salted_bucket(unit, experiment)`: hash the text `experiment:unit` with SHA-256, read the first 8 bytes as one big-endian whole number, and "
        "divide it by 2^64. (The colon is enough here. The package puts lengths in front, so that no two pairs can be joined to the same text.)"
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "`hashlib.sha256(text.encode()).digest()` gives 32 bytes; the text is an f-string with a colon in the middle.",
        '`int.from_bytes(digest[:8], "big")` reads eight of them as a number below 2^64.',
    ),
    solution=my_salted_bucket,
    peer=_bucket_peer,
    cases=(("u00001", "new model"), ("u00002", "new model"), ("u00001", "tone"), ("سارة", "x")),
    wrong=(
        Wrong(
            lambda unit, experiment: _fraction(unit),
            "you hash the unit alone. Without the experiment's name the same people are in the same arm of every experiment.",
        ),
        Wrong(
            lambda unit, experiment: _fraction(f"{unit}:{experiment}"),
            "the unit comes first in your text. Both orders would do, but all services must use the same: experiment:unit.",
        ),
        Wrong(
            lambda unit, experiment: _fraction(f"{experiment}{unit}"),
            'the colon is missing. Without it, unit "1x" of experiment "a" is unit "x" of experiment "a1".',
        ),
        Wrong(
            lambda unit, experiment: int(hashlib.sha256(f"{experiment}:{unit}".encode()).hexdigest(), 16) % 100 / 100,
            "you take the hash modulo 100. Then shares move in steps of 1 %; use the fraction of 2^64.",
        ),
        Wrong(
            lambda unit, experiment: _fraction(f"{experiment}:{unit}", kind=hashlib.md5),
            "this is MD5. It would split as well, but the agreed hash is SHA-256.",
        ),
        Wrong(
            lambda unit, experiment: _fraction(f"{experiment}:{unit}", order="little"),
            'you read the bytes from the wrong end. Say "big" in int.from_bytes.',
        ),
        Wrong(
            lambda unit, experiment: _fraction(f"{experiment}:{unit}", of=lambda digest: digest[-8:]),
            "you take the last 8 bytes. Take the first ones, digest[:8].",
        ),
    ),
)


def my_ratio_error(completed, requests):
    """Standard error of completed requests per request, when users are what was randomised.

    completed and requests are lists with one count per user, in the same order. Returns a number.
    """
    n, mean = len(requests), sum(requests) / len(requests)
    ratio = sum(completed) / sum(requests)
    squares = [(y - ratio * x) ** 2 for y, x in zip(completed, requests, strict=True)]
    return (sum(squares) / (n - 1) / n) ** 0.5 / mean


def _ratio_peer(completed, requests):
    return float(linearize(completed, requests).std() / len(requests) ** 0.5)


def _residuals(completed, requests):
    y, x = np.array(completed, float), np.array(requests, float)
    return y - y.sum() / x.sum() * x, x


def _by_request(completed, requests):
    p = sum(completed) / sum(requests)
    return (p * (1 - p) / sum(requests)) ** 0.5


RATIO = Exercise(
    id="standard-error-of-a-ratio",
    title="The error of a ratio of sums",
    prompt=(
        "Write `my_ratio_error(completed, requests)`: the standard error of R = sum(completed) / sum(requests), by the delta method. For each user take "
        "completed − R · requests. Its standard deviation (with n − 1), divided by the mean of `requests` and by the root of the number of users, is the answer."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "The differences completed − R · requests have mean 0, so their variance is the sum of their squares divided by n − 1.",
        "n is the number of users. The mean in the denominator is requests per user, not the ratio.",
    ),
    solution=my_ratio_error,
    peer=_ratio_peer,
    cases=(
        ([3, 1, 0, 4], [4, 2, 1, 5]),
        ([2, 9, 0, 1, 5], [3, 10, 4, 1, 6]),
        ([1, 1, 1], [1, 1, 2]),
        ([0, 6, 3, 0], [0, 8, 3, 1]),
    ),
    wrong=(
        Wrong(
            _by_request,
            "this is √(p(1 − p) / requests), which takes requests for independent. Those of one user are alike: use one number per user.",
        ),
        Wrong(
            lambda y, x: float(np.std([a / b for a, b in zip(y, x, strict=True) if b], ddof=1) / len(x) ** 0.5),
            "this is the error of the mean of the users' own rates. The metric is a ratio of sums, in which busy users weigh more.",
        ),
        Wrong(
            lambda y, x: float(_residuals(y, x)[0].std() / _residuals(y, x)[1].mean() / len(x) ** 0.5),
            "you divide the squares by n. Divide by n − 1.",
        ),
        Wrong(
            lambda y, x: float(_residuals(y, x)[0].std(ddof=1) / len(x) ** 0.5),
            "this is the error of a mean per user. Divide by the mean number of requests to get the error per request.",
        ),
        Wrong(
            lambda y, x: float(_residuals(y, x)[0].std(ddof=1) / _residuals(y, x)[1].mean()),
            "this is a standard deviation. Divide by the root of the number of users.",
        ),
        Wrong(
            lambda y, x: float(np.std(y, ddof=1) / np.mean(x) / len(x) ** 0.5),
            "you treat the number of requests as fixed. It varies too, together with what is completed: subtract R · requests first.",
        ),
    ),
)


def my_cuped_difference(treatment, control, treatment_before, control_before):
    """The mean of the treatment less the control's, adjusted for a covariate from before the experiment.

    All four are lists of numbers, the covariates in the order of the users. Returns a number.
    """
    y, x = np.array(treatment + control), np.array(treatment_before + control_before)
    theta = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    gap = np.mean(treatment) - np.mean(control)
    return gap - theta * (np.mean(treatment_before) - np.mean(control_before))


def _cuped_peer(treatment, control, treatment_before, control_before):
    adjusted = cuped(treatment, control, treatment_before, control_before)
    return float(adjusted.treatment.mean() - adjusted.control.mean())


def _adjusted(slope, sign=-1):
    """The difference with another slope: a function of all values and all covariates."""

    def difference(t, c, xt, xc):
        theta = slope(np.array([*t, *c]), np.array([*xt, *xc]))
        return float(np.mean(t) - np.mean(c) + sign * theta * (np.mean(xt) - np.mean(xc)))

    return difference


CUPED = Exercise(
    id="cuped-by-hand",
    title="CUPED in four lines",
    prompt=(
        "Write `my_cuped_difference(treatment, control, treatment_before, control_before)`. First theta, the slope of value on covariate over the users of both "
        "arms together: covariance divided by the variance of the covariate. Then the difference of the two means, less theta times the difference of the "
        "covariate's means."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "Put both arms into one array for theta; `np.cov(x, y)` and `np.var(x)` divide by different numbers, so better write the sums.",
        "If the treatment's users were better before, part of their lead is not the treatment's: it is subtracted.",
    ),
    solution=my_cuped_difference,
    peer=_cuped_peer,
    cases=(
        ([5.0, 7.0, 6.0, 9.0], [4.0, 4.0, 7.0, 6.0], [1.0, 2.0, 2.0, 4.0], [1.0, 1.0, 4.0, 3.0]),
        ([3.0, 8.0, 5.0], [4.0, 2.0, 7.0, 6.0, 3.0], [2.0, 6.0, 5.0], [3.0, 1.0, 4.0, 5.0, 2.0]),
        ([1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.9, 0.2, 0.7], [0.5, 0.1, 0.6]),
    ),
    wrong=(
        Wrong(
            _adjusted(lambda y, x: 0.0),
            "this is the plain difference. Subtract theta times the difference of the covariate's means.",
        ),
        Wrong(
            _adjusted(lambda y, x: np.polyfit(x, y, 1)[0], sign=1),
            "you add the adjustment. Users who were better before must not count for the treatment: subtract it.",
        ),
        Wrong(
            _adjusted(lambda y, x: 1.0),
            "this is theta = 1, difference in differences. Estimate theta, or the covariate's noise comes in at full size.",
        ),
        Wrong(
            _adjusted(lambda y, x: np.corrcoef(x, y)[0, 1]),
            "your theta is the correlation. It must be a slope: covariance divided by the variance of the covariate.",
        ),
        Wrong(
            _adjusted(lambda y, x: np.polyfit(y, x, 1)[0]),
            "you divide by the variance of the values. Divide by that of the covariate.",
        ),
        Wrong(
            _adjusted(lambda y, x: np.cov(x, y)[0, 1] / np.var(x)),
            "your covariance divides by n − 1 and your variance by n. np.var needs ddof=1 to match np.cov.",
        ),
    ),
)

METRICS = ("completed", "rating", "latency", "cost", "toxicity")


def my_lucky_analysis():
    """The metric, the topic ("all" for every topic) and the unit ("user" or "request") of a test that finds a winner."""
    return "completed", "all", "request"


@lru_cache(maxsize=1)
def _half_against_half():
    """The requests of A's users, who are split once more: an A/A test."""
    requests = experiment()
    requests = requests[requests["variant"] == "A"]
    names = sorted(requests["user"].unique())
    seats = dict(zip(names, assign(names, "a/a", {"left": 0.5, "right": 0.5}), strict=True))
    return requests.assign(half=requests["user"].map(seats))


def _p_value(metric, topic, unit):
    rows = _half_against_half().dropna(subset=[metric])
    rows = rows if topic == "all" else rows[rows["topic"] == topic]
    if unit == "request":
        halves = [rows.loc[rows["half"] == half, metric].to_numpy(float) for half in ("left", "right")]
    else:
        sums = rows.groupby(["half", "user"])[metric].agg(["sum", "size"])
        halves = [linearize(*sums.loc[half].to_numpy(float).T) for half in ("left", "right")]
    return float(welch_t_test(*halves).p_value)


def _verify_analysis(answer):
    if not isinstance(answer, tuple) or len(answer) != 3:
        return "return three texts: metric, topic, unit."
    metric, topic, unit = answer
    topics = ("all", *sorted(_half_against_half()["topic"].unique()))
    for value, options in ((metric, METRICS), (topic, topics), (unit, ("user", "request"))):
        if value not in options:
            return f"{value!r} is none of {', '.join(options)}."
    if (p := _p_value(metric, topic, unit)) >= 0.02:
        return f"p is {p:.2f}: no winner yet. Nothing is to be found here, so keep looking."
    return None


LUCKY = Exercise(
    id="break-a-b-test",
    title="A winner between two equals",
    prompt=(
        "Both halves of this test saw model A. Write `my_lucky_analysis()`: return a metric ("
        + ", ".join(METRICS)
        + '), a topic ("all" or one of the topics) '
        'and a unit ("user" or "request") for which the test announces a winner with p below 0.02. `a_a_test` computes p; try what you like.'
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "Loop over metrics, topics and both units, and print the smallest p-values. With 90 analyses you should expect a few.",
        "Requests of one user are alike. Counting each as an observation makes differences look surer than they are.",
    ),
    solution=my_lucky_analysis,
    verify=_verify_analysis,
    wrong=(
        Wrong(
            lambda: ("completed", "all", "user"),
            "p is 0.21: no winner yet. Nothing is to be found here, so keep looking.",
        ),
        Wrong(
            lambda: ("toxicity", "all", "request"),
            "p is 0.58: no winner yet. Nothing is to be found here, so keep looking.",
        ),
        Wrong(lambda: ("completion", "all", "request"), f"'completion' is none of {', '.join(METRICS)}."),
        Wrong(lambda: ("completed", "all", "session"), "'session' is none of user, request."),
        Wrong(lambda: ("completed", "request"), "return three texts: metric, topic, unit."),
    ),
)

EXERCISES = (BUCKET, RATIO, CUPED, LUCKY)
