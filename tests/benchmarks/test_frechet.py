"""The Frechet distance of 2,048 features: from means and covariances, and from 500 images."""

import pytest
import torch
from scipy import linalg
from torchmetrics.image.fid import _compute_fid

from studyguide.image.frechet import frechet_distance, frechet_distance_from_features

D = 2048


def sample(n, seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, D, generator=draw, dtype=torch.float64) * torch.linspace(1, 2, D, dtype=torch.float64) + seed


def moments(x):
    return x.mean(0), x.T.cov()


def sqrtm(mu1, sigma1, mu2, sigma2):
    root = linalg.sqrtm((sigma1 @ sigma2).numpy())
    return (mu1 - mu2).square().sum() + (sigma1 + sigma2).trace() - 2 * root.trace().real


def torchmetrics_from_features(x, y):
    return _compute_fid(*moments(x), *moments(y))


@pytest.mark.parametrize(
    ("library", "distance"), [("studyguide", frechet_distance), ("scipy", sqrtm), ("torchmetrics", _compute_fid)]
)
def test_from_moments(benchmark, library, distance):
    given = *moments(sample(3000, 0)), *moments(sample(3000, 1))
    torch.testing.assert_close(distance(*given), frechet_distance(*given), rtol=1e-6, atol=0)  # the same task
    benchmark.group = f"Frechet, moments, d={D}"
    benchmark.extra_info["library"] = library
    benchmark.pedantic(distance, given, rounds=3 if library == "studyguide" else 1)


@pytest.mark.parametrize(
    ("library", "distance"),
    [("studyguide", frechet_distance_from_features), ("torchmetrics", torchmetrics_from_features)],
)
def test_from_few_images(benchmark, library, distance):
    given = sample(500, 0), sample(500, 1)
    torch.testing.assert_close(distance(*given), frechet_distance_from_features(*given), rtol=1e-4, atol=0)
    benchmark.group = f"Frechet, n=500 < d={D}"
    benchmark.extra_info["library"] = library
    benchmark.pedantic(distance, given, rounds=3 if library == "studyguide" else 1)
