"""Bootstrap intervals for a difference of means, 10,000 resamples of two samples of 10,000, against scipy.

scipy's speed hangs on `batch`, the resamples that it holds at a time (all of them by default, in 2.4 GB): each of
BATCHES is timed, and the best is the one that counts.
"""

import numpy as np
import pytest
import torch
from scipy import stats

from studyguide.statistics.bootstrap import bootstrap_interval

SIZE = 10_000
BATCHES = [10, 20, 50, 200]
RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(2, SIZE))
HITS = RNG.integers(0, 2, size=(2, SIZE)).astype(float)
TASKS = {"percentile": (SCORES, "percentile"), "0/1 data": (HITS, "percentile"), "bca": (SCORES, "bca")}


def difference(a, b, axis):
    return b.mean(axis) - a.mean(axis)


def scipys(data, method, batch):
    options = {"n_resamples": SIZE, "method": method, "batch": batch, "vectorized": True}
    return stats.bootstrap(tuple(data), difference, rng=np.random.default_rng(0), **options).confidence_interval


def ours(data, method):
    return bootstrap_interval(tuple(torch.from_numpy(data)), method=method, n_resamples=SIZE, rng=0)


@pytest.mark.parametrize("library", ["studyguide", *(f"scipy, batch {batch}" for batch in BATCHES)])
@pytest.mark.parametrize("name", TASKS)
def test_bootstrap(benchmark, name, library):
    data, method = TASKS[name]
    benchmark.group = f"bootstrap {name} 10k x 10k"
    benchmark.extra_info["library"] = library
    arguments = (data, method) if library == "studyguide" else (data, method, int(library.split()[-1]))
    result = benchmark.pedantic(ours if library == "studyguide" else scipys, arguments, rounds=3, warmup_rounds=1)
    error = difference(*data, -1).item(), np.sqrt(data.var(-1).sum() / SIZE)
    expected = error[0] + error[1] * stats.norm.ppf([0.025, 0.975])  # the same task: means of 10,000 are normal
    assert [float(result.low), float(result.high)] == pytest.approx(expected, abs=error[1] / 8)
