"""Mean and covariance of 10,000 x 2048 features: streamed in batches, and by numpy and torch-fidelity from all at once."""

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics

from studyguide.image.features import FeatureStatistics

N, D = 10_000, 2048


@pytest.fixture(scope="module")
def features():
    return torch.randn(N, D, generator=torch.Generator().manual_seed(0)).abs()


def streamed(batch_size):
    def statistics(features):
        seen = FeatureStatistics()
        for batch in features.split(batch_size):
            seen.update(batch)
        return seen.compute()

    return statistics


def numpy(features):
    x = features.numpy().astype(np.float64)
    return x.mean(0), np.cov(x, rowvar=False)


def torch_fidelity(features):
    made = fid_features_to_statistics(features.double())
    return made["mu"], made["sigma"]


@pytest.mark.parametrize(
    ("library", "statistics"),
    [
        ("studyguide", streamed(N)),
        ("batches of 64", streamed(64)),
        ("numpy", numpy),
        ("torch-fidelity", torch_fidelity),
    ],
)
def test_statistics(benchmark, features, library, statistics):
    for ours, theirs in zip(statistics(features), numpy(features), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)  # the same task
    benchmark.group = f"statistics, {N} x {D}"
    benchmark.extra_info["library"] = library
    benchmark.pedantic(statistics, [features], rounds=2)
