"""KID against torch-fidelity and closed forms, its variance against all samples there are, its interval by trial."""

import itertools
import math
import re
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import polynomial_kernel
from torch_fidelity.metric_kid import kernel_mmd, kid_features_to_metric

from studyguide.image import kernel_distance
from studyguide.image.kernel_distance import kid

properties = settings(max_examples=50, deadline=None)
seeds = st.integers(0, 2**31)


def gauss(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(a, b, atol=1e-12, rtol=0.0):
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def fields(interval):
    return torch.stack([interval.estimate, interval.low, interval.high])


def options(degree=3, gamma=None, coef0=1.0):
    names = ("kid_kernel_poly_degree", "kid_kernel_poly_gamma", "kid_kernel_poly_coef0")
    return {"kid_kernel": "poly", "verbose": False} | dict(zip(names, (degree, gamma, coef0), strict=True))


def by_definition(x, y):
    """Sample sizes may differ; x and y are numpy arrays."""
    kernel = partial(polynomial_kernel, degree=3, coef0=1)
    n, m = len(x), len(y)
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (kernel(x), kernel(y))]
    return sum(within) - 2 * kernel(x, y).sum() / (n * m)


# The estimate


@properties
@given(seeds, st.integers(4, 30), st.integers(1, 12), st.integers(1, 5), st.sampled_from([None, 0.1, 1.0]))
def test_equals_torch_fidelity(seed, n, d, degree, gamma):
    x, y = gauss(n, d, seed=seed), gauss(n, d, seed=seed + 1) + 0.2
    ours = kid(x, y, degree, gamma, coef0=0.5).estimate
    close(ours, kernel_mmd(x.numpy(), y.numpy(), **options(degree, gamma, 0.5)), atol=1e-9, rtol=1e-12)


@properties
@given(seeds, st.integers(4, 25), st.integers(4, 25), st.integers(1, 9))
def test_sets_of_two_sizes_and_their_symmetry(seed, n, m, d):
    x, y = gauss(n, d, seed=seed), gauss(m, d, seed=seed + 1).exp()
    one = fields(kid(x, y))
    close(one[0], by_definition(x.numpy(), y.numpy()), rtol=1e-11)
    close(fields(kid(y, x)), one, rtol=1e-11)
    assert one[1] <= one[0] <= one[2]


def test_a_linear_kernel_compares_the_means():
    """With degree 1: gamma times the squared distance of the means, less what their own noise adds to it."""
    x, y = gauss(9, 3), gauss(14, 3, seed=1) + 2
    noise = x.var(0).sum() / 9 + y.var(0).sum() / 14
    close(kid(x, y, degree=1, gamma=0.5, coef0=7).estimate, 0.5 * ((x.mean(0) - y.mean(0)).square().sum() - noise))


def test_by_hand():
    """Degree 2, gamma 1, coef0 0 in one dimension: k(a, b) = a² b²."""
    x, y = [[1.0], [1.0], [2.0], [0.0]], [[1.0], [1.0], [1.0], [1.0]]
    # squares of x: 1 1 4 0. Pairs: 2 (1 + 4 + 4) = 18 of 12. Pairs of y: 1. Between: mean 1.5 times mean 1
    close(kid(x, y, degree=2, gamma=1, coef0=0).estimate, 18 / 12 + 1 - 2 * 1.5)


def test_order_rotation_and_the_size_of_blocks_do_not_matter(monkeypatch):
    x, y = gauss(70, 6), gauss(50, 6, seed=1) + 0.3
    expected = fields(kid(x, y))
    close(fields(kid(x.flip(0), y[torch.randperm(50)])), expected)
    rotation = torch.linalg.qr(gauss(6, 6, seed=2)).Q
    close(fields(kid(x @ rotation, y @ rotation)), expected, atol=1e-10)
    for block in (1, 7, 32, 69, 70):
        monkeypatch.setattr(kernel_distance, "BLOCK", {"cpu": block})
        close(fields(kid(x, y)), expected)


def test_a_set_against_itself_is_below_0_and_equal_features_give_0():
    x = gauss(40, 3)
    within = polynomial_kernel(x.numpy(), degree=3, coef0=1)
    pairs = (within.sum() - np.trace(within)) / (40 * 39)
    close(kid(x, x).estimate, 2 * (pairs - within.mean()))
    assert kid(x, x).estimate < 0
    same = torch.full((6, 2), 0.1)
    assert fields(kid(same, same)).tolist() == [0, 0, 0]


def test_dtypes_and_a_large_offset():
    x, y = gauss(300, 64), gauss(300, 64, seed=1) + 0.1
    for shift in (0, 10):
        expected = fields(kid(x + shift, y + shift))
        ours = fields(kid((x + shift).float(), (y + shift).float()))
        assert ours.dtype == torch.float32
        close(ours, expected, rtol=2e-4)
    for dtype in (torch.float16, torch.bfloat16):
        a, b = x.to(dtype), y.to(dtype)
        assert kid(a, b).low.dtype == dtype
        close(fields(kid(a, b)), fields(kid(a.double(), b.double())), rtol=2 * torch.finfo(dtype).eps, atol=1e-6)
    assert kid([[1], [2], [3], [5]], [[1], [0], [3], [4]]).estimate.dtype == torch.float64


# Subsets


def test_subsets_equal_torch_fidelity_given_the_same(monkeypatch):
    x, y = gauss(60, 5), gauss(45, 5, seed=1) + 0.2
    source = torch.Generator().manual_seed(11)

    class SameDraws:
        def __init__(self, seed):
            pass

        def choice(self, n, size, replace):
            return torch.randperm(n, generator=source)[:size].numpy()

    monkeypatch.setattr("numpy.random.RandomState", SameDraws)
    theirs = kid_features_to_metric(x, y, kid_subsets=7, kid_subset_size=20, rng_seed=0, **options())
    ours = kid(x, y, subsets=7, subset_size=20, rng=11)
    close(ours.estimate, theirs["kernel_inception_distance_mean"], atol=1e-9)


def test_subsets_of_all_features_are_the_exact_kid():
    x, y = gauss(30, 4), gauss(30, 4, seed=1) + 0.5
    close(fields(kid(x, y, subsets=3, subset_size=30)), fields(kid(x, y)))


def test_many_subsets_come_near_the_exact_kid_and_its_interval():
    x, y = gauss(200, 4), gauss(200, 4, seed=1) + 0.5
    exact, mean = kid(x, y), kid(x, y, subsets=400, subset_size=50)
    assert abs(mean.estimate - exact.estimate) < 0.1 * (exact.high - exact.low)
    close(mean.high - mean.low, exact.high - exact.low, rtol=0.1)


def test_randomness():
    x, y = gauss(50, 4), gauss(50, 4, seed=1)
    draw = partial(kid, x, y, subsets=5, subset_size=10)
    assert draw(rng=1).estimate == draw(rng=1).estimate != draw(rng=2).estimate
    source = torch.Generator().manual_seed(1)
    assert draw(rng=source).estimate == draw(rng=1).estimate != draw(rng=source).estimate


# The variance


def all_samples(points, shares, size):
    """All samples that can be drawn from a distribution on a few points, and their probabilities."""
    for places in itertools.product(range(len(points)), repeat=size):
        yield torch.tensor([points[place] for place in places]), math.prod(shares[place] for place in places)


@pytest.mark.parametrize("other", [[0.5, 0.5], [0.8, 0.2]], ids=["equal", "different"])
def test_estimate_and_variance_are_unbiased(other):
    """Over all 2^9 pairs of samples of 4 and of 5 from two distributions on two points."""
    points, n, m = [[0.0, 1.0], [1.0, -0.5]], 4, 5
    kernel = kernel_distance._kernel(torch.zeros(1, 2).double(), torch.zeros(1, 2).double(), 3, None, 1.0)
    rows = []
    for x, p in all_samples(points, [0.5, 0.5], n):
        for y, q in all_samples(points, other, m):
            mmd, *terms = kernel_distance._compare(kernel, x.double(), y.double())
            first_x, first_y, xx, yy, xy = terms
            variance = 4 * first_x / n + 4 * first_y / m
            variance += 2 * xx / (n * (n - 1)) + 2 * yy / (m * (m - 1)) + 4 * xy / (n * m)
            rows.append(torch.stack([p * q * mmd, p * q * mmd**2, p * q * variance]))
    mean, square, variance = torch.stack(rows).sum(0)
    gap = np.array([0.5, 0.5]) - other
    close(mean, gap @ polynomial_kernel(np.array(points), degree=3, coef0=1) @ gap)
    close(variance, square - mean**2)


def coverage(draw, truth, trials=200, **options):
    intervals = [kid(*draw(torch.Generator().manual_seed(seed)), **options) for seed in range(trials)]
    return sum(float(i.low <= truth <= i.high) for i in intervals) / trials


def pair(source, n, m, shift):
    x, y = (torch.randn(size, 8, generator=source, dtype=torch.float64) for size in (n, m))
    return x, y + shift


def true_kid(shift, d=8):
    """Degree 2, gamma 1 / d, coef0 1 between N(0, I) and N(shift, I): 2 |mu|² / d + (the Gram of second moments)."""
    mu2 = d * shift**2
    return 2 * mu2 / d + mu2**2 / d**2


@pytest.mark.parametrize(("n", "m"), [(100, 100), (120, 60)])
@pytest.mark.parametrize("subsets", [None, 6])
def test_the_interval_holds_the_truth_as_often_as_it_says(n, m, subsets):
    drawn = {"subsets": subsets, "subset_size": n // 2, "degree": 2}
    null = coverage(lambda source: pair(source, n, m, 0.0), 0.0, **drawn)
    assert null >= 0.95, "for equal distributions it errs on the safe side"
    shifted = coverage(lambda source: pair(source, n, m, 0.4), true_kid(0.4), **drawn)
    assert 0.88 <= shifted <= 0.99
    assert coverage(lambda source: pair(source, n, m, 0.4), true_kid(0.4), confidence=0.5, **drawn) < 0.62


# Errors


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": [1.0, 2.0]}, ValueError, "x has shape (2,); expected (n, d), a row for each of 4 images or more"),
        ({"x": gauss(5, 3)}, ValueError, "x has 3 features per row, y 2; expected as many"),
        ({"y": gauss(3, 2)}, ValueError, "y has shape (3, 2); expected (n, d), a row for each of 4 images or more"),
        ({"x": gauss(0, 2)}, ValueError, "x is empty"),
        ({"x": gauss(5, 2) / 0}, ValueError, "x contains"),
        ({"y": gauss(5, 2).where(gauss(5, 2) > 0, math.nan)}, ValueError, "y contains nan"),
        ({"x": [["a"]]}, TypeError, "x cannot be read"),
        ({"x": 1e200 * gauss(5, 2)}, ValueError, "the kernel overflows torch.float64"),
        ({"x": 1e20 * gauss(5, 2).float(), "y": gauss(5, 2).float()}, ValueError, "the kernel overflows torch.float32"),
        ({"x": 1e3 * gauss(5, 2).half(), "y": gauss(5, 2).half()}, ValueError, "the kernel overflows torch.float16"),
        ({"degree": 0}, ValueError, "degree is 0; expected at least 1"),
        ({"degree": 1.5}, TypeError, "degree is 1.5; expected an integer"),
        ({"gamma": 0}, ValueError, "gamma is 0 and coef0 1.0; expected gamma above 0"),
        ({"coef0": -1}, ValueError, "gamma is 0.5 and coef0 -1; expected"),
        ({"coef0": math.nan}, ValueError, "coef0 nan; expected"),
        ({"subsets": 1}, ValueError, "1 subsets of 5 from 5 and 5 features; expected 2 subsets or more"),
        ({"subsets": 5, "subset_size": 6}, ValueError, "5 subsets of 6 from 5 and 5 features"),
        ({"subsets": 5, "subset_size": 3}, ValueError, "5 subsets of 3 from 5 and 5 features; expected"),
        ({"subsets": 5, "rng": "x"}, TypeError, "rng is 'x'"),
        ({"confidence": 95}, ValueError, "confidence is 95"),
    ],
)
def test_errors(change, error, message):
    with pytest.raises(error, match=re.escape(message)):
        kid(**{"x": gauss(5, 2), "y": gauss(5, 2, seed=1), "subset_size": 5} | change)


@pytest.mark.gpu
def test_cuda_agrees_with_cpu(cuda):
    x, y = gauss(1500, 64), gauss(1100, 64, seed=1) + 0.1
    for drawn in ({}, {"subsets": 5, "subset_size": 200}):
        ours = fields(kid(x.to(cuda), y.to(cuda), **drawn))
        assert ours.is_cuda
        close(ours.cpu(), fields(kid(x, y, **drawn)), atol=1e-9)
