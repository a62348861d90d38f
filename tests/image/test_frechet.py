"""The distance against closed forms, mpmath, scipy, pytorch-fid, torch-fidelity and torchmetrics; FID's bias against theory."""

import math
import re
import warnings

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torchmetrics.image.fid import _compute_fid

from studyguide.image.features import FeatureStatistics
from studyguide.image.frechet import fid, fid_infinity, frechet_distance, frechet_distance_from_features

properties = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 24)


def gauss(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def features(seed, n, d):
    """A sample whose features are correlated, of unequal spread and not centred."""
    mix = gauss(d, d, seed=seed + 1) * torch.logspace(0, -1, d, dtype=torch.float64)
    return gauss(n, d, seed=seed) @ mix + gauss(d, seed=seed + 2)


def moments(x):
    return x.mean(0), torch.atleast_2d(x.T.cov())


def close(a, b, rtol=1e-12, atol=0.0):
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def scaled(a, b, moments, tolerance=1e-12):
    """Equal, in units of the variances and of the distance: what cancels takes its digits along."""
    size = moments[1].trace() + moments[3].trace() + (moments[0] - moments[2]).square().sum()
    close(a, b, rtol=0, atol=tolerance * float(size))


def rotation(d, seed):
    return torch.linalg.qr(gauss(d, d, seed=seed))[0]


def precise(mu1, sigma1, mu2, sigma2):
    """The distance of rational moments in 60 digits: roots of the eigenvalues of the root of sigma1 around sigma2."""
    with mpmath.workdps(60):
        m1, s1, m2, s2 = (mpmath.matrix(moment.tolist()) for moment in (mu1, sigma1, mu2, sigma2))
        values, vectors = mpmath.eigsy(s1)
        root = vectors * mpmath.diag([mpmath.sqrt(max(v, 0)) for v in values]) * vectors.T
        inner = root * s2 * root
        trace = sum(mpmath.sqrt(max(v, 0)) for v in mpmath.eigsy((inner + inner.T) / 2, eigvals_only=True))
        apart = sum((a - b) ** 2 for a, b in zip(m1, m2, strict=True))
        return float(apart + sum(s1[i, i] + s2[i, i] for i in range(len(mu1))) - 2 * trace)


# Closed forms


@properties
@given(seeds)
def test_one_dimension(seed):
    a, b, s, t = gauss(4, seed=seed).tolist()
    expected = (a - b) ** 2 + (abs(s) - abs(t)) ** 2
    given = [torch.tensor(x, dtype=torch.float64) for x in ([a], [[s * s]], [b], [[t * t]])]
    scaled(frechet_distance(*given), expected, given)
    scaled(frechet_distance(a, s * s, b, t * t), expected, given)


@properties
@given(seeds, sizes)
def test_diagonal_covariances(seed, d):
    mu1, mu2, s, t = gauss(4, d, seed=seed)
    expected = (mu1 - mu2).square().sum() + (s.abs() - t.abs()).square().sum()
    given = mu1, torch.diag(s**2), mu2, torch.diag(t**2)
    scaled(frechet_distance(*given), expected, given)


@properties
@given(seeds, sizes)
def test_commuting_covariances(seed, d):
    """Of one set of axes: the distance of the roots of their eigenvalues."""
    q, (s, t) = rotation(d, seed), gauss(2, d, seed=seed + 1).abs() + 0.1
    given = torch.zeros(d), (q * s**2) @ q.T, torch.zeros(d), (q * t**2) @ q.T
    scaled(frechet_distance(*given), (s - t).square().sum(), given)


@pytest.mark.parametrize("d", [1, 2, 100, 300])
def test_scaled_identities(d):
    """d (3 - 2)^2, also where the blocks of the triangular product do not come out even."""
    eye, zero = torch.eye(d, dtype=torch.float64), torch.zeros(d, dtype=torch.float64)
    close(frechet_distance(zero, 9 * eye, zero, 4 * eye), d)
    close(frechet_distance(zero, eye, zero + 2, eye), 4 * d)
    close(frechet_distance(zero, eye, zero, 0 * eye), d)


def test_two_by_two_by_hand():
    """Tr (AB)^(1/2) of 2 x 2 matrices is sqrt(Tr AB + 2 sqrt(det AB)): here sqrt(4 + 2 * sqrt(3 * 1))."""
    distance = frechet_distance([0, 1], [[2, 1], [1, 2]], [0, 0], [[1, 0], [0, 1]])
    close(distance, 1 + 4 + 2 - 2 * math.sqrt(4 + 2 * math.sqrt(3)))


def test_features_by_hand():
    """x has mean 1 and variance 2, y 5 and 4."""
    close(frechet_distance_from_features([[0], [2]], [[3], [5], [7]]), 16 + (2 - math.sqrt(2)) ** 2)
    # n = 2 of d = 2: x varies by 2 along the first axis, y by 2 along the second; the means are (1, 0) and (0, 1)
    close(frechet_distance_from_features([[0, 0], [2, 0]], [[0, 0], [0, 2]]), 2 + 2 + 2 - 0)


# Other libraries


@properties
@given(seeds, st.integers(2, 24), st.integers(2, 4))
def test_agrees_with_other_libraries(seed, d, factor):
    x, y = features(seed, factor * d + 5, d), features(seed + 9, 3 * d + 7, d)
    given = *moments(x), *moments(y)
    ours = frechet_distance(*given)
    root = linalg.sqrtm((given[1] @ given[3]).numpy())
    close(ours, _compute_fid(*given), rtol=1e-6)
    close(ours, fid_statistics_to_metric(*({"mu": m.numpy(), "sigma": s.numpy()} for m, s in (given[:2], given[2:])), False)["frechet_inception_distance"], rtol=1e-6)  # fmt: skip
    close(ours, (given[0] - given[2]).square().sum() + (given[1] + given[3]).trace() - 2 * root.trace().real, rtol=1e-6)
    theirs = fid_statistics_to_metric(fid_features_to_statistics(x), fid_features_to_statistics(y), False)
    close(frechet_distance_from_features(x, y), theirs["frechet_inception_distance"], rtol=1e-6)


def pytorch_fid(*moments):
    """pytorch-fid's distance; skipped where SciPy has dropped the argument that it gives to sqrtm."""
    from pytorch_fid.fid_score import calculate_frechet_distance

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return calculate_frechet_distance(*(moment.numpy() for moment in moments))
        except TypeError as error:
            pytest.skip(f"pytorch-fid calls sqrtm(disp=False), which this SciPy no longer takes: {error}")


@pytest.mark.parametrize("d", [2, 17, 64])
def test_agrees_with_pytorch_fid(d):
    for seed in range(5):
        x, y = features(seed, 4 * d, d), features(seed + 50, 3 * d, d)
        expected = pytorch_fid(*moments(x), *moments(y))
        close(frechet_distance(*moments(x), *moments(y)), expected, rtol=1e-6)
        close(frechet_distance_from_features(x, y), expected, rtol=1e-6)


def test_agrees_with_the_accumulator():
    x, y = features(0, 90, 12), features(1, 70, 12)
    statistics = FeatureStatistics(), FeatureStatistics()
    for rows in x.split(32):
        statistics[0].update(rows)
    statistics[1].update(y)
    moments = [moment for s in statistics for moment in s.compute()]
    close(frechet_distance(*moments), frechet_distance_from_features(x, y), rtol=1e-10)


# Singular and ill-conditioned


def low_rank(d, rank, seed):
    """An exactly singular covariance: the numbers are whole, so float64 holds the product without rounding."""
    a = torch.randint(-9, 10, (d, rank), generator=torch.Generator().manual_seed(seed)).double()
    return a @ a.T


@pytest.mark.parametrize(("rank1", "rank2"), [(1, 1), (1, 8), (8, 3), (3, 5), (7, 7), (2, 2)])
def test_singular_covariances_in_60_digits(rank1, rank2):
    for seed in range(4):
        given = gauss(8, seed=seed), low_rank(8, rank1, seed), gauss(8, seed=seed + 1), low_rank(8, rank2, seed + 2)
        scaled(frechet_distance(*given), precise(*given), given, 1e-9)


@properties
@given(seeds, st.integers(0, 6), st.integers(0, 6))
def test_ill_conditioned_covariances_in_60_digits(seed, decades1, decades2):
    d = 6
    spreads = (10.0 ** -torch.linspace(0, decades, d, dtype=torch.float64) for decades in (decades1, decades2))
    sigma1, sigma2 = ((q := rotation(d, seed + k)) @ torch.diag(s) @ q.T for k, s in enumerate(spreads))
    given = torch.zeros(d).double(), (sigma1 + sigma1.T) / 2, torch.zeros(d).double(), (sigma2 + sigma2.T) / 2
    scaled(frechet_distance(*given), precise(*given), given, 1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(2, 2, 3), (3, 5, 6), (5, 9, 7), (9, 4, 7), (7, 7, 7), (2, 40, 9)])
def test_fewer_rows_than_features_in_60_digits(n, m, d):
    """Against the moments of the same whole numbers, in 60 digits."""
    draw = torch.Generator().manual_seed(n + m + d)
    x, y = (torch.randint(-20, 21, (rows, d), generator=draw).double() for rows in (n, m))
    with mpmath.workdps(60):
        given = []
        for side in (x, y):
            rows = mpmath.matrix(side.tolist())
            mean = mpmath.matrix([sum(rows[:, j]) / rows.rows for j in range(d)])
            centred = mpmath.matrix(rows.rows, d)
            for i in range(rows.rows):
                for j in range(d):
                    centred[i, j] = rows[i, j] - mean[j]
            given += [mean, centred.T * centred / (rows.rows - 1)]
        expected = precise(*given)
    close(frechet_distance_from_features(x, y), expected)
    scaled(frechet_distance(*moments(x), *moments(y)), expected, (*moments(x), *moments(y)), 1e-9)


def test_many_features_of_few_images():
    """d = 300 and n = 40: no jitter, and the two ways agree; torchmetrics' eigenvalues are off by their roundings' roots."""
    x, y = gauss(40, 300), gauss(40, 300, seed=1) + 0.1
    given = *moments(x), *moments(y)
    scaled(frechet_distance(*given), frechet_distance_from_features(x, y), given, 1e-9)
    close(frechet_distance_from_features(x, y), _compute_fid(*given), rtol=1e-3)


def test_a_feature_that_never_changes():
    x, y = features(3, 50, 5), features(4, 60, 5)
    dead = [torch.cat([side, torch.zeros(len(side), 1)], 1) for side in (x, y)]
    close(frechet_distance_from_features(*dead), frechet_distance_from_features(x, y), rtol=1e-9)
    same = torch.full((9, 4), 2.5)
    assert frechet_distance_from_features(same, same[:3]) == 0
    close(frechet_distance_from_features(same, same - 1), 4)


# Properties


@properties
@given(seeds, sizes, st.integers(2, 40), st.integers(2, 40))
def test_identity_symmetry_and_invariance(seed, d, n, m):
    x, y = features(seed, n, d), features(seed + 9, m, d)
    given = *moments(x), *moments(y)
    distance = frechet_distance_from_features(x, y)
    assert distance >= 0
    scaled(frechet_distance_from_features(y, x), distance, given, 1e-9)
    scaled(frechet_distance_from_features(x, x.flip(0)), 0, given, 1e-9)
    q, shift = rotation(d, seed), gauss(d, seed=seed)
    scaled(frechet_distance_from_features(x @ q, y @ q), distance, given, 1e-9)
    scaled(frechet_distance_from_features(x + shift, y + shift), distance, given, 1e-9)
    scaled(frechet_distance_from_features(3 * x, 3 * y), 9 * distance, given, 1e-8)
    scaled(frechet_distance(*given), distance, given, 1e-8)
    scaled(frechet_distance(*given[2:], *given[:2]), distance, given, 1e-8)


@properties
@given(seeds, sizes)
def test_its_root_is_a_metric(seed, d):
    a, b, c = (moments(features(seed + k, d + 5, d)) for k in (0, 10, 20))
    ab, bc, ac = (frechet_distance(*p, *q).sqrt() for p, q in ((a, b), (b, c), (a, c)))
    assert ac <= ab + bc + 1e-6


def test_huge_and_tiny_numbers():
    x, y = features(1, 30, 5), features(2, 30, 5)
    expected = frechet_distance_from_features(x, y)
    for scale in (1e-150, 1e-60, 1e60, 1e150):
        close(frechet_distance_from_features(x * scale, y * scale) / scale / scale, expected, rtol=1e-9)
        close(frechet_distance_from_features((x * scale)[:4], (y * scale)[:4]) / scale / scale, frechet_distance_from_features(x[:4], y[:4]), rtol=1e-9)  # fmt: skip
    for scale in (1e-150, 1e150):
        close(frechet_distance(0, scale, 0, 4 * scale) / scale, 1)


def test_dtypes():
    x, y = features(1, 60, 6), features(2, 50, 6)
    expected = frechet_distance_from_features(x, y)
    for dtype, rtol in ((torch.float32, 1e-5), (torch.float16, 2e-2)):
        ours = frechet_distance_from_features(x.to(dtype), y.to(dtype))
        assert ours.dtype == dtype
        close(ours, expected, rtol=rtol)
    single = [moment.float() for side in (x, y) for moment in moments(side)]
    ours = frechet_distance(*single)
    assert ours.dtype == torch.float32
    close(ours, expected, rtol=1e-5)
    # singular but for the rounding of float32, with eigenvalues below 0
    few = [moment.float() for side in (x[:4], y[:4]) for moment in moments(side)]
    close(frechet_distance(*few), frechet_distance_from_features(x[:4], y[:4]), rtol=5e-3)
    assert frechet_distance(*(moment.tolist() for moment in single)).dtype == torch.float64
    assert frechet_distance_from_features(x.numpy(), y.numpy()).dtype == torch.float64


# Errors

EYE = [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"mu2": [0, 0, 0]}, ValueError, "mu1 (2,), sigma1 (2, 2), mu2 (3,), sigma2 (2, 2); expected (d,), (d, d)"),
        ({"sigma1": [1, 1]}, ValueError, "sigma1 (2,)"),
        ({"mu1": [[0, 0]], "mu2": [[0, 0]]}, ValueError, "mu1 (1, 2)"),
        ({"sigma1": [[[1.0, 0], [0, 1]]]}, ValueError, "sigma1 (1, 2, 2)"),
        ({"mu1": [0, math.nan]}, ValueError, "mu1 contains nan; expected finite numbers"),
        ({"sigma2": [[1, 0], [0, math.inf]]}, ValueError, "sigma2 contains inf"),
        ({"sigma1": [[1, math.inf], [math.inf, 1]]}, ValueError, "sigma1 contains inf"),
        ({"sigma1": [[1, 0], [math.nan, 1]]}, ValueError, "sigma1 contains nan"),
        ({"sigma2": [[math.nan, 0], [0, 1]]}, ValueError, "sigma2 contains nan"),
        ({"sigma1": [[1, 0.5], [0, 1]]}, ValueError, "sigma1 differs from its transpose by up to 0.5"),
        ({"sigma1": [[1, 2], [2, 1]]}, ValueError, "sigma1 has an eigenvalue of -0.333 of the largest; expected a"),
        ({"sigma2": [[1, 2], [2, 1]]}, ValueError, "sigma2 has an eigenvalue of -0.333 of the largest"),
        ({"sigma2": [[-1, 0], [0, -1]]}, ValueError, "sigma2 has an eigenvalue of -1 of the largest"),
        ({"mu1": [1e200, 0]}, ValueError, "the distance is beyond torch.float64"),
        ({"mu1": "many"}, TypeError, "mu1 cannot be read as an array of numbers"),
        ({"mu1": []}, ValueError, "mu1 is empty"),
        ({"sigma1": torch.eye(2, dtype=torch.complex128)}, TypeError, "sigma1 has dtype torch.complex128"),
    ],
)
def test_errors_of_moments(change, error, message):
    arguments = {"mu1": [0.0, 0.0], "sigma1": EYE, "mu2": [1.0, 1.0], "sigma2": EYE} | change
    with pytest.raises(error, match=re.escape(message)):
        frechet_distance(**arguments)


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        ([1.0, 2.0], EYE, ValueError, "x has shape (2,); expected (n, d), a row for each of 2 images or more"),
        (EYE, [[1.0, 2.0]], ValueError, "y has shape (1, 2); expected (n, d)"),
        (EYE, [[1.0], [2.0]], ValueError, "x has 2 features per row, y 1; expected as many, of one extractor"),
        ([[math.nan, 1], [0, 1]], EYE, ValueError, "x contains nan"),
        (EYE, [[math.inf, 1], [0, 1]], ValueError, "y contains inf"),
        (EYE, [[1e200, 1], [0, 1]], ValueError, "y reaches 1e+200; expected numbers whose squares float64 can hold"),
        (EYE, [], ValueError, "y is empty"),
        ("cat", EYE, TypeError, "x cannot be read"),
        (torch.ones(3, 2, dtype=torch.bool), EYE, TypeError, "x has dtype torch.bool"),
        (torch.tensor([[6e4], [-6e4]]).half(), torch.tensor([[0.0], [1]]).half(), ValueError, "beyond torch.float16"),
    ],
)
def test_errors_of_features(x, y, error, message):
    with pytest.raises(error, match=re.escape(message)):
        frechet_distance_from_features(x, y)


# The bias of FID


@pytest.mark.parametrize(
    ("d", "n", "published"),
    [(64, 50, 44.9), (64, 100, 21.3), (64, 1000, 2.25), (64, 10_000, 0.226), (256, 100, 257), (256, 1000, 33.7)],
)
def test_two_samples_of_one_gaussian(d, n, published):
    """The erratum's numbers are one draw each; this is the mean of five others."""
    draws = [frechet_distance_from_features(*gauss(2, n, d, seed=seed)) for seed in range(5)]
    close(torch.stack(draws).mean(), published, rtol=0.08)


def test_2048_features_of_500_images():
    close(frechet_distance_from_features(gauss(500, 2048), gauss(500, 2048, seed=1)), 2425, rtol=0.01)


@pytest.mark.parametrize(("d", "n"), [(1, 200), (4, 300), (16, 2000)])
def test_the_bias_to_first_order(d, n):
    """(d (d + 1) / 2 + 2 d) / n, as the docstring says: delta method, equal covariances of 1."""
    draws = torch.stack([frechet_distance_from_features(*gauss(2, n, d, seed=seed)) for seed in range(300)])
    error = draws.std() / len(draws) ** 0.5
    expected = (d * (d + 1) / 2 + 2 * d) / n
    assert abs(draws.mean() - expected) < 4 * error + 0.03 * expected


@pytest.mark.parametrize("distance", [0.0, 4.0])
def test_fid_infinity_has_no_bias(distance):
    """Means apart by 2 along one axis: the distance of the Gaussians is 4; the FID of the samples is more."""
    found = []
    for seed in range(30):
        x, y = gauss(2, 400, 16, seed=seed)
        y[:, 0] += distance**0.5
        found.append(fid_infinity(x, y, rng=seed))
    scores, whole = (torch.stack([getattr(f, name) for f in found]) for name in ("score", "scores"))
    error = scores.std() / len(found) ** 0.5
    assert abs(scores.mean() - distance) < 3 * error < 0.2
    assert whole[:, 0].mean() > distance + 0.3, "the bias is (16 * 17 / 2 + 32) / 400 = 0.42"
    close(torch.stack([f.bias for f in found]).mean(), 0.42, rtol=0.15)


def test_fid_infinity_of_unequal_sets_and_of_another_covariance():
    """diag(1..) against four times that: distance d, whatever the sizes of the sets."""
    found = []
    for seed in range(20):
        x, y = gauss(1500, 8, seed=seed), 2 * gauss(500, 8, seed=seed + 99)
        found.append(fid_infinity(x, y, parts=3, rng=seed).score)
    found = torch.stack(found)
    assert abs(found.mean() - 8) < 3 * found.std() / 20**0.5 < 0.3


def test_fid_infinity_is_the_line_through_the_means():
    x, y = features(0, 70, 3), features(1, 50, 3)
    found = fid_infinity(x, y, parts=4, rng=5)
    assert found.parts.tolist() == [1, 2, 3, 4]
    close(found.scores[0], frechet_distance_from_features(x, y), rtol=1e-9)
    slope, intercept = np.polyfit([1, 2, 3, 4], found.scores.numpy(), 1)
    close([found.bias, found.score], [slope, intercept], rtol=1e-9)
    again, other = fid_infinity(x, y, parts=4, rng=torch.Generator().manual_seed(5)), fid_infinity(x, y, 4, rng=6)
    assert torch.equal(again.scores, found.scores)
    assert not torch.equal(other.scores, found.scores)
    assert fid_infinity(x.float(), y.float(), rng=0).score.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"parts": 1}, ValueError, "parts is 1; expected 2 or more, for a line"),
        ({"parts": 2.5}, TypeError, "parts is 2.5"),
        ({"parts": 10}, ValueError, "the smallest part has 2 rows; expected more than the 3 features: fewer parts"),
        ({"rng": None}, TypeError, "rng is None"),
        ({"generated_features": [[1.0, 2.0]] * 30}, ValueError, "real_features has 3 features per row, generated_feat"),
        ({"real_features": [1.0]}, ValueError, "real_features has shape (1,)"),
    ],
)
def test_errors_of_fid_infinity(change, error, message):
    x = gauss(25, 3)
    with pytest.raises(error, match=re.escape(message)):
        fid_infinity(**{"real_features": x, "generated_features": x, "rng": 0} | change)


# Images


class Pixels(torch.nn.Module):
    """The pixels as they are."""

    name, dimensions = "pixels", 16

    def __init__(self):
        super().__init__()
        self.eval()

    def forward(self, images):
        return images.flatten(1)


def test_fid_is_the_distance_of_the_features_and_says_whose():
    draw = torch.Generator().manual_seed(0)
    real, generated = torch.rand(60, 1, 4, 4, generator=draw), torch.rand(45, 1, 4, 4, generator=draw) ** 2
    found = fid(real, generated, Pixels())
    close(found.score, frechet_distance_from_features(real.flatten(1).double(), generated.flatten(1).double()), 1e-5)
    assert (found.extractor, found.dimensions, found.n_real, found.n_generated) == ("pixels", 16, 60, 45)
    assert str(found) == f"FID {found.score:.4g} (pixels, 16 features, 60 real and 45 generated images)"
    for batch_size in (1, 7, 1000):
        close(fid(real, generated, Pixels(), batch_size=batch_size).score, found.score, 1e-6)
    close(fid((real * 255).round().byte(), generated, Pixels()).score, found.score, 1e-2)
    with pytest.raises(ValueError, match=re.escape("x has shape (1, 16)")):
        fid(real[:1], generated, Pixels())


# The GPU


@pytest.mark.gpu
@pytest.mark.parametrize(("n", "d"), [(40, 6), (4, 6), (900, 300), (40, 300)])
def test_cuda_agrees_with_cpu(cuda, n, d):
    x, y = features(0, n, d), features(1, n + 3, d)
    given = *moments(x), *moments(y)
    for function, arguments in ((frechet_distance, given), (frechet_distance_from_features, (x, y))):
        ours = function(*(argument.to(cuda) for argument in arguments))
        assert ours.device == cuda
        scaled(ours.cpu(), function(*arguments), given, 1e-8)


@pytest.mark.gpu
def test_fid_infinity_on_cuda_draws_as_on_the_cpu(cuda):
    x, y = features(0, 70, 3), features(1, 50, 3)
    found = fid_infinity(x.to(cuda), y.to(cuda), rng=0)
    assert found.score.device == found.parts.device == cuda
    close(found.scores.cpu(), fid_infinity(x, y, rng=0).scores, rtol=1e-9)
