"""How good is a ranking? Precision, recall, reciprocal rank, average precision, DCG and bpref, batched, from one sort.

A ranking holds the *grades* of documents, best-ranked first, along the last axis; leading axes are a batch of queries.
A grade above 0 is relevant (the larger, the more), 0 is judged and not relevant, below 0 is not judged or padding: a rank
that earns nothing. Metrics take a `Ranked`, as `rank` makes it from grades and scores, or plain grades in rank order.

Range: 0 to 1 (`dcg`: no upper end). Shapes: grades (..., n), results (...), on the device and of the floating dtype of
the grades (float64 for lists and integers). A cutoff `k` reads the first k ranks; beyond the end of a list nothing is
found, so `precision_at_k` divides by k even if fewer documents were retrieved (as trec_eval does).
Convention: a query without a relevant document scores 0, in every metric (as trec_eval and scikit-learn have it).

Ties: "order" keeps documents of equal score in the order in which they are given. "average" gives the expected value
over all orders of equal scores, exactly, and not by trying them.

Errors: NaN, infinite grades, a score of plus infinity, shapes that do not fit and k below 1 are a ValueError; what is no
array of numbers is a TypeError.
"""

from dataclasses import dataclass
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from studyguide.probability.validation import check_finite, common_dtype, one_of, positive_integer, vectors
from studyguide.statistics.bootstrap import bootstrap_interval
from studyguide.statistics.hypothesis import adjust_p_values, permutation_test
from studyguide.statistics.intervals import Interval

GAINS = ("linear", "exponential")
BLOCK = 2**22  # ranks that `evaluate_run` holds at a time
NOT_JUDGED = -1.0


class Ranked(NamedTuple):
    """Grades in rank order, made by `rank`."""

    grades: torch.Tensor  # (..., n), best-ranked first
    judged: torch.Tensor  # (..., m) grades of all judged documents, retrieved or not, in any order
    start: torch.Tensor | None = None  # ties="average": how many ranks come before those that share this rank's score
    size: torch.Tensor | None = None  # ties="average": how many ranks share it


def rank(relevance, scores, mask=None, ties="order"):
    """Sort documents by score, highest first, once for all metrics: a `Ranked`.

    Shapes: relevance (..., n) and scores (..., n), in any order of documents, leading axes broadcast; mask, of a shape that
    broadcasts to theirs, is True for documents and False for padding. A score of minus infinity means not retrieved: such a
    document has no rank, but if it is relevant it counts among those that should have been found.

    >>> ranking = rank([0, 2, 1, 1], [0.3, 0.9, 0.1, -torch.inf])
    >>> ranking.grades
    tensor([ 2.,  0.,  1., -1.], dtype=torch.float64)
    >>> recall_at_k(ranking, 3)
    tensor(0.6667, dtype=torch.float64)
    """
    one_of("ties", ties, ("order", "average"))
    relevance, scores = vectors(relevance=_numbers(relevance), scores=scores)
    if relevance.shape[-1] != scores.shape[-1]:
        raise ValueError(f"relevance has {relevance.shape[-1]} documents, scores {scores.shape[-1]}; expected as many")
    check_finite("relevance", relevance)
    if not scores.amax() < torch.inf:  # or NaN
        raise ValueError("scores contains nan or inf; expected numbers, or -inf for what was not retrieved")
    relevance, scores = relevance.detach(), scores.detach().to(common_dtype(scores)[1])
    if mask is not None:
        mask = torch.as_tensor(mask, device=relevance.device)
        if mask.dtype != torch.bool:
            raise TypeError(f"mask has dtype {mask.dtype}; expected booleans, True for documents")
        try:
            mask = mask.expand(relevance.shape)
        except RuntimeError:
            shapes = f"{tuple(mask.shape)}; expected one that broadcasts to {tuple(relevance.shape)}"
            raise ValueError(f"mask has shape {shapes}") from None
        relevance, scores = relevance.where(mask, NOT_JUDGED), scores.where(mask, -torch.inf)
    order, ordered = _order(scores)
    grades = relevance.gather(-1, order).masked_fill(ordered == -torch.inf, NOT_JUDGED)
    if ties == "order":
        return Ranked(grades, relevance)
    n, new = scores.shape[-1], _new(ordered)
    places = torch.arange(n, device=scores.device)
    start = torch.where(new, places, 0).cummax(-1).values
    next_start = torch.nn.functional.pad(torch.where(new, places, n)[..., 1:], (0, 1), value=n)
    return Ranked(grades, relevance, start, next_start.flip(-1).cummin(-1).values.flip(-1) - start)


# Metrics of one ranking per query


def precision_at_k(ranking, k):
    """The share of the first k ranks that is relevant.

    Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval, section 8.4. For all else see the module.

    >>> precision_at_k([1, 0, 2, 0, 0], 3)
    tensor(0.6667, dtype=torch.float64)
    """
    ranking, k = _read(ranking, positive_integer("k", k))
    return _share(ranking, _found(ranking)[..., :k].sum(-1), k)


def recall_at_k(ranking, k):
    """The share of all relevant documents that is among the first k. For all else see the module.

    >>> recall_at_k([1, 0, 2, 0, 1], 3)
    tensor(0.6667, dtype=torch.float64)
    """
    ranking, k = _read(ranking, positive_integer("k", k))
    return _share(ranking, _found(ranking)[..., :k].sum(-1), _relevant(ranking))


def hit_rate(ranking, k):
    """1 if one of the first k is relevant, else 0; with averaged ties the probability of it. trec_eval's "success".

    >>> hit_rate([[0, 0, 1], [0, 0, 0]], 3)
    tensor([1., 0.], dtype=torch.float64)
    """
    ranking, k = _read(ranking, positive_integer("k", k))
    return (1 - _none_until(ranking)[..., :k][..., -1]).to(ranking.grades.dtype)


def reciprocal_rank(ranking, k=None):
    """1 / (rank of the first relevant document), 0 if there is none (among the first k). Its mean is the MRR.

    Source: Voorhees (1999), "The TREC-8 question answering track report". For all else see the module.

    >>> reciprocal_rank([[0, 0, 1, 1], [2, 0, 0, 0]])
    tensor([0.3333, 1.0000], dtype=torch.float64)
    """
    ranking, k = _read(ranking, k)
    none = _none_until(ranking)[..., :k]
    first = torch.cat([1 - none[..., :1], none[..., :-1] - none[..., 1:]], -1)  # the probability that it is the first
    return (first / _ranks(first)).sum(-1).to(ranking.grades.dtype)


def average_precision(ranking, k=None):
    """The precision at the rank of each relevant document, averaged over all of them; one not found counts 0.

    Convention: divided by the number of relevant documents, retrieved or not, whatever k (trec_eval's map and map_cut).
    Given grades alone, the relevant ones are those in the list: RAGAS' context precision is this, of verdicts in rank order.
    Source: Buckley and Voorhees (2000), "Evaluating evaluation measure stability"; for averaged ties McSherry and Najork
    (2008), "Computing information retrieval performance measures efficiently in the presence of tied scores".

    >>> average_precision([[1, 1, 0], [0, 1, 1], [0, 0, 1]])
    tensor([1.0000, 0.5833, 0.3333], dtype=torch.float64)
    """
    ranking, k = _read(ranking, k)
    found = _found(ranking)
    ranks = _ranks(found)
    if ranking.start is None:
        until = found.cumsum(-1)
    else:  # at a relevant rank of a tie: those before the tie, this one, and the rest spread over the other ranks
        before = _padded_sum(found).gather(-1, ranking.start)
        others = (found * ranking.size - 1) / (ranking.size - 1).clamp(min=1)
        until = before + 1 + (ranks - 1 - ranking.start) * others
    return _share(ranking, (found * until / ranks)[..., :k].sum(-1), _relevant(ranking))


def dcg(ranking, k=None, gain="linear"):
    """Discounted cumulative gain: the gain of each rank divided by log2(rank + 1), summed.

    `gain` of a grade g: "linear" is g (trec_eval, scikit-learn), "exponential" 2^g - 1, which makes one document of grade 3
    worth seven of grade 1. For grades of 0 and 1 they are the same. No grade below 0 gains anything.
    Source: Järvelin and Kekäläinen (2002), "Cumulated gain-based evaluation of IR techniques", with the discount of Burges
    et al. (2005), "Learning to rank using gradient descent", whose gain is exponential.

    >>> dcg([2, 0, 1]), dcg([2, 0, 1], gain="exponential")
    (tensor(2.5000, dtype=torch.float64), tensor(3.5000, dtype=torch.float64))
    """
    ranking, k = _read(ranking, k)
    gains = _expected(ranking, _gain(ranking.grades, gain))
    return _discounted(gains, k).to(ranking.grades.dtype)


def ndcg(ranking, k=None, gain="linear"):
    """DCG divided by that of the best possible ranking: all judged documents, retrieved or not, by falling grade.

    The cutoff holds for both. Gains and source: see `dcg`.

    >>> ndcg([[2, 0, 1], [0, 0, 1]])
    tensor([0.9502, 0.5000], dtype=torch.float64)
    """
    ranking, k = _read(ranking, k)
    gains = _expected(ranking, _gain(ranking.grades, gain))
    ideal = _falling(_gain(ranking.judged, gain))
    return _share(ranking, _discounted(gains, k), _discounted(ideal, k))


def r_precision(ranking):
    """Precision at R, the number of relevant documents of the query, where precision and recall are equal.

    >>> r_precision([1, 0, 1, 1, 0])
    tensor(0.6667, dtype=torch.float64)
    """
    ranking, _ = _read(ranking)
    found, relevant = _found(ranking), _relevant(ranking)
    return _share(ranking, (found * (_ranks(found) <= relevant.unsqueeze(-1))).sum(-1), relevant)


def bpref(ranking):
    """How many judged non-relevant documents stand above the relevant ones; what nobody judged is passed over.

    With R relevant and N judged non-relevant documents, a relevant one at which n of the latter have been seen gives
    1 - min(n, R) / min(N, R); the sum is divided by R. Not defined for averaged ties.
    Convention: trec_eval's. Buckley and Voorhees (2004), "Retrieval evaluation with incomplete information", divide by R.

    >>> bpref([1, -1, 0, 1, 0]), bpref([1, 0, 0, 1, 0])
    (tensor(0.7500, dtype=torch.float64), tensor(0.5000, dtype=torch.float64))
    """
    ranking, _ = _read(ranking)
    if ranking.start is not None:
        raise ValueError("bpref has no value averaged over ties; expected a ranking with ties='order'")
    found, relevant = _found(ranking), _relevant(ranking)
    wrong = (ranking.judged == 0).sum(-1)
    above = torch.minimum((ranking.grades == 0).to(found).cumsum(-1), relevant.unsqueeze(-1))
    kept = 1 - above / torch.minimum(wrong, relevant).clamp(min=1).unsqueeze(-1)
    return _share(ranking, (found * kept).sum(-1), relevant)


# Runs: many queries, by name

METRICS = {  # name: (function, what it does with a cutoff)
    "precision": (precision_at_k, "needs a"),
    "recall": (recall_at_k, "needs a"),
    "hit_rate": (hit_rate, "needs a"),
    "mrr": (reciprocal_rank, "can have a"),
    "map": (average_precision, "can have a"),
    "ndcg": (ndcg, "can have a"),
    "r_precision": (r_precision, "has no"),
    "bpref": (bpref, "has no"),
}


@dataclass(frozen=True, eq=False)
class RunEvaluation:
    """What `evaluate_run` found."""

    means: dict  # {metric: mean over all queries of the qrels}
    per_query: pd.DataFrame  # a row for each of them, a column for each metric
    missing: tuple  # queries that the run lacks: they score 0
    unanswerable: tuple  # queries of which no document is relevant: they score 0, whatever the run
    left_out: tuple  # queries of the run that have no judgments

    def intervals(self, confidence=0.95, n_resamples=9999, *, rng):
        """{metric: bootstrap `Interval` of its mean}, from queries drawn anew; all metrics on the same draws.

        Errors and randomness are those of `studyguide.statistics.bootstrap.bootstrap_interval`: two queries or more.
        """
        found = bootstrap_interval(_by_metric(self.per_query), confidence=confidence, n_resamples=n_resamples, rng=rng)
        limits = zip(found.estimate, found.low, found.high, strict=True)
        return {name: Interval(*each, confidence) for name, each in zip(self.means, limits, strict=True)}

    def __str__(self):
        from studyguide.course.display import rounded

        lines = [f"{metric:<14}{rounded(mean)}" for metric, mean in self.means.items()]
        lines.append(f"{'queries':<14}{len(self.per_query)}")
        for name, meaning in (
            ("missing", "not in the run: 0"),
            ("unanswerable", "no relevant document: 0"),
            ("left_out", "in the run, not in the judgments"),
        ):
            if queries := getattr(self, name):
                lines.append(f"{name:<14}{len(queries)} ({meaning})")
        return "\n".join(lines)


def evaluate_run(qrels, run, metrics, ties="trec", gain="linear"):
    """Score a run against judgments, as trec_eval does: a `RunEvaluation`.

    `qrels` are {query id: {document id: grade}}, `run` is {query id: {document id: score}}, a higher score ranking higher.
    `metrics` is a list of names: "precision@5", "recall@5", "hit_rate@5" (k of your choice), "mrr", "map" and "ndcg" (with
    or without "@10"), "r_precision", "bpref". Documents without a grade count as not relevant, except for "bpref".

    Convention: ties="trec" compares scores in float32, and of equal ones the document whose id is later in the alphabet
    comes first, as in trec_eval; "average" compares them as they are and gives the expected value over all their orders,
    as scikit-learn does for DCG. Every query of the qrels counts in the mean (trec_eval -c): one that the run lacks, or of
    which no document is relevant, with 0. A query without judgments is left out. The result names all three.
    Errors: no queries or metrics, unknown names, a cutoff missing or out of place, grades and scores that are not finite
    (as float32, for "trec") are a ValueError; what is no dict of dicts of numbers is a TypeError.
    Source: trec_eval 9 (NIST); McSherry and Najork (2008) for averaged ties.

    >>> qrels = {"q1": {"a": 2, "b": 0, "c": 1}, "q2": {"a": 1}}
    >>> evaluation = evaluate_run(qrels, {"q1": {"b": 0.9, "a": 0.8, "d": 0.1}}, ["ndcg@10", "mrr", "recall@2"])
    >>> print(evaluation)
    ndcg@10       0.2398
    mrr           0.25
    recall@2      0.25
    queries       2
    missing       1 (not in the run: 0)
    """
    one_of("ties", ties, ("trec", "average"))
    one_of("gain", gain, GAINS)
    _check_names("qrels", qrels)
    _check_names("run", run)
    if not qrels:
        raise ValueError("qrels is empty; expected at least one query")
    calls = _calls(metrics, ties, gain)
    queries, values = list(qrels), []
    step = max(1, BLOCK // max(1, *map(len, qrels.values()), *(len(run.get(query, ())) for query in queries)))
    for start in range(0, len(queries), step):
        ranking = _ranked(qrels, run, queries[start : start + step], ties)
        values.append(torch.stack([call(ranking) for call in calls.values()], -1))
    per_query = pd.DataFrame(torch.cat(values).numpy(), index=pd.Index(queries, name="query"), columns=list(calls))
    return RunEvaluation(
        means=per_query.mean().to_dict(),
        per_query=per_query,
        missing=tuple(query for query in queries if query not in run),
        unanswerable=tuple(query for query in queries if not any(grade > 0 for grade in qrels[query].values())),
        left_out=tuple(query for query in run if query not in qrels),
    )


@dataclass(frozen=True, eq=False)
class RunComparison:
    """What `compare_runs` found: B less A on the same queries."""

    summary: pd.DataFrame  # a row per metric: a, b, difference, low, high, p, p_holm, better, equal, worse (queries)
    differences: pd.DataFrame  # a row per query, a column per metric

    def __str__(self):
        from studyguide.course.display import rounded

        names = [str(name) for name in self.summary.index]
        lines = [["", *self.summary.columns]] + [
            [name, *map(rounded, row)] for name, row in zip(names, self.summary.astype(object).to_numpy(), strict=True)
        ]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
        )


def compare_runs(qrels, run_a, run_b, metrics, ties="trec", gain="linear", confidence=0.95, n_resamples=9999, *, rng):
    """Is run B better than run A? Paired by query, a row for each metric: a `RunComparison`.

    Each row has both means, their difference B - A with its bootstrap interval, the p-value of turning the signs of the
    queries' differences at random, the same corrected for the number of metrics (Holm), and how many queries run B does
    better, as well or worse. Arguments and errors as for `evaluate_run`; at least two queries.
    Randomness: `rng` is an int seed, or a torch.Generator, which the call advances.
    Source: Smucker, Allan and Carterette (2007), "A comparison of statistical significance tests for information retrieval
    evaluation".

    >>> qrels = {f"q{i}": {"a": 1} for i in range(8)}
    >>> first, second = {q: {"b": 2, "a": 1} for q in qrels}, {q: {"a": 2, "b": 1} for q in qrels}
    >>> print(compare_runs(qrels, first, second, ["mrr"], rng=0))
           a  b  difference  low  high       p  p_holm  better  equal  worse
    mrr  0.5  1         0.5  0.5   0.5  0.0078  0.0078       8      0      0
    """
    a, b = (evaluate_run(qrels, run, metrics, ties, gain).per_query for run in (run_a, run_b))
    x, y = _by_metric(a), _by_metric(b)
    interval = bootstrap_interval(y - x, confidence=confidence, n_resamples=n_resamples, rng=rng)
    p = permutation_test(y, x, paired=True, n_resamples=n_resamples, rng=rng).p_value
    equal = (y - x).abs() < 1e-12
    columns = {
        "a": x.mean(-1),
        "b": y.mean(-1),
        "difference": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "p": p,
        "p_holm": adjust_p_values(p),
        "better": ((y > x) & ~equal).sum(-1),
        "equal": equal.sum(-1),
        "worse": ((y < x) & ~equal).sum(-1),
    }
    summary = pd.DataFrame({name: values.numpy() for name, values in columns.items()}, index=a.columns)
    return RunComparison(summary, b - a)


# Sorting


def _order(scores):
    """The places (..., n) by falling score, of equal scores in the order given; and the scores in this order."""
    if not scores.is_cpu:
        return torch.sort(scores, dim=-1, descending=True, stable=True)[::-1]
    order = torch.from_numpy(np.argsort(-scores.numpy(), -1))  # in a fraction of torch's time, but not stable
    ordered = scores.gather(-1, order)
    tied = (ordered[..., 1:] == ordered[..., :-1]).any(-1)
    if tied.any():  # there, sort the places inside each group of equal scores
        group = _new(ordered[tied]).cumsum(-1) * scores.shape[-1]
        order[tied] = torch.from_numpy(np.sort((group + order[tied]).numpy(), -1)) - group
    return order, ordered


def _new(ordered):
    """Where in ordered scores another score begins."""
    return torch.cat([torch.ones_like(ordered[..., :1], dtype=torch.bool), ordered[..., 1:] != ordered[..., :-1]], -1)


def _falling(values):
    return torch.from_numpy(-np.sort(-values.numpy(), -1)) if values.is_cpu else values.sort(-1, descending=True).values


# What metrics are made of. Here all is computed in the working dtype: float32 for half precision.


def _read(ranking, k=None):
    """The ranking as a `Ranked`, and the cutoff; None reads the whole list, as ``[:None]`` does."""
    if not isinstance(ranking, Ranked):
        [grades] = vectors(ranking=_numbers(ranking))
        check_finite("ranking", grades)
        ranking = Ranked(grades.detach(), grades.detach())
    return ranking, None if k is None else positive_integer("k", k)


def _numbers(grades):
    """True and False as 1 and 0, anything else as it is."""
    if not isinstance(grades, torch.Tensor):
        try:
            grades = np.asarray(grades)
        except ValueError:  # a ragged list, of which `vectors` says so
            return grades
    return grades * 1 if grades.dtype in (torch.bool, np.bool_) else grades


def _expected(ranking, values):
    """Values by rank; where ties are averaged, the mean over the ranks that share a score."""
    if ranking.start is None:
        return values
    sums = _padded_sum(values)
    return (sums.gather(-1, ranking.start + ranking.size) - sums.gather(-1, ranking.start)) / ranking.size


def _padded_sum(values):
    """The sum of the values before each rank, and of all: (..., n + 1)."""
    return torch.nn.functional.pad(values.cumsum(-1), (1, 0))


def _found(ranking):
    """1 at each relevant rank and 0 elsewhere, or the probability that it is relevant."""
    work = common_dtype(ranking.grades)[1]
    return _expected(ranking, (ranking.grades > 0).to(work))


def _relevant(ranking):
    return (ranking.judged > 0).sum(-1)


def _none_until(ranking):
    """The probability, by rank, that no relevant document has been seen up to and with it."""
    chance = _found(ranking)  # that this rank is relevant; in a tie, given that none of its earlier ranks is
    if ranking.start is not None:
        left = ranking.start + ranking.size - torch.arange(chance.shape[-1], device=chance.device)
        chance = (chance * ranking.size).round() / left
    return (1 - chance).clamp(min=0).cumprod(-1)


def _ranks(like):
    return torch.arange(1, like.shape[-1] + 1, dtype=like.dtype, device=like.device)


def _share(ranking, part, whole):
    """part / whole, and 0 where the whole is 0, in the dtype of the grades."""
    whole = torch.as_tensor(whole).to(part)
    return torch.where(whole > 0, part / whole.where(whole > 0, 1), 0).to(ranking.grades.dtype)


def _gain(grades, gain):
    one_of("gain", gain, GAINS)
    grades = grades.to(common_dtype(grades)[1]).clamp(min=0)
    if gain == "exponential":
        grades = torch.exp2(grades) - 1
        check_finite("the exponential gain", grades)
    return grades


def _discounted(gains, k):
    gains = gains[..., :k]
    return gains @ (1 / torch.log2(_ranks(gains) + 1))


# Reading runs


def _by_metric(table):
    return torch.tensor(table.to_numpy().T.copy())


def _check_names(name, table):
    if not isinstance(table, dict):
        raise TypeError(f"{name} is a {type(table).__name__}; expected a dict, {{query id: {{document id: number}}}}")
    for query, documents in table.items():
        if not isinstance(documents, dict):
            raise TypeError(
                f"{name}[{query!r}] is a {type(documents).__name__}; expected a dict {{document id: number}}"
            )


def _calls(metrics, ties, gain):
    """{name: the function of a ranking that it stands for}."""
    if isinstance(metrics, str):
        raise TypeError(f"metrics is {metrics!r}; expected a list of names such as ['ndcg@10', 'map']")
    if not (names := list(metrics)):
        raise ValueError("metrics is empty; expected names such as ['ndcg@10', 'map']")
    return {name: _call(name, ties, gain) for name in names}


def _call(metric, ties, gain):
    if not isinstance(metric, str):
        raise TypeError(f"metrics contains {metric!r}; expected names such as 'ndcg@10'")
    name, at, cutoff = metric.partition("@")
    if name not in METRICS:
        raise ValueError(
            f"metric {metric!r} is not known; expected {', '.join(METRICS)}, with or without a cutoff '@10'"
        )
    function, need = METRICS[name]
    if need == "has no" if at else need == "needs a":
        raise ValueError(f"metric {metric!r}: {name} {need} cutoff; expected '{name}{'' if at else '@10'}'")
    if at and not (cutoff.isdecimal() and int(cutoff)):
        raise ValueError(f"metric {metric!r} has cutoff {cutoff!r}; expected a whole number of at least 1")
    if name == "bpref" and ties == "average":
        raise ValueError("metric 'bpref' has no value averaged over ties; expected ties='trec'")
    arguments = {"k": int(cutoff)} if at else {}
    if name == "ndcg":
        arguments["gain"] = gain
    return lambda ranking: function(ranking, **arguments)


def _ranked(qrels, run, queries, ties):
    """The rankings of some queries, in float64, each with the grades of all its judged documents."""
    lists, judged = [run.get(query, {}) for query in queries], [qrels[query] for query in queries]
    grades = [map(known.get, found, repeat(NOT_JUDGED)) for known, found in zip(judged, lists, strict=True)]
    found, known = ([len(row) for row in rows] for rows in (lists, judged))
    grades = _padded("qrels", queries, grades, found, NOT_JUDGED, np.float64)
    judged = _padded("qrels", queries, [row.values() for row in judged], known, NOT_JUDGED, np.float64)
    dtype = np.float32 if ties == "trec" else np.float64
    scores = _padded("run", queries, [row.values() for row in lists], found, -np.inf, dtype)
    if ties == "trec":
        ordered = np.sort(scores, -1)
        for row in np.flatnonzero(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] > -np.inf)).any(-1)):
            names = list(lists[row])
            order = sorted(range(len(names)), key=names.__getitem__, reverse=True)
            scores[row, : len(names)], grades[row, : len(names)] = scores[row, order], grades[row, order]
    ranking = rank(torch.from_numpy(grades), torch.from_numpy(scores), ties="order" if ties == "trec" else ties)
    return ranking._replace(judged=torch.from_numpy(judged))


def _padded(name, queries, rows, lengths, filler, dtype):
    """Rows of finite numbers, so many each, as a matrix."""
    numbers = list(chain.from_iterable(rows))
    values = np.array(numbers)
    if numbers and values.dtype.kind not in "biuf":
        odd = next(number for number in numbers if not isinstance(number, int | float | np.number))
        raise TypeError(f"{name} contains {odd!r}; expected numbers")
    with np.errstate(over="ignore"):
        values = values.astype(dtype)
    if not np.isfinite(values).all():
        place = np.flatnonzero(~np.isfinite(values))[0]
        query = queries[np.repeat(np.arange(len(rows)), lengths)[place]]
        raise ValueError(f"{name}[{query!r}] contains {values[place]:g} (as {values.dtype}); expected finite numbers")
    matrix = np.full((len(rows), max(1, *lengths, 1)), filler, dtype)
    matrix[np.arange(matrix.shape[1]) < np.array(lengths)[:, None]] = values
    return matrix
