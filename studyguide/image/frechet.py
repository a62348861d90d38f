"""Frechet distance between two Gaussians, and FID: that distance between the features of two sets of images.

The distance is squared, as in every published FID. Covariances divide by n - 1. All is computed in float64, since a root
of a small eigenvalue costs half of the digits; results have the floating dtype and the device of the input.

Errors: moments or features that have the wrong shape, are not finite or too large to be squared, and matrices that are
no covariances (not symmetric, or with a negative eigenvalue that rounding does not explain) are a ValueError.
"""

from dataclasses import dataclass

import torch

from studyguide.image.features import extract, feature_sets
from studyguide.probability.validation import check_finite, common_dtype, floating, generator, positive_integer

ACCURACY = 1e-9  # of the trace of a root: where rounding may cost the fast form more, the exact one is taken
BLOCK = 256  # columns of a triangular matrix that are multiplied at a time


def frechet_distance(mu1, sigma1, mu2, sigma2):
    """Squared Frechet (2-Wasserstein) distance between two Gaussians of given means and covariances.

    It is |mu1 - mu2|^2 + Tr(sigma1) + Tr(sigma2) - 2 Tr((sigma1 sigma2)^(1/2)).

    Shapes: mu1 and mu2 (d,), sigma1 and sigma2 (d, d), all four plain numbers if d = 1; result 0-d. Range: 0 or more, in
    the squared unit of the features. Errors: see the module.
    Convention: nothing becomes complex and nothing is added to a diagonal. With sigma1 = L L^T the eigenvalues of
    sigma1 sigma2 are those of L^T sigma2 L, which is symmetric; the sum of their roots is the trace. A singular
    covariance is taken as it is. Its eigenvalues of the size of rounding (d units in the last place of the largest, or
    as far from 0 as the most negative one) count as 0.
    Source: Dowson and Landau (1982), "The Frechet distance between multivariate normal distributions".

    >>> frechet_distance([0, 0], [[1, 0], [0, 4]], [3, 0], [[4, 0], [0, 9]])
    tensor(11., dtype=torch.float64)
    """
    given = floating(mu1=mu1, sigma1=sigma1, mu2=mu2, sigma2=sigma2)
    mu1, mu2 = (torch.atleast_1d(mu) for mu in given[::2])
    sigma1, sigma2 = (torch.atleast_2d(sigma) for sigma in given[1::2])
    d = len(mu1)
    if not mu1.shape == mu2.shape == (d,) or not sigma1.shape == sigma2.shape == (d, d):
        shapes = "mu1 {}, sigma1 {}, mu2 {}, sigma2 {}".format(*(tuple(moment.shape) for moment in given))
        raise ValueError(f"shapes are {shapes}; expected (d,), (d, d), (d,), (d, d)")
    check_finite("mu1", mu1)
    check_finite("mu2", mu2)
    apart = (mu1.double() - mu2.double()).square().sum()
    sigma1, sigma2 = _symmetric("sigma1", sigma1), _symmetric("sigma2", sigma2)
    root = _trace_of_root(sigma1, sigma2, _rounding(given[1], given[3]))
    return _distance(apart, sigma1.trace(), sigma2.trace(), root, common_dtype(*given)[0])


def frechet_distance_from_features(x, y):
    """Squared Frechet distance between the Gaussians fitted to two samples of features: FID, once features are there.

    Shapes: x (n, d) and y (m, d) with n and m of 2 or more, result 0-d. Range: 0 or more. Errors: see the module.
    Convention: if a sample has d rows or fewer its covariance is singular, and no covariance is formed: the trace of the
    root is the sum of the singular values of the centred x times the centred y transposed, an (n, m) matrix.

    The order of the rows does not matter, their number does: two samples of one Gaussian are apart, at n = m and with a
    covariance of 1 by about (d (d + 1) / 2 + 2 d) / n.

    >>> frechet_distance_from_features([[0.0], [2.0]], [[3.0], [5.0], [7.0]])
    tensor(16.3431, dtype=torch.float64)
    """
    x, y, dtype = feature_sets(2, x=x, y=y)
    (mu1, root1, trace1), (mu2, root2, trace2) = _moments("x", x), _moments("y", y)
    if min(len(x), len(y)) > x.shape[1]:
        root = _trace_of_root(root1.mT @ root1, root2.mT @ root2)
    else:
        root = torch.linalg.svdvals(root1 @ root2.mT).sum()
    return _distance((mu1 - mu2).square().sum(), trace1, trace2, root, dtype)


@dataclass(frozen=True)
class FidScore:
    """An FID and what it must not be quoted without."""

    score: float
    extractor: str  # the name of the network that made the features
    dimensions: int  # of the features
    n_real: int  # images
    n_generated: int

    def __str__(self):
        sizes = f"{self.n_real} real and {self.n_generated} generated images"
        return f"FID {self.score:.4g} ({self.extractor}, {self.dimensions} features, {sizes})"


def fid(real, generated, extractor, batch_size=64):
    """Frechet inception distance between two sets of images, as seen by an extractor of features: a `FidScore`.

    Images and extractor: see `studyguide.image.features`, which reads them `batch_size` at a time. Range: 0 or more.
    Errors: see the module; fewer than 2 images in a set.
    Convention: a published FID is that of one particular network (the Inception-v3 of 2015) and of 50,000 images or
    more. Any other extractor, or number of images, gives other values: compare none that differ in either.
    Source: Heusel et al. (2017), "GANs trained by a two time-scale update rule converge to a local Nash equilibrium".

    >>> from studyguide.datasets.digits import digits, generate
    >>> from studyguide.image.features import DigitsFeatures
    >>> print(fid(digits("test")[0], generate("noise", 797, rng=1), DigitsFeatures()))
    FID 563.9 (digits-features, 64 features, 797 real and 797 generated images)
    """
    features = [extract(images, extractor, batch_size) for images in (real, generated)]
    score = frechet_distance_from_features(*features).item()
    return FidScore(score, extractor.name, extractor.dimensions, len(features[0]), len(features[1]))


@dataclass(frozen=True, eq=False)
class FidInfinity:
    """What `fid_infinity` found; scores[i] is the mean FID of the parts where each set is cut into parts[i]."""

    score: torch.Tensor  # extrapolated; for equal distributions below 0 as often as above
    bias: torch.Tensor  # what the whole sets would score beyond that, by the fitted line
    parts: torch.Tensor  # 1, 2, ...
    scores: torch.Tensor


def fid_infinity(real_features, generated_features, parts=5, *, rng):
    """FID as it would be with infinitely many images of each kind: a `FidInfinity`.

    The bias of FID falls as 1 / n. So both sets are shuffled and cut into k = 1, 2, ... `parts` disjoint parts; the mean
    FID of the k pairs of parts is as if n were n / k; the line through these means is read at k = 0.

    Shapes: features (n, d) and (m, d); fields of the result 0-d and (parts,). Randomness: `rng` is an int seed or a
    torch.Generator, which the call advances. Errors: see the module; `parts` below 2; a part with d rows or fewer, where
    FID is no line in 1 / n.
    Convention: Chong and Forsyth draw 15 samples of n / 10 to n of the generated images and leave the real set whole, and
    so the bias that it brings. Here both shrink, and all images are used at each size, which scatters less.
    Source: Chong and Forsyth (2020), "Effectively unbiased FID and Inception score and where to find them".

    >>> x, y = torch.randn(2, 500, 4, generator=torch.Generator().manual_seed(0)).double()
    >>> found = fid_infinity(x, y, rng=0)
    >>> found.scores[0], found.score  # two samples of one distribution
    (tensor(0.0568, dtype=torch.float64), tensor(0.0101, dtype=torch.float64))
    """
    x, y, _ = feature_sets(2, real_features=real_features, generated_features=generated_features)
    if (parts := positive_integer("parts", parts)) < 2:
        raise ValueError(f"parts is {parts}; expected 2 or more, for a line")
    if (smallest := min(len(x), len(y)) // parts) <= (d := x.shape[1]):
        raise ValueError(f"the smallest part has {smallest} rows; expected more than the {d} features: fewer parts")
    draw = generator(rng)
    x, y = (side[torch.randperm(len(side), generator=draw, device=draw.device).to(side.device)] for side in (x, y))
    k = torch.arange(1, parts + 1, device=x.device)
    cuts = [zip(x.tensor_split(number), y.tensor_split(number), strict=True) for number in k.tolist()]
    scores = torch.stack([torch.stack([frechet_distance_from_features(*pair) for pair in cut]).mean() for cut in cuts])
    around = k - (parts + 1) / 2
    slope = (around * scores).sum() / around.square().sum()
    return FidInfinity(scores.mean() - slope * (parts + 1) / 2, slope, k, scores)


def _moments(name, x):
    """Mean, a matrix whose transpose times itself is the covariance, and the covariance's trace; float64."""
    mean = x.double().mean(0)
    root = (x - mean) / (len(x) - 1) ** 0.5
    trace = root.square().sum()
    if not trace.isfinite():
        raise ValueError(f"{name} reaches {x.abs().amax():g}; expected numbers whose squares float64 can hold")
    return mean, root, trace


def _rounding(*moments):
    """How far, relative to the largest, an entry or eigenvalue may be off: numbers may have been rounded and added up."""
    return max(torch.finfo(moment.dtype).eps for moment in moments) ** 0.5


def _symmetric(name, sigma):
    """A matrix in float64; ValueError if it is not finite, or not symmetric but for rounding."""
    off = (sigma - sigma.mT).amax()  # NaN if an entry is not finite
    if not off <= _rounding(sigma) * sigma.diagonal().abs().amax():
        check_finite(name, sigma)
        raise ValueError(
            f"{name} differs from its transpose by up to {off:g}; expected a covariance, which is symmetric"
        )
    return sigma.double()


def _trace_of_root(sigma1, sigma2, rounding=1e-8):
    """Tr((sigma1 sigma2)^(1/2)) of two covariances."""
    scale = sigma1.diagonal().amax().sqrt() * sigma2.diagonal().amax().sqrt()  # so that no product is too large
    lower, failed = torch.linalg.cholesky_ex(sigma1)
    if not failed and scale > 0:
        values = torch.linalg.eigvalsh(_congruent(lower / scale, sigma2))
        error = torch.finfo(values.dtype).eps * (1 + values[-1]) * values.rsqrt().sum() / 2
        if values[0] > 0 and scale * error < ACCURACY * sigma1.trace().sqrt() * sigma2.trace().sqrt():
            return scale * values.sqrt().sum()
    factor1, factor2 = _factor("sigma1", sigma1, rounding), _factor("sigma2", sigma2, rounding)
    return torch.linalg.svdvals(factor1.mT @ factor2).sum()


def _congruent(lower, sigma):
    """The lower triangle of L^T sigma L, block by block: what is multiplied by a zero of L, and what lies above, is left."""
    cuts = [slice(start, start + BLOCK) for start in range(0, len(sigma), BLOCK)]
    right = torch.cat([sigma[:, cut.start :] @ lower[cut.start :, cut] for cut in cuts], 1)
    result = torch.zeros_like(sigma)
    for cut in cuts:
        result[cut, : cut.stop] = lower[cut.start :, cut].mT @ right[cut.start :, : cut.stop]
    return result


def _factor(name, sigma, rounding):
    """A matrix of full rank which times its transpose is the covariance, whether singular or not."""
    values, vectors = torch.linalg.eigh(sigma)
    if values[0] < -rounding * (largest := values.abs().amax()):
        ratio = f"{values[0] / largest:.3g} of the largest"
        raise ValueError(f"{name} has an eigenvalue of {ratio}; expected a covariance, which has none below 0")
    noise = torch.maximum(-values[0], len(values) * torch.finfo(values.dtype).eps * values[-1])
    kept = values > noise
    return vectors[:, kept] * values[kept].sqrt()


def _distance(apart, trace1, trace2, root, dtype):
    """The distance from its parts, in the dtype of a result."""
    distance = (apart + trace1 + trace2 - 2 * root).clamp(min=0).to(dtype)
    if not distance.isfinite():
        raise ValueError(f"the distance is beyond {dtype}, at {apart + trace1 + trace2:g}; expected smaller numbers")
    return distance
