"""How far apart two distributions are, and how far apart two samples of one distribution come out.

A distribution lies along the last axis of a tensor; leading axes are a batch and broadcast. Logarithms are natural
(nats) unless `base` says otherwise, and 0 log 0 counts as 0. A sum that misses 1 by rounding is divided out.

Errors: input that is no distribution (negative, NaN, not summing to 1, empty, a single number) and shapes that do not
fit are a ValueError; what is no array of real numbers is a TypeError.
"""

import math
from dataclasses import dataclass

import torch

from studyguide.probability.validation import (
    check_finite,
    common_dtype,
    counts,
    log_base,
    numpy_generator,
    positive_integer,
    rowwise,
    shares,
    vectors,
)


def cross_entropy(p, q, base=None):
    """The mean surprisal of draws from `p` to someone who believes `q`: ``-sum p log q``.

    Shapes: p and q (..., k), result (...). Errors: see the module.
    Units and range: nats (bits with base=2); from the entropy of p, where q = p, to inf, where q = 0 < p.
    Source: Cover and Thomas, Elements of Information Theory, section 5.4 (the cost of a wrong code).

    >>> cross_entropy([0.4, 0.3, 0.2, 0.1], [0.5, 0.2, 0.2, 0.1])
    tensor(1.3122, dtype=torch.float64)
    """
    unit = log_base(base)
    return rowwise(lambda p, q: 0 - (p * q.log()).nansum(-1) / unit, p=p, q=q)


def kl_divergence(p, q, base=None):
    """Kullback-Leibler divergence of `p` from `q`, ``sum p log(p / q)``: cross-entropy less entropy.

    Shapes: p and q (..., k), result (...). Errors: see the module.
    Units and range: nats (bits with base=2); 0 where p = q, inf where q = 0 < p. Not symmetric.
    Convention: p is the truth, over which the mean is taken; scipy.stats.entropy(p, q) has the same order.
    Source: Kullback and Leibler (1951); Cover and Thomas, section 2.3.

    >>> kl_divergence([0.6, 0.3, 0.1], [0.9, 0.08, 0.02])
    tensor(0.3142, dtype=torch.float64)
    """
    unit = log_base(base)
    return rowwise(lambda p, q: _kl(p, q) / unit, p=p, q=q)


def js_divergence(p, q, base=None):
    """Jensen-Shannon divergence: the mean KL divergence of `p` and of `q` from their average.

    Shapes: p and q (..., k), result (...). Errors: see the module.
    Units and range: 0 to log 2, which is 0.6931 in nats and 1 only in bits (base=2). Symmetric, always finite.
    Convention: the divergence. scipy.spatial.distance.jensenshannon is its square root, `js_distance`.
    Source: Lin (1991), "Divergence measures based on the Shannon entropy", section IV.

    >>> js_divergence([0.6, 0.3, 0.1], [0.4, 0.4, 0.2])
    tensor(0.0221, dtype=torch.float64)
    """
    unit = log_base(base)
    return rowwise(lambda p, q: _js(p, q) / unit, p=p, q=q)


def js_distance(p, q, base=None):
    """Jensen-Shannon distance, the square root of the divergence: a metric, so the triangle inequality holds.

    Shapes: p and q (..., k), result (...). Errors: see the module.
    Units and range: 0 to the root of log 2, which is 0.8326 in base e and 1 with base=2.
    Source: Endres and Schindelin (2003), "A new metric for probability distributions".

    >>> js_distance([0.6, 0.3, 0.1], [0.4, 0.4, 0.2])
    tensor(0.1488, dtype=torch.float64)
    """
    unit = log_base(base)
    return rowwise(lambda p, q: (_js(p, q) / unit).sqrt(), p=p, q=q)


def total_variation(p, q):
    """Total variation distance, half of ``sum |p - q|``: the most that p and q differ on any event.

    Shapes: p and q (..., k), result (...). Range: 0 to 1 (no category in common). Errors: see the module.
    Source: Levin and Peres, Markov Chains and Mixing Times, section 4.1.

    >>> total_variation([0.6, 0.3, 0.1], [0.4, 0.4, 0.2])
    tensor(0.2000, dtype=torch.float64)
    """
    return rowwise(lambda p, q: ((p - q).abs().sum(-1) / 2).clamp(max=1), p=p, q=q)


def hellinger_distance(p, q):
    """Hellinger distance, ``sqrt(sum (sqrt p - sqrt q)^2 / 2)``.

    Shapes: p and q (..., k), result (...). Range: 0 to 1 (no category in common). Errors: see the module.
    Convention: with the factor 1/2, without which the range ends at the root of 2.
    Source: Le Cam and Yang, Asymptotics in Statistics, section 3.2.

    >>> hellinger_distance([1, 0], [0.36, 0.64])
    tensor(0.6325, dtype=torch.float64)
    """
    return rowwise(lambda p, q: ((p.sqrt() - q.sqrt()).norm(dim=-1) / math.sqrt(2)).clamp(max=1), p=p, q=q)


def wasserstein_distance(x, y, x_weights=None, y_weights=None):
    """Wasserstein distance of order 1 on the line: the least mean distance by which x is moved to become y.

    Shapes: samples x (..., n) and y (..., m), weights like their samples, result (...).
    Units and range: those of x and y; 0 for equal samples, no upper bound.
    Errors: NaN, inf, empty samples; weights that are negative, all 0 or of another length.
    Convention: weights are divided by their sum; without weights every value counts the same.
    Source: Villani, Topics in Optimal Transportation, section 2.2 (the area between the distribution functions).

    >>> wasserstein_distance([0, 2], [1, 5])
    tensor(2., dtype=torch.float64)
    """
    named = {"x": x, "y": y, "x_weights": x_weights, "y_weights": y_weights}
    named = {name: value for name, value in named.items() if value is not None}
    named = dict(zip(named, vectors(**named), strict=True))
    dtype, work = common_dtype(*named.values())
    for name, tensor in named.items():
        check_finite(name, tensor)
        named[name] = tensor.to(work)
    values, order = torch.cat([named["x"], named["y"]], -1).sort(-1)
    weights = torch.cat([shares("x", named), -shares("y", named)], -1).gather(-1, order)
    gap = weights.cumsum(-1)[..., :-1]  # distribution function of x less that of y, between a value and the next
    return (gap.abs() * values.diff(dim=-1)).sum(-1).to(dtype)


@dataclass(frozen=True, eq=False)
class DivergenceNull:
    """A divergence between two samples beside its values when only chance tells the samples apart."""

    observed: torch.Tensor  # the divergence between the two samples
    p_value: torch.Tensor  # share of the resamples, the samples themselves included, that are as far apart or farther
    null: torch.Tensor  # (n_resamples,) divergences after random regrouping
    quantile_95: torch.Tensor  # the resampled value that chance alone exceeds at most one time in twenty


def divergence_null(counts_a, counts_b, divergence=js_divergence, n_resamples=9999, *, rng):
    """Permutation test of whether two samples of categories come from one distribution.

    The items of both samples are pooled and dealt again at random into two samples of the same sizes.
    How far apart such samples come out is the yardstick for the divergence that was observed.

    Shapes: counts_a and counts_b (k,), how often each category came; divergence(p, q) takes (..., k).
    Range: the p-value is (1 + resamples at least as far apart) / (1 + n_resamples), never 0; ties count.
    Errors: counts that are negative, not whole, all 0, or of different lengths; n_resamples below 1.
    Randomness: `rng` is an int seed, or a torch.Generator, which the call advances.
    Source: Good, Permutation Tests; Phipson and Smyth (2010), "Permutation p-values should never be zero".

    >>> result = divergence_null([30, 15, 5], [20, 20, 10], rng=0)
    >>> result.observed, result.p_value > 0.05
    (tensor(0.0221, dtype=torch.float64), tensor(True))
    """
    a, b = counts(counts_a=counts_a, counts_b=counts_b)
    size = positive_integer("n_resamples", n_resamples)
    pool, n_a, n_b = a + b, a.sum(), b.sum()
    # The counts of n_a items dealt at random from the pool are multivariate hypergeometric.
    dealt = numpy_generator(rng).multivariate_hypergeometric(pool.long().tolist(), int(n_a), size)
    dealt = torch.as_tensor(dealt, dtype=pool.dtype, device=pool.device)
    observed, null = divergence(a / n_a, b / n_b), divergence(dealt / n_a, (pool - dealt) / n_b)
    as_far = (null >= observed) | null.isclose(observed, rtol=1e-9, atol=1e-12)  # equal but for rounding
    p_value = (1 + as_far.sum().double()) / (1 + size)
    return DivergenceNull(observed, p_value, null, null.quantile(0.95, interpolation="higher"))


def _kl(p, q):
    # Checked input has no NaN, so the only NaNs here are 0 log 0, which nansum leaves out. The clamp removes rounding.
    return (p * (p.log() - q.log())).nansum(-1).clamp(min=0)


def _js(p, q):
    average = (p + q) / 2
    return ((_kl(p, average) + _kl(q, average)) / 2).clamp(max=math.log(2))
