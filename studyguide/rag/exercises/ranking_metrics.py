"""Exercises of notebook 6.2, Ranking metrics."""

import math
from itertools import pairwise, permutations

from studyguide.course.exercises import Exercise, Wrong
from studyguide.rag.ranking import evaluate_run


def my_map_of_one(grades, n_relevant):
    """Average precision of one ranking.

    grades is the list of grades in rank order, n_relevant how many relevant documents there are, retrieved or not.
    Returns a number from 0 to 1; 0 if there is no relevant document.
    """
    found, total = 0, 0.0
    for place, grade in enumerate(grades, 1):
        if grade > 0:
            found += 1
            total += found / place
    return total / n_relevant if n_relevant else 0.0


def _map_peer(grades, n_relevant):
    import pytrec_eval

    qrels = {f"d{place}": grade for place, grade in enumerate(grades)}
    missed = n_relevant - sum(grade > 0 for grade in grades)
    qrels |= {f"missed{number}": 1 for number in range(missed)}
    run = {f"d{place}": -float(place) for place in range(len(grades))}
    return pytrec_eval.RelevanceEvaluator({"q": qrels}, {"map"}).evaluate({"q": run})["q"]["map"]


def _precisions(grades, first=1, weigh=lambda grade: grade > 0):
    """The precision at each relevant rank; `first` is the number of the first rank."""
    found = 0
    for place, grade in enumerate(grades, first):
        found += weigh(grade)
        if grade > 0:
            yield found / place


def _every_precision(grades):
    return [sum(grade > 0 for grade in grades[:k]) / k for k in range(1, len(grades) + 1)]


AVERAGE = Exercise(
    id="average-precision-of-a-ranking",
    title="Average precision",
    prompt=(
        "Write `my_map_of_one(grades, n_relevant)`. At each rank that holds a relevant document (a grade above 0), take the precision up to it. Add "
        "these up and divide by `n_relevant`, the number of relevant documents that exist. Without any, return 0."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "Walk down the ranks with a counter of relevant documents seen so far. `enumerate(grades, 1)` counts ranks from 1.",
        "At a relevant rank add counter / rank. The division by `n_relevant` comes last, and a missed document has added nothing.",
    ),
    solution=my_map_of_one,
    peer=_map_peer,
    cases=(
        ([1, 1, 0], 2),
        ([0, 1, 1], 2),
        ([2, 0, 1, 0, 2], 4),
        ([0, 0, 1], 3),
        ([0, 2], 1),
        ([0, 0], 2),
        ([0, 0], 0),
    ),
    wrong=(
        Wrong(
            lambda grades, n: sum(found := list(_precisions(grades))) / max(len(found), 1),
            "you divide by the relevant documents that were found. Divide by n_relevant: what was missed must cost something.",
        ),
        Wrong(
            lambda grades, n: sum(_precisions(grades)) / len(grades),
            "you divide by the length of the list. Divide by the number of relevant documents.",
        ),
        Wrong(
            lambda grades, n: sum(_every_precision(grades)) / len(grades),
            "you average the precision at every rank. Only the ranks of relevant documents count.",
        ),
        Wrong(
            lambda grades, n: sum(_precisions(grades, weigh=lambda grade: grade)) / max(n, 1),
            "you add up the grades. Average precision is binary: a grade above 0 is 1.",
        ),
        Wrong(
            lambda grades, n: sum(1 / place for place, grade in enumerate(grades, 1) if grade > 0) / max(n, 1),
            "you add 1 / rank. The precision at the rank is the number of relevant documents so far, divided by the rank.",
        ),
        Wrong(
            lambda grades, n: sum(_precisions(grades)) / n,
            "right, but without a relevant document you divide by 0. Return 0 then.",
        ),
    ),
)


def my_graded_gain(grades, judged, k):
    """nDCG at k with linear gain.

    grades is the list of grades in rank order, judged the list of the grades of all judged documents, retrieved or not,
    in any order. Returns a number from 0 to 1; 0 if no judged document is relevant.
    """

    def discounted(gains):
        return sum(gain / math.log2(place + 1) for place, gain in enumerate(gains[:k], 1))

    ideal = discounted(sorted(judged, reverse=True))
    return discounted(grades) / ideal if ideal else 0.0


def _ndcg_peer(grades, judged, k):
    import numpy as np
    from sklearn.metrics import dcg_score

    def score(gains):  # sklearn wants two documents at least
        return dcg_score(np.array([[*gains, 0, 0]]), -np.arange(len(gains) + 2.0)[None], k=k)

    ideal = score(sorted(judged, reverse=True))
    return float(score(grades) / ideal) if ideal else 0.0


def _dcg(gains, discount=lambda place: math.log2(place + 1)):
    return sum(gain / discount(place) for place, gain in enumerate(gains, 1))


def _falling(judged):
    return sorted(judged, reverse=True)


def _ratio(part, whole):
    return part / whole if whole else 0.0


def _ndcg(grades, judged, k, **options):
    return _ratio(_dcg(grades[:k], **options), _dcg(_falling(judged)[:k], **options))


def _powers(grades):
    return [2**grade - 1 for grade in grades]


GRADED = Exercise(
    id="ndcg-with-missed-documents",
    title="nDCG",
    prompt=(
        "Write `my_graded_gain(grades, judged, k)`: nDCG at `k` with linear gain. The DCG of the first `k` ranks is divided by the best DCG that `k` ranks "
        "can have, given the grades of all judged documents, also of those that were not retrieved. If none of them is relevant, return 0."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "Write the DCG as a function of a list of gains first; it serves twice. The discount of rank r is log2(r + 1).",
        "The best ranking is `sorted(judged, reverse=True)`, cut to `k` as well.",
    ),
    solution=my_graded_gain,
    peer=_ndcg_peer,
    cases=(
        ([2, 0, 1, 0, 2], [2, 0, 1, 0, 2, 1], 5),
        ([2, 0, 1, 0, 2], [2, 0, 1, 0, 2, 1], 3),
        ([0, 0, 1], [1, 0, 2, 0, 2], 2),
        ([1, 2], [1, 2], 10),
        ([3, 1], [3, 3, 1], 1),
        ([0, 0], [0, 0, 0], 2),
    ),
    wrong=(
        Wrong(
            lambda g, j, k: _ratio(_dcg(g[:k]), _dcg(_falling(g)[:k])),
            "your ideal ranking is made of the documents that were retrieved. It must hold every judged one, or missing the best costs nothing.",
        ),
        Wrong(
            lambda g, j, k: _ratio(_dcg(g[:k]), _dcg(_falling(j))),
            "you do not cut the ideal ranking at k. Then even a perfect top k scores below 1.",
        ),
        Wrong(
            lambda g, j, k: _ratio(_dcg(g), _dcg(_falling(j))),
            "you never cut at k. Both rankings are read down to rank k only.",
        ),
        Wrong(
            lambda g, j, k: _ndcg(_powers(g), _powers(j), k),
            "this is the exponential gain, 2^grade - 1. The linear gain is the grade itself.",
        ),
        Wrong(
            lambda g, j, k: _ndcg([grade > 0 for grade in g], [grade > 0 for grade in j], k),
            "you count every relevant document as 1. The grade is the gain.",
        ),
        Wrong(
            lambda g, j, k: _ndcg(g, j, k, discount=lambda place: place),
            "you divide by the rank. The discount of DCG is log2(rank + 1), which falls more slowly.",
        ),
        Wrong(
            lambda g, j, k: _ndcg(g, j, k, discount=lambda place: max(1, math.log2(place))),
            "you divide by log2(rank), as the first paper does: the first two ranks then count alike. Take log2(rank + 1).",
        ),
        Wrong(lambda g, j, k: _dcg(g[:k]), "this is DCG. Divide it by the DCG of the ideal ranking."),
        Wrong(
            lambda g, j, k: _dcg(g[:k]) / _dcg(_falling(j)[:k]),
            "right, but without a relevant document you divide by 0. Return 0 then.",
        ),
    ),
)


def my_tied_precision(grades, scores, k):
    """Precision at k, expected over all orders of the documents that have equal scores.

    grades and scores are lists, one entry per document, in no particular order. Returns a number from 0 to 1.
    """
    total, left = 0.0, k
    for score in sorted(set(scores), reverse=True):
        group = [grade > 0 for grade, other in zip(grades, scores, strict=True) if other == score]
        taken = min(left, len(group))
        total += taken * sum(group) / len(group)
        left -= taken
    return total / k


def _tied_peer(grades, scores, k):
    every = [
        order for order in permutations(range(len(grades))) if all(scores[a] >= scores[b] for a, b in pairwise(order))
    ]
    return sum(sum(grades[place] > 0 for place in order[:k]) for order in every) / len(every) / k


def _top(grades, scores, k, key):
    order = sorted(range(len(grades)), key=key)[:k]
    return sum(grades[place] > 0 for place in order) / k


def _cut(grades, scores, k, whole):
    """Precision of all documents above the tie at rank k, and of that tie too if `whole`."""
    limit = sorted(scores, reverse=True)[k - 1]
    kept = [
        grade > 0 for grade, score in zip(grades, scores, strict=True) if score > limit or (whole and score == limit)
    ]
    return sum(kept) / (len(kept) if whole else k)


TIED = Exercise(
    id="precision-with-ties",
    title="Precision where scores are equal",
    prompt=(
        "Write `my_tied_precision(grades, scores, k)`: the precision at `k` that you get on average if documents of equal score are shuffled. `grades` and "
        "`scores` have one entry per document, at least `k` of them; a grade above 0 is relevant. No random numbers are needed."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "Go through the distinct scores from the highest down. A group that fits into the ranks that are left counts as a whole.",
        "Of a group that does not fit, some ranks are taken at random: each holds a relevant document with the group's share of them.",
    ),
    solution=my_tied_precision,
    peer=_tied_peer,
    cases=(
        ([1, 0], [0.5, 0.5], 1),
        ([0, 2, 1, 0], [0.9, 0.4, 0.4, 0.4], 2),
        ([0, 1, 1, 0, 0], [0.1, 0.7, 0.3, 0.3, 0.3], 3),
        ([2, 0, 0], [0.3, 0.2, 0.1], 2),
        ([0, 1, 0, 1], [1.0, 1.0, 1.0, 1.0], 3),
    ),
    wrong=(
        Wrong(
            lambda g, s, k: _top(g, s, k, lambda i: -s[i]),
            "you leave equal scores in the order in which they are listed. List them the other way round, and your number changes.",
        ),
        Wrong(
            lambda g, s, k: _top(g, s, k, lambda i: (-s[i], -g[i])),
            "this is the luckiest order of equal scores, not the average over all of them.",
        ),
        Wrong(
            lambda g, s, k: _top(g, s, k, lambda i: (-s[i], g[i])),
            "this is the unluckiest order of equal scores, not the average over all of them.",
        ),
        Wrong(
            lambda g, s, k: (_top(g, s, k, lambda i: (-s[i], -g[i])) + _top(g, s, k, lambda i: (-s[i], g[i]))) / 2,
            "you take the middle between the best and the worst order. Orders in between are more or less frequent: take each rank's expectation.",
        ),
        Wrong(
            lambda g, s, k: _cut(g, s, k, whole=True),
            "you take in every document that ties with rank k, and divide by more than k. Only k ranks are read.",
        ),
        Wrong(
            lambda g, s, k: _cut(g, s, k, whole=False),
            "you leave out every document that ties with rank k. Some of them are read: count their expected number.",
        ),
    ),
)

SHELF = {
    "Ferry timetable, summer": 0,
    "Ferry timetable, winter": 2,
    "Ferry fares": 1,
    "Harbour fees": 0,
    "Museum hours": 0,
}


def my_document_ids():
    """A name for each document with which a retriever that knows nothing scores perfectly."""
    return {
        "Ferry timetable, winter": "e",
        "Ferry fares": "d",
        "Ferry timetable, summer": "c",
        "Harbour fees": "b",
        "Museum hours": "a",
    }


def _verify_ids(ids):
    if not isinstance(ids, dict) or set(ids) != set(SHELF):
        return "return a dict with the five titles as keys, and an id for each."
    if not all(isinstance(name, str) and name for name in ids.values()) or len(set(ids.values())) < len(ids):
        return "ids are strings that are not empty, and no two documents share one."
    qrels = {"q": {ids[title]: grade for title, grade in SHELF.items()}}
    run = {"q": dict.fromkeys(ids.values(), 0.5)}
    score, fair = (evaluate_run(qrels, run, ["ndcg"], ties).means["ndcg"] for ties in ("trec", "average"))
    if score < 1 - 1e-9:
        return f"nDCG is {score:.2f} with these ids, {fair:.2f} on average over all. Which of two equal scores does trec_eval put first?"
    return None


NAMES = Exercise(
    id="break-ties",
    title="A name is all it takes",
    prompt=(
        "A passenger asks when the winter ferry leaves. The timetable for winter has grade 2, the fares 1, the others 0: "
        + "; ".join(f'"{title}"' for title in SHELF)
        + ". The retriever is broken: it gives each of them a score of 0.5. Write `my_document_ids()`: a dict from title to id with which trec_eval's rule for "
        "ties gives this retriever an nDCG of 1."
    ),
    difficulty=2,
    minutes=6,
    hints=(
        "All scores are equal, so the order of the ranking is decided by the ids alone.",
        'trec_eval sorts equal scores by id, last in the alphabet first. "doc9" comes after "doc10": ids are text.',
    ),
    solution=my_document_ids,
    verify=_verify_ids,
    wrong=(
        Wrong(
            lambda: {title: title for title in SHELF},
            "nDCG is 0.53 with these ids, 0.67 on average over all. Which of two equal scores does trec_eval put first?",
        ),
        Wrong(
            lambda: {title: f"{rank}" for rank, title in enumerate(sorted(SHELF, key=SHELF.get, reverse=True))},
            "nDCG is 0.46 with these ids, 0.67 on average over all. Which of two equal scores does trec_eval put first?",
        ),
        Wrong(
            lambda: {title: f"doc{8 + rank}" for rank, title in enumerate(sorted(SHELF, key=SHELF.get))},
            "nDCG is 0.54 with these ids, 0.67 on average over all. Which of two equal scores does trec_eval put first?",
        ),
        Wrong(
            lambda: dict.fromkeys(SHELF, "doc"),
            "ids are strings that are not empty, and no two documents share one.",
        ),
        Wrong(lambda: list(SHELF), "return a dict with the five titles as keys, and an id for each."),
    ),
)

EXERCISES = (AVERAGE, GRADED, TIED, NAMES)
