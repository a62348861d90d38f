"""Exercises of notebook 7.4, Drift."""

import math

from studyguide.course.exercises import Exercise, Wrong
from studyguide.online.drift import psi
from studyguide.online.embedding_drift import mmd_drift


def my_stability_index(reference, current):
    """The population stability index of two lists of counts, one count per bin.

    An empty bin counts as half an item; then each list is divided by its sum. Returns nats, 0 or more.
    """
    p, q = ([max(count, 0.5) for count in counts] for counts in (reference, current))
    p, q = ([count / sum(counts) for count in counts] for counts in (p, q))
    return sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))


def _index_peer(reference, current):
    from scipy.stats import entropy

    p, q = ([count or 0.5 for count in counts] for counts in (reference, current))
    return entropy(p, q) + entropy(q, p)  # scipy divides by the sums


def _shares(counts, least=0.5, again=True):
    counts = [max(count, least) for count in counts] if again else counts
    return [max(count / sum(counts), 0 if again else least) for count in counts]


def _index(p, q, log=math.log, term=lambda a, b, ratio: (b - a) * ratio):
    return sum(term(a, b, log(b / a)) for a, b in zip(p, q, strict=True))


INDEX = Exercise(
    id="population-stability-index",
    title="The population stability index",
    prompt=(
        "Write `my_stability_index(reference, current)` for two lists of counts, one count per bin. Let an empty bin count as half an item. Divide each list "
        "by its sum. Then add up (q - p) log(q / p) over the bins, with p the reference's share and q the current one."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "Two passes: `max(count, 0.5)` first, the division by the new sum second.",
        "Every term is at least 0: where q is larger than p, both factors are positive, else both negative.",
    ),
    solution=my_stability_index,
    peer=_index_peer,
    cases=(
        ([20, 20, 20, 20, 20], [28, 24, 19, 18, 11]),
        ([50, 50], [25, 75]),
        ([10, 30, 60], [20, 0, 20]),
        ([5, 0, 5], [5, 5, 5]),
        ([7, 7], [70, 70]),
    ),
    wrong=(
        Wrong(
            lambda r, c: _index(_shares(r), _shares(c), term=lambda a, b, ratio: b * ratio),
            "this is the Kullback-Leibler divergence: its weight is q. PSI weighs with q - p, which makes it symmetric.",
        ),
        Wrong(
            lambda r, c: _index(_shares(r), _shares(c), term=lambda a, b, ratio: (a - b) * ratio),
            "every term has the wrong sign. If the factor is q - p, the logarithm is that of q / p.",
        ),
        Wrong(
            lambda r, c: _index(_shares(r), _shares(c), log=math.log2),
            "you used log base 2; PSI and its cuts are in nats, the natural logarithm.",
        ),
        Wrong(
            lambda r, c: _index(_shares(r), _shares(c), term=lambda a, b, ratio: abs(b - a)),
            "you add up |q - p|. That is twice the total variation; PSI multiplies by log(q / p).",
        ),
        Wrong(
            lambda r, c: _index([max(x, 0.5) for x in r], [max(x, 0.5) for x in c]),
            "you use the counts as they are. Divide each list by its sum first, or a larger sample looks like drift.",
        ),
        Wrong(
            lambda r, c: _index(_shares(r, 1e-6, False), _shares(c, 1e-6, False)),
            "you give an empty bin a tiny share such as 0.000001. Its logarithm then decides the index: half an item depends on the sample.",
        ),
        Wrong(
            lambda r, c: sum(
                (b - a) * math.log(b / a) for a, b in zip(_shares(r, 0), _shares(c, 0), strict=True) if a > 0 and b > 0
            ),
            "you leave out bins that are empty on one side: there the change is largest.",
        ),
        Wrong(
            lambda r, c: _index(_shares([x + 0.5 for x in r]), _shares([x + 0.5 for x in c])),
            "you add half an item to every bin. Here only empty bins get it.",
        ),
    ),
)


def my_largest_gap(reference, current):
    """The Kolmogorov-Smirnov distance of two lists of numbers: the largest gap of their distribution functions.

    Returns a number from 0 to 1.
    """

    def below(values, t):
        return sum(value <= t for value in values) / len(values)

    return max(abs(below(reference, t) - below(current, t)) for t in (*reference, *current))


def _gap_peer(reference, current):
    from scipy.stats import ks_2samp

    return ks_2samp(reference, current, method="asymp").statistic


def _gaps(reference, current, places, below=lambda value, t: value <= t):
    return [
        sum(below(value, t) for value in reference) / len(reference)
        - sum(below(value, t) for value in current) / len(current)
        for t in places
    ]


GAP = Exercise(
    id="largest-gap",
    title="The Kolmogorov-Smirnov distance",
    prompt=(
        "Write `my_largest_gap(reference, current)` for two lists of numbers. The distribution function of a list at t is the share of its numbers that are "
        "at most t. Return the largest gap between the two functions, whichever of them is above."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "The functions only jump at numbers of the lists, so try each of these as t, from both lists.",
        "The sizes may differ: compare shares, not counts. The gap may go either way: take its absolute value.",
    ),
    solution=my_largest_gap,
    peer=_gap_peer,
    cases=(
        ([1, 2, 3, 4, 5, 6], [4, 5, 6, 7, 8, 9]),
        ([4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6]),
        ([1, 1, 2, 2], [2, 2, 3]),
        ([0, 10, 10, 10], [4, 5, 6]),
        ([3, 3], [3, 3]),
        ([1, 2, 3, 9], [1, 2, 3, 4, 5, 6, 7, 8]),
    ),
    wrong=(
        Wrong(
            lambda r, c: max(_gaps(r, c, (*r, *c))),
            "you keep the sign, so that a gap the other way is missed. Take the absolute value.",
        ),
        Wrong(
            lambda r, c: sum(abs(gap) for gap in _gaps(r, c, (*r, *c))) / (len(r) + len(c)),
            "you average the gaps. The distance is the largest of them.",
        ),
        Wrong(
            lambda r, c: max(abs(gap) for gap in _gaps(r, c, [sorted((*r, *c))[(len(r) + len(c)) // 2]])),
            "you look at the median alone. Try every number of both lists as t.",
        ),
        Wrong(
            lambda r, c: max(abs(sum(x <= t for x in r) - sum(x <= t for x in c)) for t in (*r, *c)),
            "you compare counts. Divide each by the length of its list: the gap is one of shares.",
        ),
        Wrong(
            lambda r, c: abs(sum(r) / len(r) - sum(c) / len(c)),
            "this is the difference of the means. The distance compares shares at most t, for every t.",
        ),
        Wrong(
            lambda r, c: max(abs(gap) for gap in _gaps(r, c, r)),
            "you try the numbers of the reference only. The functions jump at those of the current list, too.",
        ),
    ),
)


def my_page_hinkley(x, delta, threshold):
    """Where the Page-Hinkley test for an increase first alarms.

    x is the list of numbers in the order in which they come. Returns the place of the alarm, counted from 0; -1 if there
    is none.
    """
    total, up, lowest = 0.0, 0.0, math.inf
    for place, value in enumerate(x):
        total += value
        mean = total / (place + 1)
        up += value - mean - delta
        lowest = min(lowest, up)
        if up - lowest > threshold:
            return place
    return -1


def _page_hinkley_peer(x, delta, threshold):
    from river import drift

    detector = drift.PageHinkley(min_instances=1, delta=delta, threshold=threshold, alpha=1.0, mode="up")
    for place, value in enumerate(x):
        detector.update(value)
        if detector.drift_detected:
            return place
    return -1


def _first(statistics, threshold):
    return next((place for place, value in enumerate(statistics) if value > threshold), -1)


def _above_lowest(x, center, delta, pull=min):
    """up minus its lowest value so far, at each point; `center` is what is taken off the points."""
    up, lowest = 0.0, math.inf if pull is min else -math.inf
    for place, value in enumerate(x):
        up += value - center(x, place) - delta
        lowest = pull(lowest, up)
        yield up - lowest


def _mean_so_far(x, place):
    return sum(x[: place + 1]) / (place + 1)


def _mean_before(x, place):
    return sum(x[:place]) / place if place else x[0]


def _without_minimum(x, delta):
    up = 0.0
    for place, value in enumerate(x):
        up += value - _mean_so_far(x, place) - delta
        yield up


PAGE_HINKLEY = Exercise(
    id="page-hinkley-by-hand",
    title="The Page-Hinkley test",
    prompt=(
        "Write `my_page_hinkley(x, delta, threshold)`, which watches a stream for an increase of its mean. At each point, take off the mean of all "
        "points so far, this one included, and the tolerated change `delta`, and add what is left to a sum. The statistic is how far the sum is above "
        "the lowest value that it has had, this point included. Return the first place, counted from 0, at which it is above `threshold`, and -1 if it "
        "never is."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "Four numbers are enough: how many points were read, their total, the sum and its lowest value. Start the lowest at `math.inf`.",
        "In this order: the mean with the new point, the sum, the lowest sum, the comparison. Leave the loop with `return place` at the first alarm.",
    ),
    solution=my_page_hinkley,
    peer=_page_hinkley_peer,
    cases=(
        ([0, 0, 0, 0, 3, 3, 3, 3], 0.5, 4.0),
        ([1, 2, 3, 10], 1.0, 4.5),
        ([1, 2, 3, 10], 1.0, 5.0),
        ([5, 5, 5, 5, 0, 0, 0, 0], 0.5, 4.0),
        ([0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3], 0.25, 6.0),
        ([5, 5, 5, 5, 0, 0, 0, 0, 2, 2, 2, 2, 2], 0.125, 1.0),
        ([4, 5, 4, 5, 4, 5], 0.125, 3.0),
        ([0, 2, 0, 2, 0, 2, 0, 2, 0, 2, 4, 4, 4, 4], 0.75, 4.0),
        ([2], 0.0, 0.0),
    ),
    wrong=(
        Wrong(
            lambda x, delta, threshold: _first(_without_minimum(x, delta), threshold),
            "you compare the sum itself with the threshold. It has sunk by delta at every quiet point: measure from its lowest value.",
        ),
        Wrong(
            lambda x, delta, threshold: _first(_above_lowest(x, lambda x, place: x[0], delta), threshold),
            "you take off the first point. It is one noisy number: take off the mean of all points so far.",
        ),
        Wrong(
            lambda x, delta, threshold: _first(_above_lowest(x, _mean_before, delta), threshold),
            "your mean leaves the new point out. Here it is counted in before the deviation is taken.",
        ),
        Wrong(
            lambda x, delta, threshold: _first(_above_lowest(x, lambda x, place: sum(x) / len(x), delta), threshold),
            "you take off the mean of the whole list. A detector on a stream has not seen the points to come.",
        ),
        Wrong(
            lambda x, delta, threshold: _first(_above_lowest(x, _mean_so_far, -delta), threshold),
            "you add delta. It is the change that is tolerated: take it off at every point.",
        ),
        Wrong(
            lambda x, delta, threshold: _first(_above_lowest(x, _mean_so_far, 0), threshold),
            "you leave delta out. Without it the sum does not sink at quiet points, and noise alone takes it over the threshold.",
        ),
        Wrong(
            lambda x, delta, threshold: _first(
                (-value for value in _above_lowest(x, _mean_so_far, -delta, pull=max)), threshold
            ),
            "you look for a decrease. For an increase, measure how far the sum is above its lowest value.",
        ),
        Wrong(
            lambda x, delta, threshold: next(
                (i for i, value in enumerate(_above_lowest(x, _mean_so_far, delta)) if value >= threshold), -1
            ),
            "you alarm at the threshold. Only a statistic above it is an alarm.",
        ),
        Wrong(
            lambda x, delta, threshold: _first(_above_lowest(x, _mean_so_far, delta), threshold) + 1,
            "you count places from 1. The first point has place 0, and -1 stands for no alarm.",
        ),
        Wrong(
            lambda x, delta, threshold: sum(value > threshold for value in _above_lowest(x, _mean_so_far, delta)),
            "you return how many points are above the threshold. Return the place of the first one.",
        ),
    ),
)


PAIRS = [(place, place) for place in range(1, 201)]


def my_hidden_drift():
    """200 pairs (question, answer) of which each column looks as before, and the two together do not."""
    return [(place, 201 - place) for place in range(1, 201)]


def _verify_hidden(pairs):
    if not isinstance(pairs, list) or len(pairs) != 200 or any(len(pair) != 2 for pair in pairs):
        return "return a list of 200 pairs of numbers, (question, answer)."
    for name, old, new in zip(("question", "answer"), zip(*PAIRS, strict=True), zip(*pairs, strict=True), strict=True):
        if (found := psi(list(old), list(map(float, new))).statistic) >= 0.01:
            return (
                f"PSI of the column {name} is {found:.2f}: whoever watches the columns sees this. Keep it below 0.01."
            )
    found = mmd_drift([list(map(float, pair)) for pair in PAIRS], [list(map(float, pair)) for pair in pairs], rng=0)
    if found.p_value > 0.01:
        return f"the columns are quiet, but the pairs are, too: MMD's p is {found.p_value:.2f}. Change what belongs to what."
    return None


HIDDEN = Exercise(
    id="break-psi",
    title="A drift that PSI cannot see",
    prompt=(
        "Until now long questions got long answers: in 200 pairs the n-th longest question had the n-th longest answer. As ranks, the reference is the pairs "
        "(1, 1), (2, 2), ..., (200, 200). Write `my_hidden_drift()`: 200 pairs of today, as a list, whose PSI is below 0.01 in both columns while MMD tells "
        "the pairs from the reference with p of at most 0.01."
    ),
    difficulty=2,
    minutes=6,
    hints=(
        "PSI sees one column at a time. A column that is only put into another order has a PSI of 0.",
        "Leave the questions as they are, and give their answers to other questions.",
    ),
    solution=my_hidden_drift,
    verify=_verify_hidden,
    wrong=(
        Wrong(
            lambda: list(PAIRS),
            "the columns are quiet, but the pairs are, too: MMD's p is 1.00. Change what belongs to what.",
        ),
        Wrong(
            lambda: [(place, place + 100) for place in range(1, 201)],
            "PSI of the column answer is 2.68: whoever watches the columns sees this. Keep it below 0.01.",
        ),
        Wrong(
            lambda: [(100, 100)] * 200,
            "PSI of the column question is 5.26: whoever watches the columns sees this. Keep it below 0.01.",
        ),
        Wrong(
            lambda: [(place, 101 - place) for place in range(1, 101)],
            "return a list of 200 pairs of numbers, (question, answer).",
        ),
        Wrong(
            lambda: [(place, 50 * (place // 50) + 49 - place % 50) for place in range(200)],
            "the columns are quiet, but the pairs are, too: MMD's p is 0.78. Change what belongs to what.",
        ),
    ),
)

EXERCISES = (INDEX, GAP, PAGE_HINKLEY, HIDDEN)
