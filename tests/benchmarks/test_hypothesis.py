"""Permutation tests of a difference of means with 9,999 random deals, one at a time and 200 at once, against scipy."""

import pytest
import torch
from scipy import stats

from studyguide.statistics.hypothesis import permutation_test

# name: shape of either sample, paired or not, scipy's fastest batch on two cores
WORK = {
    "regrouping 500 + 500": ((500,), False, 500),
    "sign flips 1000": ((1000,), True, 1000),
    "sign flips 200 x 100": ((200, 100), True, 20),
}


def by_scipy(a, b, paired, batch):
    data = (a - b,) if paired else (a, b)
    kind = "samples" if paired else "independent"
    options = {"permutation_type": kind, "vectorized": True, "n_resamples": 9999, "batch": batch, "rng": 0, "axis": -1}
    return stats.permutation_test(data, mean_or_difference, **options).pvalue


def mean_or_difference(*data, axis):
    means = [x.mean(axis) for x in data]
    return means[0] if len(means) == 1 else means[0] - means[1]


def by_studyguide(a, b, paired, batch):
    return permutation_test(a, b, paired, n_resamples=9999, rng=0).p_value


@pytest.mark.parametrize("library", ["studyguide", "scipy"])
@pytest.mark.parametrize("name", WORK)
def test_permutation_test(benchmark, name, library):
    shape, *options = WORK[name]
    rng = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=rng, dtype=torch.float64) + shift for shift in (0, 0.08)]
    arrays = [x.numpy() for x in tensors]
    ours, peers = by_studyguide(*tensors, *options), torch.as_tensor(by_scipy(*arrays, *options))
    assert (ours - peers).abs().max() < 0.04  # the same task, up to the random deals
    benchmark.group = name
    benchmark.extra_info["library"] = library
    call, data = (by_studyguide, tensors) if library == "studyguide" else (by_scipy, arrays)
    benchmark.pedantic(call, (*data, *options), rounds=3)
