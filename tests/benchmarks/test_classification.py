"""Ten million labels and a million scores, against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn import metrics

from studyguide.statistics.classification import average_precision, confusion_matrix, roc_auc

NAMES = np.array([f"intent-{i}" for i in range(10)])
CALLS = {
    ("confusion matrix", "studyguide"): confusion_matrix,
    ("confusion matrix", "scikit-learn"): metrics.confusion_matrix,
    ("ROC AUC", "studyguide"): roc_auc,
    ("ROC AUC", "scikit-learn"): metrics.roc_auc_score,
    ("average precision", "studyguide"): average_precision,
    ("average precision", "scikit-learn"): metrics.average_precision_score,
}


def labels(n):
    """True labels from 0 to 9, and predictions of which four in five are right."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 10, n)
    return true, np.where(rng.random(n) < 0.8, true, rng.integers(0, 10, n))


def scores(n, decimals):
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, n)
    return true, (true + rng.normal(scale=2, size=n)).round(decimals)


@pytest.mark.parametrize("library", ["studyguide", "scikit-learn"])
@pytest.mark.parametrize(
    ("name", "inputs", "arguments"),
    [
        ("confusion matrix", "10M integers", lambda: labels(10_000_000)),
        ("confusion matrix", "1M strings, lists", lambda: [NAMES[side].tolist() for side in labels(1_000_000)]),
        ("confusion matrix", "1M strings, numpy", lambda: [NAMES[side] for side in labels(1_000_000)]),
        ("ROC AUC", "1M scores", lambda: scores(1_000_000, 15)),
        ("ROC AUC", "1M tied scores", lambda: scores(1_000_000, 2)),
        ("average precision", "1M scores", lambda: scores(1_000_000, 15)),
    ],
    ids=lambda value: "" if callable(value) else value,
)
def test_classification(benchmark, name, inputs, arguments, library):
    given = arguments()
    ours, peers = (torch.as_tensor(np.asarray(CALLS[name, by](*given))) for by in ("studyguide", "scikit-learn"))
    torch.testing.assert_close(ours, peers, rtol=1e-10, atol=0)  # the same task
    benchmark.group = f"{name}, {inputs}"
    benchmark.extra_info["library"] = library
    benchmark.pedantic(CALLS[name, library], given, rounds=3)
