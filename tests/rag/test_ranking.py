"""Ranking metrics against trec_eval, scikit-learn and torchmetrics; averaged ties against all orders of the ties."""

import re
from itertools import chain, groupby, permutations, product

import numpy as np
import pytest
import pytrec_eval
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk
from statsmodels.stats.multitest import multipletests

from studyguide.rag import ranking as module
from studyguide.rag.ranking import (
    Ranked,
    average_precision,
    bpref,
    compare_runs,
    dcg,
    evaluate_run,
    hit_rate,
    ndcg,
    precision_at_k,
    r_precision,
    rank,
    recall_at_k,
    reciprocal_rank,
)

properties = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)
TREC = {
    "precision@5": "P_5",
    "precision@1000": "P_1000",
    "recall@5": "recall_5",
    "recall@10": "recall_10",
    "hit_rate@1": "success_1",
    "hit_rate@5": "success_5",
    "mrr": "recip_rank",
    "map": "map",
    "map@5": "map_cut_5",
    "ndcg": "ndcg",
    "ndcg@10": "ndcg_cut_10",
    "r_precision": "Rprec",
    "bpref": "bpref",
}
CALLS = {
    "precision": lambda ranking: precision_at_k(ranking, 3),
    "recall": lambda ranking: recall_at_k(ranking, 3),
    "hit rate": lambda ranking: hit_rate(ranking, 2),
    "reciprocal rank": reciprocal_rank,
    "reciprocal rank at 3": lambda ranking: reciprocal_rank(ranking, 3),
    "average precision": average_precision,
    "average precision at 3": lambda ranking: average_precision(ranking, 3),
    "dcg": dcg,
    "dcg at 3": lambda ranking: dcg(ranking, 3, gain="exponential"),
    "ndcg": ndcg,
    "ndcg at 3": lambda ranking: ndcg(ranking, 3, gain="exponential"),
    "r-precision": r_precision,
}
FIVE = [2, 0, 1, 0, 2]  # the notebook's five documents, in rank order


def close(a, b, atol=1e-12):
    a, b = (x.double() if isinstance(x, torch.Tensor) else torch.tensor(x, dtype=torch.float64) for x in (a, b))
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def random_run(seed, n_queries=12, n_documents=40, tied=True):
    """Judgments and a run that share only a part of their documents, with grades below 0 and equal scores."""
    rng = np.random.default_rng(seed)
    names = [f"d{i}" for i in range(n_documents)] + ["é", "Z", "zz", "中", "😀", "d 1", "ﬀ"]
    qrels, run = {}, {}
    for query in range(n_queries):
        judged = rng.choice(names, rng.integers(1, len(names)), replace=False)
        found = rng.choice(names, rng.integers(1, len(names)), replace=False)
        scores = rng.normal(size=len(found))
        scores = scores.round(rng.integers(0, 3)) if tied else scores
        qrels[f"q{query}"] = {str(d): int(g) for d, g in zip(judged, rng.integers(-1, 4, len(judged)), strict=True)}
        run[f"q{query}"] = {str(d): float(s) for d, s in zip(found, scores, strict=True)}
    return qrels, run


# Against trec_eval


@properties
@given(seeds, st.booleans())
def test_runs_score_as_in_trec_eval(seed, tied):
    qrels, run = random_run(seed, tied=tied)
    names = {re.sub(r"_(\d+)$", r".\1", name) for name in TREC.values()}
    expected = pytrec_eval.RelevanceEvaluator(qrels, names).evaluate(run)
    found = evaluate_run(qrels, run, TREC)
    assert list(found.per_query.index) == list(qrels)
    for query, row in found.per_query.iterrows():
        for ours, theirs in TREC.items():
            assert abs(row[ours] - expected[query][theirs]) < 1e-9, (query, ours)
    for metric, mean in found.means.items():
        assert mean == pytest.approx(np.mean([row[TREC[metric]] for row in expected.values()]), abs=1e-9)


def test_trec_ties_are_those_of_float32_and_of_ids_in_reverse():
    qrels = {"q": {"b": 1}}
    for first, second, rank_of_b in ((0.5, 0.5, 1), (0.5 + 1e-9, 0.5, 1), (0.5 + 1e-6, 0.5, 2), (-0.0, 0.0, 1)):
        run = {"q": {"a": first, "b": second}}
        expected = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(run)["q"]["recip_rank"]
        assert evaluate_run(qrels, run, ["mrr"]).means["mrr"] == expected == 1 / rank_of_b
    assert evaluate_run(qrels, {"q": {"a": 0.5 + 1e-9, "b": 0.5}}, ["mrr"], ties="average").means["mrr"] == 1 / 2
    numbers = {"q": {"d10": 1.0, "d9": 1.0}}
    assert evaluate_run({"q": {"d9": 1}}, numbers, ["mrr"]).means["mrr"] == 1, "as text, d9 comes after d10"


def test_the_order_of_the_dicts_does_not_matter():
    qrels, run = random_run(3)
    turned = {query: dict(reversed(documents.items())) for query, documents in reversed(run.items())}
    a, b = (evaluate_run(qrels, side, TREC).per_query for side in (run, turned))
    assert a.equals(b)


# Against scikit-learn and torchmetrics


@properties
@given(seeds, st.integers(1, 12), st.booleans())
def test_dcg_with_averaged_ties_is_that_of_scikit_learn(seed, k, tied):
    rng = np.random.default_rng(seed)
    grades, scores = rng.integers(0, 4, (7, 9)), rng.normal(size=(7, 9))
    scores = scores.round() if tied else scores
    for gain, gains in (("linear", grades), ("exponential", 2**grades - 1)):
        ranking = rank(grades, scores, ties="average")
        close(dcg(ranking, k, gain).mean(), sk.dcg_score(gains, scores, k=k))
        close(ndcg(ranking, k, gain).mean(), sk.ndcg_score(gains, scores, k=k))
        rows = [{f"d{i}": float(x) for i, x in enumerate(row)} for row in scores]
        qrels = {f"q{i}": {f"d{j}": int(g) for j, g in enumerate(row)} for i, row in enumerate(grades)}
        run = {f"q{i}": row for i, row in enumerate(rows)}
        mean = evaluate_run(qrels, run, [f"ndcg@{k}"], ties="average", gain=gain).means[f"ndcg@{k}"]
        close(mean, sk.ndcg_score(gains, scores, k=k))


@properties
@given(seeds)
def test_average_precision_without_ties_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    relevant, scores = rng.integers(0, 2, (9, 11)), rng.normal(size=(9, 11))
    relevant[:, 0] = 1
    expected = [sk.average_precision_score(*row) for row in zip(relevant, scores, strict=True)]
    close(average_precision(rank(relevant, scores)), expected)


def test_torchmetrics_agrees_where_its_conventions_are_ours():
    from torchmetrics.functional import retrieval as peer

    generator = torch.Generator().manual_seed(0)
    grades = torch.randint(0, 4, (20, 15), generator=generator)
    scores = torch.rand(20, 15, generator=generator, dtype=torch.float64) + 0.1  # it drops what scores 0 or less
    ranking = rank(grades, scores)
    for ours, theirs, options in (
        (precision_at_k(ranking, 4), peer.retrieval_precision, {"top_k": 4}),
        (recall_at_k(ranking, 4), peer.retrieval_recall, {"top_k": 4}),
        (hit_rate(ranking, 2), peer.retrieval_hit_rate, {"top_k": 2}),
        (reciprocal_rank(ranking), peer.retrieval_reciprocal_rank, {}),
        (average_precision(ranking), peer.retrieval_average_precision, {}),
        (r_precision(ranking), peer.retrieval_r_precision, {}),
    ):
        close(ours, [float(theirs(s, g > 0, **options)) for s, g in zip(scores, grades, strict=True)], atol=1e-6)
    expected = [float(peer.retrieval_normalized_dcg(s, g, top_k=6)) for s, g in zip(scores, grades, strict=True)]
    close(ndcg(ranking, 6), expected, atol=1e-6)


# Averaged ties against every order of the ties


def orders(grades, scores):
    """Every ranking by falling score, each order of equal scores once per permutation."""
    pairs = sorted(zip(scores, grades, strict=True), key=lambda pair: -pair[0])
    groups = [[grade for _, grade in group] for _, group in groupby(pairs, key=lambda pair: pair[0])]
    return [list(chain(*order)) for order in product(*map(permutations, groups))]


@properties
@given(st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 2)), min_size=1, max_size=5))
def test_averaged_ties_are_the_mean_over_all_orders(documents):
    grades, scores = zip(*documents, strict=True)
    every = torch.tensor(orders(grades, scores), dtype=torch.float64)
    averaged = rank(grades, scores, ties="average")
    for name, metric in CALLS.items():
        expected = metric(every).mean()
        assert abs(metric(averaged) - expected) < 1e-12, name
    qrels = {"q": {f"d{i}": grade for i, grade in enumerate(grades)}}
    run = {"q": {f"d{i}": score for i, score in enumerate(scores)}}
    found = evaluate_run(qrels, run, ["mrr", "map", "ndcg@3", "recall@3"], ties="average").means
    close(found["mrr"], reciprocal_rank(every).mean())
    close(found["map"], average_precision(every).mean())
    close(found["recall@3"], recall_at_k(every, 3).mean())


def test_averaged_ties_by_hand():
    pair = rank([1, 0], [7, 7], ties="average")  # rank 1 or 2, a half each
    close(precision_at_k(pair, 1), 1 / 2)
    close(reciprocal_rank(pair), (1 + 1 / 2) / 2)
    close(average_precision(pair), (1 + 1 / 2) / 2)
    close(dcg(pair), (1 + 1 / np.log2(3)) / 2)
    long = rank([[1] + [0] * 999], [[0.0] * 1000], ties="average")
    close(reciprocal_rank(long), [sum(1 / i for i in range(1, 1001)) / 1000])
    close(hit_rate(long, 10), [0.01])


def test_without_ties_both_rules_agree():
    grades = torch.randint(-1, 3, (50, 30), generator=torch.Generator().manual_seed(1))
    scores = torch.rand(50, 30, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for metric in CALLS.values():
        close(metric(rank(grades, scores)), metric(rank(grades, scores, ties="average")))


# By hand


def test_five_documents_by_hand():
    close(precision_at_k(FIVE, 3), 2 / 3)
    close(recall_at_k(FIVE, 3), 2 / 3)
    close(hit_rate(FIVE, 1), 1)
    close(reciprocal_rank([0, 0, 1, 0, 2]), 1 / 3)
    close(reciprocal_rank([0, 0, 1, 0, 2], 2), 0)
    close(average_precision(FIVE), (1 / 1 + 2 / 3 + 3 / 5) / 3)
    close(average_precision(FIVE, 3), (1 / 1 + 2 / 3) / 3)
    close(r_precision(FIVE), 2 / 3)
    linear = 2 + 1 / np.log2(4) + 2 / np.log2(6)
    close(dcg(FIVE), linear)
    close(dcg(FIVE, 3), 2 + 1 / 2)
    close(ndcg(FIVE), linear / (2 + 2 / np.log2(3) + 1 / 2))
    close(ndcg(FIVE, gain="exponential"), (3 + 1 / 2 + 3 / np.log2(6)) / (3 + 3 / np.log2(3) + 1 / 2))


def test_context_precision_of_the_guide():
    close(average_precision([[1, 1, 0], [0, 1, 1], [0, 0, 1]]), [1, (1 / 2 + 2 / 3) / 2, 1 / 3])
    close(average_precision([[1], [0]]), [1, 0])


def test_bpref_by_hand():
    # 3 relevant, 2 judged not relevant; above the relevant ones stand 0, 1 and 2 of the latter: 1, 1/2 and 0
    close(bpref([1, 0, -1, 2, 0, -1, 1]), (1 + 1 / 2 + 0) / 3)
    close(bpref([1, -1, 1]), 1)
    close(bpref([1, 0, 0, 0, 0, 1]), 1 / 2)  # no more than R = 2 count


# What documents are there


def test_what_was_not_retrieved_counts_among_the_relevant():
    ranking = rank([1, 0, 2, 1], [3.0, 2.0, -torch.inf, -torch.inf])
    assert ranking.grades.tolist() == [1, 0, -1, -1]
    close(recall_at_k(ranking, 4), 1 / 3)
    close(average_precision(ranking), 1 / 3)
    close(ndcg(ranking), 1 / (2 + 1 / np.log2(3) + 1 / 2))
    close(r_precision(ranking), 1 / 3)
    run = evaluate_run({"q": {"a": 1, "b": 0, "c": 2, "d": 1}}, {"q": {"a": 3, "b": 2}}, ["ndcg", "map", "r_precision"])
    close(list(run.means.values()), [float(f(ranking)) for f in (ndcg, average_precision, r_precision)])


@properties
@given(seeds)
def test_rows_of_a_batch_and_padding_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    grades, scores = rng.integers(-1, 3, (6, 8)), rng.integers(0, 5, (6, 8)).astype(float)
    lengths = rng.integers(1, 9, 6)
    mask = np.arange(8) < lengths[:, None]
    for ties in ("order", "average"):
        batch = rank(grades, scores, mask, ties)
        for metric in [*CALLS.values(), *([bpref] if ties == "order" else [])]:
            rows = [metric(rank(g[:n], s[:n], ties=ties)) for g, s, n in zip(grades, scores, lengths, strict=True)]
            close(metric(batch), torch.stack(rows))


def test_leading_axes_broadcast():
    grades, scores = (
        torch.tensor([[0, 2, 1], [1, 0, 0]]),
        torch.rand(4, 2, 3, generator=torch.Generator().manual_seed(0)),
    )
    systems = rank(grades, scores)
    assert ndcg(systems, 2).shape == reciprocal_rank(systems).shape == (4, 2)
    close(ndcg(systems)[3, 1], ndcg(rank(grades[1], scores[3, 1])))


@properties
@given(seeds)
def test_range_order_and_scale(seed):
    rng = np.random.default_rng(seed)
    grades, scores = rng.integers(-1, 4, (5, 9)), rng.permuted(np.tile(np.arange(9.0), (5, 1)), axis=1)
    shuffled = rng.permutation(9)
    for name, metric in [*CALLS.items(), ("bpref", bpref)]:
        value = metric(rank(grades, scores))
        close(metric(rank(grades[:, shuffled], scores[:, shuffled])), value)
        close(metric(rank(grades, 1e-30 * scores - 1e-29)), value)
        if not name.startswith("dcg"):
            assert 0 <= value.min() <= value.max() <= 1 + 1e-12
    best = rank(grades, np.maximum(grades, 0) + rng.random(9) / 2)
    some = torch.from_numpy((grades > 0).any(1)).double()
    for metric in (ndcg, average_precision, reciprocal_rank, r_precision, bpref):
        close(metric(best), some)


def test_no_relevant_document_is_0():
    for row in ([0, 0, 0], [-1, -1, -1], [0], [-2, 0, -1]):
        for metric in [*CALLS.values(), bpref]:
            close(metric(row), 0)
            close(metric(rank(row, [0.5] * len(row))), 0)


def test_a_cutoff_beyond_the_list():
    close(precision_at_k([1, 1], 10), 0.2)
    close(recall_at_k([1, 1], 10), 1)
    close(hit_rate([0, 1], 10), 1)
    close(ndcg([1, 1], 10), 1)
    close(average_precision([0, 1], 10), 1 / 2)


def test_many_equal_scores_keep_the_order_given():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 30, (20, 500), generator=generator).double()
    scores[0] = 1
    grades = torch.arange(500).double().expand(20, -1)
    expected = torch.sort(scores, dim=-1, descending=True, stable=True).indices
    assert torch.equal(rank(grades, scores).grades, expected.double())


# Types


def test_dtypes():
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        grades = torch.tensor([[2, 0, 1, 1], [0, 1, 0, 3]], dtype=dtype)
        for ties in ("order", "average"):
            ranking = rank(grades, torch.tensor([[4, 3, 3, 1], [1, 2, 2, 4]], dtype=dtype), ties=ties)
            exact = rank(grades.double(), [[4, 3, 3, 1], [1, 2, 2, 4]], ties=ties)
            for metric in CALLS.values():
                assert metric(ranking).dtype == dtype
                close(metric(ranking), metric(exact), atol=4 * torch.finfo(dtype).eps)
    assert ndcg([1, 0]).dtype == ndcg(torch.tensor([1, 0])).dtype == torch.float64
    close(average_precision([True, False, True]), (1 + 2 / 3) / 2)
    close(average_precision(torch.tensor([True, False, True])), (1 + 2 / 3) / 2)
    close(ndcg([0.5, 0.25]), 1)


def test_plain_grades_and_a_ranking_are_the_same():
    assert isinstance(rank([1, 0], [2, 1]), Ranked)
    for metric in CALLS.values():
        close(metric(FIVE), metric(rank(FIVE, [5, 4, 3, 2, 1])))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rank([1, 0], [1, 2, 3]), ValueError, "relevance has 2 documents, scores 3; expected as many"),
        (lambda: rank([], []), ValueError, "relevance is empty"),
        (lambda: rank([[1], [1, 2]], [[1], [2]]), TypeError, "relevance cannot be read as an array"),
        (lambda: rank(1, 2), ValueError, "relevance is a single number"),
        (lambda: rank([1, 0], [1, float("nan")]), ValueError, "scores contains nan or inf"),
        (lambda: rank([1, 0], [1, float("inf")]), ValueError, "expected numbers, or -inf for what was not retrieved"),
        (lambda: rank([1, float("nan")], [1, 0]), ValueError, "relevance contains nan"),
        (lambda: rank(["a", "b"], [1, 0]), TypeError, "relevance cannot be read as an array of numbers"),
        (lambda: rank([1, 0], [1, 0], [1, 0]), TypeError, "mask has dtype torch.int64; expected booleans"),
        (
            lambda: rank([1, 0], [1, 0], [True] * 3),
            ValueError,
            "mask has shape (3,); expected one that broadcasts to (2,)",
        ),
        (lambda: rank([1, 0], [1, 0], ties="trec"), ValueError, "ties is 'trec'; expected one of 'order', 'average'"),
        (lambda: precision_at_k([1, 0], 0), ValueError, "k is 0; expected at least 1"),
        (lambda: recall_at_k([1, 0], None), TypeError, "k is None; expected an integer"),
        (lambda: ndcg([1, 0], 2.5), TypeError, "k is 2.5; expected an integer"),
        (lambda: ndcg([1, 0], gain="log"), ValueError, "gain is 'log'; expected one of 'linear', 'exponential'"),
        (lambda: ndcg([5000, 0], gain="exponential"), ValueError, "the exponential gain contains inf"),
        (lambda: ndcg([1, float("inf")]), ValueError, "ranking contains inf"),
        (lambda: average_precision([]), ValueError, "ranking is empty"),
        (lambda: bpref(rank([1, 0], [1, 1], ties="average")), ValueError, "bpref has no value averaged over ties"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


# Runs


def test_queries_that_are_missing_unanswerable_or_left_out():
    qrels = {"q1": {"a": 1}, "q2": {"a": 1, "b": 0}, "q3": {"a": 0}, "q4": {}}
    run = {"q9": {"a": 1.0}, "q1": {"a": 1.0}, "q3": {"a": 2.0}, "q4": {"b": 1.0}}
    found = evaluate_run(qrels, run, ["mrr", "precision@1", "bpref"])
    assert (found.missing, found.unanswerable, found.left_out) == (("q2",), ("q3", "q4"), ("q9",))
    assert found.per_query["mrr"].tolist() == [1, 0, 0, 0]
    assert found.means == {"mrr": 0.25, "precision@1": 0.25, "bpref": 0.25}
    assert "missing       1 (not in the run: 0)" in str(found)
    assert "left_out      1" in str(found)
    assert evaluate_run(qrels, {}, ["mrr"]).means == {"mrr": 0}
    assert evaluate_run(qrels, {"q1": {}}, ["mrr", "ndcg"], ties="average").means == {"mrr": 0, "ndcg": 0}
    assert "missing" not in str(evaluate_run({"q1": {"a": 1}}, run, ["mrr"]))


def test_blocks_of_queries_do_not_matter(monkeypatch):
    qrels, run = random_run(5)
    whole = evaluate_run(qrels, run, TREC).per_query
    monkeypatch.setattr(module, "BLOCK", 100)
    close(evaluate_run(qrels, run, TREC).per_query.to_numpy(), whole.to_numpy())


def test_intervals_are_those_of_the_means_over_queries():
    qrels, run = random_run(6, n_queries=40)
    found = evaluate_run(qrels, run, ["ndcg@10", "map"])
    for metric, interval in found.intervals(rng=0).items():
        scores = found.per_query[metric].to_numpy()
        close(interval.estimate, found.means[metric])
        expected = stats.bootstrap((scores,), np.mean, method="percentile", rng=1).confidence_interval
        close([interval.low, interval.high], expected, atol=0.01)
    with pytest.raises(ValueError, match="at least 2"):
        evaluate_run({"q": {"a": 1}}, {"q": {"a": 1}}, ["mrr"]).intervals(rng=0)


def test_two_runs_compared():
    qrels, run_a = random_run(7, n_queries=11)
    run_b = {
        query: {name: qrels[query].get(name, 0) + s for name, s in found.items()} for query, found in run_a.items()
    }
    metrics = ["ndcg@10", "map", "precision@5"]
    found = compare_runs(qrels, run_a, run_b, metrics, rng=0)
    a, b = (evaluate_run(qrels, run, metrics).per_query for run in (run_a, run_b))
    summary = found.summary
    close(found.differences.to_numpy(), (b - a).to_numpy())
    close(summary["difference"].to_numpy(), (b - a).mean().to_numpy())
    close((summary["b"] - summary["a"]).to_numpy(), summary["difference"].to_numpy())
    expected = [  # 2^11 deals: exact
        stats.permutation_test(
            (b[m], a[m]), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True
        ).pvalue
        for m in metrics
    ]
    close(summary["p"].to_numpy(), expected)
    close(summary["p_holm"].to_numpy(), multipletests(expected, method="holm")[1])
    assert (summary["low"] <= summary["difference"]).all()
    assert (summary["difference"] <= summary["high"]).all()
    for metric, row in summary.iterrows():
        assert row["better"] == (b[metric] > a[metric] + 1e-9).sum()
        assert row["better"] + row["equal"] + row["worse"] == len(qrels)
    same = compare_runs(qrels, run_a, run_a, ["map"], rng=0).summary.loc["map"]
    assert (same["difference"], same["p"], same["equal"]) == (0, 1, 11)
    assert compare_runs(qrels, run_a, run_b, metrics, rng=0).summary.equals(summary)
    assert str(found).splitlines()[1].startswith("ndcg@10")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (({}, {}, ["map"]), ValueError, "qrels is empty; expected at least one query"),
        (([], {}, ["map"]), TypeError, "qrels is a list; expected a dict"),
        (({"q": ["a"]}, {}, ["map"]), TypeError, "qrels['q'] is a list; expected a dict"),
        (({"q": {"a": 1}}, {"q": [("a", 1)]}, ["map"]), TypeError, "run['q'] is a list; expected a dict"),
        (({"q": {"a": 1}}, {}, "map"), TypeError, "metrics is 'map'; expected a list of names"),
        (({"q": {"a": 1}}, {}, []), ValueError, "metrics is empty; expected names"),
        (({"q": {"a": 1}}, {}, [3]), TypeError, "metrics contains 3; expected names"),
        (({"q": {"a": 1}}, {}, ["P@5"]), ValueError, "metric 'P@5' is not known; expected precision, recall"),
        (({"q": {"a": 1}}, {}, ["recall"]), ValueError, "recall needs a cutoff; expected 'recall@10'"),
        (({"q": {"a": 1}}, {}, ["bpref@5"]), ValueError, "bpref has no cutoff; expected 'bpref'"),
        (({"q": {"a": 1}}, {}, ["ndcg@0"]), ValueError, "has cutoff '0'; expected a whole number of at least 1"),
        (({"q": {"a": 1}}, {}, ["ndcg@ten"]), ValueError, "has cutoff 'ten'"),
        (({"q": {"a": 1}}, {}, ["map"], "mean"), ValueError, "ties is 'mean'; expected one of 'trec', 'average'"),
        (({"q": {"a": 1}}, {}, ["bpref"], "average"), ValueError, "'bpref' has no value averaged over ties"),
        (({"q": {"a": 1}}, {}, ["map"], "trec", "log"), ValueError, "gain is 'log'"),
        (({"q": {"a": "1"}}, {}, ["map"]), TypeError, "qrels contains '1'; expected numbers"),
        (({"q": {"a": 1}}, {"q": {"a": None}}, ["map"]), TypeError, "run contains None; expected numbers"),
        (({"q": {"a": 1}}, {"p": {}, "q": {"a": float("nan")}}, ["map"]), ValueError, "run['q'] contains nan"),
        (({"q": {"a": 1}}, {"q": {"a": 1e300}}, ["map"]), ValueError, "run['q'] contains inf (as float32)"),
        (({"q": {"a": 1}, "p": {"a": float("inf")}}, {}, ["map"]), ValueError, "qrels['p'] contains inf"),
    ],
)
def test_bad_runs(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        evaluate_run(*arguments)


# GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_a_gpu_scores_as_the_cpu():
    generator = torch.Generator().manual_seed(0)
    grades = torch.randint(-1, 4, (200, 300), generator=generator).double()
    scores = torch.randint(0, 100, (200, 300), generator=generator).double()
    mask = torch.arange(300) < torch.randint(1, 301, (200, 1), generator=generator)
    for ties in ("order", "average"):
        here, there = rank(grades, scores, mask, ties), rank(grades.cuda(), scores.cuda(), mask.cuda(), ties)
        assert torch.equal(here.grades, there.grades.cpu()) or ties == "average"
        for metric in [*CALLS.values(), *([bpref] if ties == "order" else [])]:
            assert metric(there).is_cuda
            close(metric(there).cpu(), metric(here), atol=1e-10)
    with pytest.raises(ValueError, match="scores is on cpu; expected cuda"):
        rank(grades.cuda(), scores)
