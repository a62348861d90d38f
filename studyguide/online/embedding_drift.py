"""Drift of many columns at once: what no column shows alone, such as embeddings that move to a new topic.

Two tests of whether two sets of vectors come from one distribution: one by a kernel, one by a classifier. Both give a
`DriftResult`.

Errors: shapes other than (n, d) and (m, d), too few rows, NaN and infinity are a ValueError; what is no array of numbers is
a TypeError.
"""

import math

import numpy as np
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from studyguide.online.drift import DriftResult
from studyguide.probability.validation import (
    check_finite,
    common_dtype,
    floating,
    generator,
    numpy_generator,
    positive_integer,
)

BLOCK = 2**22  # numbers of the kernel matrix that exist at a time
PAIRED = 1000  # rows whose distances give the bandwidth


@torch.no_grad()
def mmd_drift(reference, current, bandwidth=None, n_permutations=999, *, rng):
    """Maximum mean discrepancy: do the two sets have the same mean under a Gaussian kernel, hence the same distribution?

    The kernel is k(x, y) = exp(-|x - y|² / (2 bandwidth²)). The statistic is the unbiased MMD²: the mean kernel within the
    reference, plus that within `current`, no row with itself, less twice that between them. Where nothing has drifted its
    mean is 0, and it is below 0 about as often as above. The effect is the root of MMD², 0 where that is negative.
    p is the share of random regroupings of all rows with an MMD² at least as large: exact, for any sample size. All of
    them are one matrix product with the kernel matrix.

    Shapes: reference (n, d) and current (m, d), n and m of 2 or more, on any device and computed there, in their dtype.
    Memory: the kernel matrix comes in blocks of 4 million numbers, so that what grows are n_permutations rows of n + m.
    Convention: the bandwidth is the median distance of the pooled rows, of 1000 drawn at random if there are more.
    Randomness: `rng` is an int seed, or a torch.Generator, which the call advances.
    Source: Gretton et al. (2012), "A kernel two-sample test", lemma 6 and section 8.

    >>> x = torch.arange(12.0).reshape(6, 2)
    >>> print(mmd_drift(x, x + 9, rng=0))
    MMD² 0.6431, p 0.006, effect 0.802 (6 against 6)
    """
    x, y = _rows(reference=reference, current=current)
    dtype = common_dtype(x, y)[1]
    pool, n, m = torch.cat([x, y]).to(dtype), len(x), len(y)
    pool = pool - pool.mean(0)  # distances stay, and lose less to rounding
    source = generator(rng)
    scale = _median_distance(pool, source) if bandwidth is None else float(bandwidth)
    if not 0 < scale < math.inf:
        raise ValueError(f"bandwidth is {bandwidth if bandwidth is not None else scale}; expected a number above 0")
    size = positive_integer("n_permutations", n_permutations) + 1
    labels = torch.zeros(size, n + m, dtype=dtype, device=pool.device)  # 1 for a row of the reference
    labels[0, :n] = 1
    for row in labels[1:]:
        row[torch.randperm(n + m, generator=source, device=source.device)[:n].to(pool.device)] = 1
    within, rows = torch.zeros(size, dtype=torch.float64, device=pool.device), []
    step = max(1, BLOCK // (n + m))
    for start in range(0, n + m, step):
        kernel = _kernel(pool[start : start + step], pool, scale, start)
        within += (labels @ kernel.T).mul_(labels[:, start : start + step]).sum(1)
        rows.append(kernel.sum(1))
    rows = torch.cat(rows)
    touching, total = (labels @ rows).double(), rows.double().sum()
    values = (
        within / (n * (n - 1)) + (total - 2 * touching + within) / (m * (m - 1)) - 2 * (touching - within) / (n * m)
    )
    tolerance = 16 * torch.finfo(dtype).eps
    p_value = float((values >= values[0] - tolerance).double().mean())  # what was observed counts as one
    return DriftResult("MMD²", float(values[0]), p_value, math.sqrt(max(0.0, float(values[0]))), n, m)


def classifier_drift(reference, current, classifier=None, folds=5, *, rng):
    """Classifier two-sample test: can a classifier tell the current rows from those of the reference?

    Rows are dealt into `folds` parts. Each part but the first is scored by a classifier trained on all parts before it.
    The statistic is the mean AUC of these parts, 0.5 where nothing has drifted; the effect is how far it is above 0.5.
    p: given the training rows, a part's Mann-Whitney statistic has its null law, whatever was learnt; so the parts are
    independent, and their z values, summed, give p. (Shares of correct answers in ordinary cross-validation have no such
    law, since each part also trains the others' classifiers.) One-sided: only an AUC above 0.5 is drift.

    Shapes: reference (n, d) and current (m, d), with 5 rows per part or more.
    Convention: `classifier` is any of scikit-learn's with predict_proba or decision_function; unless given, a logistic
    regression of standardised columns, which sees shifts of the mean and is blind to changes of spread alone.
    Randomness: `rng` is an int seed, or a torch.Generator, which the call advances.
    Source: Lopez-Paz and Oquab (2017), "Revisiting classifier two-sample tests"; Lhéritier and Cazals (2018) for training on
    what came before.

    >>> x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    >>> result = classifier_drift(x[:100], x[100:] + 1, rng=0)
    >>> result.statistic > 0.8, result.p_value < 0.001
    (True, True)
    """
    x, y = (side.double().cpu().numpy() for side in _rows(reference=reference, current=current))
    folds = positive_integer("folds", folds)
    if folds < 2 or min(len(x), len(y)) < 5 * folds:
        found = f"{folds} folds of {len(x)} and {len(y)} rows"
        raise ValueError(f"{found}; expected 2 folds or more, with at least 5 rows of either side in each")
    rows, labels = np.concatenate([x, y]), np.repeat([0, 1], [len(x), len(y)])
    model = make_pipeline(StandardScaler(), LogisticRegression()) if classifier is None else classifier
    seed = int(numpy_generator(rng).integers(2**31))
    parts = [part for _, part in StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, labels)]
    areas, scores = [], []
    for place in range(1, folds):
        train, test = np.concatenate(parts[:place]), parts[place]
        fitted = clone(model).fit(rows[train], labels[train])
        decide = getattr(fitted, "decision_function", None) or (lambda z, f=fitted: f.predict_proba(z)[:, 1])
        areas.append(roc_auc_score(labels[test], decision := decide(rows[test])))
        scores.append(_z(areas[-1], decision, labels[test]))
    p_value = float(stats.norm.sf(sum(scores) / math.sqrt(len(scores))))
    auc = float(np.mean(areas))
    return DriftResult("classifier AUC", auc, p_value, max(0.0, auc - 0.5), len(x), len(y))


def _z(area, scores, labels):
    """The AUC less 1/2 in its standard errors, with ties; 0 where all scores are equal."""
    n, m = np.bincount(labels)
    total, ties = n + m, np.unique(scores, return_counts=True)[1].astype(float)
    variance = (total + 1 - (ties**3 - ties).sum() / (total * (total - 1))) / (12 * n * m)
    return (area - 0.5) / math.sqrt(variance) if variance > 1e-12 else 0.0


def _rows(**pair):
    found = floating(**pair)
    for name, rows in zip(pair, found, strict=True):
        check_finite(name, rows)
        if rows.ndim != 2 or len(rows) < 2:
            raise ValueError(f"{name} has shape {tuple(rows.shape)}; expected (n, d) with at least 2 rows")
    if found[0].shape[1] != found[1].shape[1]:
        columns = " and ".join(f"{name} {rows.shape[1]}" for name, rows in zip(pair, found, strict=True))
        raise ValueError(f"columns are {columns}; expected as many")
    return found


def _median_distance(pool, source):
    if len(pool) > PAIRED:
        pool = pool[torch.randperm(len(pool), generator=source, device=source.device)[:PAIRED].to(pool.device)]
    distances = torch.nn.functional.pdist(pool)
    positive = distances[distances > 0]
    return float(positive.median()) if len(positive) else 1.0


def _kernel(a, b, scale, start):
    """The kernel of rows `a`, which begin at `start` of `b`, with all rows; less a constant, which MMD² does not see."""
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)
    values = squares.addmm_(a, b.T, alpha=-2).clamp_(min=0).mul_(-0.5 / scale**2).exp_().sub_(math.exp(-0.5))
    values.diagonal(start).zero_()
    return values
