"""Fidelity and diversity apart: how much of one set of features lies near the other set, judged by balls.

The ball of a feature reaches to its k-th nearest neighbour of the same set. The feature itself does not count as one,
but a duplicate of it does, so that k + 1 equal features have balls of radius 0. A ball is closed: what lies on its
surface is inside. Distances are Euclidean, computed in float64 a block at a time; two that differ by less than 1e-12 of
the squared lengths (from the median of the real features), where rounding rules, count as equal.

Errors: sets of k or fewer features, unequal d, NaN and infinity are a ValueError. Results have the dtype and the device
of the features.
"""

from dataclasses import dataclass

import torch

from studyguide.image.features import feature_sets
from studyguide.probability.validation import check_finite, positive_integer

BLOCK = 2**23  # distances that exist at a time
ROUNDING = 1e-12  # of the squared lengths


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """Two shares, 0 to 1."""

    precision: torch.Tensor  # of the generated features that lie in a ball of a real one: fidelity
    recall: torch.Tensor  # of the real features that lie in a ball of a generated one: diversity


@dataclass(frozen=True, eq=False)
class DensityCoverage:
    """For equal distributions density is 1 on average, and coverage 1 - 2^-k, if the sets are large and equally so."""

    density: torch.Tensor  # mean number of real balls around a generated feature, divided by k; may exceed 1
    coverage: torch.Tensor  # share of the balls of real features that hold a generated one, 0 to 1


def precision_recall(real, generated, k=3):
    """Improved precision and recall of generated features.

    Shapes: real (n, d), generated (m, d), n and m above k. Errors and what happens at ties: see the module.
    One outlier is enough to spoil either: its ball is large, and a single ball suffices to be inside.
    Source: Kynkäänniemi et al. (2019), "Improved precision and recall metric for assessing generative models".

    >>> precision_recall([[0.0], [1.0], [2.0]], [[0.5], [1.5], [9.0], [9.5]], k=1)
    PrecisionRecall(precision=tensor(0.5000, dtype=torch.float64), recall=tensor(1., dtype=torch.float64))
    """
    real, generated, dtype = _read(real, generated, k)
    inside_real = torch.cat([inside.any(1) for inside in _balls(real, generated, k)])
    inside_generated = torch.cat([inside.any(1) for inside in _balls(generated, real, k)])
    return PrecisionRecall(*(inside.double().mean().to(dtype) for inside in (inside_real, inside_generated)))


def density_coverage(real, generated, k=5):
    """Density and coverage of generated features. Only real features have balls: generated outliers do no harm.

    Shapes: real (n, d), generated (m, d), n and m above k. Errors and what happens at ties: see the module.
    Convention: balls are closed, as in the paper's formula; its code, prdc, leaves the surface out.
    Source: Naeem et al. (2020), "Reliable fidelity and diversity metrics for generative models".

    >>> density_coverage([[0.0], [1.0], [2.0]], [[0.5], [1.5], [9.0], [9.5]], k=1)
    DensityCoverage(density=tensor(1., dtype=torch.float64), coverage=tensor(1., dtype=torch.float64))
    """
    real, generated, dtype = _read(real, generated, k)
    held = sum(inside.sum(0) for inside in _balls(real, generated, k)).double()  # generated features in each real ball
    return DensityCoverage((held.sum() / (k * len(generated))).to(dtype), (held > 0).double().mean().to(dtype))


def _read(real, generated, k):
    """Both sets in float64, seen from the median of the real ones: rounding grows with length; and a result's dtype."""
    real, generated, dtype = feature_sets(positive_integer("k", k) + 1, real=real, generated=generated)
    origin = real.double().median(0).values
    real, generated = real.double() - origin, generated.double() - origin
    for name, rows in (("real", real), ("generated", generated)):
        check_finite(f"the squared length of {name}", rows.square().sum(1))
    return real, generated, dtype


def _balls(centres, points, k):
    """For a few points at a time, whether they lie in the ball of each centre: booleans (some points, centres)."""
    radii = torch.cat([squares.topk(k + 1, largest=False).values.amax(1) for squares in _squared(centres, centres)])
    return (squares <= radii for squares in _squared(points, centres, ROUNDING))


def _squared(a, b, slack=0.0):
    """Squared distances of a few of `a` at a time to all of `b`, less `slack` times their squared lengths."""
    lengths = b.square().sum(1)
    for rows in a.split(max(1, BLOCK // len(b))):
        yield (1 - slack) * (rows.square().sum(1, keepdim=True) + lengths) - 2 * rows @ b.T
