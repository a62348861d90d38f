"""Ten thousand queries of a hundred graded documents, against pytrec_eval, scikit-learn and torchmetrics."""

import pytest
import pytrec_eval
import torch
from sklearn import metrics as sk
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_normalized_dcg,
    retrieval_precision,
    retrieval_recall,
    retrieval_reciprocal_rank,
)

from studyguide.rag.ranking import (
    average_precision,
    evaluate_run,
    ndcg,
    precision_at_k,
    rank,
    recall_at_k,
    reciprocal_rank,
)

QUERIES, DOCUMENTS = 10_000, 100
METRICS = ["precision@10", "recall@10", "mrr", "map", "ndcg@10"]
TREC = ["P_10", "recall_10", "recip_rank", "map", "ndcg_cut_10"]


@pytest.fixture(scope="module")
def task():
    """Grades and scores as tensors, and the same as dicts; every document is retrieved and scores above 0."""
    generator = torch.Generator().manual_seed(0)
    grades = torch.randint(0, 4, (QUERIES, DOCUMENTS), generator=generator)
    scores = torch.rand(QUERIES, DOCUMENTS, generator=generator) + 0.1
    qrels, run = (
        {f"q{i}": {f"d{j}": value for j, value in enumerate(row)} for i, row in enumerate(table.tolist())}
        for table in (grades, scores)
    )
    trec = pytrec_eval.RelevanceEvaluator(qrels, {"P.10", "recall.10", "recip_rank", "map", "ndcg_cut.10"})
    return {"tensors": (grades.float(), scores), "dicts": (qrels, run), "trec": trec}


def from_tensors(task):
    grades, scores = task["tensors"]
    ranking = rank(grades, scores)
    columns = precision_at_k(ranking, 10), recall_at_k(ranking, 10), reciprocal_rank(ranking)
    return torch.stack([*columns, average_precision(ranking), ndcg(ranking, 10)]).double().mean(1)


def from_dicts(task):
    return torch.tensor(list(evaluate_run(*task["dicts"], METRICS).means.values()))


def by_pytrec_eval(task):
    rows = task["trec"].evaluate(task["dicts"][1]).values()
    return torch.tensor([[row[name] for name in TREC] for row in rows], dtype=torch.float64).mean(0)


def by_torchmetrics(task):
    grades, scores = task["tensors"]
    rows = [
        [
            retrieval_precision(score, relevant, top_k=10),
            retrieval_recall(score, relevant, top_k=10),
            retrieval_reciprocal_rank(score, relevant),
            retrieval_average_precision(score, relevant),
            retrieval_normalized_dcg(score, grade, top_k=10),
        ]
        for score, grade, relevant in zip(scores, grades.long(), grades > 0, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.float64).mean(0)


@pytest.mark.parametrize(
    ("group", "library", "score"),
    [
        ("from tensors", "studyguide", from_tensors),
        ("from tensors", "pytrec_eval", by_pytrec_eval),
        ("from tensors", "torchmetrics", by_torchmetrics),
        ("from dicts", "studyguide", from_dicts),
        ("from dicts", "pytrec_eval", by_pytrec_eval),
    ],
)
def test_five_metrics(benchmark, task, group, library, score):
    benchmark.group = f"five ranking metrics, {group}"
    benchmark.extra_info["library"] = library
    found = benchmark.pedantic(score, [task], rounds=1 if library == "torchmetrics" else 5)
    torch.testing.assert_close(found.double(), by_pytrec_eval(task), rtol=0, atol=1e-5)  # the same task


@pytest.mark.parametrize("library", ["studyguide", "scikit-learn"])
def test_ndcg_with_averaged_ties(benchmark, task, library):
    grades, scores = (table.double() for table in task["tensors"])
    scores = scores.round(decimals=2)  # equal scores in every row

    def ours():
        return ndcg(rank(grades, scores, ties="average"), 10).mean()

    def theirs():
        return torch.tensor(sk.ndcg_score(grades, scores, k=10), dtype=torch.float64)

    torch.testing.assert_close(ours(), theirs(), rtol=0, atol=1e-12)  # the same task
    benchmark.group = "nDCG@10, ties averaged"
    benchmark.extra_info["library"] = library
    benchmark.pedantic(ours if library == "studyguide" else theirs, rounds=3)
