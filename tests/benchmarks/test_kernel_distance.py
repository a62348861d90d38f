"""KID of 10,000 against 10,000 features of Inception's size: exact, and by torch-fidelity's 100 subsets of 1000."""

import pytest
import torch
from threadpoolctl import threadpool_limits
from torch_fidelity.metric_kid import kid_features_to_metric

from studyguide.image.kernel_distance import kid

N, D = 10_000, 2048


@pytest.fixture(scope="module")
def sets():
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.randn(N, D, generator=draw).relu() for _ in range(2))
    return x, 1.1 * y


def subsets(x, y):
    kernel = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None}
    drawn = {"kid_subsets": 100, "kid_subset_size": 1000, "rng_seed": 0, "verbose": False}
    return kid_features_to_metric(x, y, **kernel, kid_kernel_poly_coef0=1, **drawn)["kernel_inception_distance_mean"]


@pytest.mark.parametrize(
    ("library", "compute"), [("studyguide", lambda x, y: kid(x, y).estimate), ("torch-fidelity", subsets)]
)
def test_kid(benchmark, sets, library, compute):
    benchmark.group = f"KID, 2 x {N:,}, d={D}"
    benchmark.extra_info["library"] = library
    with threadpool_limits(1):  # numpy's, too
        result = benchmark.pedantic(compute, sets, rounds=1)
    interval = kid(*(rows[:2000] for rows in sets), confidence=0.9999)
    assert interval.low < result < interval.high  # the same distance
